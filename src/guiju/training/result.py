"""What the training loop takes and gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from guiju.tokens import Batch


class Batches(Protocol):
    """Where training takes its data from; `PackedBatches` is one."""

    def next(self) -> Batch:
        """The batch that follows."""

    def state(self) -> dict[str, int]:
        """Where the order stands."""

    def restore(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken."""

    def identity(self) -> Mapping[str, str | int]:
        """What must be equal for the same state to mean the same batches."""


Report = Callable[[int, int, str], None]
OnEvent = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What training did."""

    steps: int
    """Steps in all, those of earlier processes included."""
    tokens: int
    """Targets learned from in all, each as often as it came."""
    skipped: int
    """Steps whose loss or gradient was not finite."""
    seconds: float
    """Wall time of this process's steps, without evaluations and checkpoints."""
    tokens_per_second: float
    """Of this process; 0 where it had nothing left to do."""
    flops: float | None
    """Of this process's steps; None where the caller gave no FLOPs a token."""
    peak_share: float | None
    """FLOPs a second as a share of the machine's measured matrix peak."""
    final_loss: float | None
    """Mean nats a token of the last step that was not skipped."""
    evaluations: tuple[tuple[int, float], ...]
    """(step, what was measured on held-out data), those of earlier processes included."""
    log: Path
    """train_log.jsonl: a line a step; the same bytes however often training was interrupted."""
    timing: Path
    """timing.jsonl: how long each step took."""
    checkpoint: Path
    """The last step's checkpoint."""
    resumed_from: int | None
    """The step this process started from; None from the start."""
    bit_exact: bool
    """False where training went on under another processor, thread count or torch than before."""
    dtype: str
    compiled: bool
    notices: tuple[str, ...]
