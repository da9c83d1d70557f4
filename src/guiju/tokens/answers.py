"""Texts of which some tokens are learned and the others only read: an answer after its question, a model's turns in a
conversation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from guiju.errors import DataError
from guiju.tokens.batches import IGNORED, Batch
from guiju.tokens.bucketed import BatchSize
from guiju.tokens.draws import Numbers
from guiju.tokens.pieces import padding_of, row_width
from guiju.tokens.ragged import RaggedRows


@dataclass(frozen=True)
class LearnedRow:
    """A text as a decoder reads it."""

    ids: Sequence[int]
    """Everything that it reads, the tokens before the text and after it included."""
    learned: Sequence[bool]
    """Of each id: whether it is learned. A row's first token never is: nothing stands before it."""
    place: str = ""
    """Where the row comes from ("FILE, line 12"), for messages."""


class AnswerExamples:
    """A row a text. The token at each place is predicted from those before it, where it is learned."""

    def __init__(self, rows: Iterable[LearnedRow], *, context: int, pad: int) -> None:
        """Rows whose learned tokens are predicted from at most `context` tokens; `pad` fills a batch up.

        Raises:
            DataError: a row is too long, or has no learned token; or every token of every row is learned.
        """
        self._ids, self._targets = RaggedRows(), RaggedRows()
        self.context, self.pad = context, pad
        counts, passed_over = [], 0
        for number, row in enumerate(rows):
            place = row.place or f"row {number}"
            ids = np.asarray(row.ids, dtype=np.int64)
            learned = np.asarray(row.learned, dtype=bool)
            _require_row(ids, learned, place, context)
            self._ids.append(ids)
            self._targets.append(np.where(learned[1:], ids[1:], IGNORED))
            counts.append(int(learned[1:].sum()))
            passed_over += int((~learned[1:]).sum())
        if not counts:
            raise DataError("there is no row to learn from; bring more data")
        if not passed_over:
            raise DataError(
                f"every token of all {len(counts)} rows is learned, so the mask tells no answer from its question. "
                "Check the prompts and the template; to learn whole texts, take the objective next-token"
            )
        self._counts: Numbers = np.array(counts, dtype=np.int64)
        self.lengths: Numbers = self._ids.lengths - 1

    def read(self, rows: Numbers, seed: int, epoch: int) -> Batch:
        """The rows as a batch; nothing in it is random."""
        lengths = self.lengths[rows]
        width = row_width(int(lengths.max()), self.context)
        return Batch(
            torch.from_numpy(self._ids.fill(rows, width, self.pad, drop=1)),
            torch.from_numpy(self._targets.fill(rows, width, IGNORED)),
            padding=padding_of(lengths.tolist(), width),
        )

    def size(self, rows: Numbers) -> BatchSize:
        width = row_width(int(self.lengths[rows].max()), self.context)
        return BatchSize(len(rows), width, 0, int(self._counts[rows].sum()))

    def identity(self) -> dict[str, str | int]:
        return {
            "kind": "answers",
            "data": self._ids.digest,
            "learned": self._targets.digest,
            "vocab_size": int(self._ids.values.max()) + 1,
            "context": int(self.lengths.max()),
        }


def _require_row(ids: Numbers, learned: np.ndarray, place: str, context: int) -> None:
    if len(ids) != len(learned):
        raise DataError(f"{place} has {len(ids)} tokens, but says of {len(learned)} whether they are learned")
    if len(ids) - 1 > context:
        raise DataError(
            f"{place} is {len(ids)} tokens long, but the model reads {context}: its answer would be cut off. Leave "
            "such rows out, shorten them, or take a model with a longer context"
        )
    if not learned[1:].any():
        raise DataError(
            f"no token of {place} is learned, so nothing would be learned from it: is its answer empty, or dropped by "
            "the template?"
        )
