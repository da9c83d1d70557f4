"""JSON that is read value by value: of a long list or object no more is held than the member at hand."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from guiju.errors import DataError

LONGEST_VALUE = 1 << 26
"""Characters. A longer member is no record, and is refused before it fills memory."""

_AT_ONCE = 1 << 16
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_NEAR_END = 16
"""Characters: what seems wrong so near to the end of what was read (`tru`, `\\u12`) may only be cut there."""


class JsonText:
    """Walks through a JSON text; `line` is where it stands."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file, self._path = file, path
        self._held, self._at, self.line = "", 0, 1

    def next(self) -> str:
        """The next character that is no white space, which stays; empty at the end."""
        while True:
            match = _SPACE.match(self._held, self._at)
            assert match is not None, "it matches nothing, too"
            self._pass(match.end())
            if self._at < len(self._held):
                return self._held[self._at]
            if not self._more():
                return ""

    def take(self, character: str) -> bool:
        """Pass a character, where it is the next one."""
        found = self.next() == character
        self._at += found
        return found

    def value(self) -> Any:
        """The next value, whole.

        Raises:
            DataError: it is no JSON, or larger than a record can be.
        """
        self.next()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._held, self._at)
            except json.JSONDecodeError as problem:
                if not self._may_be_cut(problem) or not self._more():
                    raise self._wrong(problem.msg, problem.pos) from None
            except (ValueError, RecursionError) as problem:
                raise self._wrong(str(problem) if isinstance(problem, ValueError) else "nested too deeply") from None
            else:
                if end < len(self._held) or isinstance(value, dict | list | str) or not self._more():
                    self._pass(end)
                    return value

    def items(self) -> Iterator[int]:
        """Stands before each member of a list in turn, and says in which line; the caller takes its value."""
        self._require("[")
        if self.take("]"):
            return
        while True:
            self.next()
            yield self.line
            if self.take("]"):
                return
            self._require(",")

    def fields(self) -> Iterator[str]:
        """The name of each member of an object in turn, standing before its value, which the caller takes."""
        self._require("{")
        if self.take("}"):
            return
        while True:
            if self.next() != '"':
                raise self._wrong("Expecting property name enclosed in double quotes")
            name = str(self.value())
            self._require(":")
            yield name
            if self.take("}"):
                return
            self._require(",")

    def end(self) -> None:
        """Raise DataError where more follows."""
        if self.next():
            raise self._wrong("Extra data. Is it a record a line? Then name the format jsonl")

    def _require(self, character: str) -> None:
        if not self.take(character):
            raise self._wrong(f"Expecting '{character}' delimiter")

    def _pass(self, end: int) -> None:
        self.line += self._held.count("\n", self._at, end)
        self._at = end

    def _more(self) -> bool:
        """Read on, by as much again as is held, so that a long value is not begun too often."""
        held = len(self._held) - self._at
        if held > LONGEST_VALUE:
            raise DataError(
                f"{self._path}, line {self.line} begins a value of more than {LONGEST_VALUE} characters: that is no "
                "record. Turn the file into jsonl, a record a line"
            )
        read = self._file.read(max(_AT_ONCE, held))
        if read:
            self._held, self._at = self._held[self._at :] + read, 0
        return bool(read)

    def _may_be_cut(self, problem: json.JSONDecodeError) -> bool:
        return problem.msg.startswith("Unterminated string") or problem.pos + _NEAR_END >= len(self._held)

    def _wrong(self, what: str, at: int | None = None) -> DataError:
        line = self.line + self._held.count("\n", self._at, self._at if at is None else at)
        return DataError(
            f"{self._path}, line {line} is not valid JSON: {what}. Mend it: skipping it would change the figures"
        )
