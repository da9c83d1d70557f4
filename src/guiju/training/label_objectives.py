"""Ways to learn labels, and where an answer stands: heads beside the vocabulary's.

classes         the label of a text, out of an encoder's first token or a decoder's last one
token-classes   the label of each token
extractive      the first and the last token of an answer, each a choice among the tokens of the row (arXiv:1810.04805,
                section 4.2)

The loss is the sum over targets in nats; with class weights each counts its weight, and is divided by their sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from guiju.errors import TrainingError
from guiju.tokens import IGNORED, Batch
from guiju.training.token_objectives import Hidden, at_targets

ENOUGH_WINDOWS = 512
"""Windows from which on it is no accident that none of them holds an answer."""


@dataclass(frozen=True, kw_only=True)
class Classes:
    """A text's label."""

    labels: tuple[str, ...]
    label_smoothing: float = 0.0
    widths_vary: bool = True
    unit: str = "texts"
    rows_together: int = 1

    def loss(self, model: Any, hidden: Hidden, batch: Batch) -> Tensor:
        vectors = hidden(batch.ids, padding=batch.padding, **_segments(batch))
        logits = model.head(model.pooled(vectors, batch.padding)).float()  # (B, L)
        nats = F.cross_entropy(
            logits, batch.targets, ignore_index=IGNORED, reduction="none", label_smoothing=self.label_smoothing
        )
        return (nats if batch.weights is None else nats * batch.weights).sum()

    def weigh(self, batch: Batch) -> float:
        if batch.weights is None:
            return batch.target_count
        return float(batch.weights[batch.targets != IGNORED].sum())

    def check(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            _require_shape(batch, (len(batch.ids),), "a label for each row")
            _require_labels(batch, self.labels)
            if batch.weights is not None and not (batch.weights > 0).all():
                raise TrainingError("a class weight is not more than 0, so its examples would count nothing")


@dataclass(frozen=True, kw_only=True)
class TokenClasses:
    """The label of each token."""

    labels: tuple[str, ...]
    label_smoothing: float = 0.0
    widths_vary: bool = True
    unit: str = "targets"
    rows_together: int = 1

    def loss(self, model: Any, hidden: Hidden, batch: Batch) -> Tensor:
        vectors = hidden(batch.ids, padding=batch.padding, **_segments(batch))
        states, targets = at_targets(vectors, batch.targets)
        return F.cross_entropy(
            model.head(states).float(),
            targets,
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )

    def weigh(self, batch: Batch) -> float:
        return batch.target_count

    def check(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            _require_shape(batch, tuple(batch.ids.shape), "a label for each token")
            _require_labels(batch, self.labels)


@dataclass(frozen=True)
class Extractive:
    """Where an answer begins and ends; at the row's first token where the row holds none."""

    label_smoothing: float = 0.0
    widths_vary: bool = True
    unit: str = "targets"
    rows_together: int = 1
    _seen: list[int] = field(default_factory=lambda: [0, 0], compare=False, repr=False)
    """Rows so far, and answers among them."""

    def loss(self, model: Any, hidden: Hidden, batch: Batch) -> Tensor:
        vectors = hidden(batch.ids, padding=batch.padding, **_segments(batch))
        logits = model.head(vectors).float()  # (B, T, 2)
        if batch.padding is not None:
            logits = logits.masked_fill(~batch.padding[:, :, None], -math.inf)
        logs = logits.log_softmax(dim=1)
        wanted = batch.targets != IGNORED  # (B, 2)
        chosen = logs.gather(1, batch.targets.where(wanted, 0)[:, None, :])[:, 0]  # (B, 2)
        loss: Tensor = -chosen.where(wanted, 0).sum()
        return loss

    def weigh(self, batch: Batch) -> float:
        return batch.target_count

    def check(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            _require_shape(batch, (len(batch.ids), 2), "the first and the last token of an answer for each row")
            real = batch.ids.size(1) if batch.padding is None else batch.padding.sum(dim=1)[:, None]
            if ((batch.targets >= real) | ((batch.targets < 0) & (batch.targets != IGNORED))).any():
                raise TrainingError(
                    "an answer's first or last token lies outside its row, where no logit is: check the windows"
                )
            if (batch.targets[:, 0] > batch.targets[:, 1]).any():
                raise TrainingError("an answer ends before it begins; check the windows")
            self._seen[0] += len(batch.ids)
            self._seen[1] += int((batch.targets[:, 0] > 0).sum())
        rows, answers = self._seen
        if rows >= ENOUGH_WINDOWS and not answers:
            raise TrainingError(
                f"none of {rows} windows holds an answer, so all that is learned is to give none. Do the places of "
                "the answers fit their texts?"
            )


def _segments(batch: Batch) -> dict[str, Tensor]:
    """For models that know segments; a decoder takes none."""
    return {} if batch.segments is None else {"segments": batch.segments}


def _require_shape(batch: Batch, shape: tuple[int, ...], what: str) -> None:
    if tuple(batch.targets.shape) != shape:
        raise TrainingError(
            f"the batch's targets have the shape {tuple(batch.targets.shape)}, but this objective learns {what}: "
            f"{shape}. Give it examples of its own kind"
        )


def _require_labels(batch: Batch, labels: tuple[str, ...]) -> None:
    beyond = batch.targets[(batch.targets != IGNORED) & ((batch.targets < 0) | (batch.targets >= len(labels)))]
    if len(beyond):
        raise TrainingError(
            f"a target has the label number {int(beyond[0])}, but the model's head has {len(labels)}, 0 to "
            f"{len(labels) - 1} ({', '.join(labels[:10])}): give the model a head with that label"
        )
