"""Texts with a label, and texts with a label for each token: what a head of classes learns from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from guiju.errors import ConfigError, DataError
from guiju.tokens.batches import IGNORED, Batch
from guiju.tokens.bucketed import BatchSize
from guiju.tokens.draws import Numbers
from guiju.tokens.pieces import padding_of, row_width
from guiju.tokens.ragged import RaggedRows

ClassWeights = Literal["balanced"] | Sequence[float] | None
"""How much an example of each class counts: "balanced" is n / (classes * n of the class), as in scikit-learn."""


@dataclass(frozen=True)
class LabelledRow:
    """A text, or a pair of texts, and what it is."""

    ids: Sequence[int]
    """Everything that the model reads, [CLS] and [SEP] included."""
    label: str
    segments: Sequence[int] = ()
    """Of each id, for a pair of texts; none means 0 everywhere."""
    place: str = ""
    """Where the row comes from ("FILE, line 12"), for messages."""


class LabelledExamples:
    """A row a text; its label is the one target."""

    def __init__(
        self,
        rows: Iterable[LabelledRow],
        *,
        labels: Sequence[str],
        context: int,
        pad: int,
        class_weights: ClassWeights = None,
    ) -> None:
        """Rows of at most `context` tokens, whose labels are among `labels`, the names of the head's classes in order.

        Raises:
            DataError: a row is empty or too long, its label is none of the head's, or all rows have the same label.
            ConfigError: class weights of another number than the labels, or one that is not more than 0.
        """
        self._inputs = _Inputs(context, pad)
        numbers = {label: number for number, label in enumerate(labels)}
        found = []
        for number, row in enumerate(rows):
            place = row.place or f"row {number}"
            found.append(_number_of(row.label, numbers, place))
            self._inputs.append(row.ids, row.segments, place)
        if not found:
            raise DataError("there is no row to learn from; bring more data")
        self.labels = tuple(labels)
        self._found: Numbers = np.array(found, dtype=np.int64)
        if len(set(found)) == 1:
            raise DataError(
                f"all {len(found)} rows have the label {labels[found[0]]!r}, so there is nothing to tell apart; bring "
                "examples of the other labels"
            )
        self.class_weights = _weights(class_weights, self._found, self.labels)
        """How much an example of each class counts; None where all count alike."""
        self.lengths: Numbers = self._inputs.lengths

    def read(self, rows: Numbers, seed: int, epoch: int) -> Batch:
        """The rows as a batch; nothing in it is random."""
        labels = self._found[rows]
        weights = None if self.class_weights is None else torch.from_numpy(self.class_weights[labels])
        return self._inputs.batch(rows, torch.from_numpy(labels), weights)

    def size(self, rows: Numbers) -> BatchSize:
        return self._inputs.size(rows, len(rows))

    def identity(self) -> dict[str, str | int]:
        weights = "" if self.class_weights is None else ", ".join(f"{weight:.6g}" for weight in self.class_weights)
        of_rows = RaggedRows([self._found]).digest
        return {
            "kind": "labelled texts",
            **self._inputs.identity(),
            "labels": of_rows,
            "label_names": ", ".join(self.labels),
            "weights": weights,
        }


@dataclass(frozen=True)
class TokenLabelledRow:
    """A text, and what each of its tokens is."""

    ids: Sequence[int]
    """Everything that the model reads, [CLS] and [SEP] included."""
    labels: Sequence[str | None]
    """Of each id; None where nothing is asked, as at [CLS] or within a word."""
    segments: Sequence[int] = ()
    place: str = ""


class TokenLabelledExamples:
    """A row a text; the labels of its tokens are the targets."""

    def __init__(self, rows: Iterable[TokenLabelledRow], *, labels: Sequence[str], context: int, pad: int) -> None:
        """Rows of at most `context` tokens, whose labels are among `labels`, the names of the head's classes in order.

        Raises:
            DataError: a row is empty or too long, a label is none of the head's, or a row has none.
        """
        self._inputs, self._targets = _Inputs(context, pad), RaggedRows()
        numbers = {label: number for number, label in enumerate(labels)}
        for number, row in enumerate(rows):
            place = row.place or f"row {number}"
            if len(row.labels) != len(row.ids):
                raise DataError(f"{place} has {len(row.ids)} tokens, but {len(row.labels)} labels")
            wanted = [IGNORED if label is None else _number_of(label, numbers, place) for label in row.labels]
            if all(label is None for label in row.labels):
                raise DataError(f"no token of {place} has a label, so nothing would be learned from it")
            self._targets.append(wanted)
            self._inputs.append(row.ids, row.segments, place)
        if not len(self._targets):
            raise DataError("there is no row to learn from; bring more data")
        self.labels = tuple(labels)
        self.lengths: Numbers = self._inputs.lengths

    def read(self, rows: Numbers, seed: int, epoch: int) -> Batch:
        """The rows as a batch; nothing in it is random."""
        width = self._inputs.width(rows)
        return self._inputs.batch(rows, torch.from_numpy(self._targets.fill(rows, width, IGNORED)))

    def size(self, rows: Numbers) -> BatchSize:
        targets = self._targets.fill(rows, self._inputs.width(rows), IGNORED)
        return self._inputs.size(rows, int((targets != IGNORED).sum()))

    def identity(self) -> dict[str, str | int]:
        return {
            "kind": "labelled tokens",
            **self._inputs.identity(),
            "labels": self._targets.digest,
            "label_names": ", ".join(self.labels),
        }


class _Inputs:
    """What an encoder, or a decoder that says labels, reads."""

    def __init__(self, context: int, pad: int) -> None:
        self.context, self.pad = context, pad
        self._ids, self._segments = RaggedRows(), RaggedRows()
        self._segmented = False

    def append(self, ids: Sequence[int], segments: Sequence[int], place: str) -> None:
        if not 0 < len(ids) <= self.context:
            raise DataError(
                f"{place} is {len(ids)} tokens long, but the model reads 1 to {self.context}. Leave such rows out, "
                "shorten them, or take a model with a longer context"
            )
        if segments and len(segments) != len(ids):
            raise DataError(f"{place} has {len(ids)} tokens, but {len(segments)} segments")
        self._segmented = self._segmented or bool(segments)
        self._ids.append(ids)
        self._segments.append(segments or [0] * len(ids))

    @property
    def lengths(self) -> Numbers:
        return self._ids.lengths

    def width(self, rows: Numbers) -> int:
        return row_width(int(self.lengths[rows].max()), self.context)

    def batch(self, rows: Numbers, targets: torch.Tensor, weights: torch.Tensor | None = None) -> Batch:
        width = self.width(rows)
        segments = torch.from_numpy(self._segments.fill(rows, width, 0)) if self._segmented else None
        return Batch(
            torch.from_numpy(self._ids.fill(rows, width, self.pad)),
            targets,
            padding=padding_of(self.lengths[rows].tolist(), width),
            segments=segments,
            weights=weights,
        )

    def size(self, rows: Numbers, targets: int) -> BatchSize:
        return BatchSize(len(rows), self.width(rows), 0, targets)

    def identity(self) -> dict[str, str | int]:
        return {
            "data": self._ids.digest,
            "segments": self._segments.digest if self._segmented else "",
            "vocab_size": int(self._ids.values.max()) + 1,
            "context": int(self.lengths.max()),
        }


def _number_of(label: str, numbers: Mapping[str, int], place: str) -> int:
    if label not in numbers:
        known = ", ".join(map(repr, list(numbers)[:20]))
        raise DataError(
            f"{place} has the label {label!r}, but the model's head knows {known}; mend the label or the head"
        )
    return numbers[label]


def _weights(asked: ClassWeights, found: Numbers, labels: tuple[str, ...]) -> npt.NDArray[np.float32] | None:
    if asked is None:
        return None
    if isinstance(asked, str):
        counts = np.bincount(found, minlength=len(labels))
        if not counts.all():
            missing = labels[int(counts.argmin())]
            raise DataError(f"no row has the label {missing!r}, so balanced class weights do not exist; bring some")
        return (len(found) / (len(labels) * counts)).astype(np.float32)
    weights = np.asarray(asked, dtype=np.float32)
    if weights.shape != (len(labels),) or not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ConfigError(
            f"class_weights is {list(asked)}; it must be balanced, or {len(labels)} numbers of more than 0, one for "
            f"each of {', '.join(labels)}"
        )
    return weights
