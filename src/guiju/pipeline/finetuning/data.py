"""The stage that brings data: rows of any format become records, held-out ones apart, and none stands on both sides."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from guiju.corpus import TextIndex
from guiju.errors import DataError
from guiju.pipeline.finetuning.recipe import FinetuneRecipe
from guiju.pipeline.orchestration import StageContext, StageResult
from guiju.pipeline.recording import record_measure
from guiju.storage import write_text
from guiju.tasks import (
    Completion,
    Conversation,
    Labelled,
    Message,
    Pair,
    Preference,
    Question,
    Record,
    read_records,
)

SHOWN_OVERLAPS = 3
"""Named in a message; the others are counted."""
REPORT_EVERY = 500


def data_files(recipe: FinetuneRecipe) -> dict[str, Path]:
    """Every file that the recipe's data is in, by a name for the ledger.

    Raises:
        DataError: one is missing.
    """
    found: dict[str, Path] = {}
    for given in (recipe.data.train, *recipe.held_out_files):
        place = recipe.place(given)
        for path in map(Path, [place] if Path(place).exists() else place.split(",")):
            if not path.is_file():
                raise DataError(f"{path} is no file; correct its path in the recipe, which starts at {recipe.root}")
            found[path.name if path.name not in found else path.as_posix()] = path
    return found


def make_data(context: StageContext[FinetuneRecipe]) -> StageResult:
    """Records to learn from, and held-out ones, as JSON lines; rows that stand on both sides are an error.

    Raises:
        DataError: a file is not as it must be, or what is learned from overlaps what is held out.
    """
    recipe = context.recipe
    found = list(_read(recipe, recipe.data.train))
    if recipe.data.limit is not None:
        found = found[: recipe.data.limit]
    held_out = {path: list(_read(recipe, path)) for path in recipe.held_out_files}
    found, overlapping = _apart(context, found, held_out)
    if isinstance(recipe.data.validation, str):
        train, validation = found, held_out[recipe.data.validation]
    else:
        train, validation = split(found, recipe.data.validation)
    if not train:
        raise DataError(
            f"no row of {recipe.data.train} is left to learn from: {overlapping} stand in a file held out, and "
            f"{len(validation)} are held out; bring more data, or lower data.validation"
        )
    if not validation and recipe.data.validation != 0:
        context.reporter.note("no row came to be held out: raise data.validation, bring more rows, or name a file")
    empty_folder(context.path("data"))
    for side, records in (("train", train), ("validation", validation)):
        write_records(context.path(f"data/{side}.jsonl"), records)
    summary = {
        "format": recipe.format,
        "train": len(train),
        "validation": len(validation),
        "overlapping": overlapping,
        "evaluation": {path: len(held_out[path]) for path in recipe.data.evaluation_files},
    }
    _record(context, summary)
    left_out = f"; {overlapping} left out, which stand in a file held out" if overlapping else ""
    return StageResult(summary, f"{len(train):,} rows to learn from, {len(validation):,} held out{left_out}")


def split(records: Sequence[Record], share: float) -> tuple[list[Record], list[Record]]:
    """Records to learn from, and about `share` of them held out: which, follows from their texts alone, so that equal
    ones stay together."""
    train: list[Record] = []
    validation: list[Record] = []
    for record in records:
        key = record.context if isinstance(record, Question) else asked(record)
        drawn = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
        (validation if drawn < share else train).append(record)
    return train, validation


def asked(record: Record) -> str:
    """What a model is given of a record: the same given twice is the same example, whatever was answered."""
    match record:
        case Conversation():
            return "\n".join(one.content for one in record.messages if one.role != "assistant")
        case Completion() | Preference():
            return record.prompt
        case Labelled():
            return record.text
        case Pair():
            return record.source
        case Question():
            return f"{record.question}\n{record.context}"
    raise AssertionError(f"{type(record).__name__} is no kind of record that is learned from")


def empty_folder(folder: Path) -> None:
    """A folder without what an earlier recipe left in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def write_records(path: Path, records: Iterable[Record]) -> None:
    """A line of JSON a record."""
    lines = (json.dumps(dataclasses.asdict(record), ensure_ascii=False, default=dict) for record in records)
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_written(path: Path, kind: type[Record]) -> Iterator[Record]:
    """What `write_records` wrote."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield kind(**_typed(json.loads(line)))


def _typed(data: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    if "messages" in values:
        values["messages"] = tuple(Message(**message) for message in values["messages"])
    return values


def _read(recipe: FinetuneRecipe, path: str) -> Iterator[Record]:
    return read_records(recipe.place(path), recipe.record, recipe.data.file_format, recipe.data.columns)


def _apart(
    context: StageContext[FinetuneRecipe], found: list[Record], held_out: Mapping[str, Sequence[Record]]
) -> tuple[list[Record], int]:
    """The records that stand in no file held out, and how many did."""
    index = TextIndex((record.place, asked(record)) for records in held_out.values() for record in records)
    if not len(index):
        return found, 0
    kept: list[Record] = []
    said: list[str] = []
    for number, record in enumerate(found):
        if number % REPORT_EVERY == 0:
            context.reporter.progress(number, len(found), "looking for rows that are held out")
        match = index.find(asked(record))
        if match is None:
            kept.append(record)
        elif len(said) < SHOWN_OVERLAPS:
            alike = "is" if match.similarity == 1 else f"is, to {match.similarity:.0%},"
            said.append(f"{record.place} {alike} {match.name}")
    count = len(found) - len(kept)
    if count and context.recipe.data.overlap == "refuse":
        raise DataError(
            f"{count} of {len(found)} rows to learn from stand in a file held out as well, word for word or nearly so "
            f"({'; '.join(said)}): whatever is measured on it would flatter the model. Take them out, or set "
            "data.overlap: leave-out"
        )
    return kept, count


def _record(context: StageContext[FinetuneRecipe], summary: Mapping[str, Any]) -> None:
    total = summary["train"] + summary["overlapping"]
    record_measure(context, "training_examples", summary["train"], "rows learned from", "rows", dict(summary))
    what = "rows to learn from that stand in a file held out as well, word for word or nearly so"
    details = {"left_out": summary["overlapping"], "of": total, "files": list(context.recipe.held_out_files)}
    if context.recipe.held_out_files:
        record_measure(context, "held_out_overlap", summary["overlapping"], what, "rows", details)
