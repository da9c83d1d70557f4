"""The options by which verbs name a model, and what a person sees of its coming."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from guiju.providers import LanguageModel

MODEL = "run folder, Hugging Face folder, hf:NAME, openai:NAME, transformers:FOLDER, tf:FOLDER or llama2.c file"
AllowPickle = Annotated[
    bool,
    typer.Option("--allow-pickle", help="read PyTorch's .bin files too, in a process that can only hand back tensors"),
]


def load_shown(reference: str, tokenizer: str | None, allow_pickle: bool) -> LanguageModel:
    """The model behind a reference; what was fetched for it is told on stderr."""
    from guiju.providers import load

    language_model = load(reference, tokenizer, pickles=allow_pickle)
    show_downloads(language_model.downloads)
    return language_model


def show_downloads(downloads: Iterable[Any]) -> None:
    for one in downloads:
        typer.echo(
            f"fetched {one.file} of {one.repository} at {one.revision[:12]} from {one.endpoint}: "
            f"{one.size_bytes:,} bytes, SHA-256 {one.sha256}",
            err=True,
        )
