"""Added tokens beside a vocabulary, where no tokenizer.json lists them: tokenizer_config.json and added_tokens.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from guiju.errors import ModelError
from guiju.tokens.foreign import read_optional_json, require_id, require_text
from guiju.tokens.layout import MOST_ADDED

_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def added_token(token: int, text: str, *, special: bool = True, **flags: bool) -> dict[str, Any]:
    """One entry of a tokenizer.json's added_tokens."""
    return {"id": token, "content": text, **_FLAGS, **flags, "special": special}


def read_added(folder: Path, config: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """By id, the tokens that a folder adds to its vocabulary.

    Raises:
        ModelError: an entry is none.
    """
    found: dict[int, dict[str, Any]] = {}
    where = str(folder / "added_tokens.json")
    for text, number in read_optional_json(folder / "added_tokens.json").items():
        token = require_id(number, f"{where}: {text[:80]!r}")
        found[token] = added_token(token, text, special=False)
    where = str(folder / "tokenizer_config.json")
    listed = config.get("added_tokens_decoder", {})
    if not isinstance(listed, Mapping) or len(listed) > MOST_ADDED:
        raise ModelError(f"{where}: added_tokens_decoder is no list of at most {MOST_ADDED} tokens by id")
    for number, entry in listed.items():
        token = require_id(
            int(number) if number.isdecimal() and len(number) < 10 else number, f"{where}: an added token"
        )
        if not isinstance(entry, Mapping):
            raise ModelError(f"{where}: the added token {token} is {str(entry)[:80]!r}, not a token with its flags")
        text = require_text(entry.get("content"), f"{where}: the added token {token}")
        flags = {name: bool(entry.get(name, False)) for name in (*_FLAGS, "special")}
        found[token] = {"id": token, "content": text, **flags}
    return found


def complete(vocabulary: Mapping[str, int], added: Iterable[Mapping[str, Any]], where: str) -> list[Mapping[str, Any]]:
    """Added tokens in the order of their ids; ids between them that nothing names get a name that no text encodes to.

    The library counts new tokens up from the vocabulary's end, so that none may be left out.

    Raises:
        ModelError: two tokens have one id, or ids are left out by the thousand.
    """
    owner = {token: text for text, token in vocabulary.items()}
    size = max(owner, default=-1) + 1
    entries = {int(entry["id"]): entry for entry in added}
    for token, entry in entries.items():
        if owner.get(token, entry["content"]) != entry["content"]:
            raise ModelError(
                f"{where} has the added token {entry['content'][:80]!r} with the id {token}, which is "
                f"{owner[token][:80]!r} in its vocabulary"
            )
    last = max(entries, default=-1)
    if last >= size + MOST_ADDED:
        raise ModelError(f"{where} has an added token with the id {last}, but its vocabulary has {size} tokens")
    for token in range(size, last + 1):
        entries.setdefault(token, added_token(token, f"<unused {token}>"))
    return [entries[token] for token in sorted(entries)]
