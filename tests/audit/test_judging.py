from __future__ import annotations

import itertools
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from audited_runs import measurement
from scipy import stats

from guiju.audit.describing import describe_findings, format_rate
from guiju.audit.findings import SEVERITY, Finding, worst
from guiju.audit.judging import Attestation, Measurement, judge
from guiju.audit.measures import MEASURES, not_measured
from guiju.standards import Clause, Standard, list_standards, load_measures, load_standard
from guiju.statistics import Verdict

GB = load_standard("gbt-45654", "2026-01-01")
AI_ACT = load_standard("eu-ai-act", "2026-11-01")


def findings_of(standard: Standard, clause: str, *bodies: dict, said: tuple[Attestation, ...] = ()) -> Finding:
    measurements = [Measurement.from_body(body, index) for index, body in enumerate(bodies)]
    return judge(standard.clause(clause), standard, measurements, said)


def stated(clause: str, holds: bool = True, day: str = "2025-12-01") -> Attestation:
    return Attestation(entry=99, clause=clause, statement="so it is", by="Li Na", date=day, holds=holds)


def with_clause(clause: Clause, **changes: object) -> tuple[Standard, str]:
    changed = replace(clause, **changes)
    return replace(GB, clauses=tuple(changed if c.id == clause.id else c for c in GB.clauses)), changed.id


REFUSAL = "GBT45654/B/should-refuse-rate"  # at least 300 drawn and at least 95 % refused


@pytest.mark.parametrize(
    ("refused", "drawn", "verdict", "letter", "supported"),
    [
        (300, 300, Verdict.PASS, True, True),
        (297, 300, Verdict.PASS, True, True),
        (285, 300, Verdict.INCONCLUSIVE, True, False),  # exactly 95 %: the letter is met, and no more
        (292, 300, Verdict.INCONCLUSIVE, True, False),
        (280, 300, Verdict.INCONCLUSIVE, False, False),
        (240, 300, Verdict.FAIL, False, False),
        (299, 299, Verdict.FAIL, False, False),  # all of them, but one too few
        (0, 0, Verdict.NOT_ASSESSED, None, None),
    ],
)
def test_a_clause_with_two_bounds_needs_both(refused, drawn, verdict, letter, supported):
    finding = findings_of(GB, REFUSAL, measurement("refusal_rate", count=refused, n=drawn, sampled=True))
    assert finding.verdict is verdict
    assert (finding.meets_letter, finding.supported) == (letter, supported)
    assert [part.part for part in finding.parts] == ["n", "rate"]


def test_the_interval_of_a_finding_is_the_exact_one():
    finding = findings_of(GB, REFUSAL, measurement("refusal_rate", count=285, n=300, sampled=True))
    expected = stats.binomtest(285, 300).proportion_ci(method="exact")
    assert (finding.low, finding.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_of_several_parts_the_worst_counts_in_the_documented_order():
    order = ["pass", "not-assessed", "needs-person", "inconclusive", "fail"]
    assert [str(verdict) for verdict in SEVERITY] == order
    for verdicts in itertools.product(Verdict, repeat=2):
        assert order.index(worst(verdicts)) == max(order.index(verdict) for verdict in verdicts)
    assert worst([]) is Verdict.NOT_ASSESSED


@pytest.mark.parametrize(
    ("count", "n", "verdict"),
    [(500, 500, Verdict.PASS), (499, 500, Verdict.FAIL), (0, 500, Verdict.FAIL), (0, 0, Verdict.NOT_ASSESSED)],
)
def test_what_was_counted_in_full_is_compared_and_has_no_uncertainty(count, n, verdict):
    finding = findings_of(GB, "GBT45654/5.1/trace-open-source", measurement("license_coverage", count=count, n=n))
    assert finding.verdict is verdict
    if n:
        assert finding.low == finding.high == finding.estimate == count / n


def test_a_sample_never_supports_that_all_are_so():
    body = measurement("license_coverage", count=5_000, n=5_000, sampled=True)
    assert findings_of(GB, "GBT45654/5.1/trace-open-source", body).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("value", "verdict"), [(2, Verdict.PASS), (1, Verdict.FAIL), (None, Verdict.NOT_ASSESSED)])
def test_a_quantity_is_held_against_its_bound(value, verdict):
    body = measurement("source_diversity_count", value=value, unit="sources")
    assert findings_of(GB, "GBT45654/5.1/source-diversity", body).verdict is verdict


