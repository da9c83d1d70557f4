"""What an audit measures anew, because the run's own ledger and files tell it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from guiju.audit.model_files import parameters, pickles
from guiju.evidence import Kind, Run, verify_run

CAPTURED = ("recipe", "environment", "guiju commit", "inputs of every finished stage", "seed")
"""What `training_config_captured` looks for."""


def measure_run(run: Run, wanted: set[str]) -> Iterator[dict[str, Any]]:
    """A `measurement` body for each wanted measure that ledger and files can tell."""
    model = run.path / "model"
    if wanted & {"log_integrity", "model_hash_match", "data_version_hash_coverage"}:
        yield from _integrity(run, wanted)
    if "training_config_captured" in wanted:
        yield _captured(run)
    if model.is_dir():
        if "unsafe_pickle_count" in wanted:
            yield pickles(model)
        if "param_count" in wanted and any(model.glob("*.safetensors")):
            yield parameters(model)


def _integrity(run: Run, wanted: set[str]) -> Iterator[dict[str, Any]]:
    verification = verify_run(run.path)
    bad_files = {problem.file for problem in verification.problems if problem.file is not None}
    manifest = run.manifest()
    if "log_integrity" in wanted:
        yield _body(
            "log_integrity",
            "the ledger's chain, tree, signature, artefacts and findings, recomputed; 1 = all hold",
            value=int(verification.ok),
            unit="pass",
            details={"entries": verification.entries, "problems": len(verification.problems)},
        )
    for measure, folder in (("model_hash_match", "model/"), ("data_version_hash_coverage", "corpus/")):
        files = [path for path in manifest if path.startswith(folder)]
        if measure in wanted and files:
            good = sum(path not in bad_files for path in files)
            yield _body(measure, f"files of {folder} whose digest is the recorded one", good, len(files), unit="files")


def _captured(run: Run) -> dict[str, Any]:
    stages: dict[str, bool] = {}
    environment: dict[str, Any] = {}
    for entry in run.entries():
        found = entry.body.get("environment")
        if isinstance(found, dict):
            environment = found
        if entry.kind == Kind.STAGE_FINISHED:
            stages[str(entry.body.get("stage"))] = bool(entry.inputs) or bool(entry.body.get("key"))
    recipe = run.path / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8", errors="replace") if recipe.is_file() else ""
    found_parts = {
        "recipe": "recipe.yaml" in run.manifest(),
        "environment": bool(environment),
        "guiju commit": any("commit" in key and value for key, value in _flat(environment)),
        "inputs of every finished stage": bool(stages) and all(stages.values()),
        "seed": "seed:" in text,
    }
    assert tuple(found_parts) == CAPTURED
    return _body(
        "training_config_captured",
        "recipe, environment, code revision, inputs and seed, as far as the run holds them",
        sum(found_parts.values()),
        len(CAPTURED),
        unit="parts",
        details={"missing": [name for name, there in found_parts.items() if not there]},
    )


def _flat(mapping: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in mapping.items():
        yield str(key), value
        if isinstance(value, dict):
            yield from _flat(value)


def _body(
    measure: str,
    what: str,
    count: int | None = None,
    n: int | None = None,
    *,
    value: float | None = None,
    unit: str,
    details: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "measure": measure,
        "what": what,
        "count": count,
        "n": n,
        "value": value,
        "unit": unit,
        "sampled": False,
        "details": details or {},
    }
