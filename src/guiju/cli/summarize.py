"""Summarise texts, and say what of a summary its text does not bear out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from guiju.cli.answering import FileOption, Json, LongSources, NewTokens, Prompt, TextArgument, answer_all, texts_of
from guiju.cli.loading import MODEL, AllowPickle
from guiju.cli.measuring import ModelWish, Remote

if TYPE_CHECKING:
    from guiju.tasks import Sample

NAME = "summarize"
EXAMPLE = "Example: guiju summarize --model runs/summaries --file report.txt"


def command(
    model: Annotated[str, typer.Option(help=MODEL, show_default=False)],
    text: TextArgument = None,
    file: FileOption = None,
    language: Annotated[str, typer.Option(help="of the texts: auto, en, zh or de")] = "auto",
    num_beams: Annotated[int, typer.Option(help="above 1: beam search")] = 1,
    prompt: Prompt = None,
    new_tokens: NewTokens = None,
    long_sources: LongSources = "window",
    tokenizer: Annotated[str | None, typer.Option(help="the tokenizer's file, where it is not the model's")] = None,
    remote: Remote = None,
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    from guiju.tasks import Pair, TaskSettings, check_faithfulness, language_of

    texts = texts_of(text, file, by_line=False)
    if language == "auto":
        language = language_of(one for _, one in texts)
    settings = TaskSettings(
        language=language,
        num_beams=num_beams,
        prompt=prompt,
        new_tokens=new_tokens,
        long_sources=cast('Literal["window", "refuse"]', long_sources),
    )

    def tell(sample: Sample) -> dict[str, Any]:
        if sample.prediction is None:
            return {"summary": None}
        found = check_faithfulness(sample.prediction, cast(Pair, sample.record).source, language)
        unsupported = {"numbers": found.numbers, "names": found.names, "negations": found.negations}
        return {"summary": sample.prediction, "consistent": found.consistent, "unsupported": unsupported}

    def show(sample: Sample) -> str:
        unsupported = [one for found in tell(sample)["unsupported"].values() for one in found]
        note = f"\n(not in the text: {', '.join(unsupported)})" if unsupported else ""
        return f"{sample.prediction}{note}"

    records = [Pair(id=id, place=f"text {id}", source=one, targets=("",)) for id, one in texts]
    wish = ModelWish(model, tokenizer, remote, allow_pickle)
    answer_all("summarization", wish, records, settings, tell, show, json)
