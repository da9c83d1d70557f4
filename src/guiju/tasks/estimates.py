"""A figure of a task with its n and its interval: exact for rates, by bootstrap for everything else.

Every metric here is a function of sums over samples: BLEU of n-gram counts, macro-F1 of a confusion table, calibration
of bins. So a metric is kept as a row of numbers for each sample, and to draw the samples anew is to weigh the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from guiju.statistics import clopper_pearson

Floats = NDArray[np.float64]
Better = Literal["higher", "lower", "neither"]
"""Which way of a metric is the good one."""

SEED = 20260101
"""Of every bootstrap, so that the same samples always have the same interval."""

DRAWS = 1000
_AT_ONCE = 1 << 22
"""Weights that are held at a time, so that a large set takes no more memory than a small one."""


@dataclass(frozen=True)
class Estimate:
    """What was measured, and between which figures it lies with the confidence that was asked for."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float | int]:
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True, eq=False)
class Statistic:
    """A metric as rows whose sums it is a function of."""

    rows: Floats
    """(n, k): k numbers of each sample."""

    of_sums: Callable[[Floats], float]
    """The metric, out of the (k,) sums."""

    is_rate: bool = False
    """Whether it is the share of samples for which something holds: its interval is then exact."""

    members: tuple[int, ...] | None = None
    """Which samples of the set the rows are of, in order; None for all of them."""

    better: Better = "higher"

    @property
    def value(self) -> float:
        return self.of_sums(self.rows.sum(axis=0)) if len(self.rows) else 0.0


@dataclass(frozen=True)
class Difference:
    """How much more the one has of a metric than the other, on the same samples."""

    value: float
    low: float
    high: float
    n: int
    better: Better = "higher"

    @property
    def verdict(self) -> str:
        """`better` or `worse` where the whole interval says so (`more` or `less` where neither is good), else
        `undecided`."""
        if self.low <= 0 <= self.high:
            return "undecided"
        words = {"higher": ("better", "worse"), "lower": ("worse", "better"), "neither": ("more", "less")}
        return words[self.better][0 if self.low > 0 else 1]

    def to_json(self) -> dict[str, object]:
        return {"difference": self.value, "low": self.low, "high": self.high, "n": self.n, "verdict": self.verdict}


def rate(holds: Sequence[bool], members: Sequence[int] | None = None) -> Statistic:
    """The share of samples for which something holds."""
    rows = np.array([[float(one), 1.0] for one in holds]).reshape(-1, 2)
    return Statistic(rows, _mean, True, None if members is None else tuple(members))


def mean(values: Sequence[float], members: Sequence[int] | None = None) -> Statistic:
    """The mean of a number of each sample."""
    rows = np.array([[float(one), 1.0] for one in values]).reshape(-1, 2)
    return Statistic(rows, _mean, False, None if members is None else tuple(members))


def estimate(statistic: Statistic, confidence: float = 0.95) -> Estimate:
    """Value and interval: Clopper and Pearson's for a rate, else percentiles of DRAWS bootstrap sets (Efron 1979)."""
    n, value = len(statistic.rows), statistic.value
    # A mean of noughts and ones is a rate, too; drawn anew, noughts alone would pretend to be certain.
    if statistic.is_rate or (statistic.of_sums is _mean and np.isin(statistic.rows[:, 0], (0.0, 1.0)).all()):
        exact = clopper_pearson(round(statistic.rows[:, 0].sum()) if n else 0, n, confidence)
        return Estimate(value, exact.low, exact.high, n)
    if n == 0:
        return Estimate(0.0, 0.0, 0.0, 0)
    drawn = np.array([statistic.of_sums(sums) for sums in _resampled(statistic.rows)])
    low, high = _percentiles(drawn, confidence)
    # Few samples can draw sets that all lie on one side of what was measured.
    return Estimate(value, min(low, value), max(high, value), n)


def difference(new: Statistic, old: Statistic, confidence: float = 0.95) -> Difference:
    """New less old by the paired bootstrap (Koehn 2004): both are drawn anew with the same samples.

    Row i of both must be of the same sample.
    """
    assert len(new.rows) == len(old.rows), "the samples are not the same"
    n = len(new.rows)
    if n == 0:
        return Difference(0.0, 0.0, 0.0, 0, new.better)
    split = new.rows.shape[1]
    both = np.concatenate([new.rows, old.rows], axis=1)
    drawn = np.array([new.of_sums(sums[:split]) - old.of_sums(sums[split:]) for sums in _resampled(both)])
    low, high = _percentiles(drawn, confidence)
    value = new.value - old.value
    return Difference(value, min(low, value), max(high, value), n, new.better)


def _mean(sums: Floats) -> float:
    return float(sums[0] / sums[1]) if sums[1] else 0.0


def _resampled(rows: Floats) -> Floats:
    """(DRAWS, k) sums, each over as many samples as there are, drawn with replacement."""
    n = len(rows)
    chance = np.random.default_rng(SEED)
    shares = np.full(n, 1 / n)
    size = max(1, min(DRAWS, _AT_ONCE // n))
    parts = []
    for start in range(0, DRAWS, size):
        weights = chance.multinomial(n, shares, size=min(size, DRAWS - start))
        parts.append(weights.astype(np.float64) @ rows)
    return np.concatenate(parts)


def _percentiles(drawn: Floats, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
