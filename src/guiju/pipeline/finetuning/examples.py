"""The stage that makes examples of records, and shows some of them; and how they are read again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from guiju.errors import DataError
from guiju.pipeline.finetuning.base import read_base
from guiju.pipeline.finetuning.data import empty_folder, read_written
from guiju.pipeline.finetuning.recipe import FinetuneRecipe
from guiju.pipeline.finetuning.rows import Made, Row, labels_of, make_rows, paired_texts, plain_texts
from guiju.pipeline.finetuning.shown import ShownRow, mask_page, shown, shown_pair, shown_row
from guiju.pipeline.orchestration import StageContext, StageResult
from guiju.pipeline.recording import record_measure
from guiju.storage import write_json, write_text
from guiju.tasks import Record
from guiju.tokens import (
    AnswerExamples,
    BatchSize,
    Examples,
    ExtractiveExamples,
    LabelledExamples,
    LabelledRow,
    LearnedRow,
    Marks,
    PairExamples,
    PreferenceExamples,
    PreferenceRow,
    SpanRow,
    TokenData,
    Tokenizer,
    write_shards,
)

SHOWN = 16
"""Rows that are kept for the eye."""
SIDES = ("train", "validation")
_ROWS: dict[str, type[Any]] = {
    "answers": LearnedRow,
    "classes": LabelledRow,
    "extractive": SpanRow,
    "preferences": PreferenceRow,
}
"""By objective: what is kept of a record. The others keep the tokens of whole texts."""


def make_examples(context: StageContext[FinetuneRecipe]) -> StageResult:
    """Rows of ids for both sides, and a page that shows which tokens are learned.

    Raises:
        DataError: a row holds nothing to learn, has a label that the head has not, or all is learned alike.
        ModelError: the chat template drops or changes answers, or does what it may not.
    """
    recipe = context.recipe
    tokenizer = Tokenizer.load(context.path("tokenizer"))
    length = read_base(context.run.path).context
    empty_folder(context.path("examples"))
    sides = {side: list(read_written(context.path(f"data/{side}.jsonl"), recipe.record)) for side in SIDES}
    labels = labels_of(recipe, sides["train"]) if recipe.objective == "classes" else ()
    write_json(context.path("examples/labels.json"), list(labels))
    summary: dict[str, Any] = {"labels": list(labels), "context": length}
    rows: list[ShownRow] = []
    for side, records in sides.items():
        if not records:
            continue
        if recipe.objective in _ROWS:
            made = _kept_rows(context, side, tokenizer, records, length)
            summary[side] = {"rows": len(made.rows), "left_out": made.left_out, "cut": made.cut, "empty": made.empty}
            _note(context, side, made)
        else:
            _write_texts(recipe, context.path(f"examples/{side}"), tokenizer, records)
        examples = open_examples(recipe, context.run.path, side, tokenizer, length)
        summary.setdefault(side, {}).update(_figures(examples))
        if isinstance(examples, PairExamples):
            summary[side]["left_out"] = examples.left_out
            _note_pairs(context, side, examples.left_out)
        if side == "train":
            rows = _shown(recipe, context.run.path, tokenizer, made.rows if recipe.objective in _ROWS else ())
    write_json(context.path("examples/shown.json"), [row.to_json() for row in rows])
    write_text(context.path("examples/mask.html"), mask_page(rows[:SHOWN]))
    train = summary["train"]
    details = {"rows": train["rows"], "targets": train["targets"], "tokens": train["tokens"]}
    record_measure(
        context, "learned_share", train["targets"] / train["tokens"], "share of the tokens that is learned", "", details
    )
    told = f"{train['rows']:,} rows, {train['targets']:,} of {train['tokens']:,} tokens learned"
    return StageResult(summary, f"{told}; see examples/mask.html")


def read_shown(folder: Path) -> list[ShownRow]:
    """The rows that `make_examples` kept for the eye."""
    kept = json.loads((folder / "examples" / "shown.json").read_text(encoding="utf-8"))
    return [ShownRow.of(row) for row in kept]


def read_labels(folder: Path) -> tuple[str, ...]:
    """The labels of a run's head; empty where it tells no classes apart."""
    return tuple(json.loads((folder / "examples" / "labels.json").read_text(encoding="utf-8")))


def open_examples(
    recipe: FinetuneRecipe, folder: Path, side: str, tokenizer: Tokenizer, length: int
) -> Examples | TokenData | None:
    """What a run learns from on one side, ready for batches; plain text as it is, and None where there is nothing.

    Args:
        length: tokens that the model reads.
    """
    place = folder / "examples" / side
    if recipe.objective == "next-token":
        return TokenData.open(place, tokenizer.digest) if place.is_dir() else None
    marks = Marks.of(tokenizer) if recipe.objective == "pairs" else None
    if marks is not None:
        if not place.is_dir():
            return None
        sources = TokenData.open(place.with_name(f"{side}-sources"), tokenizer.digest)
        return PairExamples(sources, TokenData.open(place, tokenizer.digest), marks, context=length)
    if not place.with_suffix(".jsonl").is_file():
        return None
    rows: Any = _read_rows(place.with_suffix(".jsonl"), _ROWS[recipe.objective])
    pad = _pad(tokenizer)
    if recipe.objective == "answers":
        return AnswerExamples(rows, context=length, pad=pad)
    if recipe.objective == "preferences":
        return PreferenceExamples(rows, context=length, pad=pad)
    if recipe.objective == "extractive":
        return ExtractiveExamples(rows, tokenizer.with_template, context=length, pad=pad, stride=recipe.stride)
    weights = recipe.class_weights if side == "train" else None
    return LabelledExamples(rows, labels=read_labels(folder), context=length, pad=pad, class_weights=weights)


