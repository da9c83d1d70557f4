"""Rows for encoders and for encoders with decoder: what is masked, cut out, paired, and in which order it comes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from guiju.errors import CheckpointError, ConfigError, DataError
from guiju.tokens import IGNORED, TokenData, TokenizerSettings, train_tokenizer, write_shards
from guiju.tokens.bucketed import BucketedBatches
from guiju.tokens.draws import draw_words, share_as_word
from guiju.tokens.masked import MaskedExamples
from guiju.tokens.pairs import PairExamples
from guiju.tokens.pieces import Marks, cut_documents
from guiju.tokens.spans import SpanExamples, run_counts, sentinels_needed, source_length, target_length

SENTINELS = tuple(f"<extra_id_{number}>" for number in range(8))
SPECIAL = ("<|endoftext|>", "<pad>", "<mask>", *SENTINELS)
CONTEXT = 40


@pytest.fixture(scope="module")
def marked(texts):
    return train_tokenizer(texts, TokenizerSettings(vocab_size=400, special_tokens=SPECIAL))


@pytest.fixture(scope="module")
def marks(marked):
    assert marked.special_ids == frozenset(range(len(SPECIAL)))
    around = {"before": (0,), "after": (0,)}
    return Marks(start=0, end=0, pad=1, mask=2, sentinels=tuple(range(3, 11)), special=marked.special_ids, **around)


@pytest.fixture(scope="module")
def data(marked, texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("marked")
    write_shards([(str(n), text) for n, text in enumerate(texts)], marked, folder / "data", shard_tokens=700)
    return TokenData.open(folder / "data", marked.digest)


@pytest.fixture(scope="module")
def masked(data, marks):
    return MaskedExamples(data, marks, context=CONTEXT)


@pytest.fixture(scope="module")
def spans(data, marks):
    return SpanExamples(data, marks, context=CONTEXT)


@pytest.fixture(scope="module")
def pairs(marked, marks, texts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    words = [text.split()[:10] for text in texts]
    for side, order in (("sources", 1), ("targets", -1)):
        documents = ((f"p{n}", " ".join(each[::order])) for n, each in enumerate(words))
        write_shards(documents, marked, folder / side)
    sources, targets = (TokenData.open(folder / side, marked.digest) for side in ("sources", "targets"))
    return PairExamples(sources, targets, marks, context=CONTEXT)


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


# -- numbers that are computed ----------------------------------------------------------------------------------


def test_words_are_splitmix64_s_and_the_same_for_ever():
    def mix(word: int) -> int:  # once more, in Python's own whole numbers
        mask = (1 << 64) - 1
        word = (word + 0x9E3779B97F4A7C15) & mask
        word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & mask
        word = (word ^ word >> 27) * 0x94D049BB133111EB & mask
        return word ^ word >> 31

    found = draw_words(7, 3, rows(0, 5), 4, 11)
    key = mix(mix(7 ^ mix(3)) ^ mix(11))
    expected = [[mix(mix(key ^ mix(row)) ^ mix(place)) for place in range(4)] for row in (0, 5)]
    assert found.tolist() == expected
    assert mix(0) == 16294208416658607535  # splitmix64's published first output for seed 0


def test_words_are_uniform_and_other_for_each_seed_epoch_row_and_purpose():
    words = draw_words(1, 2, np.arange(200), 50, 3)
    assert stats.kstest(words.ravel() / 2.0**64, "uniform").pvalue > 1e-3
    assert abs(np.mean(words < share_as_word(0.8)) - 0.8) < 0.02
    others = [draw_words(*arguments) for arguments in ((2, 2, np.arange(200), 50, 3), (1, 3, np.arange(200), 50, 3),
                                                       (1, 2, np.arange(200) + 200, 50, 3),
                                                       (1, 2, np.arange(200), 50, 4))]  # fmt: skip
    assert not any((words == other).any() for other in others)
    assert draw_words(-1, 0, rows(0), 1, 0).shape == (1, 1)


# -- pieces and their order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("longest", [1, 7, 38, 1000])
def test_every_token_of_text_lies_in_exactly_one_piece(data, longest):
    pieces = cut_documents(data, longest)
    covered = Counter(
        place
        for start, length in zip(pieces.starts, pieces.lengths, strict=True)
        for place in range(start, start + length)
    )
    ends = set((data.document_ends[1:] - 1).tolist())
    assert covered == Counter(dict.fromkeys(set(range(data.tokens)) - ends, 1))
    assert pieces.lengths.max() <= longest
    sizes = [
        length for start, length in zip(pieces.starts, pieces.lengths, strict=True) if start < data.document_ends[1]
    ]
    assert max(sizes) - min(sizes) <= 1  # no rest of one or two tokens


@pytest.mark.parametrize("name", ["masked", "spans", "pairs"])
def test_every_row_comes_once_an_epoch_in_batches_of_like_lengths(name, request):
    examples = request.getfixturevalue(name)
    batches = BucketedBatches(examples, batch=8, seed=4)
    read = examples.read
    seen: list[tuple[int, list[int]]] = []

    def watched(numbers, seed, epoch):
        seen.append((epoch, numbers.tolist()))
        return read(numbers, seed, epoch)

    examples.read = watched
    try:
        for _ in range(2 * batches.count):
            batches.next()
    finally:
        examples.read = read
    for epoch in (0, 1):
        assert sorted(row for e, numbers in seen for row in numbers if e == epoch) == list(range(len(examples.lengths)))
    first, second = ([numbers for e, numbers in seen if e == epoch] for epoch in (0, 1))
    assert first != second

    def spread(groups):
        return sum(int(np.ptp(examples.lengths[group])) for group in groups)

    everywhere = np.arange(len(examples.lengths))
    assert spread(first) < 0.5 * spread([everywhere[n : n + 8] for n in range(0, len(everywhere), 8)])


@pytest.mark.parametrize("name", ["masked", "spans", "pairs"])
def test_a_resumed_stream_is_the_uninterrupted_one_and_its_state_is_two_integers(name, request):
    examples = request.getfixturevalue(name)

    def fresh():
        return BucketedBatches(examples, batch=16, seed=9)

    def stream(batches, count):
        return [torch.cat([part.flatten() for part in (made.ids, made.targets)]).tolist()
                for made in (batches.next() for _ in range(count))]  # fmt: skip

    total = 2 * fresh().count + 1
    whole = stream(fresh(), total)
    assert whole[: fresh().count] != whole[fresh().count : -1]
    for cut in range(0, total, 5):
        batches = fresh()
        parts = stream(batches, cut)
        assert set(batches.state()) == {"epoch", "position"}
        resumed = fresh()
        resumed.restore(batches.state())
        assert parts + stream(resumed, total - cut) == whole
    with pytest.raises(CheckpointError, match="does not exist"):
        fresh().restore({"epoch": 0, "position": 10**6})
    with pytest.raises(ConfigError, match="batch is 0"):
        BucketedBatches(examples, batch=0, seed=0)


@pytest.mark.parametrize("name", ["masked", "spans", "pairs"])
def test_the_sizes_that_are_foretold_are_those_that_come(name, request):
    batches = BucketedBatches(request.getfixturevalue(name), batch=8, seed=2)
    for foretold in batches.sizes(batches.count + 3):
        made = batches.next()
        source = 0 if made.source is None else made.source.size(1)
        found = (*made.ids.shape, source, made.target_count)
        assert found == (foretold.rows, foretold.width, foretold.source, foretold.targets)


# -- masked tokens ----------------------------------------------------------------------------------------------


def test_masked_rows_hold_the_text_between_its_marks_and_only_targets_are_changed(masked, data, marks):
    batch = masked.read(rows(0, 1, 2, 3), seed=1, epoch=0)
    whole = torch.where(batch.targets == IGNORED, batch.ids, batch.targets)
    for place, row in enumerate(range(4)):
        start, length = int(masked.pieces.starts[row]), int(masked.pieces.lengths[row])
        text = data.read(start, start + length).tolist()
        expected = [0, *text, 0]
        assert whole[place].tolist() == expected + [marks.pad] * (batch.ids.size(1) - len(expected))
    lengths = masked.lengths[:4].tolist()
    real = torch.tensor([[place < length for place in range(batch.ids.size(1))] for length in lengths])
    assert torch.equal(batch.padding, real)


def test_fifteen_per_cent_are_targets_and_of_these_eighty_ten_ten(masked, marks):
    """BERT's figures (arXiv:1810.04805), counted over several epochs and held against the binomial."""
    counts: Counter[str] = Counter()
    for epoch in range(8):
        for start in range(0, len(masked.lengths), 16):
            numbers = np.arange(start, min(start + 16, len(masked.lengths)))
            batch = masked.read(numbers, seed=0, epoch=epoch)
            chosen = batch.targets != IGNORED
            expected = np.maximum((masked.lengths[numbers] * 0.15 + 0.5).astype(int), 1)
            assert chosen.sum(dim=1).tolist() == expected.tolist()
            assert not set(batch.targets[chosen].tolist()) & marks.special  # never a special token
            counts["tokens"] += int(masked.lengths[numbers].sum())
            counts["targets"] += int(chosen.sum())
            counts["mask"] += int((batch.ids[chosen] == marks.mask).sum())
            counts["same"] += int((batch.ids == batch.targets)[chosen].sum())
            assert not set(batch.ids[chosen & (batch.ids != marks.mask)].tolist()) & marks.special
            assert torch.equal(batch.ids[~chosen], torch.where(batch.targets == IGNORED, batch.ids, 0)[~chosen])
    n = counts["targets"]
    assert n > 3000
    assert counts["targets"] / counts["tokens"] == pytest.approx(0.15, abs=0.01)
    assert stats.binomtest(counts["mask"], n, 0.8).pvalue > 1e-3
    text = 400 - len(SPECIAL)
    assert stats.binomtest(counts["same"], n, 0.1 + 0.1 / text).pvalue > 1e-3


