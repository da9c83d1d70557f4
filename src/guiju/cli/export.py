"""Write a model for other tools to open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guiju.cli.loading import MODEL, AllowPickle, show_downloads
from guiju.cli.screen import print_json

NAME = "export"
EXAMPLE = "Example: guiju export runs/quickstart --to huggingface --out exported"


def command(
    source: Annotated[str, typer.Argument(help=MODEL, show_default=False)],
    to: Annotated[
        str, typer.Option(help="huggingface, tensorflow, gguf, onnx, llama2c or openai-gpt2", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="the folder to write; it must not exist yet", show_default=False)],
    tokenizer: Annotated[
        str | None, typer.Option(help="the tokenizer's file, where it is not beside the model")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--type", help="for gguf: f32 (where not given), f16 or q8_0", show_default=False)
    ] = None,
    allow_pickle: AllowPickle = False,
    json: Annotated[bool, typer.Option("--json", help="what was written as JSON on stdout")] = False,
) -> None:
    from guiju.providers import export_model

    options = {} if kind is None else {"type": kind}
    written = export_model(source, to=to, out=out, tokenizer=tokenizer, pickles=allow_pickle, **options)
    show_downloads(written.pop("downloads", ()))
    if json:
        print_json(written)
    else:
        typer.echo(f"{written['out']}: {', '.join(written['files'])}")
