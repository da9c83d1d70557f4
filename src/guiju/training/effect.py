"""No effect, no claim: training that moves nothing stops with an error instead of a loss curve."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from guiju.errors import TrainingError
from guiju.model import AnyModel
from guiju.tokens import Batch
from guiju.training.objectives import Objective
from guiju.training.selection import still_tensors, trainable

WATCHED_UPDATES = 5
"""Updates after which every trainable weight must have had a gradient, and each part of the model must have moved."""
WATCHED_ROWS = 4
"""Rows of which an objective must give sums."""


class EffectCheck:
    """Watches the first updates."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = trainable(model)
        # A bias that starts at 0 moves by any step, however small: it says nothing about the others.
        filled = {name: weight for name, weight in self._weights.items() if bool(weight.any())} or self._weights
        self._before = {name: _fingerprint(weight) for name, weight in filled.items()}
        self._still = {name: _fingerprint(tensor) for name, tensor in still_tensors(model).items()}
        self._model = model
        self._without_gradient = set(self._weights)
        self._updates = 0

    @property
    def done(self) -> bool:
        """Whether enough was seen."""
        return self._updates >= WATCHED_UPDATES

    def see_gradients(self) -> None:
        """Note which weights the gradient reached; call it before each watched update."""
        for name in list(self._without_gradient):
            gradient = self._weights[name].grad
            if gradient is not None and bool(gradient.any()):
                self._without_gradient.discard(name)

    def see_update(self) -> None:
        """Count an update, and judge once enough were seen."""
        self._updates += 1
        if self.done:
            self.judge()

    def judge(self) -> None:
        """Whether the updates so far had an effect.

        Raises:
            TrainingError: no weight moved, a frozen one did, or a trainable weight never had a gradient.
        """
        if self._updates == 0:
            return
        still = still_tensors(self._model)
        moved = sorted(name for name, before in self._still.items() if _fingerprint(still[name]) != before)
        if moved:
            raise TrainingError(
                f"{', '.join(moved[:5])} changed in {self._updates} updates, although {len(self._still)} tensors are "
                "frozen: what training says of its weights would be untrue. Look what else writes to them"
            )
        if all(_fingerprint(self._weights[name]) == before for name, before in self._before.items()):
            raise TrainingError(
                f"no weight moved in {self._updates} updates: training does nothing. Check that the loss depends on "
                "the weights, and raise training.learning_rate."
            )
        if self.done and (stuck := self._parts_that_did_not_move()):
            raise TrainingError(
                f"no weight of {', '.join(stuck)} moved in {self._updates} updates, while others did: that part of the "
                "model does not learn. Freeze it if that is meant (requires_grad_(False)); else look what keeps the "
                "optimizer from it"
            )
        if self._without_gradient and self.done:
            names = ", ".join(sorted(self._without_gradient))
            raise TrainingError(
                f"no gradient reached {names} in {self._updates} updates, so training leaves it as it is. "
                "Freeze it if that is meant (requires_grad_(False)); else the loss does not depend on it."
            )

    def _parts_that_did_not_move(self) -> list[str]:
        """Modules (an attention, an MLP, an embedding) none of whose matrices moved although gradients reached them.

        Vectors are left out: a norm's 1 takes a larger step to move than a warm-up's first ones.
        """
        moved: dict[str, bool] = {}
        for name, before in self._before.items():
            if self._weights[name].ndim >= 2 and name not in self._without_gradient:
                part = _part(name)
                moved[part] = moved.get(part, False) or _fingerprint(self._weights[name]) != before
        return sorted(part for part, any_moved in moved.items() if not any_moved)


@torch.no_grad()
def require_sums(objective: Objective, model: AnyModel, batch: Batch) -> None:
    """Whether an objective's loss of a batch is the sum of those of its parts, as accumulation takes it to be.

    A few rows are looked at, once whole and once in two parts, without dropout. A loss that is a mean, say, would weigh
    every batch alike however much is learned in it, and shrink with `accumulate`.

    Raises:
        TrainingError: it is not.
    """
    together = objective.rows_together
    half = min(len(batch.ids) // 2, WATCHED_ROWS // 2) // together * together
    if half == 0:
        return
    parts = batch.rows(0, 2 * half), batch.rows(0, half), batch.rows(half, 2 * half)
    was_training = model.training
    model.eval()
    try:
        losses = [float(objective.loss(model, model.hidden, part)) for part in parts]
    finally:
        model.train(was_training)
    weights = [objective.weigh(part) for part in parts]
    for name, (whole, first, second) in (("loss", losses), ("weight", weights)):
        if abs(whole - first - second) > 1e-3 * max(abs(whole), abs(first) + abs(second)):
            raise TrainingError(
                f"the {name} of {2 * half} rows is {whole:.6g}, but of the same rows in two parts {first:.6g} and "
                f"{second:.6g}: with training.accumulate it would change with the number of parts. An objective must "
                "give sums, not means"
            )


def _part(name: str) -> str:
    """The module that a weight belongs to: "layers.0.attention" for layers.0.attention.to_query.weight."""
    parts = name.split(".")
    return ".".join(parts[:-2]) or parts[0]


def _fingerprint(weight: Tensor) -> int:
    """A number that changes with the tensor's bits: their sum as integers."""
    words = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}[weight.element_size()]
    return int(weight.detach().contiguous().view(words).sum(dtype=torch.int64))
