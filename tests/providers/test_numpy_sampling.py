"""The numpy chooser means what the torch one means."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from guiju.errors import ModelError
from guiju.generation import SamplingSettings, sampling
from guiju.generation.logprobs import token_logprob as torch_logprob
from guiju.providers import numpy_sampling
from guiju.providers.numpy_sampling import NumpyChooser

LOGITS = [np.random.default_rng(seed).standard_normal(50).astype("float32") * 3 for seed in range(20)]


@pytest.mark.parametrize(("name", "value"), [
    ("keep_top_k", 1), ("keep_top_k", 7), ("keep_top_k", 50), ("keep_top_k", 10**9),
    ("keep_top_p", 0.01), ("keep_top_p", 0.5), ("keep_top_p", 0.97), ("keep_top_p", 1.0),
    ("keep_min_p", 0.0), ("keep_min_p", 0.1), ("keep_min_p", 1.0),
])  # fmt: skip
def test_a_filter_keeps_what_torchs_keeps(name, value):
    for logits in LOGITS:
        ours = getattr(numpy_sampling, name)(logits, value)
        assert np.array_equal(ours, getattr(sampling, name)(torch.from_numpy(logits), value).numpy())


def test_ties_with_the_last_of_the_top_k_are_kept():
    logits = np.float32([1, 3, 2, 2, 0])
    assert np.isfinite(numpy_sampling.keep_top_k(logits, 2)).tolist() == [False, True, True, True, False]


def test_repetition_is_penalised_as_in_torch():
    seen = np.arange(50) % 3 == 0
    for logits in LOGITS:
        ours = numpy_sampling.penalise_repetition(logits, seen, 1.3)
        theirs = sampling.penalise_repetition(torch.from_numpy(logits), torch.from_numpy(seen), 1.3)
        assert np.array_equal(ours, theirs.numpy())


def test_log_probabilities_are_torchs():
    for logits in LOGITS:
        ours, theirs = numpy_sampling.token_logprob(logits, 4, 5), torch_logprob(torch.from_numpy(logits), 4, 5)
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-5)
        assert [token for token, _ in ours.top] == [token for token, _ in theirs.top]


def chooser(
    settings: SamplingSettings, seed: int = 0, index: int = 0, text_size: int = 50, prompt=(1,)
) -> NumpyChooser:
    return NumpyChooser(settings, list(prompt), 50, seed, index, text_size=text_size)


def test_greedy_takes_the_greatest_that_stands_for_text():
    for logits in LOGITS:
        assert chooser(SamplingSettings(greedy=True)).choose(logits) == logits.argmax()
        assert chooser(SamplingSettings(temperature=0), text_size=9).choose(logits) == logits[:9].argmax()


def test_tokens_come_as_often_as_their_probability_says():
    """4000 draws: no share further away than four standard deviations."""
    logits = np.log(np.float32([0.5, 0.25, 0.15, 0.1]))
    drawing = NumpyChooser(SamplingSettings(), [0], 4, 7, 0, text_size=4)
    counts = np.bincount([drawing.choose(logits) for _ in range(4000)], minlength=4) / 4000
    for share, wanted in zip(counts, (0.5, 0.25, 0.15, 0.1), strict=True):
        assert abs(share - wanted) < 4 * (wanted * (1 - wanted) / 4000) ** 0.5


def test_a_seed_repeats_and_each_place_has_a_chance_of_its_own():
    def drawn(seed, index):
        own = chooser(SamplingSettings(temperature=2.0), seed, index)
        return [own.choose(logits) for logits in LOGITS]

    assert drawn(3, 0) == drawn(3, 0)
    assert drawn(3, 0) != drawn(3, 1) and drawn(3, 0) != drawn(4, 0)


def test_a_tiny_temperature_is_greedy_and_nothing_overflows():
    own = chooser(SamplingSettings(temperature=1e-40))
    assert [own.choose(logits) for logits in LOGITS[:5]] == [int(logits.argmax()) for logits in LOGITS[:5]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ModelError, match="logits are not numbers"):
        chooser(SamplingSettings()).choose(np.where(np.arange(50) == 3, np.float32(bad), LOGITS[0]))