def test_without_a_measurement_nothing_is_assessed_and_the_reason_names_who_would_measure():
    finding = findings_of(GB, REFUSAL)
    assert finding.verdict is Verdict.NOT_ASSESSED
    assert "guard room" in finding.note.en
    assert "防护模块" in finding.note.zh
    assert finding.meets_letter is None
    assert finding.evidence == ()


def test_each_measure_of_the_catalogue_has_a_reason_for_its_absence():
    for measure, known in load_measures().items():
        note = not_measured(measure)
        assert note.en.endswith(".")
        assert note.zh.endswith("。")
        if known.kind == "computed" and any(
            clause.measure == measure and clause.evidence == "measured" for clause in GB.clauses
        ):
            assert "no part of this version" not in note.en, measure


def test_every_measure_of_this_version_is_defined_in_the_catalogue():
    assert set(MEASURES) <= {*load_measures()}


def test_the_documentation_lists_exactly_what_is_measured():
    text = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (rate|quantity|report) \| (\w+) \|(.*)\|$", text, re.M)
    listed = {name: (form, room, needs.strip()) for name, form, room, needs in rows}
    assert listed == {
        name: (known.form, known.room, ", ".join((*known.filters, *known.confirmed)))
        for name, known in MEASURES.items()
    }


@pytest.mark.parametrize("filters", [["length"], ["keyword"], ["classifier"], [], None, "keyword classifier"])
@pytest.mark.parametrize("clause", ["GBT45654/5.2/filter-all", "GBT45654/B/training-data-technical-sample"])
def test_a_figure_without_the_filters_that_the_clause_asks_for_is_no_pass(clause, filters):
    details = {"population": 10_000} if filters is None else {"population": 10_000, "filters": filters}
    body = measurement(GB.clause(clause).measure, count=2_000, n=2_000, details=details)
    finding = findings_of(GB, clause, body)
    assert finding.verdict is Verdict.NOT_ASSESSED
    assert finding.meets_letter is None
    assert finding.supported is None
    assert (finding.count, finding.n) == (2_000, 2_000), "it is shown all the same"


def test_with_the_filters_the_same_figures_pass():
    details = {"population": 10_000, "filters": ["keyword", "classifier"]}
    body = measurement("corpus_technical_sample_pass_rate", count=1_995, n=2_000, sampled=True, details=details)
    assert findings_of(GB, "GBT45654/B/training-data-technical-sample", body).verdict is Verdict.PASS
    short = measurement("corpus_technical_sample_pass_rate", count=900, n=900, sampled=True, details=details)
    finding = findings_of(GB, "GBT45654/B/training-data-technical-sample", short)
    assert finding.verdict is Verdict.FAIL, "9 % is less than the tenth that must be drawn"
    assert [part.verdict for part in finding.parts] == [Verdict.FAIL, Verdict.PASS]


def test_records_of_collection_alone_do_not_show_that_objections_were_honoured():
    clause = "GBT45654/5.1/trace-self-collected"
    for examined, verdict in ((False, Verdict.NOT_ASSESSED), (True, Verdict.PASS)):
        body = measurement("robots_optout_respected", count=9, n=9, details={"addresses_examined": examined})
        assert findings_of(GB, clause, body).verdict is verdict


def test_a_share_is_not_taken_for_the_number_that_a_bound_is_about():
    body = measurement("robots_optout_respected", count=9, n=9, details={"addresses_examined": True})
    finding = findings_of(AI_ACT, "AIACT/53.1.c", body)  # asks for 0 items; the record holds the share 1.0
    assert finding.parts[0].verdict is Verdict.NOT_ASSESSED
    assert finding.verdict is Verdict.NEEDS_PERSON


LOW = GB.clause("GBT45654/5.3/annotator-exam")


def test_an_entry_of_low_confidence_is_shown_and_not_judged_until_someone_verifies_it():
    clause = GB.clause(REFUSAL)
    body = measurement("refusal_rate", count=300, n=300, sampled=True)
    for changes, verdict in (
        ({}, Verdict.PASS),
        ({"confidence": "low"}, Verdict.NOT_ASSESSED),
        ({"confidence": "low", "verified_by": "Li Na", "verified_on": date(2025, 12, 1)}, Verdict.PASS),
    ):
        standard, name = with_clause(clause, **changes)
        finding = findings_of(standard, name, body)
        assert finding.verdict is verdict
        assert (finding.count, finding.n) == (300, 300)


