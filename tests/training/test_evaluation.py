from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from worlds import CONTEXT, make_model, make_texts, open_side

from guiju.errors import DataError
from guiju.tokens import TokenData, Tokenizer, row_count, write_shards
from guiju.training import evaluate_bits_per_byte


def test_bits_per_byte_equals_the_direct_computation(world):
    """Each row by itself, whole logits, from the definition: nats over all text tokens / ln 2 / bytes of all texts."""
    model, tokenizer = make_model(), Tokenizer.load(world / "tokenizer")
    data = open_side(world, "validation")
    stream = [tokenizer.eos_id, *data.read(0, data.tokens).tolist()]
    nats = 0.0
    for start in range(0, data.tokens, CONTEXT):
        row = torch.tensor(stream[start : start + CONTEXT + 1])
        documents = (row[:-1] == tokenizer.eos_id).cumsum(0)[None]
        logs = model.eval()(row[None, :-1], documents=documents)[0].detach().double().log_softmax(-1)
        for place, target in enumerate(row[1:].tolist()):
            nats -= 0 if target == tokenizer.eos_id else float(logs[place, target])
    text_bytes = sum(len(text.encode()) for text in make_texts(25, seed=1))
    found = evaluate_bits_per_byte(model, data, tokenizer.bytes_per_token, context=CONTEXT, batch=3)
    assert found == pytest.approx(nats / math.log(2) / text_bytes, rel=1e-6)
    assert found == pytest.approx(math.log2(300) * (len(stream) - 1 - data.documents) / text_bytes, rel=0.02)


def test_the_batch_changes_nothing_and_training_mode_is_kept(world):
    model, tokenizer = make_model(dropout=0.5), Tokenizer.load(world / "tokenizer")
    data = open_side(world, "validation")
    model.train()
    one, four = (
        evaluate_bits_per_byte(model, data, tokenizer.bytes_per_token, context=CONTEXT, batch=batch) for batch in (1, 4)
    )
    assert one == pytest.approx(four, rel=1e-6)
    assert model.training


def test_part_of_the_rows_is_the_same_part_each_time(world):
    model, tokenizer = make_model(), Tokenizer.load(world / "tokenizer")
    data = open_side(world, "validation")
    values = [
        evaluate_bits_per_byte(model, data, tokenizer.bytes_per_token, context=CONTEXT, max_rows=rows)
        for rows in (5, 5, row_count(data, CONTEXT), 10**9, None)
    ]
    assert values[0] == values[1] != values[2] == values[3] == values[4]


def test_text_without_a_byte_has_no_bits_per_byte(world, tmp_path):
    tokenizer = Tokenizer.load(world / "tokenizer")
    write_shards([("a", "x")], tokenizer, tmp_path / "data")
    data = TokenData.open(tmp_path / "data", tokenizer.digest)
    with pytest.raises(DataError, match="no held-out target"):
        evaluate_bits_per_byte(make_model(), data, [0] * tokenizer.vocab_size, context=CONTEXT)


def test_dropout_of_a_target_is_by_its_bytes_alone(world):
    """A model that knows the next token for sure spends nothing."""
    tokenizer = Tokenizer.load(world / "tokenizer")
    data = open_side(world, "validation")

    class Knows(type(make_model())):
        def hidden(self, ids, documents=None):
            self.seen = ids
            return F.one_hot(torch.roll(ids, -1, dims=1), 300).float() * 50

        def head(self, hidden):
            return hidden

    model = Knows(make_model().config)
    found = evaluate_bits_per_byte(model, data, tokenizer.bytes_per_token, context=CONTEXT)
    assert 0 <= found < 50 * row_count(data, CONTEXT) / math.log(2) / data.index.text_bytes  # the rows' last targets
