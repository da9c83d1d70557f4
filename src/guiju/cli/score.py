"""How likely a model finds texts: log-likelihood and bits per byte."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guiju.cli.loading import MODEL, AllowPickle, load_shown
from guiju.cli.screen import fail, print_json

NAME = "score"
EXAMPLE = "Example: guiju score --model runs/quickstart --text 'The cat sat on the mat.' --json"


def command(
    model: Annotated[str, typer.Option(help=MODEL, show_default=False)],
    text: Annotated[str | None, typer.Option(help="one text")] = None,
    file: Annotated[Path | None, typer.Option(help='JSON lines of {"id", "text"}')] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="the tokenizer's file, where it is not beside the model")
    ] = None,
    allow_pickle: AllowPickle = False,
    json: Annotated[bool, typer.Option("--json", help="a JSON line per text")] = False,
) -> None:
    from guiju.providers import read_texts

    if text is not None and file is None:
        items: list[tuple[str | int | None, str]] = [(None, text)]
    elif file is not None and text is None:
        items = read_texts(file)
    else:
        fail("give either --text or --file, and not both")
    empty = [number for number, (_, item) in enumerate(items, start=1) if not item]
    if empty:
        name = items[empty[0] - 1][0]
        which = f"text {empty[0]}" + ("" if name is None else f" (id {name!r})")
        fail(f"{which} is empty: no byte of it can be scored; leave it out")
    language_model = load_shown(model, tokenizer, allow_pickle)
    for (name, _), result in zip(items, language_model.score_each([item for _, item in items]), strict=True):
        if json:
            line = {"tokens": result.tokens, "nll_nats": result.nll_nats, "bits_per_byte": result.bits_per_byte}
            print_json(line if name is None else {"id": name, **line})
        else:
            label = "" if name is None else f"{name}  "
            typer.echo(f"{label}{result.bits_per_byte:.4f} bits per byte, {result.tokens} tokens")
