"""One byte form for what is hashed: RFC 8785, written strictly and read strictly.

Reading accepts only what has one meaning: UTF-8, no duplicate key, no NaN, no lone surrogate, no number that a double
would silently change.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import rfc8785

from guiju.errors import EvidenceError

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]

_BEYOND_BASIC_PLANE = re.compile("[\U00010000-\U0010ffff]")
_LONGEST_SURE_INTEGER = 15
"""Digits of an integer (with sign) that a double holds for certain; longer ones are looked at."""


def canonical_json(data: Any) -> bytes:
    """The RFC 8785 form of plain data.

    Raises:
        EvidenceError: NaN, infinity, an integer beyond 2**53 - 1, a lone surrogate, a key that is no text, or a value
            that JSON does not know.
    """
    try:
        return rfc8785.dumps(data)
    except (ValueError, RecursionError) as problem:  # CanonicalizationError is a ValueError, and so are codec errors
        raise EvidenceError(f"this cannot be written as canonical JSON, so it cannot go on record: {problem}") from None


def parse_strict(data: bytes) -> Any:
    """Plain data out of JSON that has one meaning; it need not be in canonical form.

    Raises:
        EvidenceError: not UTF-8, not JSON, a duplicate key, NaN or infinity, a lone surrogate, or a number that a
            double cannot hold.
    """
    try:
        text = data.decode()
        parsed = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_int=_whole_number,
            parse_float=_finite_number,
            parse_constant=_no_constant,
        )
        if "\\u" in text:
            json.dumps(parsed, ensure_ascii=False).encode()  # an escaped lone surrogate shows when it is encoded
    except (ValueError, RecursionError) as problem:
        raise EvidenceError(f"this is not JSON with one meaning: {problem}") from None
    return parsed


class CanonicalReader:
    """Reads canonical lines, quickly: the standard encoder's form where it is proven equal, rfc8785 elsewhere.

    Python's encoder and RFC 8785 differ only in how some floats are written and in the order of keys beyond the basic
    plane; lines that hold either go the long way (about 10 times slower).
    """

    def __init__(self) -> None:
        self._long_way = False
        self._decoder = json.JSONDecoder(parse_int=self._integer, parse_float=self._number, parse_constant=_no_constant)
        self._encode = json.JSONEncoder(
            ensure_ascii=False, sort_keys=True, separators=(",", ":"), check_circular=False, allow_nan=False
        ).encode

    def read(self, line: bytes) -> Any:
        """The data of one canonical line, without its newline.

        Raises:
            ValueError: the line is no JSON, or not in canonical form.
        """
        self._long_way = False
        try:
            text = line.decode()
            data, end = self._decoder.raw_decode(text)
            if end != len(text):
                raise ValueError("there is more on the line than one JSON value")
            if self._long_way or (not text.isascii() and _BEYOND_BASIC_PLANE.search(text)):
                again = rfc8785.dumps(data)
            else:
                again = self._encode(data).encode()
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if again != line:  # also where a key stood twice: one of them is gone
            raise ValueError("it is JSON, but not in canonical form")
        return data

    def _integer(self, literal: str) -> int | float:
        value = _whole_number(literal)
        if isinstance(value, float):
            self._long_way = True
        return value

    def _number(self, literal: str) -> float:
        value = _finite_number(literal)
        # Without an exponent, and with a fraction, Python's shortest form and ECMAScript's are the same digits.
        if "e" in literal or "E" in literal or literal.endswith(".0") or "e" in repr(value):
            self._long_way = True
        return value


def _whole_number(literal: str) -> int | float:
    """An integer; one beyond 2**53 - 1 is a double, as RFC 8785 has it, if a double holds it exactly."""
    if len(literal) <= _LONGEST_SURE_INTEGER:
        return int(literal)
    if len(literal) > 400:
        raise ValueError(f"a number of {len(literal)} digits is more than a double holds")
    exact = int(literal)
    if abs(exact) < 2**53:
        return exact
    value = _finite_number(literal)
    if int(value) != exact and rfc8785.dumps(value) != literal.encode():
        raise ValueError(f"{literal} is a number that a double would change")
    return value


def _finite_number(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(f"{literal} is more than a double holds")
    return value


def _no_constant(literal: str) -> float:
    raise ValueError(f"{literal} is no JSON")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
