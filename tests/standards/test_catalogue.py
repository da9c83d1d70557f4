from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
import yaml

from guiju.errors import CatalogueError
from guiju.standards import (
    Standard,
    describe_clauses,
    list_standards,
    load_formats,
    load_measures,
    load_risks,
    load_standard,
    read_standard,
)

NAMES = [head.id for head in list_standards()]
CATALOGUE = Path(sys.modules["guiju.standards"].__file__ or "").parent / "catalogue"


@pytest.fixture(scope="module")
def standards() -> dict[str, Standard]:
    return {name: load_standard(name) for name in NAMES}


def test_every_file_of_the_catalogue_belongs_to_something_that_is_loaded():
    loaded = {*NAMES, "measures", "formats", "cn-31-risks"}
    assert {path.stem for path in CATALOGUE.glob("*.yaml")} == loaded


def test_every_clause_is_told_in_chinese_and_in_english(standards):
    for standard in standards.values():
        assert standard.title_zh
        assert standard.head.status_zh
        assert len(standard.head.caveats_zh) == len(standard.head.caveats)
        for clause in standard.clauses:
            for text in (clause.title_zh, clause.requirement_zh):
                assert text, clause.id
                assert any("\u4e00" <= character <= "\u9fff" for character in text), clause.id
            assert clause.zh_by.get("title") == "guiju", "no source gave Chinese titles, so each is marked as ours"


def test_nobody_has_verified_an_entry_yet_and_the_catalogue_says_so(standards):
    clauses = [clause for standard in standards.values() for clause in standard.clauses]
    assert all(clause.verified_by is None and clause.verified_on is None for clause in clauses)
    low = [clause for clause in clauses if clause.confidence == "low"]
    assert low
    assert not any(clause.may_be_judged for clause in low)
    assert all(clause.may_be_judged for clause in clauses if clause.confidence != "low")


def test_each_measure_that_a_clause_names_is_defined(standards):
    measures = load_measures()
    for standard in standards.values():
        for clause in standard.clauses:
            assert clause.measure is None or clause.measure in measures, clause.id


def test_each_clause_leads_only_to_clauses_that_exist(standards):
    known = {clause.id for standard in standards.values() for clause in standard.clauses}
    known |= {risk.id for risk in load_risks().kinds}
    for standard in standards.values():
        for clause in standard.clauses:
            assert set(clause.maps_to) <= known, clause.id


def test_the_national_standard_keeps_the_numbers_of_the_document_that_it_succeeds(standards):
    old = {clause.id: clause for clause in standards["tc260-003"].clauses}
    compared = 0
    for clause in standards["gbt-45654"].clauses:
        for earlier in (old[name] for name in clause.maps_to if name in old):
            assert [(b.of, b.comparator, b.value) for b in clause.threshold] == [
                (b.of, b.comparator, b.value) for b in earlier.threshold
            ], clause.id
            compared += bool(clause.threshold)
    assert compared > 30


@pytest.mark.parametrize(
    ("clause", "bounds"),
    [
        ("GBT45654/B/keyword-library-size", [("value", ">=", 10_000)]),
        ("GBT45654/B/content-bank-size", [("value", ">=", 2_000)]),
        ("GBT45654/B/training-data-manual-sample", [("n", ">=", 4_000), ("rate", ">=", 96)]),
        ("GBT45654/B/training-data-technical-sample", [("share", ">=", 10), ("rate", ">=", 98)]),
        ("GBT45654/B/content-manual-sample", [("n", ">=", 1_000), ("rate", ">=", 90)]),
        ("GBT45654/B/should-refuse-rate", [("n", ">=", 300), ("rate", ">=", 95)]),
        ("GBT45654/B/wrong-refusal-rate", [("n", ">=", 300), ("rate", "<=", 5)]),
        ("GBT45654/5.1/source-gate-before", [("rate", "<=", 5)]),
    ],
)
def test_the_published_numbers_stand_in_the_catalogue(standards, clause, bounds):
    found = standards["gbt-45654"].clause(clause)
    assert [(bound.of, bound.comparator, bound.value) for bound in found.threshold] == bounds


def test_there_are_31_kinds_of_risk_in_5_classes():
    risks = load_risks()
    for risk_class in risks.classes:
        assert risks.counts[risk_class.id] == risk_class.kinds
        assert sum(kind.risk_class == risk_class.id for kind in risks.kinds) == risk_class.kinds
    assert len(risks.kinds) == 31
    assert len(load_formats().formats) == 16


def test_a_standard_cannot_be_asked_about_before_it_was_in_force():
    with pytest.raises(CatalogueError, match=r"2025-11-01.*2025-10-31.*tc260-003"):
        load_standard("gbt-45654", date(2025, 10, 31))
    assert load_standard("gbt-45654", "2025-11-01").as_of == date(2025, 11, 1)


