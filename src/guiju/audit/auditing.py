"""Hold a run, or a model folder, against a standard: every clause gets one of the five verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from guiju.audit.findings import Finding
from guiju.audit.judging import Attestation, Measurement, judge
from guiju.audit.model_files import measure_model_folder
from guiju.audit.records import current_entries
from guiju.audit.run_measures import measure_run
from guiju.errors import ModelError
from guiju.evidence import Entry, Kind, Record, Run
from guiju.standards import Standard, load_standard, parse_day
from guiju.statistics import Verdict
from guiju.storage import write_json

COVERAGE = "clause_result_coverage"
DECIDED = (Verdict.PASS, Verdict.FAIL)
"""Verdicts that say conforms or does not conform. The other three leave a clause open."""


def audit_run(run: Run, standard: Standard | str, as_of: date | str | None = None) -> list[Finding]:
    """A finding for each clause, in the standard's order, out of the run's own records.

    What the ledger lacks and the run's files can tell is measured now. Measurements and findings are appended to the
    ledger, each finding citing the entries that it rests on.

    Args:
        standard: loaded, or its catalogue id.
        as_of: the day that the findings speak about; the loaded standard's own day, or today, where none is given.
    Raises:
        CatalogueError: no such standard, or it is not in force on that day.
    """
    standard = _on_day(standard, as_of)
    measurements, attestations = _read(run)
    wanted = {clause.measure for clause in standard.clauses if clause.measure}
    # A stage's own count of the parameters stands; integrity is looked at anew each time, whatever was found before.
    known = {measurement.measure for measurement in measurements} & {"param_count"}
    for body in measure_run(run, wanted - known):
        measurements.append(_append_measurement(run, body))
    findings = [judge(clause, standard, measurements, attestations) for clause in standard.clauses]
    if COVERAGE in wanted:
        measurements.append(_append_measurement(run, _coverage(findings)))
        again = {clause.id for clause in standard.clauses if clause.measure == COVERAGE}
        findings = [
            judge(finding.clause, standard, measurements, attestations) if finding.clause.id in again else finding
            for finding in findings
        ]
    day = f"{standard.designation} as of {standard.as_of}"
    run.append_many(
        [
            Record(kind=Kind.FINDING, body=finding.to_body(), reason=f"{finding.clause.id} of {day}")
            for finding in findings
        ]
    )
    return findings


def audit_reference(reference: str | Path, standard: str | Standard, as_of: date | str | None = None) -> list[Finding]:
    """The same for whatever a model reference names: a run folder, or a Hugging Face folder.

    A folder that is no run has no records: its files are measured, nothing is appended anywhere, and every clause that
    asks about a run, a corpus or a service stays not assessed.

    Raises:
        ModelError: the folder does not exist, or is neither a run nor a model.
        CatalogueError: no such standard, or it is not in force on that day.
    """
    loaded = _on_day(standard, as_of)
    folder = Path(reference)
    if not folder.is_dir():
        raise ModelError(f"{reference} is no folder; give a run folder, such as runs/quickstart, or a model folder")
    if (folder / "ledger").is_dir():
        with Run.open(folder) as run:
            return audit_run(run, loaded)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} is neither a run (it has no ledger/) nor a model folder (it has no config.json); "
            "give one of the two"
        )
    measurements = [Measurement.from_body(body, None) for body in measure_model_folder(folder)]
    return [judge(clause, loaded, measurements, []) for clause in loaded.clauses]


def write_findings(run: Run, findings: Sequence[Finding]) -> Path:
    """Write audit/findings.json into the run folder: the findings as `guiju audit --json` prints them.

    The ledger holds the findings themselves; whoever calls this names the file among its stage's outputs.
    """
    first = findings[0] if findings else None
    path = run.path / "audit" / "findings.json"
    path.parent.mkdir(exist_ok=True)
    write_json(
        path,
        {
            "standard": first.standard if first else None,
            "as_of": first.as_of if first else None,
            "findings": [finding.to_json() for finding in findings],
        },
    )
    return path


def _on_day(standard: Standard | str, as_of: date | str | None) -> Standard:
    if isinstance(standard, str):
        return load_standard(standard, as_of)
    return standard if as_of is None or parse_day(as_of) == standard.as_of else load_standard(standard.id, as_of)


def _read(run: Run) -> tuple[list[Measurement], list[Attestation]]:
    """What still speaks. Of a measure only the ledger's last record does, and only if its stage was not done again."""
    entries = list(run.entries())
    last: dict[str, Entry] = {str(entry.body["measure"]): entry for entry in entries if entry.kind == Kind.MEASUREMENT}
    measurements: list[Measurement] = []
    attestations: list[Attestation] = []
    for entry in current_entries(entries):
        if entry.kind == Kind.MEASUREMENT and last[str(entry.body["measure"])].index == entry.index:
            measurements.append(Measurement.from_body(entry.body, entry.index))
        elif entry.kind == Kind.ATTESTATION:
            attestation = Attestation.from_body(entry.body, entry.index)
            if attestation is not None:
                attestations.append(attestation)
    return measurements, attestations


def _append_measurement(run: Run, body: dict[str, Any]) -> Measurement:
    index = run.append(Kind.MEASUREMENT, body, reason=f"the audit measures {body['measure']}")
    return Measurement.from_body(body, index)


def _coverage(findings: Sequence[Finding]) -> dict[str, Any]:
    """How many clauses have got a result of their own, that is, conforms or does not conform."""
    others = [finding for finding in findings if finding.clause.measure != COVERAGE]
    decided = [finding for finding in others if finding.verdict in DECIDED]
    return {
        "measure": COVERAGE,
        "what": "clauses found to conform or not to conform; the rest wait for a person or a measurement",
        "count": len(decided),
        "n": len(others),
        "value": None,
        "unit": "clauses",
        "sampled": False,
        "details": {"open": [finding.clause.id for finding in others if finding.verdict not in DECIDED]},
    }
