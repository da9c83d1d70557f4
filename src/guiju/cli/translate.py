"""Translate texts: by a model tuned for it, or by one that goes on with text."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer

from guiju.cli.answering import FileOption, Json, LongSources, NewTokens, Prompt, TextArgument, answer_all, texts_of
from guiju.cli.loading import MODEL, AllowPickle
from guiju.cli.measuring import ModelWish, Remote

NAME = "translate"
EXAMPLE = 'Example: guiju translate --model runs/translate-en-zh "Good morning." --to zh --json'


def command(
    model: Annotated[str, typer.Option(help=MODEL, show_default=False)],
    text: TextArgument = None,
    file: FileOption = None,
    to: Annotated[str, typer.Option(help="language: en, zh, de; auto: Chinese, or English out of Chinese")] = "auto",
    num_beams: Annotated[int, typer.Option(help="above 1: beam search")] = 1,
    prompt: Prompt = None,
    new_tokens: NewTokens = None,
    long_sources: LongSources = "window",
    tokenizer: Annotated[str | None, typer.Option(help="the tokenizer's file, where it is not the model's")] = None,
    remote: Remote = None,
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    from guiju.tasks import Pair, TaskSettings, language_of

    texts = texts_of(text, file, by_line=True)
    if to == "auto":
        to = "en" if language_of(one for _, one in texts) == "zh" else "zh"
    settings = TaskSettings(
        language=to,
        num_beams=num_beams,
        prompt=prompt,
        new_tokens=new_tokens,
        long_sources=cast('Literal["window", "refuse"]', long_sources),
    )
    records = [Pair(id=id, place=f"text {id}", source=one, targets=("",)) for id, one in texts]
    answer_all(
        "translation",
        ModelWish(model, tokenizer, remote, allow_pickle),
        records,
        settings,
        lambda sample: {"source": cast(Pair, sample.record).source, "translation": sample.prediction},
        lambda sample: str(sample.prediction),
        json,
    )
