"""A figure of a task with its n and its interval: exact for rates, by bootstrap for everything else.

Every metric here is a function of sums over samples: BLEU of n-gram counts, macro-F1 of a confusion table, calibration
of bins. So a metric is kept as a row of numbers for each sample, and to draw the samples anew is to weigh the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from guiju.statistics import clopper_pearson

Floats = NDArray[np.float64]
Better = Literal["higher", "lower", "neither"]
"""Which way of a metric is the good one."""

SEED = 20260101
"""Of every bootstrap, so that the same samples always have the same interval."""

DRAWS = 1000
_AT_ONCE = 1 << 20
"""Weights that are held at a time, so that a large set takes no more memory than a small one."""

_ROWS_AT_ONCE = 4096


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

    rows: NDArray[Any]
    """(n, k): k numbers of each sample. Counts may be of a small integer type: large sets are many rows."""

    of_sums: Callable[[Floats], float]
    """The metric, out of the (k,) sums."""

    is_rate: bool = False
    """Whether it is the share of samples for which something holds: its interval is then exact."""

    members: NDArray[np.int32] | None = None
    """Which samples of the set the rows are of, in order; None for all of them."""

    better: Better = "higher"

    @property
    def value(self) -> float:
        return self.of_sums(self.rows.sum(axis=0).astype(np.float64)) if len(self.rows) else 0.0

    def has_members_of(self, other: Statistic) -> bool:
        """Whether both are of the same samples of a set."""
        if self.members is None or other.members is None:
            return self.members is other.members
        return np.array_equal(self.members, other.members)


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


def rate(holds: Any, members: Any = None) -> Statistic:
    """The share of samples for which something holds.

    Args:
        holds: (n,) truth values, and of which samples they are, as an array or anything that becomes one.
    """
    held = np.asarray(holds, dtype=np.uint8)
    return Statistic(np.stack([held, np.ones_like(held)], axis=1), _mean, True, _members(members))


def mean(values: Any, members: Any = None) -> Statistic:
    """The mean of a number of each sample."""
    held = np.asarray(values, dtype=np.float64)
    return Statistic(np.stack([held, np.ones_like(held)], axis=1), _mean, False, _members(members))


def estimate(statistic: Statistic, confidence: float = 0.95) -> Estimate:
    """Value and interval: Clopper and Pearson's for a rate, else percentiles of DRAWS bootstrap sets (Efron 1979)."""
    return estimates({"": statistic}, confidence)[""]


def estimates(statistics: Mapping[str, Statistic], confidence: float = 0.95) -> dict[str, Estimate]:
    """The same of several; those of as many samples are drawn together, which takes most of the time."""
    found: dict[str, Estimate] = {}
    by_draws: dict[int, dict[str, Statistic]] = {}
    for name, one in statistics.items():
        n = len(one.rows)
        if _is_rate(one):
            exact = clopper_pearson(int(one.rows[:, 0].sum()) if n else 0, n, confidence)
            found[name] = Estimate(one.value, exact.low, exact.high, n)
        elif n == 0:
            found[name] = Estimate(0.0, 0.0, 0.0, 0)
        else:
            by_draws.setdefault(n, {})[name] = one
    for n, together in by_draws.items():
        drawn = _resampled([one.rows for one in together.values()])
        for (name, one), sums in zip(together.items(), drawn, strict=True):
            low, high = _percentiles(np.array([one.of_sums(row) for row in sums]), confidence)
            # Few samples can draw sets that all lie on one side of what was measured.
            found[name] = Estimate(one.value, min(low, one.value), max(high, one.value), n)
    return {name: found[name] for name in statistics}


def _is_rate(one: Statistic) -> bool:
    # A mean of noughts and ones is a rate, too; drawn anew, noughts alone would pretend to be certain.
    return one.is_rate or (one.of_sums is _mean and bool(np.isin(one.rows[:, 0], (0.0, 1.0)).all()))


def difference(new: Statistic, old: Statistic, confidence: float = 0.95) -> Difference:
    """New less old by the paired bootstrap (Koehn 2004): both are drawn anew with the same samples.

    Row i of both must be of the same sample.
    """
    return differences({"": (new, old)}, confidence)[""]


def differences(pairs: Mapping[str, tuple[Statistic, Statistic]], confidence: float = 0.95) -> dict[str, Difference]:
    """The same of several pairs, new and old; those of as many samples are drawn together."""
    found: dict[str, Difference] = {}
    by_draws: dict[int, list[str]] = {}
    for name, (new, old) in pairs.items():
        assert len(new.rows) == len(old.rows), "the samples are not the same"
        by_draws.setdefault(len(new.rows), []).append(name)
    for n, names in by_draws.items():
        if n == 0:
            found |= {name: Difference(0.0, 0.0, 0.0, 0, pairs[name][0].better) for name in names}
            continue
        drawn = iter(_resampled([one.rows for name in names for one in pairs[name]]))
        for name in names:
            new, old = pairs[name]
            gaps = [new.of_sums(one) - old.of_sums(other) for one, other in zip(next(drawn), next(drawn), strict=True)]
            low, high = _percentiles(np.array(gaps), confidence)
            value = new.value - old.value
            found[name] = Difference(value, min(low, value), max(high, value), n, new.better)
    return {name: found[name] for name in pairs}


def _members(members: Any) -> NDArray[np.int32] | None:
    return None if members is None else np.asarray(members, dtype=np.int32)


def _mean(sums: Floats) -> float:
    return float(sums[0] / sums[1]) if sums[1] else 0.0


def _resampled(tables: Sequence[NDArray[Any]]) -> list[Floats]:
    """Of each table of n rows (DRAWS, k) sums over n rows drawn with replacement: the same ones of all tables."""
    n = len(tables[0])
    chance = np.random.default_rng(SEED)
    shares = np.full(n, 1 / n)
    size = max(1, min(DRAWS, _AT_ONCE // n))
    parts: list[list[Floats]] = [[] for _ in tables]
    for start in range(0, DRAWS, size):
        weights = chance.multinomial(n, shares, size=min(size, DRAWS - start)).astype(np.float64)
        for part, rows in zip(parts, tables, strict=True):
            part.append(_weighed(weights, rows))
    return [np.concatenate(part) for part in parts]


def _weighed(weights: Floats, rows: NDArray[Any]) -> Floats:
    """weights @ rows, without a copy of all the rows in a larger type."""
    sums: Floats
    if rows.dtype == np.float64:
        sums = weights @ rows
        return sums
    sums = np.zeros((len(weights), rows.shape[1]))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        end = start + _ROWS_AT_ONCE
        sums += weights[:, start:end] @ rows[start:end].astype(np.float64)
    return sums


def _percentiles(drawn: Floats, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)
