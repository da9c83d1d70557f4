"""Learning from preferred answers without a reward model: direct preference optimisation (DPO, arXiv:2305.18290).

The model is to hold the preferred answer for likelier than the other one by more than a reference does, which is the
model as it was before. What the reference holds is computed once, before training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from guiju.errors import TrainingError
from guiju.tokens import IGNORED, Batch, PreferenceExamples
from guiju.training.token_objectives import Hidden, at_targets

CHUNK_BYTES = 32 << 20
"""Size of the logits that exist at once, in float32."""


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """Pairs of rows: the preferred answer, and the other one."""

    beta: float = 0.1
    """How firmly the model is held to the reference."""
    label_smoothing: float = 0.0
    """Share of the preferences that are held to be wrong (conservative DPO)."""
    widths_vary: bool = True
    unit: str = "targets"
    rows_together: int = 2

    def loss(self, model: Any, hidden: Hidden, batch: Batch) -> Tensor:
        assert batch.reference is not None, "check says so first"
        gain = row_log_probs(model, hidden, batch) - batch.reference  # (2 B,)
        margin = self.beta * (gain[0::2] - gain[1::2])  # (B,)
        right, wrong = F.logsigmoid(margin), F.logsigmoid(-margin)
        return -((1 - self.label_smoothing) * right + self.label_smoothing * wrong).sum()

    def weigh(self, batch: Batch) -> float:
        """Each pair weighs 1."""
        return len(batch.ids) // 2

    def check(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            if batch.reference is None:
                raise TrainingError(
                    "the pairs do not say what the reference model holds of them, which the loss compares with: make "
                    "them with `with_reference`"
                )
            if len(batch.ids) % 2:
                raise TrainingError(f"the batch has {len(batch.ids)} rows, but pairs have two rows each")
            learned = batch.targets != IGNORED
            if not learned.any(dim=1).all():
                raise TrainingError("a row of the batch has no answer: each of its tokens is masked")
            if (batch.ids[0::2] == batch.ids[1::2]).all() and (batch.targets[0::2] == batch.targets[1::2]).all():
                raise TrainingError("both answers of every pair are the same, so nothing is preferred")


def row_log_probs(model: Any, hidden: Hidden, batch: Batch) -> Tensor:
    """What a decoder holds of each row's targets together: (B,) log p in nats.

    Logits are made a chunk at a time, and again when gradients need them: all at once they would be the largest thing
    in training.
    """
    states, targets = at_targets(hidden(batch.ids, documents=batch.documents), batch.targets)
    weight, bias = model.head_weights()
    size = max(1, CHUNK_BYTES // (4 * weight.size(0)))
    parts = [
        _log_probs(part, weight, bias, wanted)
        if not torch.is_grad_enabled()
        else checkpoint(_log_probs, part, weight, bias, wanted, use_reentrant=False)
        for part, wanted in zip(torch.split(states, size), torch.split(targets, size), strict=True)
    ]
    row = torch.arange(len(batch.ids), device=batch.ids.device)[:, None].expand_as(batch.targets)
    places = row[batch.targets != IGNORED]
    nats = torch.cat(parts)[: len(places)]  # what fills up stands at the end
    return nats.new_zeros(len(batch.ids)).index_add(0, places, nats)


def _log_probs(states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    logits = F.linear(states, weight, bias).float()
    return -F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")


@torch.no_grad()
def reference_log_probs(
    model: Any, examples: PreferenceExamples, *, batch: int = 8, report: Callable[[int, int], None] | None = None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """What a model holds of both answers of each pair, to be given to `PreferenceExamples.with_reference`.

    Args:
        model: the one that is to be trained, before it is.
        batch: pairs at a time; they are read in the order of their lengths.
        report: called with (pairs done, pairs in all).
    Returns:
        (pairs, 2) log p in nats.
    """
    device = model.embedding.weight.device
    found = np.empty((len(examples.lengths), 2), dtype=np.float32)
    order = np.argsort(examples.lengths, kind="stable")
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            logs = row_log_probs(model, model.hidden, examples.read(rows, 0, 0).to(device).without_idle_masks())
            found[rows] = logs.view(-1, 2).cpu().numpy()
            if report is not None:
                report(min(start + batch, len(order)), len(order))
    finally:
        model.train(was_training)
    if not np.isfinite(found).all():
        raise TrainingError("the reference model holds an answer for impossible; is it a whole model?")
    return found
