"""Guesses out of the text itself: they change the speed and no token."""

from __future__ import annotations

import math
import random

import pytest
import torch

from guiju.errors import ConfigError
from guiju.generation import Chooser, Engine, Request, SamplingSettings, generate, open_runner
from guiju.generation.lookup import Lookup
from guiju.generation.sampling import apply_temperature, keep_min_p, keep_top_k, keep_top_p
from guiju.model import Transformer, gpt2_config, llama_config

SETTINGS = {
    "greedy": SamplingSettings(greedy=True),
    "greedy with a penalty": SamplingSettings(greedy=True, repetition_penalty=1.2),
    "sampled": SamplingSettings(seed=4, temperature=0.7),
    "filtered": SamplingSettings(seed=4, temperature=0.9, top_k=40, top_p=0.9, min_p=0.01),
}


def test_what_followed_the_last_tokens_is_guessed_from_the_latest_place():
    lookup = Lookup([1, 2, 3, 9, 1, 2, 3, 8, 5, 1, 2, 3], most=3)
    assert lookup.draft(10) == (8, 5, 1)
    assert lookup.draft(2) == (8, 5)
    lookup.extend([7, 2, 3])  # 7 2 3 is new, 2 3 is not
    assert lookup.draft(10) == (7, 2, 3)
    lookup.extend([4])
    assert lookup.draft(10) == ()


def test_a_loop_is_guessed_to_go_on():
    assert Lookup([5, 6, 7, 6, 7], most=5).draft(5) == (6, 7, 6, 7, 6)
    assert Lookup([3, 3, 3], most=4).draft(4) == (3, 3, 3, 3)


def test_fewer_tokens_are_guessed_after_wrong_ones_and_more_after_right_ones():
    lookup = Lookup([1, 2, 3, 4, 5, 6, 7, 8, 1, 2], most=6)
    assert len(lookup.draft(10)) == 6
    lookup.learn(drafted=6, accepted=1)
    assert len(lookup.draft(10)) == 2
    lookup.learn(drafted=2, accepted=2)
    assert len(lookup.draft(10)) == 4
    assert (lookup.drafted, lookup.accepted) == (8, 3)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_tokens_of_a_real_checkpoint_are_the_same_with_guesses(settings, stories):
    prompts = ["Lily and Tom like to play. Lily and Tom like to", "One day, one day, one day", ""]
    for prompt in prompts:
        plain = generate(*stories, [prompt], settings, logprobs=0)
        guessed = generate(*stories, [prompt], settings, logprobs=0, prompt_lookup=6)
        assert [one.ids for one in guessed[0]] == [one.ids for one in plain[0]]
        assert [one.text for one in guessed[0]] == [one.text for one in plain[0]]
        for ours, theirs in zip(guessed[0][0].logprobs, plain[0][0].logprobs, strict=True):
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
        assert plain.work.acceptance is None


def test_a_text_that_repeats_itself_takes_fewer_steps_and_the_share_of_right_guesses_is_told(stories):
    prompt = "The cat sat. The cat sat. The cat sat. The cat sat."
    settings = SamplingSettings(greedy=True, max_new_tokens=100, repetition_penalty=0.9)
    plain = generate(*stories, [prompt], settings)
    guessed = generate(*stories, [prompt], settings, prompt_lookup=8)
    assert guessed == plain
    assert plain.work.steps == 100
    assert guessed.work.steps < 50
    assert guessed.work.acceptance == guessed.work.accepted / guessed.work.drafted > 0.6