def test_what_is_masked_hangs_on_seed_epoch_and_row_alone(masked):
    alone = masked.read(rows(5), seed=1, epoch=2)
    among = masked.read(rows(9, 5, 2), seed=1, epoch=2)
    length = int(masked.lengths[5])
    assert torch.equal(alone.ids[0, :length], among.ids[1, :length])
    assert torch.equal(alone.targets[0, :length], among.targets[1, :length])
    for seed, epoch in ((2, 2), (1, 3)):
        assert not torch.equal(alone.targets, masked.read(rows(5), seed=seed, epoch=epoch).targets)


def test_each_place_of_a_row_is_masked_about_equally_often(masked):
    row = int(np.argmax(masked.lengths))
    length = int(masked.lengths[row])
    times = sum((masked.read(rows(row), 0, epoch).targets[0, :length] != IGNORED).long() for epoch in range(600))
    inside = times[1:-1].numpy()
    assert times[0] == times[-1] == 0
    assert stats.chisquare(inside).pvalue > 1e-3


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 2.0])
def test_a_mask_of_nothing_or_of_all_is_refused(data, marks, share):
    with pytest.raises(ConfigError, match="with none there is nothing to guess, and with all nothing to guess it from"):
        MaskedExamples(data, marks, context=CONTEXT, share=share)


