"""Questions whose answer is a run of tokens of a text: which windows a long text is read in, and where the answer
stands in each (BERT's way with SQuAD, arXiv:1810.04805, section 4.2 and 4.3).

A window is [CLS] question [SEP] part of the text [SEP], as the tokenizer's layout has it. Where it does not hold the
whole answer, or there is none, the answer begins and ends at the row's first token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from guiju.errors import ConfigError, DataError
from guiju.tokens.batches import Batch
from guiju.tokens.bucketed import BatchSize
from guiju.tokens.draws import Numbers
from guiju.tokens.pieces import padding_of, row_width
from guiju.tokens.ragged import RaggedRows
from guiju.tokens.tokenizer import Tokenizer

STRIDE = 128
LONGEST_ANSWER = 30
"""Tokens of an answer at most, as in BERT's own program."""

WithTemplate = Callable[[Sequence[int], Sequence[int]], tuple[list[int], list[int]]]
"""`Tokenizer.with_template`: ids of two texts -> all ids of the row, and the segment of each."""


@dataclass(frozen=True)
class SpanRow:
    """A question, a text, and where in it the answer stands."""

    question: Sequence[int]
    text: Sequence[int]
    first: int | None = None
    """The answer's first token, counted in `text` from 0; None where the text holds no answer."""
    last: int | None = None
    """Its last token."""
    place: str = ""
    """Where the row comes from ("FILE, line 12"), for messages."""


def span_row(
    tokenizer: Tokenizer, question: str, text: str, start: int | None, answer: str, place: str = ""
) -> SpanRow:
    """A row from characters: the answer begins at character `start` of the text; None where there is none.

    Raises:
        DataError: the answer does not stand there, or no token does.
        ModelError: the tokenizer does not know where its tokens stand.
    """
    (words, _), (ids, places) = tokenizer.encode_with_places([question, text])
    if start is None:
        return SpanRow(words, ids, place=place)
    if text[start : start + len(answer)] != answer or not answer:
        raise DataError(
            f"{place or 'a row'}: the answer {answer[:60]!r} does not stand at character {start} of its text, where "
            f"there is {text[start : start + len(answer)][:60]!r}"
        )
    found = np.asarray(places, dtype=np.int64).reshape(-1, 2)
    inside = np.flatnonzero((found[:, 0] < start + len(answer)) & (found[:, 1] > start))
    if not len(inside):
        raise DataError(f"{place or 'a row'}: no token stands for the answer {answer[:60]!r}")
    return SpanRow(words, ids, int(inside[0]), int(inside[-1]), place)


@dataclass(frozen=True)
class Windows:
    """Which part of which row each window shows; all are (w,)."""

    rows: Numbers
    starts: Numbers
    """The first token of the text that is shown."""
    lengths: Numbers
    """How many are."""
    before: Numbers
    """Tokens of the window that stand before them: marks and question."""


