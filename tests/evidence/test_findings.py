"""Findings against the measurements that they cite: both verifiers recompute them, and agree on whatever is made up."""

from __future__ import annotations

import copy
import os
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_worlds import finding, make_run, measurement, standalone, verify_both

from guiju.errors import EvidenceError
from guiju.evidence import Kind, Run, finding_problem
from guiju.evidence.findings import finding_form_problem, measurement_form_problem
from guiju.statistics import Threshold, Verdict, clopper_pearson, exact_verdict

FIFTY = Threshold(">=", 0.5)


def judged(
    body: dict[str, Any], measured: dict[int, dict[str, Any]], attested: dict[int, dict[str, Any]] | None = None
) -> bool:
    """Whether a finding at entry 100 holds; both verifiers must say the same."""
    attested = attested or {}
    latest = {m["measure"]: index for index, m in sorted(measured.items())}
    ours = finding_form_problem(body, 100) or finding_problem(body, measured, attested, latest)
    seen: dict[Any, Any] = {index: ("measurement", m) for index, m in measured.items()}
    seen |= {index: ("attestation", a) for index, a in attested.items()}
    seen |= {("measurement", measure): index for measure, index in latest.items()}
    try:
        standalone.check_form(body, "finding")
        standalone.check_finding(body, 100, seen)
        theirs = None
    except (ValueError, TypeError) as problem:
        theirs = str(problem)
    assert (ours is None) == (theirs is None), (ours, theirs)
    return ours is None


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 5000), st.sampled_from(["<=", ">=", "=="]), st.floats(0, 1))
def test_a_true_finding_holds_for_any_rate_and_bound(count, n, comparator, bound):
    count = min(count, n)
    body = measurement(count, n)
    assert judged(finding(3, body, Threshold(comparator, bound)), {3: body})


