"""What may stand in a ledger: a closed set of kinds, and the form of an entry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from guiju.evidence.findings import finding_form_problem, measurement_form_problem

FORMAT = 1
"""The version of everything in `ledger/`. A reader refuses any other."""

ENTRY_LIMIT_BYTES = 4 << 20
"""No line is longer, newline included; what is large belongs into a file whose digest the entry holds."""

FIRST_PREVIOUS = "0" * 64
_KEYS = {"index", "time", "kind", "actor", "reason", "inputs", "outputs", "body", "previous"}
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")
_is_digest = re.compile(r"[0-9a-f]{64}").fullmatch
_is_time = _TIME.fullmatch


class Kind(StrEnum):
    """What an entry tells. There is no other kind."""

    RUN_CREATED = "run-created"
    STAGE_STARTED = "stage-started"
    STAGE_FINISHED = "stage-finished"
    SOURCE_REGISTERED = "source-registered"
    SAMPLE_DRAWN = "sample-drawn"
    PLAN = "plan"
    TRAINING_EVENT = "training-event"
    CHECKPOINT = "checkpoint"
    MEASUREMENT = "measurement"
    GENERATION = "generation"
    COST = "cost"
    ATTESTATION = "attestation"
    FINDING = "finding"
    RECOVERED = "recovered"
    RUN_FINISHED = "run-finished"


_KINDS = {str(kind) for kind in Kind}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What happened, before the ledger gives it index, time and place in the chain."""

    kind: Kind
    body: Mapping[str, Any]
    reason: str
    actor: str | None = None
    """Who did it; None stands for the run's own actor."""

    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name -> SHA-256 of what went in."""

    outputs: Mapping[str, str | None] = field(default_factory=dict)
    """Path in the run, with forward slashes -> SHA-256 of what came out; None where the file was taken away."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of a ledger."""

    index: int
    time: str
    kind: Kind
    actor: str
    reason: str
    inputs: dict[str, str]
    outputs: dict[str, str | None]
    body: dict[str, Any]
    previous: str

    @classmethod
    def of(cls, data: dict[str, Any]) -> Entry:
        return cls(**{**data, "kind": Kind(data["kind"])})


def entry_problem(data: Any) -> str | None:
    """What is wrong with the form of one entry; None where nothing is. Its place in the chain is not looked at."""
    if type(data) is not dict or data.keys() != _KEYS:
        return "it does not have the nine fields of an entry"
    if type(data["index"]) is not int:
        return "its index is no whole number"
    kind, time, previous = data["kind"], data["time"], data["previous"]
    if type(kind) is not str or kind not in _KINDS:
        return f"its kind {kind!r} is not known"
    if type(data["actor"]) is not str or type(data["reason"]) is not str:
        return "its actor or reason is no text"
    if type(time) is not str or not _is_time(time) or not _is_moment(time):
        return "its time is not of the form 2026-01-31T23:59:59.000000Z"
    if type(previous) is not str or not _is_digest(previous):
        return "its previous is no SHA-256"
    if type(data["body"]) is not dict:
        return "its body is no object"
    return _files_problem(data["inputs"], data["outputs"]) or _body_problem(kind, data["body"], data["index"])


def _files_problem(inputs: Any, outputs: Any) -> str | None:
    if type(inputs) is not dict or type(outputs) is not dict:
        return "its inputs or outputs are no object"
    for name, digest in inputs.items():
        if type(digest) is not str or not _is_digest(digest):
            return f"its input {name!r} has no SHA-256"
    for path, digest in outputs.items():
        if digest is not None and (type(digest) is not str or not _is_digest(digest)):
            return f"its output {path!r} has no SHA-256"
        if not is_run_path(path):
            return f"its output {path!r} is no path inside the run"
    return None


def _body_problem(kind: str, body: dict[str, Any], index: int) -> str | None:
    if (kind == Kind.RUN_CREATED) != (index == 0):
        return "a run is created by entry 0 and by no other"
    if kind == Kind.MEASUREMENT:
        return measurement_form_problem(body)
    if kind == Kind.FINDING:
        return finding_form_problem(body, index)
    return None


def is_run_path(path: str) -> bool:
    """Whether it names a file of the run that an entry may speak of: relative, plain, and not of the ledger itself."""
    parts = path.split("/")
    return parts[0] != "ledger" and not any(part in ("", ".", "..") or "\0" in part for part in parts)


def _is_moment(time: str) -> bool:
    try:
        datetime.fromisoformat(time)
    except ValueError:
        return False
    return True
