"""Tokenizer files that somebody else wrote: read within bounds, and as strictly as their meaning must be certain."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from guiju.errors import ModelError, StorageError
from guiju.storage import read_foreign, require_plain_folder

MOST_BYTES = 64 << 20
"""The largest published tokenizer.json has about 35 MB."""
MOST_PARTS = 2_000_000
"""Objects and lists of a JSON file: each takes fifty times the room that it is written in. The largest published
tokenizer.json has half a million, one for each merge."""
MOST_IDS = 1 << 22
"""The largest published vocabulary has about a million; a larger id would only be there to fill memory."""


def read_file(file: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The bytes of a regular file in its own folder.

    Raises:
        ModelError: there is none, it is larger, or a link that leads out of its folder.
    """
    try:
        if file.is_symlink():
            require_plain_folder(file.parent)
        return read_foreign(file, most_bytes)
    except StorageError as problem:
        raise ModelError(f"there is no tokenizer to be read: {problem}") from None


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """The object that JSON text holds.

    Raises:
        ModelError: it is no JSON object, or holds a key twice (readers take either one) or a number that is none.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for place, name in enumerate(names) if name in set(names[:place]))
            raise ModelError(f"{where} holds the key {twice[:200]!r} twice, so it cannot be known which one counts")
        return found

    def finite(text: str) -> float:
        if not math.isfinite(number := float(text)):
            raise ModelError(f"{where} holds the number {text[:50]}, which nothing in a tokenizer can be")
        return number

    parts = data.count(b"{") + data.count(b"[")
    if parts > MOST_PARTS:
        raise ModelError(f"{where} is made of {parts:,} objects and lists; at most {MOST_PARTS:,} are read")
    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError) as problem:
        raise ModelError(f"{where} is not valid JSON, so there is no tokenizer in it: {str(problem)[:300]}") from None
    if not isinstance(found, dict):
        raise ModelError(f"{where} holds {type(found).__name__}, not names with values, so there is no tokenizer in it")
    return found


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; see `parse_json`."""
    return parse_json(read_file(file), str(file))


def read_optional_json(file: Path) -> dict[str, Any]:
    """The same; nothing where there is no such file."""
    return read_json(file) if file.exists() or file.is_symlink() else {}


def require_id(value: object, where: str) -> int:
    """A token id that a vocabulary can have.

    Raises:
        ModelError: it is no whole number, negative, or so large that only a broken or hostile file can mean it.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST_IDS:
        raise ModelError(
            f"{where} has the id {str(value)[:50]!r}; ids are whole numbers from 0 to {MOST_IDS - 1}, of which the "
            "largest vocabularies use a quarter"
        )
    return value


def require_text(value: object, where: str) -> str:
    """A string of Unicode characters.

    Raises:
        ModelError: it is of another type, or holds half a surrogate pair.
    """
    if not isinstance(value, str):
        raise ModelError(f"{where} is {str(value)[:50]!r}, where there must be text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ModelError(f"{where} holds a lone surrogate ({ascii(value)[:80]}), which is no text")
    return value
