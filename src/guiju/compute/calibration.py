"""How long a step takes here: a few are timed, the middle one counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from guiju.errors import ConfigError


class Step(Protocol):
    """One whole training step, with its waiting for the device, if any, inside."""

    def __call__(self) -> object: ...


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The time of a step."""

    first_s: float
    """The first step, which prepares libraries, memory and, where it is asked for, compiles."""
    step_s: float
    """Median of the steps that were timed."""
    spread: float
    """Half of (slowest - fastest) / median: how far to trust it."""
    steps: int

    def seconds(self, steps: int) -> float:
        """Time of so many steps from a fresh start."""
        return 0.0 if steps < 1 else self.first_s + (steps - 1) * self.step_s


def calibrate(step: Step, *, repeats: int = 3, clock: Callable[[], float] = time.perf_counter) -> Calibration:
    """Run a step once, then time `repeats` more.

    The steps are real: give a model that may be changed, or thrown away.

    Raises:
        ConfigError: fewer than one repeat.
    """
    if repeats < 1:
        raise ConfigError(f"repeats is {repeats}; at least one step must be timed")
    times = []
    for _ in range(repeats + 1):
        start = clock()
        step()
        times.append(clock() - start)
    first, rest = times[0], times[1:]
    median = statistics.median(rest)
    spread = (max(rest) - min(rest)) / 2 / median if median > 0 else 0.0
    return Calibration(first_s=first, step_s=median, spread=spread, steps=len(rest))
