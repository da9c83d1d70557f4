"""Exact intervals, the five verdicts, and the one rule that leads from (count, n, threshold) to a verdict.

Pure arithmetic over the standard library, so that whoever doubts a finding can recompute it from this page.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Comparator = Literal["<=", ">=", "=="]


class Verdict(StrEnum):
    """What a clause may be told. Silence, a missing answer or an unreadable judge is never a pass."""

    PASS = "pass"  # noqa: S105 -- a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    """The interval lies on both sides of the threshold."""
    NEEDS_PERSON = "needs-person"
    """A human attestation is owed."""
    NOT_ASSESSED = "not-assessed"


@dataclass(frozen=True)
class Interval:
    low: float
    high: float


@dataclass(frozen=True)
class Threshold:
    """A bound that was fixed before the run. For a rate the value is a fraction from 0 to 1."""

    comparator: Comparator
    value: float

    def holds(self, value: float) -> bool:
        match self.comparator:
            case "<=":
                return value <= self.value
            case ">=":
                return value >= self.value
            case "==":
                return value == self.value


@functools.lru_cache(maxsize=1024)
def clopper_pearson(count: int, n: int, confidence: float = 0.95) -> Interval:
    """The exact two-sided interval of a rate: it holds the true rate at least `confidence` of the time.

    Args:
        count: how often it was so, 0 to n.
        n: how often one looked; with 0 the interval is everything.
    Source: Clopper and Pearson 1934, Biometrika 26; as quantiles of the beta distribution.
    """
    assert 0 <= count <= n, f"{count} of {n} is no rate"
    assert 0 < confidence < 1
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else _beta_quantile(tail, count, n - count + 1)
    high = 1.0 if count == n else _beta_quantile(1 - tail, count + 1, n - count)
    return Interval(low, high)


def rate_verdict(count: int, n: int, threshold: Threshold, confidence: float = 0.95) -> Verdict:
    """The verdict over a sampled rate: pass and fail only where the whole exact interval lies on one side."""
    if n == 0:
        return Verdict.NOT_ASSESSED
    interval = clopper_pearson(count, n, confidence)
    match threshold.comparator:
        case ">=":
            inside, outside = interval.low >= threshold.value, interval.high < threshold.value
        case "<=":
            inside, outside = interval.high <= threshold.value, interval.low > threshold.value
        case "==":
            # No sample can support an exact rate; it can only contradict one.
            inside, outside = False, not interval.low <= threshold.value <= interval.high
            if threshold.value in (0.0, 1.0):
                outside = outside or count / n != threshold.value  # one counter-example refutes "all" and "none"
    if inside:
        return Verdict.PASS
    return Verdict.FAIL if outside else Verdict.INCONCLUSIVE


def exact_verdict(value: float, threshold: Threshold) -> Verdict:
    """The verdict over a quantity that was counted in full, so that there is nothing to be uncertain about."""
    if math.isnan(value):
        return Verdict.NOT_ASSESSED
    return Verdict.PASS if threshold.holds(value) else Verdict.FAIL


def meets_letter(count: int, n: int, threshold: Threshold) -> bool:
    """Whether the bare proportion keeps the threshold, whatever its uncertainty: the letter of a clause."""
    return n > 0 and threshold.holds(count / n)


def _beta_quantile(probability: float, a: float, b: float) -> float:
    """Where the regularised incomplete beta function reaches `probability`: Newton's steps, kept inside a bracket."""
    log_scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(200):
        excess = _beta_cumulative(x, a, b) - probability
        low, high = (x, high) if excess < 0 else (low, x)
        slope = math.exp(log_scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x))
        following = x - excess / slope if slope > 0 else low
        if not low < following < high:
            following = (low + high) / 2
        if following in (x, low, high) or abs(following - x) <= 4e-16 * x:
            return following
        x = following
    return x


def _beta_cumulative(x: float, a: float, b: float) -> float:
    """I_x(a, b) by Lentz's continued fraction (Numerical Recipes, 3rd edition, 6.4)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )  # fmt: skip
    if x > (a + 1) / (a + b + 2):  # the fraction converges quickly only below the mean
        return 1 - math.exp(log_front) * _beta_fraction(1 - x, b, a) / b
    return math.exp(log_front) * _beta_fraction(x, a, b) / a


def _beta_fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, 100_000):
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + numerator * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + numerator / c
            c = c if abs(c) > tiny else tiny
            result *= c * d
        if abs(c * d - 1) < 1e-15:
            return result
    raise AssertionError("the continued fraction did not converge")
