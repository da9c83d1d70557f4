"""Pairs of answers to one prompt, of which people preferred one.

A batch holds two rows a pair, the preferred one first.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from guiju.errors import DataError
from guiju.tokens.batches import IGNORED, Batch
from guiju.tokens.bucketed import BatchSize
from guiju.tokens.draws import Numbers
from guiju.tokens.pieces import padding_of, row_width
from guiju.tokens.ragged import RaggedRows

ReferenceLogs = npt.NDArray[np.float32]
"""(pairs, 2): what another model holds of the preferred and of the other answer, log p in nats."""


@dataclass(frozen=True)
class PreferenceRow:
    """Two ways to go on with a prompt."""

    prompt: Sequence[int]
    """Everything before the answer, the first token included."""
    chosen: Sequence[int]
    """The preferred answer, with what ends it."""
    rejected: Sequence[int]
    place: str = ""
    """Where the row comes from ("FILE, line 12"), for messages."""


class PreferenceExamples:
    """A row a pair; the tokens of both answers are targets."""

    def __init__(self, rows: Iterable[PreferenceRow], *, context: int, pad: int) -> None:
        """Prompt and answer are read in at most `context` tokens.

        Raises:
            DataError: a prompt or an answer is empty, both answers are the same, or a row is too long.
        """
        self.context, self.pad = context, pad
        self._ids, self._targets = RaggedRows(), RaggedRows()  # two rows a pair
        for number, row in enumerate(rows):
            place = row.place or f"row {number}"
            _require_row(row, place, context)
            for answer in (row.chosen, row.rejected):
                ids = np.concatenate((row.prompt, answer)).astype(np.int64)
                self._ids.append(ids)
                self._targets.append(np.where(np.arange(len(ids)) < len(row.prompt), IGNORED, ids)[1:])
        if not len(self._ids):
            raise DataError("there is no pair to learn from; bring more data")
        self.lengths: Numbers = self._ids.lengths.reshape(-1, 2).max(axis=1) - 1
        self.reference: ReferenceLogs | None = None
        self._reference_of = ""

    def with_reference(self, logs: ReferenceLogs, of: str) -> PreferenceExamples:
        """The same pairs, with what the reference model makes of them; `of` names it, such as by its digest."""
        if logs.shape != (len(self.lengths), 2) or not np.isfinite(logs).all():
            raise DataError(
                f"reference log probabilities have the shape {logs.shape}; finite ones are wanted, two for each of "
                f"{len(self.lengths)} pairs"
            )
        made = copy.copy(self)
        made.reference, made._reference_of = logs.astype(np.float32), of
        return made

    def read(self, rows: Numbers, seed: int, epoch: int) -> Batch:
        """The pairs as a batch; nothing in it is random."""
        both = np.stack((2 * rows, 2 * rows + 1), axis=1).ravel()  # (2 B,)
        lengths = self._ids.lengths[both] - 1
        width = row_width(int(lengths.max()), self.context)
        reference = None if self.reference is None else torch.from_numpy(self.reference[rows].ravel())
        return Batch(
            torch.from_numpy(self._ids.fill(both, width, self.pad, drop=1)),
            torch.from_numpy(self._targets.fill(both, width, IGNORED)),
            padding=padding_of(lengths.tolist(), width),
            reference=reference,
        )

    def size(self, rows: Numbers) -> BatchSize:
        width = row_width(int(self.lengths[rows].max()), self.context)
        both = np.stack((2 * rows, 2 * rows + 1), axis=1).ravel()
        return BatchSize(2 * len(rows), width, 0, int((self._targets.fill(both, width, IGNORED) != IGNORED).sum()))

    def identity(self) -> dict[str, str | int]:
        return {
            "kind": "preferences",
            "data": self._ids.digest,
            "answers": self._targets.digest,
            "reference": self._reference_of,
            "vocab_size": int(self._ids.values.max()) + 1,
            "context": int(self.lengths.max()),
        }


def _require_row(row: PreferenceRow, place: str, context: int) -> None:
    for name in ("prompt", "chosen", "rejected"):
        if not len(getattr(row, name)):
            raise DataError(f"{place} has no token of {name}; a pair has a prompt and two answers to it")
    if list(row.chosen) == list(row.rejected):
        raise DataError(f"{place}: both answers are the same, so nothing is preferred; leave such rows out")
    longest = len(row.prompt) + max(len(row.chosen), len(row.rejected))
    if longest - 1 > context:
        raise DataError(
            f"{place} is {longest} tokens long, but the model reads {context}: an answer would be cut off. Leave such "
            "rows out, shorten them, or take a model with a longer context"
        )
