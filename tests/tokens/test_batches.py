from __future__ import annotations

from collections import Counter

import pytest
import torch

from guiju.errors import CheckpointError, ConfigError
from guiju.model import Transformer, gpt2_config, llama_config
from guiju.tokens import IGNORED, PackedBatches, TokenData, read_rows, row_count, write_shards
from guiju.tokens.order import permuted


@pytest.fixture
def data(tokenizer, texts, tmp_path):
    write_shards(
        [(str(number), text) for number, text in enumerate(texts[:60])], tokenizer, tmp_path / "data", shard_tokens=100
    )
    return TokenData.open(tmp_path / "data", tokenizer.digest)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 1000, 4097])
def test_the_order_is_a_permutation_and_new_each_epoch_and_seed(count):
    orders = [
        [permuted(place, count, seed, epoch) for place in range(count)] for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    assert all(sorted(order) == list(range(count)) for order in orders)
    if count > 5:
        assert orders[0] != orders[1] != orders[2] != orders[0]


def test_the_order_is_the_same_for_ever():
    assert [permuted(place, 10, seed=7, epoch=3) for place in range(10)] == [0, 9, 3, 7, 8, 4, 6, 1, 5, 2]


def test_the_order_leaves_no_item_near_its_place_more_often_than_chance():
    fixed = sum(permuted(place, 500, seed, 0) == place for seed in range(20) for place in range(500))
    assert 4 <= fixed <= 42  # about 20 expected, as for a random permutation


@pytest.mark.parametrize(("context", "batch"), [(16, 4), (7, 3), (64, 1)])
def test_every_token_is_a_target_exactly_once_an_epoch(data, context, batch):
    """Counted by place in the data, not by value: rows are told apart by a stream whose tokens are all different."""
    rows = row_count(data, context)
    stream = [data.index.end_of_text, *data.read(0, data.tokens).tolist()]
    seen: Counter[int] = Counter()
    batches = PackedBatches(data, context=context, batch=batch, seed=3)
    taken = []
    while len(taken) < 3 * rows:
        state = batches.state()
        made = batches.next()
        for row in range(batch):
            position = state["position"] + row
            taken.append(permuted(position % rows, rows, 3, state["epoch"] + position // rows))
            start = taken[-1] * context
            for place in range(context):
                if made.targets[row, place] != IGNORED:
                    assert made.targets[row, place] == stream[start + place + 1]
                    assert made.ids[row, place] == stream[start + place]
                    if len(taken) <= 3 * rows:
                        seen[start + place + 1] += 1
    assert seen == Counter(dict.fromkeys(range(1, len(stream)), 3))


def test_documents_are_numbered_by_the_end_of_text_that_begins_them(data):
    batch = read_rows(data, [0, 1, row_count(data, 32) - 1], context=32)
    end = data.index.end_of_text
    assert batch.ids[0, 0] == end
    assert batch.documents is not None
    for ids, documents in zip(batch.ids.tolist(), batch.documents.tolist(), strict=True):
        assert documents[0] == 0
        for place in range(1, 32):
            assert documents[place] - documents[place - 1] == (1 if ids[place] == end else 0)


@pytest.mark.parametrize("shape", ["gpt2", "llama"])
def test_a_document_s_tokens_change_no_bit_of_another_s_output_in_the_same_row(data, tokenizer, shape):
    torch.manual_seed(0)
    make = gpt2_config if shape == "gpt2" else llama_config
    model = Transformer(make(vocab_size=tokenizer.vocab_size, context=128, width=32, layers=2, heads=4)).eval()
    rows = (read_rows(data, [row], context=128) for row in range(row_count(data, 128)))
    batch = next(rows for rows in rows if rows.documents.max() >= 2)
    before = model(batch.ids, documents=batch.documents)
    inside = batch.documents == 1
    changed = torch.where(inside & (batch.ids != data.index.end_of_text), (batch.ids + 1) % 256 + 1, batch.ids)
    after = model(changed, documents=batch.documents)
    assert torch.equal(before[~inside], after[~inside])
    assert not torch.equal(before[inside], after[inside])
    # The control: without the numbers, the very same change reaches the documents after it.
    later = batch.documents > 1
    assert not torch.equal(model(batch.ids)[later], model(changed)[later])


def test_a_document_in_a_packed_row_reads_as_it_does_alone(data, tokenizer):
    torch.manual_seed(0)
    model = Transformer(gpt2_config(vocab_size=tokenizer.vocab_size, context=128, width=32, layers=2, heads=4)).eval()
    rows = (read_rows(data, [row], context=128) for row in range(row_count(data, 128)))
    batch = next(rows for rows in rows if rows.documents.max() >= 2)
    inside = batch.documents[0] == 1
    alone = model(batch.ids[:, inside])
    torch.testing.assert_close(model(batch.ids, documents=batch.documents)[:, inside], alone, atol=1e-5, rtol=1e-5)


def stream_of(batches: PackedBatches, count: int) -> list[list[int]]:
    return [
        made.ids.flatten().tolist() + made.targets.flatten().tolist() for made in (batches.next() for _ in range(count))
    ]


def test_a_resumed_stream_is_the_uninterrupted_one_over_three_epochs(data):
    def fresh() -> PackedBatches:
        return PackedBatches(data, context=16, batch=4, seed=11)

    total = -(-3 * fresh().rows // 4)
    whole = stream_of(fresh(), total)
    for cut in range(0, total + 1, 7):
        batches = fresh()
        parts = stream_of(batches, cut)
        state = batches.state()
        resumed = fresh()
        resumed.restore(state)
        assert parts + stream_of(resumed, total - cut) == whole


def test_two_resumes_in_one_epoch_go_on_where_the_second_stood(data):
    def fresh() -> PackedBatches:
        return PackedBatches(data, context=16, batch=2, seed=5)

    assert fresh().rows > 20
    whole = stream_of(fresh(), 9)
    parts, state = [], fresh().state()
    for _ in range(3):
        batches = fresh()
        batches.restore(state)
        parts += stream_of(batches, 3)
        state = batches.state()
    assert parts == whole


def test_other_seeds_give_other_orders_of_the_same_rows(data):
    one, two = (PackedBatches(data, context=16, batch=1, seed=seed) for seed in (1, 2))
    first, second = stream_of(one, one.rows), stream_of(two, two.rows)
    assert first != second
    assert sorted(first) == sorted(second)


def test_a_place_that_the_data_does_not_have_is_refused(data):
    batches = PackedBatches(data, context=16, batch=1, seed=0)
    for state in ({"epoch": 0, "position": batches.rows}, {"epoch": -1, "position": 0}, {}):
        with pytest.raises(CheckpointError, match="does not exist"):
            batches.restore(state)
    with pytest.raises(ConfigError, match="context is 0"):
        PackedBatches(data, context=0, batch=1, seed=0)
