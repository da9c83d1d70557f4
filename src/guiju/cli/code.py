"""Write Python functions: by going on with their head, or out of a description."""

from __future__ import annotations

from typing import Annotated, cast

import typer

from guiju.cli.answering import FileOption, Json, NewTokens, Prompt, TextArgument, answer_all, texts_of
from guiju.cli.loading import MODEL, AllowPickle
from guiju.cli.measuring import ModelWish, Remote

NAME = "code"
EXAMPLE = """Example: guiju code --model runs/code 'def add(a, b):\n    "Sum of both."\n'"""


def command(
    model: Annotated[str, typer.Option(help=MODEL, show_default=False)],
    text: TextArgument = None,
    file: FileOption = None,
    prompt: Prompt = None,
    new_tokens: NewTokens = None,
    tokenizer: Annotated[str | None, typer.Option(help="the tokenizer's file, where it is not the model's")] = None,
    remote: Remote = None,
    allow_pickle: AllowPickle = False,
    json: Json = False,
) -> None:
    from guiju.tasks import CodeProblem, Sample, TaskSettings

    records = [
        CodeProblem(id=id, place=f"text {id}", prompt=one, tests="", entry_point="", solution="", kind="continuation")
        for id, one in texts_of(text, file, by_line=False)
    ]

    def whole(sample: Sample) -> str:
        written, head = sample.prediction or "", cast(CodeProblem, sample.record).prompt
        return written if written.lstrip().startswith(("def ", "import ", "from ", "class ")) else head + written

    answer_all(
        "code",
        ModelWish(model, tokenizer, remote, allow_pickle),
        records,
        TaskSettings(language="en", prompt=prompt, new_tokens=new_tokens),
        lambda sample: {"completion": sample.prediction, "program": whole(sample) if sample.prediction else None},
        whole,
        json,
    )