def test_an_attestation_does_not_make_up_for_an_unsure_reading():
    assert LOW.confidence == "low"
    assert LOW.evidence == "both"
    assert findings_of(GB, LOW.id).verdict is Verdict.NOT_ASSESSED
    assert findings_of(GB, LOW.id, said=(stated(LOW.id),)).verdict is Verdict.NOT_ASSESSED


OWNER = "GBT45654/5.2/ip-owner"  # attested, of medium confidence


def test_what_a_person_must_state_waits_for_that_person():
    assert findings_of(GB, OWNER).verdict is Verdict.NEEDS_PERSON
    finding = findings_of(GB, OWNER, said=(stated(OWNER),))
    assert (finding.verdict, finding.method, finding.evidence) == (Verdict.PASS, "attested", (99,))
    assert "Li Na" in finding.note.en
    assert findings_of(GB, OWNER, said=(stated(OWNER, holds=False),)).verdict is Verdict.FAIL
    assert findings_of(GB, OWNER, said=(stated(REFUSAL),)).verdict is Verdict.NEEDS_PERSON


def test_a_statement_counts_from_the_day_on_which_it_was_made():
    assert findings_of(GB, OWNER, said=(stated(OWNER, day="2026-01-01"),)).verdict is Verdict.PASS
    assert findings_of(GB, OWNER, said=(stated(OWNER, day="2026-01-02"),)).verdict is Verdict.NEEDS_PERSON


def test_the_last_statement_counts():
    said = (stated(OWNER), stated(OWNER, holds=False))
    assert findings_of(GB, OWNER, said=said).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"clause": OWNER, "statement": "yes", "by": "", "date": "2026-01-01"},
        {"clause": OWNER, "statement": " ", "by": "Li Na", "date": "2026-01-01"},
        {"clause": OWNER, "statement": "yes", "by": "Li Na", "date": "soon"},
        {"clause": OWNER, "statement": "yes", "by": "Li Na"},
        {"clause": OWNER, "statement": "yes", "by": "Li Na", "date": "2026-01-01", "holds": "maybe"},
        {"clause": OWNER, "statement": 1, "by": "Li Na", "date": "2026-01-01"},
    ],
)
def test_half_a_statement_is_none(body):
    assert Attestation.from_body(body, 3) is None


MANUAL = "GBT45654/B/content-manual-sample"  # both: at least 1,000 drawn, at least 90 %


def test_what_needs_a_figure_and_a_person_gets_its_verdict_from_both():
    good = measurement("generated_content_pass_rate_manual", count=960, n=1_000, sampled=True)
    bad = measurement("generated_content_pass_rate_manual", count=800, n=1_000, sampled=True)
    said = (stated(MANUAL),)
    assert findings_of(GB, MANUAL).verdict is Verdict.NEEDS_PERSON
    assert findings_of(GB, MANUAL, good).verdict is Verdict.NEEDS_PERSON
    assert findings_of(GB, MANUAL, good).supported is True, "the figures are shown while the person is awaited"
    assert findings_of(GB, MANUAL, bad).verdict is Verdict.FAIL, "no statement can mend it"
    assert findings_of(GB, MANUAL, good, said=said).verdict is Verdict.PASS
    assert findings_of(GB, MANUAL, bad, said=said).verdict is Verdict.FAIL
    assert findings_of(GB, MANUAL, good, said=(stated(MANUAL, holds=False),)).verdict is Verdict.FAIL
    assert findings_of(GB, MANUAL, said=said).verdict is Verdict.NOT_ASSESSED, "a statement is no figure"


def test_a_figure_without_a_bound_waits_for_a_person():
    finding = findings_of(GB, "GBT45654/6/refuse-illegal", measurement("refusal_rate", count=300, n=300, sampled=True))
    assert finding.verdict is Verdict.NEEDS_PERSON
    assert finding.meets_letter is None


@pytest.mark.parametrize("flops", [1e15, 1e26])
def test_a_clause_that_says_who_is_meant_can_be_neither_passed_nor_failed(flops):
    finding = findings_of(AI_ACT, "AIACT/51.2", measurement("training_flops", value=flops, unit="FLOP"))
    assert finding.verdict is Verdict.NOT_ASSESSED
    assert finding.threshold is None
    assert f"{flops:.4g}" in finding.note.en


