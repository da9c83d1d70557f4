from __future__ import annotations

import math

import pytest

from guiju.errors import ConfigError
from guiju.training import TrainingSettings, learning_rate


def rates(**changes) -> list[float]:
    settings = TrainingSettings(**{"steps": 100, "warmup_steps": 10, "learning_rate": 1.0, **changes})
    return [learning_rate(step, settings) for step in range(settings.steps)]


def test_warm_up_rises_to_the_top_and_cosine_falls_to_the_final_share():
    found = rates(final_share=0.1)
    assert found[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert found[10] == 1.0
    assert found[-1] == pytest.approx(0.1)
    assert found[10:] == sorted(found[10:], reverse=True)
    middle = 10 + 89 // 2
    assert found[middle] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * (middle - 10) / 89)) / 2)


def test_wsd_stays_and_then_falls_straight():
    found = rates(schedule="wsd", decay_share=0.2, final_share=0.0)
    assert set(found[10:80]) == {1.0}
    assert found[80:] == pytest.approx([1 - n / 20 for n in range(1, 21)])


def test_the_shortest_run_has_a_learning_rate():
    assert rates(steps=1, warmup_steps=0) == [1.0]
    assert rates(steps=1, warmup_steps=0, schedule="wsd", decay_share=0.0) == [1.0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("batch", 0), ("accumulate", -1), ("keep", 0), ("learning_rate", 0.0), ("beta1", 1.0),
        ("learning_rate", math.nan), ("learning_rate", math.inf), ("clip_norm", 0.0), ("weight_decay", -0.1),
        ("weight_decay", math.nan), ("final_share", 1.5), ("decay_share", -0.1), ("schedule", "linear"),
        ("dtype", "float16"), ("max_skipped", -1), ("warmup_steps", 300), ("checkpoint_every", -1),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"training.{name} is"):
        TrainingSettings(**{name: value})
