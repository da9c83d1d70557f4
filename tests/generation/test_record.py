"""Record mode: the same bits alone and in any company."""

from __future__ import annotations

import random

import pytest
import torch

from guiju.errors import ConfigError
from guiju.generation import Chooser, Engine, Request, SamplingSettings, generate, open_runner
from guiju.model import Transformer, gpt2_config, llama_config

SAMPLED = SamplingSettings(temperature=1.2, top_k=50, top_p=0.95, seed=11)
PENALISED = SamplingSettings(greedy=True, repetition_penalty=1.3)
SETTINGS = [SamplingSettings(greedy=True), SAMPLED, PENALISED, SamplingSettings(min_p=0.02, seed=3)]


def _lively(config) -> Transformer:
    """Random weights, so lively that answers differ from prompt to prompt."""
    torch.manual_seed(7)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request):
    sizes = {"vocab_size": 211, "context": 256, "width": 48, "layers": 2}
    if request.param == "gpt2":
        return _lively(gpt2_config(**sizes, heads=3))
    return _lively(llama_config(**sizes, heads=6, kv_heads=2, head_width=8))


def _request(chance: random.Random, beginnings: list[list[int]]) -> tuple[Request, list[list[int]]]:
    """A random request, and where its tokens go."""
    prompt = list(chance.choice(beginnings))[: chance.choice([10, 63, 64, 65, 130, 200])]
    prompt += [chance.randrange(211) for _ in range(chance.choice([0, 1, 5, 40]))]
    prompt = prompt or [1]
    settings, seed = chance.choice(SETTINGS), chance.randrange(100)
    count = 1 if settings.is_greedy else chance.choice([1, 1, 3])
    got: list[list[int]] = [[] for _ in range(count)]
    stop = chance.randrange(211)
    takes = [lambda token, own=own: own.append(token) or token == stop for own in got]
    choices = [Chooser(settings, prompt, 211, seed, index) for index in range(count)]
    return Request(tuple(prompt), chance.randint(1, 12), choices, takes, logprobs=chance.choice([None, 0, 3])), got


def _outcome(handle):
    assert handle.error is None
    return [(branch.ids, branch.logprobs, branch.finish_reason) for branch in handle.branches]


@pytest.mark.parametrize("seed", range(6))
def test_ids_and_logprobs_are_bit_for_bit_those_of_the_request_alone(seed, model):
    chance = random.Random(seed)
    beginnings = [[chance.randrange(211) for _ in range(200)] for _ in range(2)]
    dice = [chance.randrange(10**9) for _ in range(10)]
    roomy = open_runner(model, runner="torch", record=True, pages=64)
    alone = []
    for die in dice:
        engine = Engine(roomy, share_prefixes=False)
        request, _ = _request(random.Random(die), beginnings)
        handle = engine.add(request)
        engine.run()
        alone.append(_outcome(handle))
    for share in (True, False):
        runner = open_runner(model, runner="torch", record=True, pages=chance.choice([20, 30, 60]))
        engine = Engine(
            runner,
            step_tokens=chance.choice([1, 17, 64, 100, 500]),
            most_running=chance.choice([1, 3, 20]),
            share_prefixes=share,
        )
        waiting = [(die, _request(random.Random(die), beginnings)[0]) for die in dice]
        waiting += [(None, _request(chance, beginnings)[0]) for _ in range(4)]  # some leave before they are done
        chance.shuffle(waiting)
        handles, leaving = {}, []
        while waiting or not all(handle.done for handle in handles.values()):
            for _ in range(chance.choice([0, 0, 1, 3])):
                if waiting:
                    die, request = waiting.pop()
                    if die is None:
                        leaving.append(engine.add(request))
                    else:
                        handles[die] = engine.add(request)
            if leaving and chance.random() < 0.2:
                engine.cancel(leaving.pop())
            engine.step()
        assert [_outcome(handles[die]) for die in dice] == alone


def test_texts_of_a_real_checkpoint_are_those_of_each_prompt_alone(stories):
    prompts = ["Once upon a time", "", "The little dog " * 30, "The little dog " * 30 + "ran", "Tom", "Tom and"]
    for settings in (SamplingSettings(greedy=True, max_new_tokens=30), SamplingSettings(seed=5, max_new_tokens=30)):
        alone = [generate(*stories, [prompt], settings, record=True, logprobs=2)[0] for prompt in prompts]
        together = generate(*stories, prompts, settings, record=True, logprobs=2)
        assert list(together) == alone
        assert together.work.record


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "int4"])
def test_the_promise_holds_in_every_precision(precision, stories):
    prompts = ["Once upon a time", "The little dog " * 20, "The little dog " * 20 + "ran", "Tom"]
    settings = SamplingSettings(seed=5, max_new_tokens=12)
    runner = open_runner(stories[0], runner="torch", precision=precision, record=True)
    alone = [generate(*stories, [prompt], settings, runner=runner, record=True, logprobs=2)[0] for prompt in prompts]
    together = generate(*stories, prompts, settings, runner=runner, record=True, logprobs=2)
    assert list(together) == alone
    assert together.precision == precision


def test_the_promise_breaks_without_record_mode(model):
    """The comparison above can fail: products of many rows do round otherwise."""
    chance = random.Random(0)
    prompts = [[chance.randrange(211) for _ in range(chance.randint(65, 90))] for _ in range(8)]
    differing = 0
    for record in (True, False):
        runner = open_runner(model, runner="torch", record=record, pages=200)
        outcomes = []
        for groups in ([prompts], [[prompt] for prompt in prompts]):
            outcomes.append([])
            for group in groups:
                engine = Engine(runner)
                choose = [Chooser(SamplingSettings(greedy=True), prompt, 211, 0, 0) for prompt in group]
                handles = [
                    engine.add(Request(tuple(prompt), 6, [one], [lambda token: False], logprobs=0))
                    for prompt, one in zip(group, choose, strict=True)
                ]
                engine.run()
                outcomes[-1] += [_outcome(handle) for handle in handles]
        same = outcomes[0] == outcomes[1]
        assert same or not record
        differing += not same
    assert differing == 1


def test_guesses_are_refused_in_record_mode(stories):
    with pytest.raises(ConfigError, match="record mode, which computes token by token"):
        generate(*stories, ["Once"], record=True, prompt_lookup=4)


def test_a_runner_without_record_mode_is_not_taken_for_one(stories):
    runner = open_runner(stories[0], runner="torch")
    with pytest.raises(ConfigError, match="the runner given has no record mode"):
        generate(*stories, ["Once"], record=True, runner=runner)
