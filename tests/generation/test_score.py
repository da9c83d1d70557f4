from __future__ import annotations

import math

import pytest
import torch

from guiju.errors import DataError
from guiju.generation import score

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
    from guiju.model import Transformer, llama_config

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


def test_a_score_does_not_depend_on_the_texts_beside_it(stories):
    texts = ["Once upon a time", "x", "A dog. A cat."]
    assert score(*stories, texts) == [score(*stories, [text])[0] for text in texts]


def test_an_empty_text_is_refused(stories):
    with pytest.raises(DataError, match="text 1 is empty"):
        score(*stories, ["x", ""])
