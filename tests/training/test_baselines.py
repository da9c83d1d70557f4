from __future__ import annotations

import lzma
import math
from collections import Counter

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from worlds import make_texts, open_side

from guiju.errors import DataError
from guiju.tokens import TokenData, Tokenizer, write_shards
from guiju.training import ngram_baselines, xz_bits_per_byte
from guiju.training.baselines import _Counts, _fit


def test_the_models_equal_their_definition_computed_with_plain_counters(world):
    tokenizer = Tokenizer.load(world / "tokenizer")
    train, validation = open_side(world, "train"), open_side(world, "validation")
    found = ngram_baselines(train, validation, tokenizer.bytes_per_token)
    end = tokenizer.eos_id
    single, pairs, before = Counter(), Counter(), Counter()
    total = 0
    for number in range(train.documents):
        previous = end
        for token in train.document(number).tolist():
            single[token] += 1
            pairs[previous, token] += 1
            before[previous] += 1
            previous, total = token, total + 1
    bits = {"unigram": 0.0, "bigram": 0.0}
    for number in range(validation.documents):
        previous = end
        for token in validation.document(number).tolist():
            alone, uniform = single[token] / total, 1 / tokenizer.vocab_size
            pair = pairs[previous, token] / before[previous] if before[previous] else alone
            if token != end:
                bits["unigram"] -= math.log2(np.dot(found.unigram_weights, [alone, uniform]))
                bits["bigram"] -= math.log2(np.dot(found.bigram_weights, [pair, alone, uniform]))
            previous = token
    text_bytes = sum(len(text.encode()) for text in make_texts(25, seed=1))
    assert found.validation_bytes == text_bytes
    assert found.unigram_bits_per_byte == pytest.approx(bits["unigram"] / text_bytes, rel=1e-9)
    assert found.bigram_bits_per_byte == pytest.approx(bits["bigram"] / text_bytes, rel=1e-9)
    assert found.bigram_bits_per_byte < 0.8 * found.unigram_bits_per_byte  # the text is made of pairs
    assert 0.05 < found.held_out_tokens / found.counted_tokens < 0.2


def test_every_context_s_probabilities_add_up_to_one():
    stream = np.array([3, 1, 4, 1, 5, 0, 2, 6, 5, 3, 0], dtype=np.int64)
    counts = _Counts(stream, vocabulary=8, end=0)
    for previous in range(8):
        pair = [counts.chances(np.array([previous, token]))[0][1] for token in range(8)]
        single = [counts.chances(np.array([previous, token]))[1][1] for token in range(8)]
        assert sum(pair) == pytest.approx(1)
        assert sum(single) == pytest.approx(1)


def test_the_fitted_shares_are_the_most_likely_ones():
    draw = np.random.default_rng(0)
    parts = [draw.random(500) ** 2, draw.random(500)]
    share = minimize_scalar(
        lambda w: -np.log(w * parts[0] + (1 - w) * parts[1]).mean(),
        bounds=(0, 1),
        method="bounded",
        options={"xatol": 1e-9},
    ).x
    assert _fit(parts) == pytest.approx([share, 1 - share], abs=1e-3)


def test_the_validation_text_does_not_move_the_shares(world, tmp_path):
    tokenizer = Tokenizer.load(world / "tokenizer")
    train = open_side(world, "train")
    write_shards([("x", "over over over")], tokenizer, tmp_path / "other")
    other = TokenData.open(tmp_path / "other", tokenizer.digest)
    one = ngram_baselines(train, open_side(world, "validation"), tokenizer.bytes_per_token)
    two = ngram_baselines(train, other, tokenizer.bytes_per_token)
    assert one.bigram_weights == two.bigram_weights
    assert one.bigram_bits_per_byte != two.bigram_bits_per_byte


def test_xz_packs_the_text_alone():
    texts = make_texts(25, seed=1)
    data = "".join(text + "\n" for text in texts).encode()
    packed = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    assert xz_bits_per_byte(iter(texts)) == pytest.approx(8 * len(packed) / len(data))
    assert xz_bits_per_byte(["a" * 100_000]) < 0.05
    with pytest.raises(DataError, match="no text to pack"):
        xz_bits_per_byte([])


def test_too_little_text_is_named(world, tmp_path):
    tokenizer = Tokenizer.load(world / "tokenizer")
    write_shards([("a", "x")], tokenizer, tmp_path / "one")
    one = TokenData.open(tmp_path / "one", tokenizer.digest)
    with pytest.raises(DataError, match="holds 1 document"):
        ngram_baselines(one, one, tokenizer.bytes_per_token)
    with pytest.raises(DataError, match="validation side holds no text"):
        ngram_baselines(open_side(world, "train"), one, [0] * tokenizer.vocab_size)
