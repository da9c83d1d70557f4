from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import pytest

from guiju.errors import ConfigError
from guiju.statistics import clopper_pearson
from guiju.tasks.code_scores import mean_pass_at_k, pass_at_k


def exact(n: int, c: int, k: int) -> Fraction:
    return 1 - Fraction(math.comb(n - c, k), math.comb(n, k))


def test_pass_at_k_is_the_share_of_draws_that_hold_a_passing_sample():
    for n in range(1, 9):
        for c in range(n + 1):
            for k in range(1, n + 1):
                draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
                assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-15)


@pytest.mark.parametrize(
    ("n", "c", "k", "value"),
    [
        (200, 100, 1, 0.5),
        (200, 1, 100, 0.5),
        (5, 2, 2, 0.7),
        (5, 2, 3, 0.9),
        (5, 3, 3, 1.0),
        (10, 0, 10, 0.0),
        (10, 1, 10, 1.0),
        (200, 10, 10, float(exact(200, 10, 10))),
        (200, 3, 100, float(exact(200, 3, 100))),
        (1_000, 1, 1, 0.001),
    ],
)
def test_pass_at_k_has_these_values(n, c, k, value):
    assert pass_at_k(n, c, k) == pytest.approx(value, rel=1e-14, abs=0)


def test_pass_at_k_stays_exact_for_many_samples():
    for n, c, k in ((10**5, 3, 10), (10**5, 2, 99_000), (10**4, 9_000, 7), (10**4, 60, 100), (10**4, 1, 1)):
        assert pass_at_k(n, c, k) == pytest.approx(float(exact(n, c, k)), rel=1e-12, abs=0)
    assert pass_at_k(10**15, 1, 1) == pytest.approx(1e-15, rel=1e-12)  # 1 - (1 - 1e-15) would be off by a tenth
    assert pass_at_k(10**15, 1, 10**6) == pytest.approx(1e-9, rel=1e-12)


@pytest.mark.parametrize(("n", "c", "k"), [(0, 0, 1), (5, 6, 1), (5, -1, 1), (5, 2, 6), (5, 2, 0)])
def test_counts_that_cannot_be_are_refused(n, c, k):
    with pytest.raises(ConfigError):
        pass_at_k(n, c, k)


def test_without_problems_there_is_no_mean():
    with pytest.raises(ConfigError, match="none"):
        mean_pass_at_k([], 1)


def test_one_sample_a_problem_has_the_exact_interval_of_a_rate():
    mean, interval = mean_pass_at_k([(1, 1)] * 30 + [(1, 0)] * 52, 1)
    assert mean == pytest.approx(30 / 82)
    assert interval == clopper_pearson(30, 82)


def test_the_interval_holds_the_mean_of_problems_as_often_as_it_says():
    """Problems whose chances are drawn anew each time; the mean of the chances is known."""
    draw = random.Random(1)
    held = 0
    for _ in range(300):
        chances = [draw.betavariate(0.3, 0.7) for _ in range(40)]  # mean 0.3
        counts = [(5, sum(draw.random() < chance for _ in range(5))) for chance in chances]
        mean, interval = mean_pass_at_k(counts, 1)
        assert interval.low <= mean <= interval.high
        held += interval.low <= 0.3 <= interval.high
    assert held >= 0.95 * 300


def test_the_interval_is_closed_where_all_or_nothing_passes_and_narrows_with_problems():
    for share in (0, 5):
        mean, interval = mean_pass_at_k([(10, share)] * 50, 2)
        assert 0 <= interval.low <= mean <= interval.high <= 1
        wider = mean_pass_at_k([(10, share)] * 10, 2)[1]
        assert wider.high - wider.low > interval.high - interval.low > 0
