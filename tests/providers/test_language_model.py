from __future__ import annotations

from pathlib import Path

import pytest

from guiju.errors import ConfigError, ModelError
from guiju.generation import Generation
from guiju.providers import load

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K" / "stories260K.bin"


@pytest.fixture(scope="module")
def stories():
    return load(STORIES)


def test_one_prompt_gives_its_sequences_and_several_give_a_list_for_each(stories):
    one = stories.generate("Once", greedy=True, max_new_tokens=4, runner="torch")
    two = stories.generate(["Once", "One day"], greedy=True, max_new_tokens=4, runner="torch")
    assert isinstance(one, Generation)
    assert list(one) == two[0]
    assert (one.runner, two.runner, one.precision) == ("torch", "torch", "float32")
    assert stories.generate([], runner="torch") == []


def test_a_runner_stays_open_until_another_is_wished_for(stories):
    stories.generate("x", max_new_tokens=1, runner="torch")
    [first] = stories._opened.values()
    stories.generate("y", max_new_tokens=1, runner="torch")
    assert list(stories._opened.values()) == [first]
    recorded = stories.generate("y", max_new_tokens=1, runner="torch", record=True)
    assert recorded.work.record
    assert len(stories._opened) == 1
    assert first not in stories._opened.values()


def test_an_answer_does_not_depend_on_what_was_asked_before(stories):
    settings = {"seed": 3, "max_new_tokens": 12, "runner": "torch"}
    first = stories.generate("The dog and the", **settings)
    stories.generate(["The dog and the cat", "The dog"], **settings)
    assert stories.generate("The dog and the", **settings) == first


def test_unknown_names_are_refused_before_a_runner_is_opened(stories):
    stories.generate("x", max_new_tokens=1, runner="torch")
    before = dict(stories._opened)
    with pytest.raises(ConfigError, match="runner is 'vllm'"):
        stories.generate("x", runner="vllm")
    with pytest.raises(ConfigError, match="precision is 'fp8'"):
        stories.generate("x", precision="fp8")
    with pytest.raises(ConfigError, match="generate knows no setting top_q"):
        stories.generate("x", top_q=1)
    with pytest.raises(ModelError, match="context is 512"):
        stories.generate("word " * 3000, runner="torch", precision="bfloat16")
    assert stories._opened == before
