from __future__ import annotations

import copy
import math
import random
from dataclasses import replace

import pytest
import torch

from guiju.errors import DataError, ModelError
from guiju.generation import score, score_continuation_ids, score_continuations, score_each
from guiju.model import Transformer

TEXT = "床前明月光 and so on"


def _log_probabilities(model, ids):
    return model(torch.tensor([ids[:-1]]))[0].double().log_softmax(-1)


def test_a_score_is_the_sum_over_a_full_pass(random_model, bytes_tokenizer):
    [found] = score(random_model, bytes_tokenizer, [TEXT])
    ids = [bytes_tokenizer.eos_id, *bytes_tokenizer.encode(TEXT)]
    logs = _log_probabilities(random_model, ids)
    expected = -sum(logs[place, token].item() for place, token in enumerate(ids[1:]))
    assert found.tokens == len(ids) - 1 == len(TEXT.encode())
    assert found.nll_nats == pytest.approx(expected, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(expected / math.log(2) / len(TEXT.encode()), rel=1e-5)


def test_an_untrained_model_needs_about_eight_bits_for_a_byte(bytes_tokenizer):
    from guiju.model import llama_config

    torch.manual_seed(0)
    model = Transformer(llama_config(vocab_size=257, context=64, width=32, layers=2, heads=4))
    assert score(model, bytes_tokenizer, [TEXT])[0].bits_per_byte == pytest.approx(math.log2(257), rel=0.02)


@pytest.mark.parametrize("size", [63, 64, 65, 96, 97, 200])
def test_each_token_of_a_long_text_counts_once_and_sees_at_least_half_the_context(size, random_model, bytes_tokenizer):
    text = ("abcdefg " * 40)[:size]
    ids = [bytes_tokenizer.eos_id, *bytes_tokenizer.encode(text)]
    expected, done = 0.0, 0
    for end in [64, *range(96, 400, 32)]:  # context 64, so windows move on by 32
        end = min(end, size)
        begin = max(0, end - 64)
        logs = _log_probabilities(random_model, ids[begin : end + 1])
        for target in range(done + 1, end + 1):
            assert target - begin > 32 or begin == 0
            expected -= logs[target - 1 - begin, ids[target]].item()
        done = end
    assert done == size
    assert score(random_model, bytes_tokenizer, [text])[0].nll_nats == pytest.approx(expected, rel=1e-5)


def _one_by_one(model, ids: list[int], first: int) -> tuple[float, bool]:
    """The plain way: one full pass over one row."""
    logs = _log_probabilities(model, ids)
    wanted = list(enumerate(ids[1:], start=1))[first - 1 :]
    return -sum(logs[at - 1, token].item() for at, token in wanted), all(
        int(logs[at - 1].argmax()) == token for at, token in wanted
    )


def test_a_score_does_not_depend_on_the_texts_beside_it(stories):
    texts = ["Once upon a time", "x", "A dog. A cat.", "Once upon a time, there was a cat.", "x", "One day, " * 90]
    for together, alone in zip(score(*stories, texts), [score(*stories, [text])[0] for text in texts], strict=True):
        assert together.tokens == alone.tokens
        assert together.nll_nats == pytest.approx(alone.nll_nats, rel=1e-6)


def test_an_empty_text_is_refused_and_what_stands_before_it_is_given_out(stories):
    found = []
    with pytest.raises(DataError, match="text 2 is empty"):
        found.extend(score_each(*stories, ["x", "y", "", "z"]))
    assert [one.tokens for one in found] == [one.tokens for one in score(*stories, ["x", "y"])]


def test_a_continuation_is_what_a_full_pass_says(stories):
    model, tokenizer = stories
    pairs = [("Once upon a", " time"), ("Once upon a", " dragon"), ("Lily", " was happy. She had a cat."), ("", "Once"),
             ("One day ", "Tom went"), ("Once upon a", " time")]  # fmt: skip
    found = list(score_continuations(model, tokenizer, pairs))
    for (context, continuation), one in zip(pairs, found, strict=True):
        front = tokenizer.encode(context.rstrip()) if context else []
        ids = [tokenizer.bos_id, *tokenizer.encode(context + continuation)]
        nats, greedy = _one_by_one(model, ids, 1 + len(front))
        assert one.tokens == len(ids) - 1 - len(front)
        assert one.nll_nats == pytest.approx(nats, rel=1e-6, abs=1e-6)
        assert one.greedy == greedy
    assert found[0] == found[-1] and found[0].greedy and not found[1].greedy


def test_scores_are_those_of_one_row_after_the_other_whatever_they_share(random_model):
    """Random trees of rows: equal ones, one that is the beginning of another, long and short common beginnings."""
    chance = random.Random(5)
    stems = [[chance.randrange(257) for _ in range(size)] for size in (1, 15, 16, 17, 40)]
    stems += [[*stems[4][:30], *(chance.randrange(257) for _ in range(20))] for _ in range(3)]
    pairs = []
    for _ in range(120):
        stem = chance.choice(stems)
        front = stem[: chance.randrange(1, len(stem) + 1)] if chance.random() < 0.3 else stem
        pairs.append((front, [chance.randrange(257) for _ in range(chance.randrange(1, 12))]))
    pairs += pairs[:10] + [(front, after[:1]) for front, after in pairs[:10]]
    for (front, after), one in zip(pairs, score_continuation_ids(random_model, pairs), strict=True):
        nats, greedy = _one_by_one(random_model, [*front, *after], len(front))
        assert one == (pytest.approx(nats, rel=1e-6), len(after), greedy)


@pytest.mark.parametrize("config", [
    {"window": 9, "window_from": 1}, {"positions": "relative", "relative_buckets": 8, "relative_distance": 20},
    {"positions": "learned"}, {"positions": "sinusoidal", "norm_place": "after", "embedding_norm": True},
])  # fmt: skip
def test_every_kind_of_position_is_scored_alike_with_and_without_a_shared_beginning(config):
    from guiju.model import llama_config

    torch.manual_seed(1)
    model = Transformer(replace(llama_config(vocab_size=257, context=64, width=32, layers=2, heads=4), **config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    front = list(range(40, 80))
    pairs = [(front, [1, 2, 3]), (front, [4]), (front, [5, 6, 7]), (front[:20], [9, 9]), ([3], [1, 2])]
    for (before, after), one in zip(pairs, score_continuation_ids(model, pairs), strict=True):
        nats, greedy = _one_by_one(model, [*before, *after], len(before))
        assert one == (pytest.approx(nats, rel=1e-6), len(after), greedy)


def test_a_shared_context_is_computed_once(random_model, monkeypatch):
    read = []
    hidden = Transformer.hidden
    monkeypatch.setattr(Transformer, "hidden", lambda self, ids, *more, **named: (
        read.append(ids.numel()) or hidden(self, ids, *more, **named)))  # fmt: skip
    context = list(range(50))
    list(score_continuation_ids(random_model, [(context, [choice, choice]) for choice in range(1, 9)]))
    assert sum(read) <= 50 + 8 * 3
    assert len(read) == 2


def test_texts_are_drawn_as_they_are_needed_and_no_more_of_them_are_held(random_model, bytes_tokenizer, monkeypatch):
    from guiju.generation import shared_reading

    monkeypatch.setitem(shared_reading._PASS_TOKENS, "cpu", 100)
    drawn = 0

    def texts():
        nonlocal drawn
        for number in range(1000):
            drawn += 1
            yield f"text {number:04d}"

    scores = score_each(random_model, bytes_tokenizer, texts())
    for number in range(1, 200):
        next(scores)
        assert drawn - number <= 8 * 100 // 10 + 1


def test_a_pass_has_so_many_tokens_and_no_more(random_model, bytes_tokenizer, monkeypatch):
    from guiju.generation import shared_reading

    monkeypatch.setitem(shared_reading._PASS_TOKENS, "cpu", 100)
    sizes = []
    hidden = Transformer.hidden
    monkeypatch.setattr(Transformer, "hidden", lambda self, ids, *more, **named: (
        sizes.append(ids.numel()) or hidden(self, ids, *more, **named)))  # fmt: skip
    texts = ["".join(random.Random(number).choices("abcdef ", k=number % 40 + 1)) for number in range(100)]
    score(random_model, bytes_tokenizer, texts)
    assert max(sizes) <= 100 and sum(sizes) / len(sizes) > 60


def test_a_pair_that_cannot_be_scored_is_named(stories):
    with pytest.raises(DataError, match="continuation of pair 1 is empty"):
        list(score_continuations(*stories, [("a", "b"), ("a", "")]))
    with pytest.raises(DataError, match=r"pair 0 has \d+ tokens of context and \d+ of continuation.*context is 512"):
        list(score_continuations(*stories, [("word " * 600, "b")]))


def test_damaged_weights_give_an_error_and_no_score(bytes_tokenizer, random_model):
    broken = copy.deepcopy(random_model)
    with torch.no_grad():
        broken.final_norm.weight[0] = torch.nan
    with pytest.raises(ModelError, match="not numbers"):
        score(broken, bytes_tokenizer, ["A"])


def test_beside_an_encoder_the_context_is_the_source(bytes_tokenizer):
    from guiju.model import EncoderDecoder, transformer_config

    torch.manual_seed(2)
    config = transformer_config(vocab_size=257, context=48, width=32, layers=2, heads=4, start_id=0)
    model = EncoderDecoder(config).eval()
    pairs = [("a source", "target"), ("another source text", "t"), ("床", "前 明"), ("a source", "other target")]
    for (source, target), one in zip(pairs, score_continuations(model, bytes_tokenizer, pairs), strict=True):
        ids = bytes_tokenizer.encode(target)
        read = bytes_tokenizer.with_template(bytes_tokenizer.encode(source))[0]
        with torch.inference_mode():
            logs = model(torch.tensor([[0, *ids[:-1]]]), source=torch.tensor([read]))[0].double().log_softmax(-1)
        expected = -sum(logs[place, token].item() for place, token in enumerate(ids))
        assert one.nll_nats == pytest.approx(expected, rel=1e-6) and one.tokens == len(ids)
