"""What a person sees while training runs: loss, speed, share of the machine, time left, energy."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW = 20
"""Steps over which speed is averaged: long enough to be calm, short enough to show a change."""


class Pace:
    """Speed over the last steps, and over all steps of this process."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._marks: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)], maxlen=WINDOW + 1)
        self._excluded = 0.0
        self.seconds = 0.0
        self.tokens = 0
        self.steps = 0

    def step(self, tokens: int) -> float:
        """Count a step of so many tokens; how long it took, in seconds."""
        self.tokens += tokens
        self.steps += 1
        now = self._clock() - self._excluded
        took = now - self._marks[-1][0]
        self.seconds += took
        self._marks.append((now, self.tokens, self.steps))
        return took

    def exclude(self, seconds: float) -> None:
        """Leave time out that was no training: an evaluation, a checkpoint."""
        self._excluded += seconds

    @property
    def tokens_per_second(self) -> float:
        """Over the last steps."""
        (first, before, _), (last, after, _) = self._marks[0], self._marks[-1]
        return (after - before) / (last - first) if last > first else 0.0

    @property
    def seconds_per_step(self) -> float:
        """Over the last steps."""
        (first, _, before), (last, _, after) = self._marks[0], self._marks[-1]
        return (last - first) / (after - before) if after > before else 0.0


def progress_line(
    loss: float | None,
    pace: Pace,
    left_steps: int,
    peak_share: float | None,
    energy_kwh: float | None,
    unit: str = "tokens",
) -> str:
    """One line for the screen; `unit` is what the pace counts."""
    parts = [
        "step skipped" if loss is None else f"loss {loss:.3f}",
        f"{pace.tokens_per_second:,.0f} {unit}/s",
    ]
    if peak_share is not None:
        parts.append(f"{peak_share:.0%} of peak")
    minutes, seconds = divmod(round(left_steps * pace.seconds_per_step), 60)
    parts.append(f"{minutes}:{seconds:02d} left")
    if energy_kwh is not None:
        parts.append(f"{energy_kwh * 1000:.2f} Wh")
    return " · ".join(parts)
