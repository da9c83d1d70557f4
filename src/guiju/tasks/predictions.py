"""Answers that were made elsewhere, to be scored here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guiju.errors import DataError
from guiju.tasks.question_answering import cite
from guiju.tasks.records import CodeProblem, Question, Record
from guiju.tasks.rows import json_rows, jsonl_rows, open_text
from guiju.tasks.samples import Sample, Task


def read_predictions(path: Path) -> dict[str, tuple[Any, str]]:
    """Each id's prediction and its place, out of JSON lines of {"id", "prediction"}; or of one object that holds each
    id's answer, as SQuAD's own script reads it (a .json file).

    Raises:
        DataError: a line is no such object, or an id comes twice; with the line.
    """
    name = path.with_suffix("") if path.suffix.lower() in (".gz", ".zst") else path
    if name.suffix.lower() == ".json" and (whole := _one_object(path)) is not None:
        return {str(id): (value, f"{path}, {id}") for id, value in whole.items()}
    rows = json_rows(path) if name.suffix.lower() == ".json" else jsonl_rows(path)
    found: dict[str, tuple[Any, str]] = {}
    for row in rows:
        id = row.values.get("id")
        if isinstance(id, bool) or not isinstance(id, str | int) or "prediction" not in row.values:
            raise DataError(f'{row.place} must be such as {{"id": "7", "prediction": "..."}}')
        if str(id) in found:
            raise DataError(f"{row.place} has the id {id}, which came before at {found[str(id)][1]}; which one counts?")
        found[str(id)] = (row.values["prediction"], row.place)
    if not found:
        raise DataError(f"{path} holds no prediction")
    return found


def predicted_samples(
    task: Task, records: Sequence[Record], predictions: Mapping[str, tuple[Any, str]], whole: bool
) -> list[Sample]:
    """A sample of each record; a record without a prediction is unanswered, and so is one whose prediction is null.

    Args:
        whole: whether the records are all of their set; then a prediction for none of them is an error.
    Raises:
        DataError: predictions are for other data, or are no text.
    """
    known = {record.id for record in records}
    strangers = [id for id in predictions if id not in known]
    if strangers and (whole or len(strangers) == len(predictions)):
        place = predictions[strangers[0]][1]
        raise DataError(
            f"{place}: there is no record {strangers[0]!r} in the data (the first is {records[0].id!r}). An id is the "
            "data's own, or else the row's number from 0; are the predictions for other data?"
        )
    return [_sample(task, record, predictions.get(record.id)) for record in records]


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


def _one_object(path: Path) -> dict[str, Any] | None:
    with open_text(path) as file:
        text = file.read()
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return whole if isinstance(whole, dict) and not isinstance(whole.get("data"), list) else None
