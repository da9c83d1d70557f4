"""What the clauses lean on: the names of measures, and the 31 kinds of risk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from guiju.standards.clauses import Confidence


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A quantity that clauses name. `better` says in which direction it improves; report = neither."""

    name: str
    kind: Literal["computed", "human+computed", "drill", "record"]
    unit: str
    better: str
    how: str
    used_by: int


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    rule: str
    max_failures: int | None = None
    max_refusals: int | None = None


@dataclass(frozen=True, kw_only=True)
class MeasureList:
    about: str
    sampling_rules: tuple[str, ...]
    sample_size_notes: tuple[SampleSize, ...]
    measures: tuple[Measure, ...]


@dataclass(frozen=True, kw_only=True)
class RiskClass:
    id: str
    zh: str
    en: str
    kinds: int


@dataclass(frozen=True, kw_only=True)
class Aspect:
    zh: str
    en: str


@dataclass(frozen=True, kw_only=True)
class Risk:
    """One of the 31 kinds, with the least number of keywords and questions that it needs."""

    id: str
    clause: str
    zh: str
    en: str
    risk_class: str
    refusal_bank_in_scope: bool
    keyword_library_in_scope: bool
    keyword_min: int | None
    question_bank_min: int
    detectability: str


@dataclass(frozen=True, kw_only=True)
class RiskList:
    id: str
    designation: str
    title: str
    title_zh: str
    found_in: tuple[str, ...]
    confidence: Confidence
    collected: date
    note: str
    sources: dict[str, str]
    counts: dict[str, int]
    classes: tuple[RiskClass, ...]
    should_refuse_kinds: str
    should_not_refuse_aspects: tuple[Aspect, ...]
    kinds: tuple[Risk, ...]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format in which evidence is exchanged: what is written in it, and how to validate that."""

    id: str
    name: str
    format_version: str
    we_emit: str
    python_library: str
    library_version_seen: str
    validate_with: str
    advice: str
    confidence: Confidence
    source: str


@dataclass(frozen=True, kw_only=True)
class FormatList:
    about: str
    formats: tuple[Format, ...]
    recommended_core: tuple[str, ...]
    bundle_rule: str
