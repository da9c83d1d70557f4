"""Requests that join, leave, share and give way."""

from __future__ import annotations

import random

import pytest
import torch

from guiju.errors import ConfigError, ModelError
from guiju.generation import Chooser, Engine, Request, SamplingSettings, open_runner
from guiju.model import Transformer, llama_config

VOCABULARY = 97


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(2)
    model = Transformer(llama_config(vocab_size=VOCABULARY, context=192, width=24, layers=2, heads=2, kv_heads=1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def _request(prompt, limit=8, settings=None, count=1, seed=0, takes=None, **more):
    settings = settings or SamplingSettings(greedy=True)
    choices = [Chooser(settings, prompt, VOCABULARY, seed, index) for index in range(count)]
    return Request(tuple(prompt), limit, choices, takes or [lambda token: False] * count, **more)


def _prompt(chance, size):
    return [chance.randrange(VOCABULARY) for _ in range(size)]


def _alone(model, request, record=False):
    engine = Engine(open_runner(model, runner="torch", pages=40, record=record))
    handle = engine.add(request)
    engine.run()
    return [branch.ids for branch in handle.branches]


def test_greedy_tokens_in_any_company_are_those_of_full_passes(model):
    chance = random.Random(0)
    prompts = [_prompt(chance, chance.randint(1, 100)) for _ in range(12)]
    engine = Engine(open_runner(model, runner="torch", pages=300))
    handles = []
    for prompt in prompts:
        handles.append(engine.add(_request(prompt)))
        engine.step()
    engine.run()
    for prompt, handle in zip(prompts, handles, strict=True):
        row = list(prompt)
        for token in handle.branches[0].ids:
            assert model(torch.tensor([row]))[0, -1].argmax() == token
            row.append(token)
        assert len(row) == len(prompt) + 8


def test_a_long_prompt_does_not_stall_who_writes(model):
    engine = Engine(open_runner(model, runner="torch", pages=40), step_tokens=20)
    writer = engine.add(_request([1, 2, 3], limit=30))
    engine.step()
    reader = engine.add(_request(_prompt(random.Random(1), 150)))
    written = []
    while not reader.branches[0].ids:
        before = engine.counts.tokens
        engine.step()
        written.append(len(writer.branches[0].ids))
        assert engine.counts.tokens - before <= 20
    assert written == list(range(2, 2 + len(written)))
    assert len(written) == 8  # 150 tokens, 19 a step
    engine.run()
    assert reader.branches[0].ids == _alone(model, reader.request)[0]


@pytest.mark.parametrize("record", [False, True])
def test_a_shared_beginning_is_computed_once(record, model):
    chance = random.Random(3)
    beginning, tails = _prompt(chance, 130), [_prompt(chance, 6) for _ in range(9)]
    for share, most in ((True, 128 + 9 * 8), (False, 9 * 136)):
        engine = Engine(open_runner(model, runner="torch", pages=200, record=record), share_prefixes=share)
        handles = [engine.add(_request([*beginning, *tail], limit=1)) for tail in tails]
        engine.run()
        assert engine.counts.tokens == most
        again = engine.add(_request([*beginning, *tails[4]], limit=1))
        before = engine.counts.tokens
        engine.run()
        assert engine.counts.tokens - before == (8 if share else 136)
        assert again.branches[0].ids == handles[4].branches[0].ids
        for handle in handles:
            assert [branch.ids for branch in handle.branches] == _alone(model, handle.request, record)


def test_a_conversation_goes_on_from_what_was_generated(model):
    engine = Engine(open_runner(model, runner="torch", pages=60))
    first = engine.add(_request(_prompt(random.Random(4), 20), limit=30))
    engine.run()
    whole = [*first.request.prompt, *first.branches[0].ids, 5, 6, 7]
    before = engine.counts.tokens
    second = engine.add(_request(whole, limit=1))
    engine.run()
    assert engine.counts.tokens - before == 53 - 48  # three full pages were there
    assert [branch.ids for branch in second.branches] == _alone(model, second.request)


def test_several_sequences_share_their_prompts_pages(model):
    prompt = _prompt(random.Random(5), 40)
    settings = SamplingSettings(temperature=1.5)
    engine = Engine(open_runner(model, runner="torch", pages=60))
    handle = engine.add(_request(prompt, limit=4, settings=settings, count=6, seed=1))
    engine.step()
    assert engine.counts.tokens == 40
    engine.step()
    assert 60 - engine.keeper.pages.available == 2 + 6  # two full pages together, a last one each
    engine.run()
    found = [branch.ids for branch in handle.branches]
    assert len({tuple(ids) for ids in found}) > 3
    for index in range(6):
        own = Engine(open_runner(model, runner="torch", pages=60))
        choice = Chooser(settings, prompt, VOCABULARY, 1, index)
        alone = own.add(Request(tuple(prompt), 4, [choice], [lambda token: False]))
        own.run()
        assert alone.branches[0].ids == found[index]


@pytest.mark.parametrize(("record", "lookup"), [(False, 0), (False, 4), (True, 0)])
def test_who_gives_way_for_want_of_pages_comes_to_the_same_tokens(record, lookup, model):
    chance = random.Random(6)
    sampled = SamplingSettings(temperature=1.1, top_k=30)
    wishes = [(_prompt(chance, chance.randint(1, 60)), chance.randint(20, 60)) for _ in range(12)]
    engine = Engine(open_runner(model, runner="torch", pages=14, record=record))
    handles = [engine.add(_request(prompt, limit, sampled, seed=9, lookup=lookup)) for prompt, limit in wishes]
    engine.run()
    assert engine.scheduler.preempted > 1
    for (prompt, limit), handle in zip(wishes, handles, strict=True):
        assert len(handle.branches[0].ids) == limit
        assert [branch.ids for branch in handle.branches] == _alone(
            model, _request(prompt, limit, sampled, seed=9), record
        )


def test_more_sequences_than_may_run_wait_for_their_turn(model):
    settings = SamplingSettings(temperature=1.5)
    prompt = _prompt(random.Random(7), 37)
    results = []
    for most_running in (2, 64):
        engine = Engine(open_runner(model, runner="torch", pages=100), most_running=most_running)
        handle = engine.add(_request(prompt, 6, settings, count=9, seed=2))
        widest = 0
        while engine.step():
            widest = max(widest, len(engine.scheduler.running))
        assert widest <= most_running
        results.append([branch.ids for branch in handle.branches])
    assert results[0] == results[1]


def test_a_request_that_is_cancelled_frees_its_pages_at_once_and_disturbs_no_one(model):
    engine = Engine(open_runner(model, runner="torch", pages=60), share_prefixes=False)
    stays = engine.add(_request(_prompt(random.Random(8), 20), limit=20))
    leaves = engine.add(_request(_prompt(random.Random(9), 90), limit=20))
    never = engine.add(_request(_prompt(random.Random(10), 30), limit=20))
    engine.cancel(never)
    engine.step()
    engine.step()
    held = engine.keeper.pages.available
    engine.cancel(leaves)
    assert engine.keeper.pages.available >= held + 6
    assert leaves.done
    assert leaves.branches[0].finish_reason == "cancelled"
    engine.run()
    assert [branch.ids for branch in stays.branches] == _alone(model, stays.request)
    assert never.branches[0].ids == []
    assert engine.keeper.pages.available == 60


def test_a_request_can_be_cancelled_by_its_own_and_by_anothers_token(model):
    engine = Engine(open_runner(model, runner="torch", pages=60))
    handles = []

    def cancel_all(token):
        for handle in handles:
            engine.cancel(handle)
        return False

    takes = [lambda token: False, cancel_all, lambda token: False]
    for number, take in enumerate(takes):
        handles.append(engine.add(_request([number, 5], limit=10, takes=[take])))
    engine.run()
    assert [len(handle.branches[0].ids) for handle in handles] == [1, 1, 0]
    assert all(handle.branches[0].finish_reason == "cancelled" for handle in handles)
    assert engine.keeper.pages.available == 60


def test_a_prompt_alone_is_read_in_longer_steps(model):
    engine = Engine(open_runner(model, runner="torch", pages=40), step_tokens=64)
    engine.add(_request(_prompt(random.Random(1), 120), limit=1))
    engine.run()
    assert engine.counts.steps == 1


def test_an_error_ends_its_own_request_alone(model):
    def fail(token):
        raise ModelError("no room for text")

    engine = Engine(open_runner(model, runner="torch", pages=60))
    bad = engine.add(_request([1, 2], takes=[fail]))
    good = engine.add(_request([3, 4]))
    engine.run()
    assert str(bad.error) == "no room for text"
    assert engine.failed == [bad]
    assert good.error is None
    assert [branch.ids for branch in good.branches] == _alone(model, good.request)
    assert engine.keeper.pages.available == 60


def test_no_page_is_lost_after_thousands_of_requests():
    torch.manual_seed(0)
    model = Transformer(llama_config(vocab_size=VOCABULARY, context=96, width=8, layers=1, heads=1)).eval()
    chance = random.Random(11)
    beginnings = [_prompt(chance, 40) for _ in range(3)]
    engine = Engine(open_runner(model, runner="torch", pages=20), step_tokens=128, most_running=30)
    pending, done = [], 0
    while done < 2000 or pending:
        if done < 2000 and len(pending) < 50:
            prompt = [*chance.choice(beginnings)[: chance.choice([0, 16, 33, 40])], *_prompt(chance, 3)]
            settings = SamplingSettings(temperature=1.0)
            handle = engine.add(
                _request(
                    prompt,
                    chance.choice([1, 1, 2, 2, 4, 4, 4, 30]),
                    settings,
                    count=chance.choice([1, 1, 1, 4]),
                    lookup=chance.choice([0, 3]),
                )
            )
            pending.append(handle)
            done += 1
        else:
            engine.step()
        if pending and chance.random() < 0.02:
            engine.cancel(chance.choice(pending))
        pending = [handle for handle in pending if not handle.done]
    assert engine.scheduler.preempted > 0
    assert not engine.step()
    assert engine.keeper.pages.available == 20
    assert not engine.scheduler._reading


@pytest.mark.parametrize(
    ("prompt", "limit", "error", "message"),
    [
        ([], 3, ModelError, "the prompt has no token"),
        ([1], 0, ConfigError, "1 continuations of 0 tokens"),
        ([VOCABULARY], 3, ModelError, "holds the id 97, but the model's run from 0 to 96"),
        ([-1], 3, ModelError, "holds the id -1"),
        ([1] * 193, 1, ModelError, "context of 192: at most 0 fit"),
        ([1] * 190, 4, ModelError, "context of 192: at most 3 fit"),
        ([1] * 180, 4, ModelError, "need 12 pages of keys and values, but there are 10"),
    ],
)
def test_a_request_that_cannot_be_is_refused_before_any_work(prompt, limit, error, message, model):
    engine = Engine(open_runner(model, runner="torch", pages=10))
    with pytest.raises(error, match=message):
        engine.add(_request(prompt, limit))
    assert not engine.step()
    assert engine.counts.tokens == 0
