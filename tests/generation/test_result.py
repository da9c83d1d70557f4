from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from guiju.errors import ConfigError
from guiju.generation import Generation, SamplingSettings, Work, generate, open_runner
from guiju.generation.logprobs import token_logprob


@pytest.mark.parametrize(
    "settings",
    [
        SamplingSettings(greedy=True, repetition_penalty=1.5, max_new_tokens=12),
        SamplingSettings(temperature=0.4, top_k=5, seed=1, max_new_tokens=12, num_return_sequences=2),
    ],
)
def test_log_probabilities_are_those_of_the_models_own_logits(settings, stories):
    model, tokenizer = stories
    found = generate(model, tokenizer, ["One day"], settings, logprobs=4)
    prompt = [1, *tokenizer.encode("One day")]
    for sequence in found[0]:
        assert len(sequence.logprobs) == len(sequence.ids)
        row = list(prompt)
        for token, told in zip(sequence.ids, sequence.logprobs, strict=True):
            logs = model(torch.tensor([row]))[0, -1].log_softmax(dim=-1)
            best = logs.topk(4)
            assert told.logprob == pytest.approx(logs[token].item(), abs=1e-4)
            assert [one for one, _ in told.top] == best.indices.tolist()
            assert [value for _, value in told.top] == pytest.approx(best.values.tolist(), abs=1e-4)
            row.append(token)


def test_log_probabilities_come_only_where_they_are_asked_for(stories):
    settings = SamplingSettings(greedy=True, max_new_tokens=3)
    assert generate(*stories, ["x"], settings)[0][0].logprobs is None
    alone = generate(*stories, ["x"], settings, logprobs=0)[0][0].logprobs
    assert [one.top for one in alone] == [(), (), ()]
    every = generate(*stories, ["x"], settings, logprobs=100)[0][0].logprobs
    assert [len(one.top) for one in every] == [100] * 3
    for count in (-1, 101):
        with pytest.raises(ConfigError, match=f"logprobs is {count}; it must be between 0 and 100"):
            generate(*stories, ["x"], settings, logprobs=count)


def test_what_cannot_come_is_no_alternative():
    told = token_logprob(torch.tensor([0.0, -torch.inf, 1.0]), 2, 3)
    assert [token for token, _ in told.top] == [2, 0]


def test_a_result_is_a_list_that_names_its_runner_and_precision(stories):
    settings = SamplingSettings(greedy=True, max_new_tokens=3)
    found = generate(*stories, ["x", "y"], settings)
    assert isinstance(found, list)
    assert len(found) == 2
    assert (found.runner, found.precision, found.work.record) == ("torch", "float32", False)
    assert found.work.steps == 3
    assert found == [generate(*stories, [prompt], settings)[0] for prompt in ("x", "y")]
    half = generate(*stories, ["x"], settings, runner=open_runner(stories[0], runner="torch", precision="bfloat16"))
    assert half.precision == "bfloat16"
    assert Generation([], Work("torch", "float32", "float32", False, 0, 0)).work.acceptance is None


def test_a_runner_is_opened_only_for_wishes_that_can_be(stories):
    opened = []

    def opening():
        opened.append(open_runner(stories[0], runner="torch"))
        return opened[-1]

    with pytest.raises(ConfigError, match="max_length is 1"):
        generate(*stories, ["Once upon"], SamplingSettings(max_length=1), runner=opening)
    assert opened == []
    assert generate(*stories, ["Once"], SamplingSettings(max_new_tokens=1), runner=opening).runner == "torch"
    assert len(opened) == 1


def test_settings_results_and_streams_are_there_without_torch():
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, guiju.generation as g\n"
            "g.SamplingSettings(top_k=3); g.Sequence; g.Generation; g.Work; g.TokenLogprob; g.RunnerName\n"
            "g.TextStream(['x']).push(b'y')\n"
            "print('torch' in sys.modules)",
        ],
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == "False", told.stderr


def test_the_front_door_opens_for_all_its_names_and_no_other():
    import guiju.generation

    for name in guiju.generation.__all__:
        assert getattr(guiju.generation, name) is not None
    assert callable(guiju.generation.score)
    with pytest.raises(AttributeError, match="has no attribute 'beams'"):
        _ = guiju.generation.beams
