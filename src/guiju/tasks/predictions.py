"""Answers that were made elsewhere, to be scored here."""

from __future__ import annotations

import json
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from guiju.errors import DataError
from guiju.tasks.identity import IdIndex, first_repeat, text_digest
from guiju.tasks.json_text import JsonText
from guiju.tasks.question_answering import cite
from guiju.tasks.records import CodeProblem, Question, Record
from guiju.tasks.rows import Row, json_rows, jsonl_rows, open_text
from guiju.tasks.samples import Sample, Task
from guiju.tasks.survey import Reporter, told


class Predictions(Mapping[str, tuple[Any, str]]):
    """Each id's prediction and its place. They lie in a nameless file; in memory is an index of their ids."""

    def __init__(self, rows: Iterable[tuple[str, Any, str]]) -> None:
        """
        Args:
            rows: id, prediction and place of each. Of an id that comes twice the last one counts; `repeated` tells.
        """
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the last who reads it
        weakref.finalize(self, self._file.close)
        ids, places, end = array("Q"), array("q"), 0
        for row in rows:
            ids.append(text_digest(row[0]))
            places.append(end)
            end += self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()
        self._places, self._index = places, IdIndex(ids)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return (id for id, _ in self._named())

    def __getitem__(self, id: str) -> tuple[Any, str]:
        number = self._index.find(id)
        if number is not None:
            there, value, place = self._row(number)
            if there == id:
                return value, place
        raise KeyError(id)

    def repeated(self) -> tuple[str, str, str] | None:
        """An id that comes twice, and where it comes again and came before."""
        suspects = self._index.repeated()
        return first_repeat(self._named(), suspects) if suspects else None

    def _named(self) -> Iterator[tuple[str, str]]:
        for number in range(len(self)):
            id, _, place = self._row(number)
            yield id, place

    def _row(self, number: int) -> tuple[str, Any, str]:
        self._file.seek(self._places[number])
        id, value, place = json.loads(self._file.readline())
        return id, value, place


def read_predictions(path: Path, reporter: Reporter | None = None) -> Predictions:
    """Each id's prediction and its place, out of JSON lines of {"id", "prediction"}; or of one object that holds each
    id's answer, as SQuAD's own script reads it (a .json file).

    Raises:
        DataError: a line is no such object, or an id comes twice; with the line.
    """
    name = path.with_suffix("") if path.suffix.lower() in (".gz", ".zst") else path
    rows = _json_answers(path) if name.suffix.lower() == ".json" else _answers(jsonl_rows(path))
    found = Predictions(told(rows, reporter, "predictions read"))
    if again := found.repeated():
        id, place, before = again
        raise DataError(f"{place} has the id {id}, which came before at {before}; which one counts?")
    if not found:
        raise DataError(f"{path} holds no prediction")
    return found


def _answers(rows: Iterable[Row]) -> Iterator[tuple[str, Any, str]]:
    for row in rows:
        id = row.values.get("id")
        if isinstance(id, bool) or not isinstance(id, str | int) or "prediction" not in row.values:
            raise DataError(f'{row.place} must be such as {{"id": "7", "prediction": "..."}}')
        yield str(id), row.values["prediction"], row.place


def _json_answers(path: Path) -> Iterator[tuple[str, Any, str]]:
    with open_text(path) as file:
        text = JsonText(file, path)
        if text.next() == "{":
            for id in text.fields():
                yield id, text.value(), f"{path}, {id}"
            text.end()
            return
    yield from _answers(json_rows(path))


def require_known(predictions: Mapping[str, Any], ids: IdIndex, first: Record, whole: bool) -> None:
    """Raise DataError where predictions are for other data.

    Args:
        ids: of the records.
        whole: whether the records are all of their set; then a prediction for none of them is an error.
    """
    stranger, known = None, 0
    for id in predictions:
        if ids.find(id) is not None:
            known += 1
        elif stranger is None:
            stranger = id
        if stranger is not None and (whole or known):
            break
    if stranger is not None and (whole or not known):
        raise DataError(
            f"{predictions[stranger][1]}: there is no record {stranger!r} in the data (the first is {first.id!r}). An "
            "id is the data's own, or else the row's number from 0; are the predictions for other data?"
        )


def predicted_samples(
    task: Task, records: Iterable[Record], predictions: Mapping[str, tuple[Any, str]]
) -> Iterator[Sample]:
    """A sample of each record; a record without a prediction is unanswered, and so is one whose prediction is null.

    Raises:
        DataError: a prediction is no text.
    """
    return (_sample(task, record, predictions.get(record.id)) for record in records)


def _sample(task: Task, record: Record, given: tuple[Any, str] | None) -> Sample:
    if given is None:
        return Sample(record, None, "unanswered", {"why": "there is no prediction for it"})
    value, place = given
    if value is None:
        return Sample(record, None, "unanswered", {"why": "its prediction is null"})
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(record, CodeProblem):
        tries = value if isinstance(value, list) else [value]
        if not tries or not all(isinstance(one, str) for one in tries):
            raise DataError(f"{place}: the prediction is {value!r}; it must be a program, or a list of programs")
        read = [task.read(one, record) or "" for one in tries]
        if not any(read):
            return Sample(record, None, "unanswered", {"why": "its prediction is empty", "tries": read})
        return Sample(record, next(filter(None, read)), details={"tries": read})
    if not isinstance(value, str):
        raise DataError(f"{place}: the prediction is {value!r}; it must be a text, or null where there is none")
    if not value.strip() and task.name != "question-answering":  # there it says that the passage holds no answer
        return Sample(record, None, "unanswered", {"why": "its prediction is empty"})
    span = cite(value, record) if isinstance(record, Question) else None
    return Sample(record, value, details={} if span is None else {"span": list(span)})