def test_even_the_largest_share_leaves_something_to_guess_from(data, marks):
    greedy = MaskedExamples(data, marks, context=CONTEXT, share=0.999)
    for row in range(40):
        batch = greedy.read(rows(row), 0, 0)
        left = [token for token, target in zip(batch.ids[0].tolist(), batch.targets[0].tolist(), strict=True)
                if target == IGNORED and token not in marks.special]  # fmt: skip
        assert left
        assert batch.target_count


def test_without_a_mask_token_there_is_no_masking(data):
    with pytest.raises(ConfigError, match="the tokenizer has no mask token"):
        MaskedExamples(data, Marks(start=0, end=0, pad=0), context=CONTEXT)


def test_data_in_which_nothing_can_be_predicted_is_an_error(data, marks):
    blind = MaskedExamples(data, replace(marks, special=frozenset(range(399))), context=CONTEXT)
    blind._special[:] = True
    with pytest.raises(DataError, match="no row of the data has anything to predict"):
        BucketedBatches(blind, batch=4, seed=0).next()


# -- runs that are cut out --------------------------------------------------------------------------------------


def put_back(source: list[int], target: list[int], marks: Marks) -> list[int]:
    """The text of a source whose sentinels are replaced by what the target gives for them."""
    assert source[0] == source[-1] == target[-1] == marks.end
    runs: dict[int, list[int]] = {}
    for token in target[:-1]:
        if token in marks.sentinels:
            runs[last := token] = []
        else:
            runs[last].append(token)
    assert list(runs) == list(marks.sentinels[: len(runs)])
    assert [token for token in source if token in marks.sentinels] == list(runs)[:-1]
    assert runs.popitem()[1] == []  # the last sentinel closes
    assert all(runs.values())
    return [back for token in source[1:-1] for back in runs.get(token, [token])]