class ExtractiveExamples:
    """A row a window; its two targets are the first and the last token of the answer."""

    def __init__(
        self,
        rows: Iterable[SpanRow],
        with_template: WithTemplate,
        *,
        context: int,
        pad: int,
        stride: int = STRIDE,
    ) -> None:
        """Windows of at most `context` tokens; each begins `stride` tokens of the text after the one before it, or
        fewer where that would leave some out.

        Raises:
            DataError: a question leaves no room for its text, or an answer lies outside of it.
            ConfigError: stride is not positive.
        """
        if stride < 1:
            raise ConfigError(f"stride is {stride}; windows move on by 1 token or more")
        self.context, self.pad, self.stride = context, pad, stride
        self._fill = with_template
        self._questions, self._texts = RaggedRows(), RaggedRows()
        parts: list[tuple[Numbers, ...]] = []
        for number, row in enumerate(rows):
            place = row.place or f"row {number}"
            parts.append(self._cut(number, row, place))
            self._questions.append(row.question)
            self._texts.append(row.text)
        if not parts:
            raise DataError("there is no row to learn from; bring more data")
        of_row, starts, lengths, before, after, first, last = (
            np.concatenate([part[field] for part in parts]) for field in range(7)
        )
        self.windows = Windows(of_row, starts, lengths, before)
        self._targets: Numbers = np.stack((first, last), axis=1)  # (w, 2)
        self.lengths: Numbers = before + lengths + after

    def read(self, rows: Numbers, seed: int, epoch: int) -> Batch:
        """The windows as a batch; nothing in it is random."""
        ids, segments = RaggedRows(), RaggedRows()
        for window in rows:
            made, kinds = self._fill(*self._shown(int(window)))
            ids.append(made)
            segments.append(kinds)
        lengths = self.lengths[rows]
        width = row_width(int(lengths.max()), self.context)
        every = np.arange(len(rows))
        kinds_of = segments.fill(every, width, 0)
        return Batch(
            torch.from_numpy(ids.fill(every, width, self.pad)),
            torch.from_numpy(self._targets[rows]),
            padding=padding_of(lengths.tolist(), width),
            segments=torch.from_numpy(kinds_of) if kinds_of.any() else None,
        )

    def size(self, rows: Numbers) -> BatchSize:
        return BatchSize(len(rows), row_width(int(self.lengths[rows].max()), self.context), 0, 2 * len(rows))

    def identity(self) -> dict[str, str | int]:
        return {
            "kind": "extractive",
            "data": self._texts.digest,
            "questions": self._questions.digest,
            "answers": RaggedRows([self._targets.ravel()]).digest,
            "vocab_size": 1 + max(int(rows.values.max(initial=0)) for rows in (self._texts, self._questions)),
            "context": int(self.lengths.max()),
            "stride": self.stride,
        }

    def _shown(self, window: int) -> tuple[list[int], list[int]]:
        row, start = int(self.windows.rows[window]), int(self.windows.starts[window])
        text = self._texts.row(row)[start : start + int(self.windows.lengths[window])]
        return self._questions.row(row).tolist(), text.tolist()

    def _cut(self, number: int, row: SpanRow, place: str) -> tuple[Numbers, ...]:
        """Of each window of a row: its row, start, length, the tokens before and after, first and last target."""
        if not len(row.text):
            raise DataError(f"{place} has an empty text, in which no answer can stand")
        if (row.first is None) != (row.last is None):
            raise DataError(f"{place}: an answer has both a first and a last token, or there is none")
        if row.first is not None and row.last is not None and not 0 <= row.first <= row.last < len(row.text):
            raise DataError(
                f"{place}: the answer's tokens {row.first} to {row.last} lie outside a text of {len(row.text)} tokens"
            )
        whole, _ = self._fill(list(row.question), [-1])  # -1 is no id: it shows where the text stands
        before, room = whole.index(-1), self.context - (len(whole) - 1)
        if room < 1:
            raise DataError(
                f"{place}: its question takes {len(whole) - 1} of the model's {self.context} tokens, so its text has "
                "no room; shorten it, or take a model with a longer context"
            )
        beyond = max(len(row.text) - room, 0)
        step = min(self.stride, room)
        starts = np.arange(-(-beyond // step) + 1, dtype=np.int64) * step
        lengths = np.minimum(room, len(row.text) - starts)
        first = np.full(len(starts), -1 if row.first is None else row.first)
        last = np.full(len(starts), -1 if row.last is None else row.last)
        holds = (first >= starts) & (last < starts + lengths)
        same = np.ones(len(starts), dtype=np.int64)
        return (
            number * same,
            starts,
            lengths,
            before * same,
            (len(whole) - 1 - before) * same,
            np.where(holds, first - starts + before, 0),
            np.where(holds, last - starts + before, 0),
        )


@dataclass(frozen=True)
class FoundSpan:
    """What a model holds for a row's answer."""

    first: int
    """Token of the row's text."""
    last: int
    score: float
    """The sum of the two tokens' logits."""
    no_answer: float
    """The same of the row's first token, least of all windows: how far the text seems to hold no answer."""


def best_spans(
    examples: ExtractiveExamples, logits: npt.NDArray[np.float32], longest: int = LONGEST_ANSWER
) -> list[FoundSpan]:
    """For each row of the examples the run of at most `longest` tokens of its text that a model scores highest.

    Args:
        logits: (w, T, 2) of all windows, in their order; what stands beyond a window's own tokens is not looked at.
    """
    windows = examples.windows
    found: dict[int, FoundSpan] = {}
    for window, (begins, ends) in enumerate(np.moveaxis(logits, 2, 1)):
        before, length = int(windows.before[window]), int(windows.lengths[window])
        scores = begins[before : before + length, None] + ends[None, before : before + length]  # (length, length)
        place = int(np.where(_band(length, longest), scores, -np.inf).argmax())
        first, last = divmod(place, length)
        row, start = int(windows.rows[window]), int(windows.starts[window])
        score, none = float(scores[first, last]), float(begins[0] + ends[0])
        old = found.get(row)
        if old is not None:
            none = min(none, old.no_answer)
            if old.score >= score:
                found[row] = FoundSpan(old.first, old.last, old.score, none)
                continue
        found[row] = FoundSpan(start + first, start + last, score, none)
    return [found[row] for row in sorted(found)]


def _band(length: int, longest: int) -> npt.NDArray[np.bool_]:
    """(length, length): whether an answer may run from one token to the other."""
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    band: npt.NDArray[np.bool_] = (distance >= 0) & (distance < longest)
    return band
