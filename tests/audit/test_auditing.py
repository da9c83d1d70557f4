from __future__ import annotations

import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
from audited_runs import CORPUS_MEASURES, build_all, build_corpus, measurement, open_run, put, record, records, stage

from guiju.audit import audit_reference, audit_run, write_findings
from guiju.audit.model_files import pickles
from guiju.audit.records import current_entries
from guiju.errors import CatalogueError, ModelError
from guiju.evidence import Kind, verify_run
from guiju.standards import list_standards, load_standard
from guiju.statistics import Verdict

BY_PEOPLE = {"filters": ["person"]}


def verdicts(findings) -> dict[str, Verdict]:
    return {finding.clause.id: finding.verdict for finding in findings}


@pytest.fixture
def audited(tmp_path):
    """A whole run, audited."""
    with open_run(tmp_path / "run") as run:
        build_all(run)
        with stage(run, "audit") as result:
            findings = audit_run(run, "gbt-45654", as_of="2026-01-01")
            result["outputs"] = put(run, "audit/findings.json", write_findings(run, findings).read_bytes())
        yield run, findings


def test_every_clause_gets_one_finding_in_the_standards_order(audited):
    run, findings = audited
    standard = load_standard("gbt-45654", "2026-01-01")
    assert [finding.clause.id for finding in findings] == [clause.id for clause in standard.clauses]
    recorded = [entry.body for entry in run.entries() if entry.kind == Kind.FINDING]
    assert [body["clause"] for body in recorded] == [clause.id for clause in standard.clauses]
    assert {body["as_of"] for body in recorded} == {"2026-01-01"}


def test_the_verifier_recomputes_every_finding_and_agrees(audited):
    run, _ = audited
    verification = verify_run(run.path)
    assert verification.ok, verification.problems


@pytest.mark.parametrize("name", [head.id for head in list_standards()])
def test_the_verifier_agrees_for_every_standard(tmp_path, name):
    with open_run(tmp_path / "run") as run:
        build_all(run)
        measured = (
            measurement("refusal_rate", count=285, n=300, sampled=True),
            measurement("over_refusal_rate", count=40, n=300, sampled=True),
            measurement("robots_optout_respected", count=4, n=4, details={"addresses_examined": True}),
            measurement("corpus_manual_sample_pass_rate", count=3_900, n=4_000, sampled=True, details=BY_PEOPLE),
        )
        clauses = load_standard(name, "2029-01-01").clauses
        said = [
            {"clause": clause.id, "statement": "so", "by": "Li Na", "date": "2025-01-01", "holds": True}
            for clause in clauses[::3]
        ]
        records(run, "by hand", [(Kind.MEASUREMENT, body) for body in measured])
        records(run, "by hand", [(Kind.ATTESTATION, body) for body in said])
        findings = audit_run(run, name, as_of="2029-01-01")
    assert len(findings) == len(clauses)
    verification = verify_run(tmp_path / "run")
    assert verification.ok, verification.problems


def test_what_the_corpus_measured_decides_its_clauses(audited):
    _, findings = audited
    found = verdicts(findings)
    assert found["GBT45654/5.1/trace-open-source"] is Verdict.PASS
    assert found["GBT45654/5.1/source-diversity"] is Verdict.PASS
    assert found["GBT45654/5.1/trace-user-input"] is Verdict.NOT_ASSESSED, "there is no such text"
    assert found["GBT45654/5.2/filter-all"] is Verdict.NOT_ASSESSED, "there is no keyword filter"
    assert found["GBT45654/5.2/personal-information"] is Verdict.NEEDS_PERSON
    assert found["GBT45654/B/training-data-manual-sample"] is Verdict.NEEDS_PERSON
    assert found["GBT45654/B/should-refuse-rate"] is Verdict.NOT_ASSESSED


def test_each_finding_cites_the_entry_that_holds_its_figures(audited):
    run, findings = audited
    entries = {entry.index: entry for entry in run.entries()}
    cited = 0
    for finding in findings:
        for index in finding.evidence:
            assert entries[index].body["measure"] == finding.clause.measure
            cited += 1
    assert cited >= len(CORPUS_MEASURES) - 4


