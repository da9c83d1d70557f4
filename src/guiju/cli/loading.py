"""The options by which verbs name a model, and what a person sees of its coming."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from guiju.providers import LanguageModel, RemoteCall

MODEL = "run folder, Hugging Face folder, hf:NAME, openai:NAME, transformers:FOLDER, tf:FOLDER or llama2.c file"
AllowPickle = Annotated[
    bool,
    typer.Option("--allow-pickle", help="read PyTorch's .bin files too, in a process that can only hand back tensors"),
]


def load_shown(reference: str, tokenizer: str | None, allow_pickle: bool) -> LanguageModel:
    """The model behind a reference; what was fetched for it, and what was sent to a remote one, is told on stderr."""
    from guiju.providers import load

    calls = _Calls()
    language_model = load(reference, tokenizer, pickles=allow_pickle, record_call=calls.add)
    weakref.finalize(language_model, calls.show)  # when the verb is done with it, however it ends
    show_downloads(language_model.downloads)
    return language_model


class _Calls:
    """What left this machine, added up by host and model."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], list[int]] = {}
        self._lock = threading.Lock()

    def add(self, call: RemoteCall) -> None:
        with self._lock:
            sums = self._sums.setdefault((call.host, call.model), [0, 0, 0, 0])
            for place, value in enumerate((1, call.problem is not None, call.bytes_out, call.bytes_in)):
                sums[place] += value

    def show(self) -> None:
        for (host, model), (asked, failed, sent, received) in self._sums.items():
            trouble = f", {failed} without success" if failed else ""
            requests = "1 request" if asked == 1 else f"{asked:,} requests"
            typer.echo(f"asked {model} at {host}: {requests}{trouble}, {sent:,} bytes out, {received:,} in", err=True)


def show_downloads(downloads: Iterable[Any]) -> None:
    for one in downloads:
        typer.echo(
            f"fetched {one.file} of {one.repository} at {one.revision[:12]} from {one.endpoint}: "
            f"{one.size_bytes:,} bytes, SHA-256 {one.sha256}",
            err=True,
        )
