"""The first of two readings of a set: how many records, which classes and which language; of the records themselves
their digests are kept. The second reading gives them out one by one, and notices where the file has changed."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from guiju.errors import DataError
from guiju.tasks.identity import IdIndex, first_repeat, record_digest, text_digest
from guiju.tasks.languages import language_of
from guiju.tasks.records import CodeProblem, Labelled, Pair, Question, Record

_LOOK = 200
"""Records by which the language is told."""

_PATIENCE_S = 2.0


Item = TypeVar("Item")


class Reporter(Protocol):
    """Who is told how far it has come."""

    def stage(self, name: str, status: str, why: str) -> None: ...

    def progress(self, done: int, total: int, label: str) -> None:
        """`total` is 0 where nobody knows it."""

    def note(self, text: str) -> None: ...


@dataclass
class Survey:
    """What is known of a set of records that can be read again."""

    records: Iterable[Record]
    count: int
    """Of those that are asked."""
    first: Record
    labels: list[str]
    """The classes of all records, also of those that are not asked: a model chooses among them."""
    language: str
    """As it is told by the texts."""
    ids: IdIndex
    contents: array[int] = field(repr=False)
    """record_digest of each."""

    def asked(self) -> Iterator[Record]:
        """The records that are asked.

        Raises:
            DataError: they are no longer those that were there before.
        """
        number = -1
        for number, record in enumerate(self.records):
            if number == self.count:
                return
            if record_digest(record) != self.contents[number]:
                raise self._changed(f"{record.place} holds something else than a moment ago")
            yield record
        if number + 1 < self.count:
            raise self._changed(
                f"of {self.count} records only {number + 1} are left (the first was {self.first.place})"
            )

    def _changed(self, how: str) -> DataError:
        return DataError(f"{how}: the data changed while it was read. Run the same command again when it is at rest")


def survey(records: Iterable[Record], limit: int | None, reporter: Reporter | None = None) -> Survey:
    """Read a set for the first time.

    Args:
        records: can be read again, unless they are few enough to be held: an iterator is read into memory.
        limit: only so many are asked.
    Raises:
        DataError: two have the same id, so that nobody could tell whose an answer is; or there is none.
    """
    if iter(records) is records:
        records = list(records)
    ids, contents = array("Q"), array("Q")
    labels: dict[str, None] = {}
    begun: list[Record] = []
    for record in told(records, reporter, "records read"):
        if limit is not None and len(ids) >= limit and not isinstance(record, Labelled):
            break
        if limit is None or len(ids) < limit:
            contents.append(record_digest(record))
            if len(begun) < _LOOK:
                begun.append(record)
        ids.append(text_digest(record.id))
        if isinstance(record, Labelled):
            labels[record.label] = None
    if not begun:
        raise DataError("there is no record to measure with")
    index = IdIndex(ids)
    if suspects := index.repeated():
        _require_different(records, suspects)
    if len(contents) < len(ids):
        index = IdIndex(ids[: len(contents)])
    return Survey(records, len(contents), begun[0], sorted(labels), language_of(_texts(begun), _LOOK), index, contents)


def told(items: Iterable[Item], reporter: Reporter | None, what: str, total: int = 0) -> Iterator[Item]:
    """The same items; who waits longer than a moment is told how many they are so far."""
    began = time.monotonic()
    for number, item in enumerate(items):
        if reporter is not None and time.monotonic() - began > _PATIENCE_S:
            reporter.progress(number, total, f"{number} {what}")
        yield item


def _require_different(records: Iterable[Record], suspects: set[int]) -> None:
    if again := first_repeat(((record.id, record.place) for record in records), suspects):
        id, place, before = again
        raise DataError(f"{place} has the id {id!r}, which {before} has, too")


def _texts(records: Iterable[Record]) -> Iterable[str]:
    """The texts by which the language of the answers is told."""
    for record in records:
        if isinstance(record, Pair):
            yield from record.targets
        elif isinstance(record, Question):
            yield f"{record.question} {record.context}"
        elif isinstance(record, Labelled):
            yield record.text
        elif isinstance(record, CodeProblem):
            yield record.prompt