def test_how_many_clauses_have_a_result_is_counted_by_the_audit_itself(audited):
    _, findings = audited
    [coverage] = [finding for finding in findings if finding.clause.measure == "clause_result_coverage"]
    others = [finding for finding in findings if finding is not coverage]
    assert coverage.n == len(others) == 83
    assert coverage.count == sum(finding.verdict in (Verdict.PASS, Verdict.FAIL) for finding in others)
    assert coverage.verdict is Verdict.FAIL, "open clauses are no result"


def test_the_file_holds_what_the_ledger_holds(audited):
    run, findings = audited
    written = json.loads((run.path / "audit" / "findings.json").read_text(encoding="utf-8"))
    assert written["findings"] == json.loads(json.dumps([finding.to_json() for finding in findings]))
    assert (written["standard"], written["as_of"]) == ("gbt-45654", "2026-01-01")


def test_an_attestation_in_the_ledger_settles_what_a_person_must_state(tmp_path):
    clause = "GBT45654/5.2/ip-owner"
    with open_run(tmp_path / "run") as run:
        body = {"clause": clause, "statement": "Li Na is", "by": "Wang Wei", "date": "2025-12-01"}
        index = run.append(Kind.ATTESTATION, body, reason="stated")
        run.append(Kind.ATTESTATION, {"clause": "GBT45654/6/update-policy"}, reason="half a statement")
        findings = {finding.clause.id: finding for finding in audit_run(run, "gbt-45654", as_of="2026-01-01")}
    assert findings[clause].verdict is Verdict.PASS
    assert findings[clause].evidence == (index,)
    assert findings["GBT45654/6/update-policy"].verdict is Verdict.NEEDS_PERSON
    assert verify_run(tmp_path / "run").ok


def test_a_run_without_any_record_passes_nothing(tmp_path):
    with open_run(tmp_path / "run") as run:
        found = verdicts(audit_run(run, "gbt-45654", as_of="2026-01-01"))
    assert Verdict.PASS not in found.values()
    assert verify_run(tmp_path / "run").ok


def test_figures_of_a_corpus_that_was_built_anew_do_not_count_any_more(tmp_path):
    few = (measurement("source_diversity_count", value=1, unit="sources"),)
    with open_run(tmp_path / "run") as run:
        build_corpus(run, CORPUS_MEASURES, key="first")
        build_corpus(run, few, key="second")
        found = {finding.clause.id: finding for finding in audit_run(run, "gbt-45654", as_of="2026-01-01")}
    assert found["GBT45654/5.1/source-diversity"].verdict is Verdict.FAIL
    assert found["GBT45654/5.1/trace-open-source"].verdict is Verdict.NOT_ASSESSED, "the new corpus was not measured"
    assert verify_run(tmp_path / "run").ok


def test_a_stage_that_goes_on_after_a_cut_keeps_its_records(tmp_path):
    with open_run(tmp_path / "run") as run:
        for key in ("k", "k", "other"):
            started = {"stage": "pretrain", "key": key, "environment": {}}
            run.append(Kind.STAGE_STARTED, started, reason="it was cut off")
            record(run, Kind.TRAINING_EVENT, "pretrain", {"event": "started", "mark": key})
            count = sum(entry.kind == Kind.TRAINING_EVENT for entry in current_entries(run.entries()))
            assert count == {"k": count, "other": 1}[key]
        assert [e.body["mark"] for e in current_entries(run.entries()) if e.kind == Kind.TRAINING_EVENT] == ["other"]


def test_integrity_is_measured_anew_and_damage_is_seen(tmp_path):
    with open_run(tmp_path / "run") as run:
        build_all(run)
        first = verdicts(audit_run(run, "nist-ai-rmf", as_of="2026-01-01"))
        (run.path / "model" / "model.safetensors").write_bytes(b"y")
        second = {finding.clause.measure: finding for finding in audit_run(run, "nist-ai-rmf", as_of="2026-01-01")}
        measured = [entry.body for entry in run.entries() if entry.kind == Kind.MEASUREMENT]
    assert [body["value"] for body in measured if body["measure"] == "log_integrity"] == [1, 0]
    assert first.keys() == {clause.id for clause in load_standard("nist-ai-rmf").clauses}
    assert second["log_integrity"].estimate == 0