@pytest.mark.parametrize("n", [1, 2, 3, 10, 59, 300, 4000, 100_000, 10**6])
def test_the_second_verifiers_interval_is_that_of_the_first(n):
    draw = random.Random(n)
    for count in {0, 1, n // 2, n - 1, n, *(draw.randint(0, n) for _ in range(10))}:
        ours = clopper_pearson(count, n)
        _, _, _, low, high = standalone.figures_of(measurement(count, n))
        assert low == pytest.approx(ours.low, rel=1e-7, abs=1e-11)
        assert high == pytest.approx(ours.high, rel=1e-7, abs=1e-11)
        assert abs(low - ours.low) < 1e-10
        assert abs(high - ours.high) < 1e-10


WRONG: list[dict[str, Any]] = [
    {"verdict": "pass"}, {"verdict": "fail"}, {"count": 61}, {"n": 101}, {"estimate": 0.61}, {"low": 0.51},
    {"low": None}, {"count": None}, {"n": None}, {"estimate": None}, {"supported": True}, {"meets_letter": False},
    {"method": "exact"}, {"method": "none"}, {"threshold": {"comparator": "<=", "value": 0.5}}, {"evidence": []},
    {"evidence": [4]}, {"evidence": [3, 4]}, {"evidence": [3, 3]}, {"measure": "another_rate"}, {"method": "attested"},
    {"verdict": "not-assessed"}, {"verdict": "needs-person"}, {"threshold": {"comparator": ">=", "value": 0.4}},
    {"threshold": None}, {"threshold": {"comparator": ">", "value": 0.5}}, {"threshold": {"comparator": ">="}},
    {"threshold": []}, {"threshold": {"comparator": [], "value": 0.5}}, {"high": 0.6},
    {"threshold": {"comparator": ">=", "value": "0.5"}}, {"threshold": {"comparator": ">=", "value": 0.5, "part": []}},
    {"threshold": 0.5}, {"threshold": [0.5]},
    {"threshold": {"comparator": ">=", "value": 0.5, "part": "value"}}, {"evidence": [100]}, {"evidence": [-1]},
    {"evidence": ["3"]}, {"evidence": [True]}, {"evidence": None}, {"verdict": "perhaps"}, {"confidence": "sure"},
    {"supported": 1}, {"meets_letter": "true"}, {"note": 5}, {"verified_by": True}, {"clause": None}, {"as_of": 2026},
    {"estimate": "0.6"}, {"estimate": True}, {"confidence": "low", "verdict": "fail"},
    {"threshold": {"comparator": "==", "value": 0.5}, "verdict": "pass"},
]  # fmt: skip


@pytest.mark.parametrize("changes", WRONG, ids=str)
def test_a_finding_with_anything_wrong_does_not_follow(changes):
    body = measurement(60, 100)  # 0.497 to 0.697: inconclusive against a half
    true = finding(3, body, FIFTY)
    assert true["verdict"] == "inconclusive"
    measured = {3: body, 4: measurement(50, 100, "another_rate")}
    assert judged(true, measured)
    assert not judged({**true, **changes}, measured)


def test_every_field_is_needed():
    body = measurement(60, 100)
    true = finding(3, body, FIFTY)
    for name in true.keys() - {"measure"}:
        assert not judged({key: value for key, value in true.items() if key != name}, {3: body})
    assert judged({key: value for key, value in true.items() if key != "measure"}, {3: body})
    assert judged({**true, "title": "more", "unit": "answers"}, {3: body})


def test_a_finding_on_an_older_measurement_than_the_last_does_not_follow():
    good, later = measurement(100, 100), measurement(0, 100)
    true = finding(3, good, FIFTY)
    assert judged(true, {3: good})
    assert not judged(true, {3: good, 7: later})
    assert judged(finding(7, later, FIFTY), {3: good, 7: later})


def test_a_sampled_rate_is_never_judged_by_its_bare_figure():
    body = measurement(60, 100)
    exact = finding(3, body, FIFTY, verdict="pass", method="exact", low=0.6, high=0.6, supported=True)
    assert not judged(exact, {3: body})
    counted = measurement(60, 100, sampled=False)
    assert judged(exact, {3: counted})
    assert not judged(finding(3, body, FIFTY), {3: counted})


def test_a_low_confidence_clause_is_not_judged_before_a_person_has_verified_it():
    body = measurement(100, 100)
    true = finding(3, body, FIFTY, confidence="low")
    assert true["verdict"] == "pass"
    assert not judged(true, {3: body})
    assert not judged({**true, "verdict": "fail", "supported": False}, {3: body})
    assert judged({**true, "verdict": "not-assessed"}, {3: body})
    assert not judged({**true, "verdict": "needs-person"}, {3: body})
    assert judged({**true, "verified_by": "a lawyer"}, {3: body})
    assert not judged({**true, "verified_by": ""}, {3: body})


def test_holding_back_a_verdict_takes_a_reason_and_claiming_one_takes_figures():
    body = measurement(100, 100)
    true = finding(3, body, FIFTY)
    assert not judged({**true, "verdict": "not-assessed"}, {3: body})
    assert judged({**true, "verdict": "not-assessed", "note": "the classifier did not run"}, {3: body})
    nothing = dict.fromkeys(("count", "n", "estimate", "low", "high", "threshold", "meets_letter", "supported"))
    bare = {**true, **nothing, "method": "none", "evidence": [], "note": "nobody measures it yet"}
    assert judged({**bare, "verdict": "not-assessed"}, {})
    assert judged({**bare, "verdict": "needs-person"}, {})
    for verdict in ("pass", "fail", "inconclusive"):
        assert not judged({**bare, "verdict": verdict}, {})


def test_an_attested_verdict_rests_on_an_attestation_about_this_clause():
    body = measurement(60, 100)
    true = finding(3, body, FIFTY)
    nothing = dict.fromkeys(("count", "n", "estimate", "low", "high", "threshold", "meets_letter", "supported"))
    bare = {**true, **nothing, "method": "attested", "evidence": [5], "verdict": "pass"}
    yes = {"clause": true["clause"], "holds": True, "by": "a lawyer"}
    assert judged(bare, {}, {5: yes})
    assert judged(bare, {}, {5: {"clause": true["clause"]}})  # to state is to hold, unless it says otherwise
    assert not judged(bare, {}, {5: {**yes, "holds": False}})
    assert not judged(bare, {}, {5: {**yes, "holds": "yes"}})
    assert judged({**bare, "verdict": "fail"}, {}, {5: {**yes, "holds": False}})
    assert not judged(bare, {}, {5: {**yes, "clause": "another"}})
    assert not judged(bare, {}, {6: yes})
    assert not judged({**bare, "confidence": "low"}, {}, {5: yes})
    # figures and a person: the worse of the two, or the figures alone where the clause asks for no person
    both = {**finding(3, measurement(100, 100), FIFTY), "evidence": [3, 5]}
    assert judged(both, {3: measurement(100, 100)}, {5: yes})
    assert judged({**both, "verdict": "fail"}, {3: measurement(100, 100)}, {5: {**yes, "holds": False}})
    assert not judged({**both, "verdict": "inconclusive"}, {3: measurement(100, 100)}, {5: yes})
    worse = {**finding(3, measurement(0, 100), FIFTY), "evidence": [3, 5]}
    assert not judged({**worse, "verdict": "pass"}, {3: measurement(0, 100)}, {5: yes})


def test_several_bounds_are_held_apart_and_the_worst_counts():
    """The standard's own: at least 4,000 looked at, at least 10 % of all, at least 96 % good."""
    body = measurement(3990, 4000, details={"population": 50_000})
    parts = [
        {"part": "n", "comparator": ">=", "value": 4000, "verdict": "pass"},
        {"part": "share", "comparator": ">=", "value": 0.1, "verdict": "fail"},
        {"part": "rate", "comparator": ">=", "value": 0.96, "verdict": "pass", "count": 3990, "n": 4000},
    ]
    whole = finding(3, body, Threshold(">=", 0.96))
    true = {**whole, "threshold": parts, "verdict": "fail", "supported": False, "meets_letter": False}
    assert judged(true, {3: body})
    assert not judged({**true, "verdict": "pass"}, {3: body})
    for place, changes in [
        (0, {"verdict": "fail"}), (1, {"verdict": "pass"}), (2, {"count": 4000}), (2, {"n": 5}), (2, {"low": 0.999}),
        (2, {"actual": 1}), (2, {"high": "1"}), (0, {"part": "rate"}), (0, {"verdict": None}), (0, {"verdict": []}),
        (1, {"part": None}), (1, {"part": "all"}), (1, {"comparator": None}), (1, {"value": 0.05}),
    ]:  # fmt: skip
        other = copy.deepcopy(true)
        other["threshold"][place].update(changes)
        assert not judged(other, {3: body}), changes
    enough = measurement(3990, 4000, details={"population": 5000})
    parts[1]["verdict"] = "pass"
    assert judged({**whole, "threshold": parts}, {3: enough})


@pytest.mark.parametrize("value", [0, 5, 5.0, 3.25, 1e17, -2])
@pytest.mark.parametrize("comparator", ["<=", ">=", "=="])
def test_a_quantity_is_compared_exactly(value, comparator):
    body = {**measurement(0, 0, sampled=False), "count": None, "n": None, "value": value}
    threshold = Threshold(comparator, 5)
    verdict = exact_verdict(value, threshold)
    true = finding(
        3, measurement(0, 0), threshold, method="exact", count=None, n=None, estimate=value, low=value, high=value,
        verdict=str(verdict), supported=verdict is Verdict.PASS, meets_letter=threshold.holds(value),
    )  # fmt: skip
    assert judged(true, {3: body})
    assert not judged({**true, "estimate": value * 1.1 + 1}, {3: body})
    assert not judged({**true, "verdict": "fail" if verdict is Verdict.PASS else "pass"}, {3: body})
    assert not judged(true, {3: {**body, "value": "five"}})


FIELDS = [
    "verdict",
    "method",
    "count",
    "n",
    "estimate",
    "low",
    "high",
    "threshold",
    "confidence",
    "supported",
    "evidence",
]
VALUES = [
    None, 0, 1, 0.5, 60, 100, True, False, "", "pass", "fail", "low", "rate", "exact", "attested", "none",
    [], [3], [5], [3, 5], {}, {"comparator": ">=", "value": 0.5}, {"comparator": "<=", "value": 1, "part": "n"},
    [{"part": "rate", "comparator": "==", "value": 1, "verdict": "fail"}], [{"part": "share"}], "inconclusive", -1,
    "not-assessed", 2**53,
]  # fmt: skip


@settings(max_examples=40 * int(os.environ.get("GUIJU_SOAK", "15")), deadline=None)
@given(
    st.integers(0, 100),
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(FIELDS), st.sampled_from(VALUES)), max_size=3),
    st.lists(
        st.tuples(
            st.sampled_from(["count", "n", "value", "sampled", "details"]),
            st.sampled_from(
                [None, 0, 1.5, 7, "x", True, {}, {"population": 50}, {"population": 0}, {"population": "x"}]
            ),
        ),
        max_size=2,
    ),
    st.sampled_from([True, False, "x"]),
)
def test_both_verifiers_agree_on_made_up_findings(count, sampled, changes, other_changes, holds):
    body = measurement(count, 100, sampled=sampled)
    claimed = finding(3, body, FIFTY)
    body |= dict(other_changes)
    if measurement_form_problem(body) is None:  # what is not of this form never reaches the rule
        judged({**claimed, **dict(changes)}, {3: body}, {5: {"clause": claimed["clause"], "holds": holds}})


def test_a_finding_that_does_not_follow_is_named_in_a_run_although_all_is_signed(quick, home):
    run = make_run(quick / "run", seed=1)
    body = measurement(60, 100)
    with Run.open(run) as opened:
        entry = opened.append(Kind.MEASUREMENT, body, reason="")
        wrong = opened.append(Kind.FINDING, finding(entry, body, FIFTY, verdict="pass"), reason="")
        opened.append(Kind.FINDING, finding(entry, body, FIFTY), reason="")
        with pytest.raises(EvidenceError, match="cites what is no entry before it"):
            opened.append(Kind.FINDING, finding(10**6, body, FIFTY), reason="")
    (problem,) = verify_both(run).problems
    assert (problem.entry, problem.file) == (wrong, "ledger/entries.jsonl")
    assert "does not follow" in problem.message
