"""Answer questions on a passage, and say where in it the answer stands; that there is none is an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from guiju.cli.answering import Json, LongSources, NewTokens, Prompt, answer_all, read_file
from guiju.cli.loading import MODEL, AllowPickle
from guiju.cli.measuring import ModelWish, Remote
from guiju.cli.screen import fail

if TYPE_CHECKING:
    from guiju.tasks import Question, Sample

NAME = "answer"
EXAMPLE = 'Example: guiju answer --model runs/answers "Who wrote it?" --file passage.txt'


def command(
    model: Annotated[str, typer.Option(help=MODEL, show_default=False)],
    text: Annotated[str | None, typer.Argument(help="the question", show_default=False)] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", help='the passage; or JSON lines of {"question", "context"}, or SQuAD\'s form'),
    ] = None,
    context: Annotated[str | None, typer.Option(help="the passage itself")] = None,
    language: Annotated[str, typer.Option(help="of the passage: auto, en, zh or de")] = "auto",
    prompt: Prompt = None,
    new_tokens: NewTokens = None,
    long_sources: LongSources = "window",
    overlap: Annotated[float, typer.Option(help="share of a window that the next one shows again")] = 0.25,
    tokenizer: Annotated[str | None, typer.Option(help="the tokenizer's file, where it is not the model's")] = None,
    remote: Remote = None,
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    from guiju.tasks import TaskSettings, language_of

    records = _questions(text, file, context)
    if language == "auto":
        language = language_of(f"{one.question} {one.context}" for one in records)
    settings = TaskSettings(
        language=language,
        prompt=prompt,
        new_tokens=new_tokens,
        long_sources=cast('Literal["window", "refuse"]', long_sources),
        overlap=overlap,
    )
    wish = ModelWish(model, tokenizer, remote, allow_pickle)
    answer_all("question-answering", wish, records, settings, _tell, _show, json)


def _questions(text: str | None, file: Path | None, context: str | None) -> list[Question]:
    from guiju.tasks import Question, read_unanswered

    if text is None:
        if file is None or context is not None:
            fail("give a question with --file PASSAGE or --context TEXT, or a --file of questions with their passages")
        return read_unanswered(file)
    if (file is None) == (context is None):
        fail("the question needs its passage: give --file PASSAGE or --context TEXT, and not both")
    passage = context if file is None else read_file(file)
    if not text.strip() or not (passage or "").strip():
        fail("the question or its passage is empty, so there is nothing to answer")
    return [Question(id="0", place="the question", question=text, context=passage or "", answers=(), starts=())]


def _tell(sample: Sample) -> dict[str, Any]:
    question = cast("Question", sample.record)
    span = sample.details.get("span")
    told: dict[str, Any] = {"question": question.question, "answer": sample.prediction}
    if sample.prediction == "":
        told["abstained"] = True
    return {**told, "start": span[0] if span else None, "end": span[1] if span else None}


def _show(sample: Sample) -> str:
    if not sample.prediction:
        return "(the passage holds no answer)"
    span = sample.details.get("span")
    return f"{sample.prediction}  [{span[0]}:{span[1]}]" if span else f"{sample.prediction}  [not in the passage]"
