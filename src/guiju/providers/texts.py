"""Texts to score, out of a file of JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

from guiju.errors import DataError


def read_texts(path: str | Path) -> list[tuple[str | int | None, str]]:
    """Id (None where there is none) and text of each line of `{"id", "text"}` objects; empty lines are left out.

    Raises:
        DataError: the file is missing or not UTF-8, or a line is no such object; the line is named.
    """
    try:
        content = Path(path).read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path} is not UTF-8 text: {problem}. Save it as UTF-8") from None
    found: list[tuple[str | int | None, str]] = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as problem:
            raise DataError(f"{path}, line {number} is not JSON: {problem}") from None
        text = item.get("text") if isinstance(item, dict) else None
        if not isinstance(text, str):
            raise DataError(f'{path}, line {number} must be an object such as {{"id": "1", "text": "..."}}')
        name = item.get("id")
        if name is not None and (not isinstance(name, (str, int)) or isinstance(name, bool)):
            raise DataError(f"{path}, line {number}: id is {name!r}; it must be a text or a whole number")
        found.append((name, text))
    return found
