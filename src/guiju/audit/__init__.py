"""Clause and evidence to finding, and findings to a report that a person can read."""

from __future__ import annotations

from guiju.audit.auditing import audit_reference, audit_run, write_findings
from guiju.audit.describing import count_verdicts, describe_findings
from guiju.audit.findings import Finding, Part
from guiju.audit.measures import MEASURES
from guiju.audit.report import write_report

__all__ = [
    "MEASURES",
    "Finding",
    "Part",
    "audit_reference",
    "audit_run",
    "count_verdicts",
    "describe_findings",
    "write_findings",
    "write_report",
]