def test_a_standard_that_is_not_in_force_on_the_day_is_refused(tmp_path):
    with open_run(tmp_path / "run") as run:
        with pytest.raises(CatalogueError, match="2025-11-01"):
            audit_run(run, load_standard("gbt-45654"), as_of="2025-01-01")
        assert all(entry.kind != Kind.FINDING for entry in run.entries())


def model_folder(place: Path, shapes: dict[str, list[int]]) -> Path:
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    (place / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))
    return place


def test_a_model_folder_is_measured_and_everything_about_a_run_stays_open(tmp_path):
    folder = model_folder(tmp_path / "model", {"a": [3, 5], "b": [7], "c": []})
    before = sorted(folder.rglob("*"))
    findings = audit_reference(folder, "owasp-ailuminate-atlas", as_of="2026-11-01")
    by_measure = {finding.clause.measure: finding for finding in findings}
    assert by_measure["unsafe_pickle_count"].estimate == 0
    assert by_measure["unsafe_pickle_count"].evidence == ()
    assert Verdict.PASS not in [finding.verdict for finding in findings]
    assert sorted(folder.rglob("*")) == before, "nothing is written into a model folder"
    counted = [f for f in audit_reference(folder, "eu-ai-act", as_of="2026-11-01") if f.clause.measure == "param_count"]
    assert [finding.estimate for finding in counted] == [3 * 5 + 7 + 1]


def test_a_reference_to_a_run_is_audited_as_one(tmp_path):
    with open_run(tmp_path / "run") as run:
        build_corpus(run)
    findings = audit_reference(tmp_path / "run", "gbt-45654", as_of="2026-01-01")
    assert verdicts(findings)["GBT45654/5.1/trace-open-source"] is Verdict.PASS
    assert verify_run(tmp_path / "run").ok


def test_what_is_neither_run_nor_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no folder"):
        audit_reference(tmp_path / "nowhere", "gbt-45654")
    with pytest.raises(ModelError, match=r"neither a run.*nor a model"):
        audit_reference(tmp_path, "gbt-45654")


def test_a_damaged_weight_file_is_refused_with_its_name(tmp_path):
    folder = model_folder(tmp_path / "model", {"a": [1]})
    for damage in (b"", b"\x01", struct.pack("<Q", 2**60), struct.pack("<Q", 4) + b"nope"):
        (folder / "model.safetensors").write_bytes(damage)
        with pytest.raises(ModelError, match=r"model\.safetensors"):
            audit_reference(folder, "gbt-45654")


class Tempting:
    def __reduce__(self):
        return (print, ("run by being loaded",))


def test_a_pickle_is_found_under_any_name_and_no_other_file_is_taken_for_one(tmp_path):
    folder = model_folder(tmp_path / "model", {"a": [2]})
    (folder / "tokenizer.json").write_text('{"a": 1}.')
    (folder / "notes.txt").write_text("I like pickles.")
    (folder / "empty").write_bytes(b"")
    with zipfile.ZipFile(folder / "docs.zip", "w") as archive:
        archive.writestr("readme.txt", "plain")
    text = b"{}" + b" " * (0x280580 - 2)  # its length in eight bytes begins as a pickle does
    (folder / "b.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    assert pickles(folder)["value"] == 0
    for protocol in range(6):
        suffix = ".safetensors" if protocol > 1 else ".bin"
        (folder / f"p{protocol}{suffix}").write_bytes(pickle.dumps(Tempting(), protocol=protocol))
    with zipfile.ZipFile(folder / "pytorch_model.dat", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Tempting()))
    with zipfile.ZipFile(folder / "weights.zip", "w") as archive:
        archive.writestr("archive/numbers", pickle.dumps(Tempting()))
    assert pickles(folder)["value"] == 8


def test_an_archive_that_cannot_be_looked_into_is_refused(tmp_path):
    folder = model_folder(tmp_path / "model", {"a": [2]})
    with zipfile.ZipFile(folder / "weights.zip", "w") as archive:
        archive.writestr("numbers", bytes(100))
    data = bytearray((folder / "weights.zip").read_bytes())
    data[0:4] = b"XXXX"  # the member's own mark
    (folder / "weights.zip").write_bytes(data)
    with pytest.raises(ModelError, match=r"weights\.zip"):
        pickles(folder)
