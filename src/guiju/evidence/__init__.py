"""What happened: records, the run folder, its signed ledger, and the check of everything that it claims."""

from __future__ import annotations

from guiju.evidence.canonical import CanonicalReader, canonical_json, parse_strict
from guiju.evidence.environment import environment
from guiju.evidence.findings import finding_problem
from guiju.evidence.keys import guiju_home, ledger_key
from guiju.evidence.note import TreeHead, VerifierKey, parse_note
from guiju.evidence.records import FORMAT, Entry, Kind, Record
from guiju.evidence.run import Run, read_entries, read_manifest
from guiju.evidence.tree import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from guiju.evidence.verify import Problem, Verification, verify_run

__all__ = [
    "FORMAT",
    "CanonicalReader",
    "Entry",
    "Kind",
    "Problem",
    "Record",
    "Run",
    "TreeHead",
    "Verification",
    "VerifierKey",
    "canonical_json",
    "consistency_proof",
    "environment",
    "finding_problem",
    "guiju_home",
    "inclusion_proof",
    "leaf_hash",
    "ledger_key",
    "parse_note",
    "parse_strict",
    "read_entries",
    "read_manifest",
    "root_of",
    "verify_consistency",
    "verify_inclusion",
    "verify_run",
]
