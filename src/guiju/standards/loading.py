"""The catalogue: standards as data, a YAML file each, read strictly.

A file holds two YAML documents, the standard's head and its clauses, so that a list of standards needs the heads alone.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator
from datetime import UTC, date, datetime
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

import yaml

from guiju.errors import CatalogueError, ConfigError
from guiju.settings import from_mapping
from guiju.standards.clauses import Clause, Head, Standard
from guiju.standards.references import FormatList, Measure, MeasureList, RiskList

T = TypeVar("T")

STANDARDS = (
    "gbt-45654",
    "gbt-45652",
    "gbt-45674",
    "tc260-003",
    "cn-genai-interim-measures",
    "cn-aigc-labelling",
    "eu-ai-act",
    "nist-ai-rmf",
    "iso-iec-ai",
    "owasp-ailuminate-atlas",
)
"""In the order in which they are listed."""


def list_standards() -> tuple[Head, ...]:
    """The head of every standard in the catalogue; the clauses are not read."""
    return tuple(_read_head(name, next(_documents(name))) for name in STANDARDS)


def load_standard(name: str, as_of: date | str | None = None) -> Standard:
    """One standard with all its clauses, as it stands on a day.

    Args:
        name: the catalogue id, such as gbt-45654.
        as_of: the day that the audit speaks about; today (UTC) where none is given.
    Raises:
        CatalogueError: no such standard, the standard is not in force on that day, or its file is malformed.
    """
    if name not in STANDARDS:
        raise CatalogueError(f"{name!r} is no standard of the catalogue; there are {', '.join(STANDARDS)}")
    day = datetime.now(UTC).date() if as_of is None else parse_day(as_of)
    standard = read_standard(resources.files(__package__) / "catalogue" / f"{name}.yaml", name)
    effective = standard.head.effective
    if effective is not None and day < effective:
        before = standard.head.predecessor
        way_out = f"choose a later day, or its predecessor {before}" if before else "choose a later day"
        raise CatalogueError(f"{standard.designation} is in force from {effective}, not on {day}; {way_out}")
    return Standard(head=standard.head, clauses=standard.clauses, as_of=day)


def parse_day(day: date | str) -> date:
    """A day, also where it is written out, such as 2025-11-01.

    Raises:
        CatalogueError: it is no day.
    """
    if isinstance(day, date):
        return day
    try:
        return date.fromisoformat(day)
    except ValueError:
        raise CatalogueError(f"{day!r} is no day; write year-month-day, such as 2025-11-01") from None


def read_standard(file: Traversable, name: str) -> Standard:
    """A standard out of a catalogue file, every field checked.

    Raises:
        CatalogueError: an unknown field, a repeated key or id, an unknown source or chapter, a bad comparator.
    """
    documents = list(_parse(file))
    if len(documents) != 2 or not isinstance(documents[1], list):
        raise CatalogueError(f"{name}.yaml must hold two YAML documents, the head and the list of clauses")
    head = _read_head(name, documents[0])
    clauses = tuple(_typed(Clause, item, f"{name}.clauses[{index}]") for index, item in enumerate(documents[1]))
    _check(name, head, clauses)
    return Standard(head=head, clauses=clauses, as_of=datetime.now(UTC).date())


@functools.cache
def load_measures() -> dict[str, Measure]:
    """What each measure that a clause can name means, by its name."""
    document = next(_documents("measures"))
    listed = _typed(MeasureList, document, "measures").measures
    measures = {measure.name: measure for measure in listed}
    if len(measures) != len(listed):
        raise CatalogueError("measures.yaml defines a measure twice")
    return measures


@functools.cache
def load_risks() -> RiskList:
    """The 31 kinds of risk in 5 classes of GB/T 45654-2025, Annex A."""
    return _typed(RiskList, next(_documents("cn-31-risks")), "cn-31-risks")


@functools.cache
def load_formats() -> FormatList:
    """The formats in which evidence is exchanged."""
    return _typed(FormatList, next(_documents("formats")), "formats")


def _documents(name: str) -> Iterator[object]:
    return _parse(resources.files(__package__) / "catalogue" / f"{name}.yaml")


def _parse(file: Traversable) -> Iterator[object]:
    try:
        yield from yaml.load_all(file.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except (OSError, UnicodeDecodeError) as problem:
        raise CatalogueError(f"{file.name} cannot be read: {problem}") from None
    except yaml.YAMLError as problem:
        raise CatalogueError(f"{file.name} is not valid YAML: {problem}") from None


def _read_head(name: str, document: object) -> Head:
    head = _typed(Head, document, name)
    if head.id != name:
        raise CatalogueError(f"{name}.yaml calls itself {head.id!r}; file and id must agree")
    return head


def _typed(cls: type[T], data: object, where: str) -> T:
    if not isinstance(data, dict):
        raise CatalogueError(f"{where} must be a mapping, not {type(data).__name__}")
    try:
        return from_mapping(cls, data, where)
    except ConfigError as problem:
        label = f"{where} ({data['id']})" if "id" in data and where != data["id"] else where
        raise CatalogueError(f"the catalogue entry {label} is malformed: {problem}") from None


def _check(name: str, head: Head, clauses: tuple[Clause, ...]) -> None:
    if len(clauses) != head.clause_count:
        raise CatalogueError(
            f"{name}.yaml announces {head.clause_count} clauses and holds {len(clauses)}: it is cut off, or "
            "clause_count was not changed along"
        )
    seen: set[str] = set()
    for clause in clauses:
        if clause.id in seen:
            raise CatalogueError(f"{name}.yaml holds the clause {clause.id} twice")
        seen.add(clause.id)
        if clause.chapter not in head.chapters:
            raise CatalogueError(f"{clause.id} stands in chapter {clause.chapter!r}, which {name}.yaml does not name")
        for source in clause.source:
            if source not in head.sources:
                raise CatalogueError(f"{clause.id} cites the source {source!r}, which {name}.yaml does not name")


class _StrictLoader(yaml.CSafeLoader):
    """The fast safe loader, but a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)
