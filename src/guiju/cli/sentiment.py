"""Tell the sentiment of texts, or another class that a model was tuned for, with probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from guiju.cli.answering import FileOption, Json, LongSources, Prompt, TextArgument, answer_all, texts_of
from guiju.cli.loading import MODEL, AllowPickle
from guiju.cli.measuring import ModelWish, Remote

if TYPE_CHECKING:
    from guiju.tasks import Sample

NAME = "sentiment"
EXAMPLE = 'Example: guiju sentiment --model runs/sentiment-en "A fine film." --json'


def command(
    model: Annotated[str, typer.Option(help=MODEL, show_default=False)],
    text: TextArgument = None,
    file: FileOption = None,
    labels: Annotated[
        str | None, typer.Option(help="classes to choose from, with commas; positive,negative where the model has none")
    ] = None,
    language: Annotated[str, typer.Option(help="of the texts: auto, en, zh or de")] = "auto",
    prompt: Prompt = None,
    long_sources: LongSources = "window",
    tokenizer: Annotated[str | None, typer.Option(help="the tokenizer's file, where it is not the model's")] = None,
    remote: Remote = None,
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    from guiju.tasks import Labelled, TaskSettings, language_of

    texts = texts_of(text, file, by_line=True)
    if language == "auto":
        language = language_of(one for _, one in texts)
    settings = TaskSettings(
        language=language, prompt=prompt, long_sources=cast('Literal["window", "refuse"]', long_sources)
    )

    def tell(sample: Sample) -> dict[str, Any]:
        told: dict[str, Any] = {"text": cast(Labelled, sample.record).text, "label": sample.prediction}
        probabilities = sample.details.get("probabilities")
        return {**told, "probabilities": probabilities} if probabilities else told

    def show(sample: Sample) -> str:
        probabilities = sample.details.get("probabilities", {})
        share = f" {probabilities[sample.prediction]:.0%}" if sample.prediction in probabilities else ""
        return f"{sample.prediction}{share}  {cast(Labelled, sample.record).text[:60]}"

    records = [Labelled(id=id, place=f"text {id}", text=one, label="") for id, one in texts]
    wish = ModelWish(model, tokenizer, remote, allow_pickle)
    choices = [one.strip() for one in labels.split(",") if one.strip()] if labels else []
    answer_all("sentiment", wish, records, settings, tell, show, json, choices)
