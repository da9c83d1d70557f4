"""What a standard asks, clause by clause. Pure data: nothing here knows how a run is made or measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from guiju.errors import ConfigError
from guiju.settings import to_mapping

Confidence = Literal["high", "medium", "low"]
Evidence = Literal["measured", "attested", "both"]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One number that a clause sets. A clause with several holds only where each of them holds."""

    of: Literal["rate", "n", "share", "value"]
    """What is held against it: rate = the measured share in percent; n = how many were drawn; share = how much of the
    whole was drawn, in percent; value = the measured quantity itself."""

    comparator: Literal["<=", ">=", "==", "<", ">"]

    value: float
    """In the unit below; percent for a rate or a share."""

    unit: str
    unit_zh: str
    """The same unit in Chinese, to stand right after the number."""

    @property
    def fraction(self) -> float:
        """The bound as it is compared: 0 to 1 for a rate or a share, and the value itself otherwise."""
        return self.value / 100 if self.of in ("rate", "share") else self.value


@dataclass(frozen=True, kw_only=True)
class Clause:
    """One requirement, in our own words."""

    id: str
    chapter: str
    title: str
    requirement: str
    evidence: Evidence
    """measured = guiju can compute it; attested = a person states it; both = a figure and a person."""

    measure: str | None
    """The measurement's name, defined in measures.yaml; none where nothing sensible can be computed."""

    confidence: Confidence
    """How sure we are of the wording: high, medium or low. A low clause is judged only once it is verified."""

    source: tuple[str, ...]
    title_zh: str | None = None
    requirement_zh: str | None = None
    zh_by: dict[str, str] = field(default_factory=dict)
    """Who wrote the Chinese of `title` or `requirement`, where the collected facts had none."""

    purpose: Literal["duty", "classification"] = "duty"
    """A classification says whom a duty falls on (a compute threshold, a grade). It cannot be failed."""

    obligation: Literal["must", "should"] = "must"
    threshold: tuple[Bound, ...] = ()
    in_force_from: date | None = None
    """The day from which the clause binds, where it is another than the standard's."""

    due: date | None = None
    verified_by: str | None = None
    """Who has compared this entry with the official text; none = nobody yet."""

    verified_on: date | None = None
    maps_to: tuple[str, ...] = ()
    note: str | None = None
    fields: tuple[dict[str, object], ...] = ()
    hazard_group: str | None = None

    def __post_init__(self) -> None:
        for name in ("id", "title", "requirement"):
            if not getattr(self, name).strip():
                raise ConfigError(f"{name} is empty; a clause needs one")
        if (self.verified_by is None) != (self.verified_on is None):
            raise ConfigError("verified_by and verified_on belong together: who compared it with the text, and when")
        if self.verified_by is not None and not self.verified_by.strip():
            raise ConfigError("verified_by is empty; write who compared it with the text, or null")
        if unknown := set(self.zh_by) - {"title", "requirement"}:
            raise ConfigError(f"zh_by names {sorted(unknown)}; it may name title and requirement")

    def in_force(self, day: date) -> bool:
        return self.in_force_from is None or day >= self.in_force_from

    @property
    def may_be_judged(self) -> bool:
        """Whether its wording is sure enough for a verdict about the run."""
        return self.confidence != "low" or self.verified_by is not None

    def title_in(self, language: str) -> str:
        """The title in zh or en; English, marked as such, where there is no Chinese."""
        return _choose(language, self.title, self.title_zh)

    def requirement_in(self, language: str) -> str:
        return _choose(language, self.requirement, self.requirement_zh)

    def to_json(self) -> dict[str, object]:
        return _plain(self)


@dataclass(frozen=True, kw_only=True)
class Chapter:
    title: str
    title_zh: str | None = None

    def title_in(self, language: str) -> str:
        return _choose(language, self.title, self.title_zh)


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is new in this edition, and how sure we are of it."""

    change: str
    confidence: Confidence


@dataclass(frozen=True, kw_only=True)
class Head:
    """A standard without its clauses: who issued it, when, and what we read."""

    id: str
    """The name that users type, such as gbt-45654."""

    designation: str
    """The official name, such as GB/T 45654-2025."""

    edition: str
    title: str
    status: str
    collected: date
    """The day on which our reading of it was put together."""

    chapters: dict[str, Chapter]
    sources: dict[str, str]
    clause_count: int
    title_zh: str | None = None
    title_zh_by: str | None = None
    issuer: str | None = None
    published: date | None = None
    published_note: str | None = None
    effective: date | None = None
    predecessor: str | None = None
    superseded_by: str | None = None
    superseded_on: date | None = None
    binding: str | None = None
    official_urls: tuple[str, ...] = ()
    status_zh: str | None = None
    caveats: tuple[str, ...] = ()
    caveats_zh: tuple[str, ...] = ()
    """The same in Chinese, one for one; written by us."""

    structure: dict[str, str] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    example: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.caveats_zh and len(self.caveats_zh) != len(self.caveats):
            raise ConfigError(f"there are {len(self.caveats)} caveats, and {len(self.caveats_zh)} of them in Chinese")

    def title_in(self, language: str) -> str:
        return _choose(language, self.title, self.title_zh)

    def status_in(self, language: str) -> str:
        return _choose(language, self.status, self.status_zh)

    def caveats_in(self, language: str) -> tuple[str, ...]:
        """What to keep in mind while reading; English where there is no Chinese."""
        return self.caveats_zh if language != "en" and self.caveats_zh else self.caveats

    def to_json(self) -> dict[str, object]:
        return _plain(self)


@dataclass(frozen=True, kw_only=True)
class Standard:
    """A standard on a day: its head and every clause, those not yet in force included."""

    head: Head
    clauses: tuple[Clause, ...]
    as_of: date

    @property
    def id(self) -> str:
        return self.head.id

    @property
    def designation(self) -> str:
        return self.head.designation

    @property
    def edition(self) -> str:
        return self.head.edition

    @property
    def title(self) -> str:
        return self.head.title

    @property
    def title_zh(self) -> str | None:
        return self.head.title_zh

    @property
    def chapters(self) -> Mapping[str, Chapter]:
        return self.head.chapters

    def to_json(self) -> dict[str, object]:
        """The head and the day; the clauses have a `to_json` each."""
        return {**self.head.to_json(), "as_of": self.as_of.isoformat()}

    def clause(self, clause_id: str) -> Clause | None:
        """The clause with that id, or none."""
        return next((clause for clause in self.clauses if clause.id == clause_id), None)


def _choose(language: str, english: str, chinese: str | None) -> str:
    if language == "en":
        return english
    return chinese if chinese is not None else f"{english}（暂无中文）"


def _plain(data: object) -> dict[str, object]:
    """A dataclass as JSON holds it: days as text."""
    plain = json.loads(json.dumps(to_mapping(data), default=str))
    assert isinstance(plain, dict)
    return plain