def own(row: torch.Tensor, padding: torch.Tensor | None, place: int) -> list[int]:
    return (row if padding is None else row[padding[place]]).tolist()


def test_a_source_with_its_target_put_back_is_the_text(spans, data, marks):
    for start in range(0, len(spans.lengths), 8):
        numbers = np.arange(start, min(start + 8, len(spans.lengths)))
        batch = spans.read(numbers, seed=3, epoch=1)
        for place, row in enumerate(numbers):
            begin, length = int(spans.pieces.starts[row]), int(spans.pieces.lengths[row])
            source = own(batch.source[place], batch.source_padding, place)
            target = own(batch.targets[place], batch.padding, place)
            assert own(batch.ids[place], batch.padding, place) == [marks.start, *target[:-1]]
            text = data.read(begin, begin + length).tolist()
            assert put_back(source, target, marks) == text
            assert source[1] not in marks.sentinels
            assert source[-2] not in marks.sentinels  # text stands before the first run and after the last
            cut, runs = run_counts(length)
            assert (len(source), len(target)) == (source_length(length, 2), target_length(length))
            assert len(target) == cut + runs + 2


def test_cut_runs_come_to_t5_s_share_and_mean_length():
    cut, runs = np.array([run_counts(length) for length in range(100, 600)]).sum(axis=0)
    assert cut / sum(range(100, 600)) == pytest.approx(0.15, rel=0.01)
    assert cut / runs == pytest.approx(3.0, rel=0.03)


def test_runs_fall_anywhere_and_otherwise_in_each_epoch(spans):
    row = int(np.argmax(spans.lengths))
    places: Counter[int] = Counter()
    sources = set()
    for epoch in range(1500):
        batch = spans.read(rows(row), 0, epoch)
        source = batch.source[0].tolist()
        sources.add(tuple(source))
        places.update(place for place, token in enumerate(source) if 3 <= token < 11)
    assert len(sources) > 1000
    middle = [places[place] for place in range(4, len(source) - 5)]
    assert min(middle) > 0.5 * max(middle)


def test_too_few_sentinels_are_named_with_the_way_out(data, marks):
    assert sentinels_needed(CONTEXT) == 3
    few = replace(marks, sentinels=(3, 4))
    with pytest.raises(ConfigError, match=r"2 sentinels, but rows of 40 tokens take 3.*<extra_id_0>"):
        SpanExamples(data, few, context=CONTEXT)
    with pytest.raises(ConfigError, match="context is 9"):
        SpanExamples(data, marks, context=9)
    with pytest.raises(ConfigError, match="context is 3"):
        MaskedExamples(data, marks, context=3)