def _model(twins: bool) -> Transformer:
    """Random weights; with `twins`, every token has another of the same weights, so that each choice is a tie."""
    torch.manual_seed(5)
    model = Transformer(gpt2_config(vocab_size=60, context=200, width=32, layers=2, heads=2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
        if twins:
            model.embedding.weight[30:] = model.embedding.weight[:30]
    return model.eval()


@pytest.mark.parametrize("twins", [False, True])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_random_weights_and_ties_come_to_the_same_tokens(settings, twins):
    model, chance = _model(twins), random.Random(3)
    runner = open_runner(model, runner="torch", pages=40)
    drafted = 0
    for seed in range(6):
        prompt = [chance.randrange(6) for _ in range(chance.randint(1, 40))]
        found = []
        for lookup in (0, 1, 5):
            engine = Engine(runner)
            choice = Chooser(settings, prompt, 60, seed, 0)
            handle = engine.add(Request(tuple(prompt), 60, [choice], [lambda token: False], lookup=lookup))
            engine.run()
            found.append(handle.branches[0].ids)
            drafted += engine.counts.drafted
        assert found[1] == found[0]
        assert found[2] == found[0]
    assert drafted > 0


def test_guesses_also_serve_several_requests_at_once(stories):
    settings = SamplingSettings(seed=4, temperature=0.6, num_return_sequences=3, max_new_tokens=40)
    prompts = ["Tom ran. Tom ran. Tom", "The dog and the dog and", "One day"]
    plain, guessed = (generate(*stories, prompts, settings, prompt_lookup=count) for count in (0, 5))
    assert guessed == plain
    assert guessed.work.drafted > 0


def test_a_stop_text_within_the_guesses_ends_the_text_there(stories):
    prompt = "The cat sat. The cat sat. The cat sat. The cat"
    settings = SamplingSettings(greedy=True, max_new_tokens=60, repetition_penalty=0.7, stop=("at. The c",))
    plain, guessed = (generate(*stories, [prompt], settings, prompt_lookup=count) for count in (0, 8))
    assert guessed == plain
    assert guessed[0][0].finish_reason == "stop"


def test_numbers_of_guesses_that_cannot_be_are_refused(stories):
    for count in (-1, 65, 10**9):
        with pytest.raises(ConfigError, match=f"prompt_lookup is {count}; it must be between 0 and 64"):
            generate(*stories, ["x"], prompt_lookup=count)


@pytest.mark.parametrize("seed", range(40))
def test_a_choice_that_counts_as_certain_stands_under_any_small_move_of_the_logits(seed):
    """The other way round: where a small move changes the choice, it must not have counted as certain."""
    chance = torch.Generator().manual_seed(seed)
    logits = torch.randn(50, generator=chance) * 2
    if seed % 4 == 0:
        logits = (logits * 4).round() / 4  # many ties
    slack = 10 ** -(1 + seed % 3)
    wishes = [
        SamplingSettings(greedy=True),
        SamplingSettings(greedy=True, repetition_penalty=1.5),
        SamplingSettings(temperature=0.5),
        SamplingSettings(top_k=5),
        SamplingSettings(top_p=0.7),
        SamplingSettings(min_p=0.1),
        SamplingSettings(temperature=1.5, top_k=20, top_p=0.8, min_p=0.02),
    ]
    for settings in wishes:
        choice = Chooser(settings, [0, 1, 2], 50, seed, 0).choose(logits, slack)
        moved = set()
        for _ in range(60):
            signs = torch.randint(0, 2, (50,), generator=chance) * 2.0 - 1
            moved.add(Chooser(settings, [0, 1, 2], 50, seed, 0).choose(logits + signs * slack))
        assert choice is None or moved == {choice}


def test_a_clear_choice_is_not_called_uncertain():
    logits = torch.tensor([0.0, 3.0, 1.0, -2.0, 2.0])
    clear = 0
    for seed in range(50):
        settings = SamplingSettings(temperature=0.8, top_k=4, top_p=0.95, min_p=0.01)
        clear += Chooser(settings, [0], 5, seed, 0).choose(logits, slack=1e-4) is not None
    assert clear > 45
    assert Chooser(SamplingSettings(greedy=True), [0], 5, 0, 0).choose(logits, slack=0.4) == 1
    assert Chooser(SamplingSettings(greedy=True), [0], 5, 0, 0).choose(logits, slack=0.6) is None


def test_an_uncertain_choice_changes_nothing_and_keeps_its_chance():
    logits = torch.tensor([0.0, 1e-9, 1.0, 1.0])
    one, other = (Chooser(SamplingSettings(temperature=1.0), [0], 4, 3, 0) for _ in range(2))
    assert one.choose(logits, slack=5.0) is None
    assert [one.choose(logits) for _ in range(20)] == [other.choose(logits) for _ in range(20)]


@pytest.mark.parametrize("context", [40])
def test_guesses_never_reach_beyond_the_limit_or_the_context(context):
    torch.manual_seed(0)
    model = Transformer(llama_config(vocab_size=20, context=context, width=16, layers=1, heads=2)).eval()
    runner = open_runner(model, runner="torch", pages=10)
    for size in (38, 39, 40):
        prompt = ([1, 2, 3] * 20)[:size]
        engine = Engine(runner)
        choice = Chooser(SamplingSettings(greedy=True), prompt, 20, 0, 0)
        handle = engine.add(Request(tuple(prompt), context + 1 - size, [choice], [lambda token: False], lookup=8))
        engine.run()
        assert len(handle.branches[0].ids) == context + 1 - size


def test_the_filters_that_certainty_follows_are_those_of_sampling():
    logits = torch.randn(30, generator=torch.Generator().manual_seed(1))
    kept = keep_min_p(keep_top_p(keep_top_k(apply_temperature(logits, 0.9), 12), 0.9), 0.05) > -math.inf
    settings = SamplingSettings(temperature=0.9, top_k=12, top_p=0.9, min_p=0.05)
    drawn = {Chooser(settings, [0], 30, seed, 0).choose(logits, slack=1e-9) for seed in range(200)} - {None}
    assert drawn <= set(kept.nonzero().flatten().tolist())
    assert len(drawn) > 2


def test_guessing_ends_where_it_does_not_pay():
    lookup = Lookup([1, 2, 3, 1, 2], most=3)
    lookup.learn(drafted=3, accepted=3)
    lookup.repeat(19)
    assert lookup.draft(3) == (3, 1, 2)
    lookup.repeat(1)
    assert lookup.draft(3) == ()