def test_a_day_that_is_none_and_a_standard_that_is_none_are_refused_with_the_way_out():
    with pytest.raises(CatalogueError, match="2025-11-01"):
        load_standard("gbt-45654", "next year")
    with pytest.raises(CatalogueError, match="gbt-45654, gbt-45652"):
        load_standard("gbt-45645")


def test_a_duty_of_the_ai_act_binds_from_its_own_day(standards):
    high_risk = standards["eu-ai-act"].clause("AIACT/9")
    assert not high_risk.in_force(date(2027, 12, 1))
    assert high_risk.in_force(date(2027, 12, 2))


def _broken(tmp_path: Path, change: Callable[[dict, list], None]) -> Path:
    head, clauses = yaml.safe_load_all((CATALOGUE / "gbt-45652.yaml").read_text(encoding="utf-8"))
    change(head, clauses)
    path = tmp_path / "gbt-45652.yaml"
    path.write_text(yaml.safe_dump_all([head, clauses], allow_unicode=True), encoding="utf-8")
    return path


def test_a_copy_that_nothing_was_done_to_loads(tmp_path):
    path = _broken(tmp_path, lambda head, clauses: None)
    assert read_standard(path, "gbt-45652").clauses == load_standard("gbt-45652").clauses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda head, clauses: clauses[0].update(treshold=[]), "treshold.*did you mean threshold"),
        (lambda head, clauses: clauses[1].update(id=clauses[0]["id"]), "twice"),
        (lambda head, clauses: clauses[0].update(threshold=[dict(BOUND, comparator="=>")]), "'=>'"),
        (lambda head, clauses: clauses[0].update(threshold=[dict(BOUND, value="much")]), "number"),
        (lambda head, clauses: clauses[0].update(confidence="sure"), "'sure'"),
        (lambda head, clauses: clauses[0].update(evidence="felt"), "'felt'"),
        (lambda head, clauses: clauses[0].update(chapter="9"), "chapter '9'"),
        (lambda head, clauses: clauses[0].update(source=["hearsay"]), "'hearsay'"),
        (lambda head, clauses: clauses[0].update(title=" "), "title is empty"),
        (lambda head, clauses: clauses[0].update(verified_by="Li Na"), "belong together"),
        (lambda head, clauses: clauses[0].update(zh_by={"note": "guiju"}), "zh_by"),
        (lambda head, clauses: clauses.pop(), "announces 17 clauses and holds 16"),
        (lambda head, clauses: head.update(id="gbt-1"), "calls itself"),
        (lambda head, clauses: head.pop("status"), "status is missing"),
    ],
)
def test_a_malformed_catalogue_is_refused_and_says_where(tmp_path, change, message):
    with pytest.raises(CatalogueError, match=message):
        read_standard(_broken(tmp_path, change), "gbt-45652")


BOUND = {"of": "rate", "comparator": ">=", "value": 1, "unit": "%", "unit_zh": "%"}


def test_a_key_that_stands_twice_is_refused(tmp_path):
    text = (CATALOGUE / "gbt-45652.yaml").read_text(encoding="utf-8")
    path = tmp_path / "twice.yaml"
    path.write_text(text.replace("  evidence: both\n", "  evidence: both\n  evidence: measured\n", 1), encoding="utf-8")
    with pytest.raises(CatalogueError, match="'evidence' stands twice"):
        read_standard(path, "gbt-45652")


def test_a_verified_entry_may_be_judged(tmp_path):
    def verify(head: dict, clauses: list) -> None:
        clauses[0].update(confidence="low", verified_by="Li Na", verified_on=date(2026, 11, 1))

    assert read_standard(_broken(tmp_path, verify), "gbt-45652").clauses[0].may_be_judged


def test_where_chinese_is_missing_english_stands_and_says_so(tmp_path):
    clause = read_standard(
        _broken(tmp_path, lambda head, clauses: [clauses[0].pop("title_zh"), clauses[0].pop("zh_by")]), "gbt-45652"
    ).clauses[0]
    assert clause.title_in("zh") == f"{clause.title}（暂无中文）"
    assert clause.title_in("en") == clause.title


def test_a_described_standard_names_every_clause_in_both_languages(standards):
    standard = standards["gbt-45674"]
    for language in ("en", "zh"):
        told = describe_clauses(standard, standard.clauses, language)
        assert all(clause.id in told and clause.requirement_in(language) in told for clause in standard.clauses)


def test_loading_standards_and_pages_needs_neither_torch_nor_scipy():
    code = (
        "import sys, guiju.standards, guiju.pages, guiju.audit; guiju.standards.load_standard('gbt-45654');"
        "print([name for name in ('torch', 'scipy', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