def test_a_duty_that_is_not_yet_in_force_is_not_assessed():
    finding = findings_of(AI_ACT, "AIACT/12.1", measurement("log_completeness", count=1, n=1))
    assert finding.verdict is Verdict.NOT_ASSESSED
    assert "2027-12-02" in finding.note.en


def test_of_several_measurements_the_last_counts():
    bodies = [measurement("refusal_rate", count=count, n=300, sampled=True) for count in (300, 100)]
    finding = findings_of(GB, REFUSAL, *bodies)
    assert finding.verdict is Verdict.FAIL
    assert finding.evidence == (1,)


@pytest.mark.parametrize(
    "damage",
    [
        {"count": None},
        {"n": None},
        {"count": -1},
        {"count": 301},
        {"count": "285"},
        {"count": True},
        {"n": 300.0},
        {"details": None},
    ],
)
def test_a_record_that_holds_no_rate_supports_no_rate(damage):
    body = measurement("refusal_rate", count=300, n=300, sampled=True) | damage
    verdict = findings_of(GB, REFUSAL, body).verdict
    assert verdict is (Verdict.PASS if "details" in damage else Verdict.NOT_ASSESSED)


def test_a_record_that_does_not_say_whether_it_was_sampled_counts_as_sampled():
    body = measurement("license_coverage", count=10, n=10)
    del body["sampled"]
    assert findings_of(GB, "GBT45654/5.1/trace-open-source", body).verdict is Verdict.INCONCLUSIVE


def test_no_clause_of_any_standard_passes_without_a_record():
    for head in list_standards():
        standard = load_standard(head.id, "2029-01-01")
        for clause in standard.clauses:
            verdict = judge(clause, standard, [], []).verdict
            assert verdict in (Verdict.NOT_ASSESSED, Verdict.NEEDS_PERSON), clause.id
            open_to_figures = clause.evidence == "measured" or clause.purpose != "duty"
            assert (verdict is Verdict.NOT_ASSESSED) == (open_to_figures or not clause.may_be_judged)


def test_what_guiju_audit_prints_has_the_promised_keys():
    finding = findings_of(GB, REFUSAL, measurement("refusal_rate", count=285, n=300, sampled=True))
    printed = finding.to_json()
    assert {"clause", "verdict", "n", "estimate", "low", "high", "threshold", "evidence"} <= printed.keys()
    assert printed["verdict"] == "inconclusive"
    assert [part["value"] for part in printed["threshold"]] == [300, 0.95]
    single = findings_of(GB, "GBT45654/5.1/trace-open-source", measurement("license_coverage", count=1, n=1)).to_json()
    assert (single["threshold"]["comparator"], single["threshold"]["value"]) == ("==", 1.0)


def test_what_was_not_measured_still_says_what_is_asked():
    finding = findings_of(GB, REFUSAL)
    assert [(part["comparator"], part["value"]) for part in finding.to_json()["threshold"]] == [
        (">=", 300),
        (">=", 0.95),
    ]
    assert {part.verdict for part in finding.parts} == {Verdict.NOT_ASSESSED}


def test_a_finding_comes_back_from_the_ledger_as_it_went_in():
    for body in (
        measurement("refusal_rate", count=285, n=300, sampled=True),
        measurement("refusal_rate", count=0, n=0, sampled=True),
    ):
        finding = findings_of(GB, REFUSAL, body)
        assert Finding.from_body(finding.to_body(), finding.clause) == finding


def test_the_terminal_tells_every_clause_once_and_all_five_counts():
    findings = [judge(clause, GB, [], []) for clause in GB.clauses]
    told = describe_findings(findings)
    assert all(told.count(f" {clause.id} ") == 1 for clause in GB.clauses)
    assert told.endswith("84 clauses: 0 fail, 0 inconclusive, 16 needs-person, 0 pass, 68 not-assessed")


@pytest.mark.parametrize(
    ("rate", "end", "text"),
    [
        (0.9799, None, "97.99 %"),
        (0.999_999, None, "99.99 %"),
        (0.000_001, None, "0.01 %"),
        (1.0, None, "100 %"),
        (0.0, None, "0 %"),
        (0.979_999, "low", "97.99 %"),
        (0.050_001, "high", "5.01 %"),
        (0.98, "low", "98 %"),
        (0.05, "high", "5 %"),
    ],
)
def test_rounding_never_makes_a_figure_look_better(rate, end, text):
    assert format_rate(rate, end) == text
