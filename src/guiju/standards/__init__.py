"""What is required: standards as dated data, each clause with its threshold, its confidence and its sources."""

from __future__ import annotations

from guiju.standards.clauses import Bound, Chapter, Clause, Head, Standard
from guiju.standards.describing import describe_clauses
from guiju.standards.loading import (
    list_standards,
    load_formats,
    load_measures,
    load_risks,
    load_standard,
    parse_day,
    read_standard,
)
from guiju.standards.references import FormatList, Measure, Risk, RiskList

__all__ = [
    "Bound",
    "Chapter",
    "Clause",
    "FormatList",
    "Head",
    "Measure",
    "Risk",
    "RiskList",
    "Standard",
    "describe_clauses",
    "list_standards",
    "load_formats",
    "load_measures",
    "load_risks",
    "load_standard",
    "parse_day",
    "read_standard",
]