@pytest.mark.parametrize("context", [8, 40, 128, 509])
def test_the_longest_piece_fills_the_context_and_no_longer_one_would_fit(context):
    from guiju.tokens.spans import _longest

    longest = _longest(context, 1)
    assert source_length(longest, 1) <= context < source_length(longest + 1, 1)
    assert all(target_length(length) <= context for length in range(4, longest + 1))
    assert all(
        max(run_counts(length)[1] + 1 for length in range(4, longest + 1)) <= sentinels_needed(context) for _ in "a"
    )


# -- pairs ------------------------------------------------------------------------------------------------------


def test_pairs_stay_together_and_the_decoder_reads_what_comes_before_each_target(pairs, marked, marks, texts):
    numbers = rows(0, 3, 7)
    batch = pairs.read(numbers, 0, 0)
    for place, row in enumerate(numbers):
        words = texts[pairs.documents[row]].split()[:10]
        source, target = own(batch.source[place], batch.source_padding, place), batch.targets[place]
        assert source == [0, *marked.encode(" ".join(words)), 0]
        target = target[target != IGNORED].tolist()
        assert target == [*marked.encode(" ".join(words[::-1])), marks.end]
        assert batch.ids[place, : len(target)].tolist() == [marks.start, *target[:-1]]
        assert set(batch.ids[place, len(target) :].tolist()) <= {marks.pad}


def test_pairs_that_are_too_long_or_empty_are_left_out_and_counted(marked, marks, tmp_path):
    sides = {"sources": ["one two", "x " * 90, "", "fox"], "targets": ["zwei eins", "y", "z", "old bridge"]}
    for side, made in sides.items():
        write_shards(((str(n), text) for n, text in enumerate(made)), marked, tmp_path / side)
    sources, targets = (TokenData.open(tmp_path / side, marked.digest) for side in sides)
    examples = PairExamples(sources, targets, marks, context=CONTEXT)
    assert examples.documents.tolist() == [0, 3]
    assert examples.left_out == 2
    with pytest.raises(DataError, match="none of 4 pairs"):
        PairExamples(sources, targets, marks, context=2)


def test_folders_of_other_documents_are_no_pairs(data, pairs, marks):
    with pytest.raises(DataError, match="do not hold the same documents"):
        PairExamples(data, pairs.targets, marks, context=CONTEXT)


def test_marks_are_those_that_the_tokenizer_s_own_layout_puts_around_a_text(texts, marked):
    found = Marks.of(marked)
    assert (found.start, found.end, found.pad, found.mask) == (0, 0, 1, 2)
    assert found.sentinels == tuple(range(3, 11))
    assert (found.before, found.after) == ((), ())
    word = train_tokenizer(texts, TokenizerSettings(kind="wordpiece", vocab_size=160))
    found = Marks.of(word)
    assert [*found.before, *word.encode("the fox"), *found.after] == word.with_template(word.encode("the fox"))[0]
    assert (found.before, found.after) == ((word.cls_id,), (word.sep_id,))
    assert (found.end, found.pad, found.mask) == (word.sep_id, word.pad_id, word.mask_id)
    unigram = train_tokenizer(texts, TokenizerSettings(kind="unigram", vocab_size=120))
    found = Marks.of(unigram)
    assert (found.start, found.before, found.after) == (unigram.pad_id, (), (unigram.eos_id,))


# -- a batch ----------------------------------------------------------------------------------------------------


def test_masks_that_hide_nothing_are_dropped_and_all_parts_move(pairs):
    batch = pairs.read(rows(0, 1, 2, 3), 0, 0)
    assert batch.to("cpu").source is not None
    moved = batch.to("meta")
    assert {part.device.type for part in (moved.ids, moved.targets, moved.source)} == {"meta"}
    single = pairs.read(rows(0), 0, 0)
    plain = single.without_idle_masks()
    assert torch.equal(plain.ids, single.ids)
    full = type(single)(single.ids, single.targets, torch.zeros_like(single.ids), torch.ones_like(single.ids).bool())
    assert full.without_idle_masks().documents is None
    assert full.without_idle_masks().padding is None
    kept = type(single)(single.ids, single.targets, None, torch.zeros_like(single.ids).bool())
    assert kept.without_idle_masks().padding is not None
