"""The rule that every verdict rests on, against scipy and against published tables."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from guiju.statistics import Threshold, Verdict, clopper_pearson, exact_verdict, meets_letter, rate_verdict


@given(
    st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from([0.9, 0.95, 0.999]),
)
def test_the_exact_interval_equals_scipys_beta_quantiles(rate, confidence):
    count, n = rate
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else beta.ppf(tail, count, n - count + 1)
    high = 1.0 if count == n else beta.ppf(1 - tail, count + 1, n - count)
    ours = clopper_pearson(count, n, confidence)
    assert math.isclose(ours.low, low, rel_tol=1e-8, abs_tol=1e-12)
    assert math.isclose(ours.high, high, rel_tol=1e-8, abs_tol=1e-12)


def test_no_failure_in_twenty_bounds_the_rate_as_published_tables_say():
    assert clopper_pearson(0, 20, confidence=0.90).high == pytest.approx(0.139, abs=5e-4)
    assert clopper_pearson(0, 0).low == 0
    assert clopper_pearson(0, 0).high == 1


def test_a_rate_passes_only_where_the_whole_interval_keeps_the_threshold():
    threshold = Threshold(">=", 0.96)
    assert rate_verdict(3900, 4000, threshold) is Verdict.PASS
    assert rate_verdict(3845, 4000, threshold) is Verdict.INCONCLUSIVE
    assert meets_letter(3845, 4000, threshold)
    assert rate_verdict(3700, 4000, threshold) is Verdict.FAIL
    assert rate_verdict(0, 0, threshold) is Verdict.NOT_ASSESSED
    assert rate_verdict(0, 300, Threshold("<=", 0.05)) is Verdict.PASS
    assert rate_verdict(60, 300, Threshold("<=", 0.05)) is Verdict.FAIL


def test_a_sample_can_refute_all_but_never_prove_it():
    assert rate_verdict(100, 100, Threshold("==", 1.0)) is Verdict.INCONCLUSIVE
    assert rate_verdict(99, 100, Threshold("==", 1.0)) is Verdict.FAIL
    assert rate_verdict(1, 100, Threshold("==", 0.0)) is Verdict.FAIL


def test_a_census_is_compared_as_it_is():
    assert exact_verdict(2, Threshold(">=", 2)) is Verdict.PASS
    assert exact_verdict(1, Threshold(">=", 2)) is Verdict.FAIL
    assert exact_verdict(math.nan, Threshold(">=", 2)) is Verdict.NOT_ASSESSED
