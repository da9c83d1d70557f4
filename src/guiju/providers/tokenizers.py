"""The tokenizer that lies beside a model, or that was given for it."""

from __future__ import annotations

from pathlib import Path

from guiju.errors import ModelError, StorageError
from guiju.storage import require_plain_folder
from guiju.tokens import Llama2cTokenizer, Tokenizer
from guiju.tokens import tokenizer_files as files_of_tokenizer


def holds_tokenizer(place: Path) -> bool:
    """Whether a tokenizer is there: a file, or a folder that holds one."""
    return place.is_file() or bool(tokenizer_files(place))


def own_tokenizer(places: list[Path], given: Path | None, vocab_size: int) -> tuple[Tokenizer, list[Path]]:
    """The tokenizer that was given, or else of the first place that holds one; and its files."""
    if given is not None:
        places = [given]
    place = next((place for place in places if holds_tokenizer(place)), places[0])
    if given is None and not holds_tokenizer(place):
        raise ModelError(
            f"{places[0]} has no tokenizer.json, nor another tokenizer that is known, so its ids mean nothing. "
            f"Pass --tokenizer with the model's own"
        )
    return read_tokenizer(place, vocab_size), tokenizer_files(place)


def read_tokenizer(place: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer of a file or folder, for a model of so many ids.

    Raises:
        ModelError: there is none, it is damaged, or has more ids than the model.
    """
    if not place.exists():
        raise ModelError(f"there is no tokenizer at {place}")
    if place.is_dir():
        require_plain(place, ".")
    if place.is_file() and place.suffix == ".bin":
        return Llama2cTokenizer.read(place, vocab_size)
    tokenizer = Tokenizer.load(place)
    if tokenizer.vocab_size > vocab_size:
        raise ModelError(
            f"{place} has {tokenizer.vocab_size} ids, but the model knows {vocab_size}: they do not belong together. "
            f"Pass --tokenizer with the model's own"
        )
    return tokenizer


def tokenizer_files(place: Path) -> list[Path]:
    """The files of the tokenizer that is there; none where there is none."""
    if place.is_file() and place.suffix == ".bin":  # llama2.c's
        return [place]
    return files_of_tokenizer(place)


def require_plain(path: Path, name: str) -> None:
    """See that neither the folder of a model, nor a run's around it, leads elsewhere."""
    try:
        for folder in {path, path / name}:
            require_plain_folder(folder)
    except StorageError as problem:
        raise ModelError(f"{path} is not read: {problem}") from None