def _kept_rows(
    context: StageContext[FinetuneRecipe], side: str, tokenizer: Tokenizer, records: Sequence[Record], length: int
) -> Made:
    def report(done: int, total: int) -> None:
        context.reporter.progress(done, total, f"examples of {side}")

    made = make_rows(context.recipe, tokenizer, records, length, report)
    if not made.rows:
        raise DataError(f"no row of {side} is left: each is longer than the {length} tokens that the model reads")
    lines = (json.dumps(_packed(row), ensure_ascii=False) for row in made.rows)
    write_text(context.path(f"examples/{side}.jsonl"), "".join(f"{line}\n" for line in lines))
    return made


def _packed(row: Row) -> dict[str, Any]:
    data = asdict(row)
    if "learned" in data:
        data["learned"] = "".join("1" if learned else "0" for learned in data["learned"])
    return data


def _read_rows(path: Path, kind: type[Any]) -> Iterator[Any]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            data = json.loads(line)
            if "learned" in data:
                data["learned"] = [one == "1" for one in data["learned"]]
            yield kind(**data)


def _write_texts(recipe: FinetuneRecipe, place: Path, tokenizer: Tokenizer, records: Sequence[Record]) -> None:
    """Whole texts as tokens; of pairs, the targets, with the sources beside them."""
    if recipe.objective == "next-token":
        write_shards(plain_texts(records), tokenizer, place)
        return
    pairs = list(paired_texts(records))
    write_shards(((name, target) for name, _, target in pairs), tokenizer.target, place)
    write_shards(((name, source) for name, source, _ in pairs), tokenizer, place.with_name(f"{place.name}-sources"))


def _figures(examples: Examples | TokenData | None) -> dict[str, int]:
    """Rows, tokens that are read, and targets."""
    assert examples is not None, "it was written just before"
    if isinstance(examples, TokenData):
        return {"rows": examples.index.documents, "tokens": examples.tokens, "targets": examples.tokens}
    count = len(examples.lengths)
    sizes = [examples.size(np.array([row])) for row in range(count)]
    tokens = sum(_tokens(examples, row, size) for row, size in enumerate(sizes))
    return {"rows": count, "tokens": tokens, "targets": sum(size.targets for size in sizes)}


def _tokens(examples: Examples, row: int, size: BatchSize) -> int:
    """Tokens of a row without what fills it up."""
    if isinstance(examples, PairExamples):
        return int(size.targets + size.source)
    if isinstance(examples, PreferenceExamples):
        return 2 * int(examples.lengths[row])
    return int(examples.lengths[row])


def _note(context: StageContext[FinetuneRecipe], side: str, made: Made) -> None:
    if made.left_out:
        context.reporter.note(f"{made.left_out} rows of {side} are longer than the context, and left out")
    if made.empty:
        context.reporter.note(f"{made.empty} rows of {side} have an empty answer, and are left out")
    if made.cut:
        context.reporter.note(f"{made.cut} rows of {side} are longer than the context: only their beginning is read")


def _note_pairs(context: StageContext[FinetuneRecipe], side: str, left_out: int) -> None:
    told = f"{left_out} pairs of {side} are empty on one side or longer than the context"
    if left_out and context.recipe.data.long == "refuse":
        raise DataError(f"{told}. Shorten them, take a model with a longer context, or set data.long: leave-out")
    if left_out:
        context.reporter.note(f"{told}, and left out")


def _shown(recipe: FinetuneRecipe, folder: Path, tokenizer: Tokenizer, rows: Sequence[Row]) -> list[ShownRow]:
    """The first rows for the eye."""
    if rows:
        return [one for row in rows[:SHOWN] for one in shown_row(row, tokenizer)]
    targets = TokenData.open(folder / "examples" / "train", tokenizer.digest)
    count = min(SHOWN, targets.index.documents)
    if recipe.objective == "next-token":
        read = [targets.document(number).tolist() for number in range(count)]
        return [shown(f"document {number}", ids, ["learned"] * len(ids), tokenizer) for number, ids in enumerate(read)]
    sources, marks = TokenData.open(folder / "examples" / "train-sources", tokenizer.digest), Marks.of(tokenizer)
    return [
        shown_pair(
            f"pair {number}",
            marks.around(sources.document(number)[:-1]).tolist(),
            targets.document(number).tolist(),
            tokenizer,
        )
        for number in range(count)
    ]


def _pad(tokenizer: Tokenizer) -> int:
    return Marks.of(tokenizer).pad if tokenizer.pad_id is None else tokenizer.pad_id
