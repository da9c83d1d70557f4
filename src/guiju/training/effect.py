"""No effect, no claim: training that moves nothing stops with an error instead of a loss curve."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from guiju.errors import TrainingError
from guiju.training.optimizer import trainable

WATCHED_UPDATES = 5
"""Updates after which every trainable weight must have had a gradient, and some weight must have moved."""


class EffectCheck:
    """Watches the first updates."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = trainable(model)
        # A bias that starts at 0 moves by any step, however small: it says nothing about the others.
        filled = {name: weight for name, weight in self._weights.items() if bool(weight.any())} or self._weights
        self._before = {name: _fingerprint(weight) for name, weight in filled.items()}
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
            TrainingError: no weight moved, or a trainable weight never had a gradient.
        """
        if self._updates == 0:
            return
        if all(_fingerprint(self._weights[name]) == before for name, before in self._before.items()):
            raise TrainingError(
                f"no weight moved in {self._updates} updates: training does nothing. Check that the loss depends on "
                "the weights, and raise training.learning_rate."
            )
        if self._without_gradient and self.done:
            names = ", ".join(sorted(self._without_gradient))
            raise TrainingError(
                f"no gradient reached {names} in {self._updates} updates, so training leaves it as it is. "
                "Freeze it if that is meant (requires_grad_(False)); else the loss does not depend on it."
            )


def _fingerprint(weight: Tensor) -> int:
    """A number that changes with the tensor's bits: their sum as integers."""
    words = {8: torch.int64, 4: torch.int32, 2: torch.int16}[weight.element_size()]
    return int(weight.detach().contiguous().view(words).sum(dtype=torch.int64))
