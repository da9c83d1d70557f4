"""Rows to tune on: what is a target in them, and what is refused before any step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from guiju.errors import ConfigError, DataError
from guiju.tokens import (
    IGNORED,
    AnswerExamples,
    BucketedBatches,
    ExtractiveExamples,
    LabelledExamples,
    LabelledRow,
    LearnedRow,
    PreferenceExamples,
    PreferenceRow,
    SpanRow,
    Tokenizer,
    TokenizerSettings,
    TokenLabelledExamples,
    TokenLabelledRow,
    best_spans,
    span_row,
    train_tokenizer,
)


def every(examples) -> np.ndarray:
    return np.arange(len(examples.lengths))


# -- answers ----------------------------------------------------------------------------------------------------


def test_only_learned_tokens_are_targets_each_one_place_before_itself():
    rows = [
        LearnedRow((5, 6, 7, 8, 9), (False, False, False, True, True)),
        LearnedRow((5, 6, 7), (False, True, True)),
    ]
    examples = AnswerExamples(rows, context=16, pad=0)
    batch = examples.read(every(examples), 0, 0)
    assert batch.ids[:, :4].tolist() == [[5, 6, 7, 8], [5, 6, 0, 0]]
    assert batch.targets[:, :4].tolist() == [[IGNORED, IGNORED, 8, 9], [6, 7, IGNORED, IGNORED]]
    assert batch.padding.sum(dim=1).tolist() == [4, 2]
    assert examples.size(every(examples)).targets == batch.target_count == 4


ROWS = {
    "empty": (LearnedRow((1, 2, 3), (False,) * 3, "chats.jsonl, line 7"), "no token of chats.jsonl, line 7 is learned"),
    "first token alone": (LearnedRow((1, 2), (True, False)), "no token of row 1 is learned"),
    "too long": (LearnedRow(range(30), [False] * 29 + [True]), "row 1 is 30 tokens long, but the model reads 8"),
    "mask of another length": (LearnedRow((1, 2, 3), (False, True)), "row 1 has 3 tokens, but says of 2"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_from_which_nothing_or_not_all_would_be_learned_is_refused_by_its_place(name):
    row, message = ROWS[name]
    with pytest.raises(DataError, match=message):
        AnswerExamples([LearnedRow((1, 2), (False, True)), row], context=8, pad=0)


def test_a_mask_that_is_all_ones_is_refused():
    rows = [LearnedRow((1, 2, 3), (True, True, True)), LearnedRow((1, 4), (False, True))]
    with pytest.raises(DataError, match="every token of all 2 rows is learned"):
        AnswerExamples(rows, context=8, pad=0)


def test_an_epoch_of_batches_has_each_learned_token_once():
    draw = np.random.default_rng(0)
    rows = []
    for number in range(57):
        length = int(draw.integers(3, 20))
        rows.append(LearnedRow([1000 * number + place for place in range(length)], draw.random(length) < 0.5))
        rows[-1].learned[-1], rows[-1].learned[1] = True, False
    batches = BucketedBatches(AnswerExamples(rows, context=32, pad=0), batch=4, seed=1)
    found = torch.cat([(made := batches.next()).targets[made.targets != IGNORED] for _ in range(batches.count)])
    wanted = [token for row in rows for token, learned in zip(row.ids[1:], row.learned[1:], strict=True) if learned]
    assert sorted(found.tolist()) == sorted(wanted)


# -- labels -----------------------------------------------------------------------------------------------------


def labelled(**options) -> LabelledExamples:
    rows = [LabelledRow((2, 5, 3), "good"), LabelledRow((2, 5, 6, 3), "bad"), LabelledRow((2, 7, 3), "good")]
    return LabelledExamples(rows, labels=("bad", "good"), context=8, pad=0, **options)


def test_labels_are_numbers_in_the_heads_order_and_weights_are_scikit_learns():
    plain, balanced = labelled(), labelled(class_weights="balanced")
    batch = balanced.read(every(balanced), 0, 0)
    assert batch.targets.tolist() == [1, 0, 1]
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=np.array([1, 0, 1]))
    np.testing.assert_allclose(batch.weights.numpy(), expected[[1, 0, 1]], rtol=1e-6)
    assert plain.read(every(plain), 0, 0).weights is None
    assert labelled(class_weights=(0.5, 3.0)).read(every(plain), 0, 0).weights.tolist() == [3.0, 0.5, 3.0]
    assert balanced.identity() != plain.identity()


def test_a_label_that_the_head_does_not_know_is_refused_by_its_place():
    rows = [LabelledRow((2, 3), "bad"), LabelledRow((2, 4), "awful", place="reviews.csv, line 3")]
    with pytest.raises(
        DataError, match=r"reviews\.csv, line 3 has the label 'awful', but the model's head knows 'bad'"
    ):
        LabelledExamples(rows, labels=("bad", "good"), context=8, pad=0)


def test_rows_of_one_label_alone_and_weights_that_cannot_be_are_refused():
    rows = [LabelledRow((2, 3), "bad"), LabelledRow((2, 4), "bad")]
    with pytest.raises(DataError, match="all 2 rows have the label 'bad'"):
        LabelledExamples(rows, labels=("bad", "good"), context=8, pad=0)
    for weights in ((1.0,), (1.0, 0.0), (1.0, float("nan"))):
        with pytest.raises(ConfigError, match="class_weights is"):
            labelled(class_weights=weights)
    three = [LabelledRow((2, 3), "bad"), LabelledRow((2, 4), "good")]
    with pytest.raises(DataError, match="no row has the label 'so-so'"):
        LabelledExamples(three, labels=("bad", "good", "so-so"), context=8, pad=0, class_weights="balanced")


def test_labels_of_tokens_stand_where_their_tokens_do():
    rows = [
        TokenLabelledRow((2, 5, 6, 3), (None, "name", "other", None)),
        TokenLabelledRow((2, 5, 3), (None, "other", None), (0, 0, 1)),
    ]
    examples = TokenLabelledExamples(rows, labels=("other", "name"), context=8, pad=0)
    batch = examples.read(every(examples), 0, 0)
    assert batch.targets[:, :4].tolist() == [[IGNORED, 1, 0, IGNORED], [IGNORED, 0, IGNORED, IGNORED]]
    assert batch.segments[1, :4].tolist() == [0, 0, 1, 0]
    assert examples.size(every(examples)).targets == 3
    with pytest.raises(DataError, match="no token of row 0 has a label"):
        TokenLabelledExamples([TokenLabelledRow((2, 3), (None, None))], labels=("a", "b"), context=8, pad=0)


# -- answers that are spans -------------------------------------------------------------------------------------


def with_template(first, second):  # BERT's
    ids = [2, *first, 3, *second, 3]
    return ids, [0] * (len(first) + 2) + [1] * (len(second) + 1)


def test_each_token_of_a_long_text_is_seen_and_the_answer_stands_where_the_window_holds_it():
    text = list(range(100, 140))
    row = SpanRow((10, 11), text, 17, 19)
    examples = ExtractiveExamples([row], with_template, context=20, pad=0, stride=6)
    batch = examples.read(every(examples), 0, 0)
    seen, holding = set(), 0
    for ids, (first, last) in zip(batch.ids.tolist(), batch.targets.tolist(), strict=True):
        assert ids[:4] == [2, 10, 11, 3]
        shown = [token for token in ids[4:] if token >= 100]
        seen.update(shown)
        if {117, 118, 119} <= set(shown):
            assert ids[first : last + 1] == [117, 118, 119]
            holding += 1
        else:
            assert (first, last) == (0, 0)
    assert seen == set(text)
    assert holding >= 2
    assert np.diff(examples.windows.starts).tolist() == [6] * (len(batch.ids) - 1)


def test_a_stride_longer_than_a_window_leaves_no_token_out():
    examples = ExtractiveExamples([SpanRow((10,), range(100, 150))], with_template, context=14, pad=0, stride=1000)
    batch = examples.read(every(examples), 0, 0)
    assert set(batch.ids.flatten().tolist()) >= set(range(100, 150))
    assert batch.targets.eq(0).all()  # no answer: the first token


def test_questions_without_room_and_answers_outside_their_text_are_refused():
    for row, message in (
        (SpanRow(range(30), (1, 2)), "its question takes 33 of the model's 16 tokens"),
        (
            SpanRow((1,), (5, 6), 1, 2, "squad.json, question q1"),
            r"squad\.json, question q1: the answer's tokens 1 to 2",
        ),
        (SpanRow((1,), ()), "an empty text"),
        (SpanRow((1,), (5,), first=0), "both a first and a last token"),
    ):
        with pytest.raises(DataError, match=message):
            ExtractiveExamples([row], with_template, context=16, pad=0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    return train_tokenizer(
        ["the old bridge stands over the river 不以规矩 不能成方圆"] * 3, TokenizerSettings(vocab_size=280), folder
    )


@pytest.mark.parametrize("text", ["The old bridge of 1794 stands.", "从前有一座老桥，建于 1794 年。"])
def test_the_tokens_of_an_answer_hold_its_characters(tokenizer, text):
    start = text.index("1794")
    row = span_row(tokenizer, "when?", text, start, "1794")
    assert "1794" in tokenizer.decode(row.text[row.first : row.last + 1])
    assert len(tokenizer.decode(row.text[row.first : row.last + 1]).strip()) <= len("1794") + 1
    with pytest.raises(DataError, match="does not stand at character"):
        span_row(tokenizer, "when?", text, start + 1, "1794")


def test_the_best_span_is_the_best_of_all_pairs_in_all_windows():
    rows = [SpanRow((10, 11), range(100, 130), 4, 5), SpanRow((12,), range(200, 206))]
    examples = ExtractiveExamples(rows, with_template, context=16, pad=0, stride=5)
    logits = np.random.default_rng(3).normal(size=(len(examples.lengths), 16, 2)).astype(np.float32)
    found = best_spans(examples, logits, longest=4)
    windows = examples.windows
    for number, row in enumerate(rows):
        every_pair = {}
        for window in np.flatnonzero(windows.rows == number):
            before, start = windows.before[window], windows.starts[window]
            for first in range(windows.lengths[window]):
                for last in range(first, min(first + 4, windows.lengths[window])):
                    score = logits[window, before + first, 0] + logits[window, before + last, 1]
                    every_pair[start + first, start + last, window] = score
        first, last, _ = max(every_pair, key=every_pair.get)
        assert (found[number].first, found[number].last) == (first, last)
        assert found[number].no_answer == pytest.approx(
            min(logits[window, 0].sum() for window in np.flatnonzero(windows.rows == number)), rel=1e-6
        )
        assert last < len(row.text)


# -- preferences ------------------------------------------------------------------------------------------------


def test_a_pair_is_two_rows_whose_answers_alone_are_targets():
    examples = PreferenceExamples([PreferenceRow((5, 6), (7, 8), (9,))], context=8, pad=0)
    batch = examples.with_reference(np.array([[-1.0, -2.0]]), "base").read(every(examples), 0, 0)
    assert batch.ids[:, :3].tolist() == [[5, 6, 7], [5, 6, 0]]
    assert batch.targets[:, :3].tolist() == [[IGNORED, 7, 8], [IGNORED, 9, IGNORED]]
    assert batch.reference.tolist() == [-1.0, -2.0]
    assert examples.read(every(examples), 0, 0).reference is None


def test_pairs_that_prefer_nothing_are_refused():
    for row, message in (
        (
            PreferenceRow((1,), (2, 3), (2, 3), "prefs.jsonl, line 2"),
            r"prefs\.jsonl, line 2: both answers are the same",
        ),
        (PreferenceRow((1,), (), (2,)), "no token of chosen"),
        (PreferenceRow((), (3,), (2,)), "no token of prompt"),
        (PreferenceRow((1,), (3,) * 9, (2,)), "row 0 is 10 tokens long, but the model reads 8"),
    ):
        with pytest.raises(DataError, match=message):
            PreferenceExamples([row], context=8, pad=0)
    examples = PreferenceExamples([PreferenceRow((5, 6), (7, 8), (9,))], context=8, pad=0)
    for logs in (np.zeros((2, 2)), np.array([[0.0, -np.inf]])):
        with pytest.raises(DataError, match="reference log probabilities"):
            examples.with_reference(logs, "base")


# -- all of them ------------------------------------------------------------------------------------------------


def test_other_rows_have_another_identity_and_the_same_rows_the_same():
    def answers(last):
        return AnswerExamples([LearnedRow((1, 2, last), (False, False, True))], context=8, pad=0).identity()

    def pairs(last):
        return PreferenceExamples([PreferenceRow((1,), (2, last), (3,))], context=8, pad=0).identity()

    def spans(last):
        return ExtractiveExamples([SpanRow((1,), (2, 3, 4), 0, last)], with_template, context=8, pad=0).identity()

    for make, one, other in ((answers, 3, 4), (pairs, 3, 4), (spans, 0, 1)):
        assert make(one) == make(one) != make(other)
