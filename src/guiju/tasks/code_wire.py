"""Plain values as lines of JSON between two processes that do not trust each other.

A value arrives as what it is, of exactly Python's own types: whatever the other side did to equality, to its classes or
to this very file, there is nothing in a line but data. What is no plain value stays where it is, and a number stands
for it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from typing import Any

LONGEST = 16 << 20  # bytes of a line
_JSON_EXACT = 1 << 63
TYPES = {kind.__name__: kind for kind in (bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple)}
"""Types that may be passed themselves, as in f(values, int)."""

Json = Any


class WireError(Exception):
    """A line that is no value, or too long."""


def encode(value: Any, other: Callable[[Any], Json]) -> Json:
    """A value as JSON: an object with one key wherever JSON has no such type.

    Args:
        other: makes JSON of what is no plain value, or raises. Of a subclass, what a dict, list or number holds goes.
    """

    def each(values: Any) -> list[Json]:
        return [encode(item, other) for item in values]

    match value:
        case None | bool():
            return value
        case str():
            return str.__str__(value)
        case int():
            number = int.__index__(value)
            return number if abs(number) < _JSON_EXACT else {"int": hex(number)}
        case float():
            return float.__float__(value) if math.isfinite(value) else {"float": float.__repr__(value)}
        case complex():
            return {"complex": each((value.real, value.imag))}
        case list():
            return each(list.__iter__(value))
        case tuple():
            return {"tuple": each(tuple.__iter__(value))}
        case dict():
            return {"dict": [each(pair) for pair in dict.items(value)]}
        case set():
            return {"set": each(set.__iter__(value))}
        case frozenset():
            return {"frozenset": each(frozenset.__iter__(value))}
        case bytes():
            return {"bytes": bytes(value).hex()}
        case bytearray():
            return {"bytearray": bytes(value).hex()}
        case range():
            return {"range": each((value.start, value.stop, value.step))}
        case type() if any(value is kind for kind in TYPES.values()):
            return {"type": value.__name__}
        case _:
            return other(value)


def decode(data: Json, other: Callable[[str, int], Any]) -> Any:
    """The value that JSON stands for, of Python's own types.

    Args:
        other: gives what a number stands for, or raises WireError; its first argument is the key.
    Raises:
        WireError: it stands for nothing.
    """
    if isinstance(data, list):
        return [decode(item, other) for item in data]
    if not isinstance(data, dict):
        return data
    if len(data) != 1:
        raise WireError("an object has one key")
    [(key, held)] = data.items()
    try:
        return _decode_tagged(key, held, other)
    except (TypeError, ValueError, KeyError, OverflowError) as problem:
        raise WireError(f"{key} cannot be read: {problem}") from None


def _decode_tagged(key: str, held: Json, other: Callable[[str, int], Any]) -> Any:
    def items() -> list[Any]:
        if not isinstance(held, list):
            raise TypeError("it holds no list")
        return [decode(item, other) for item in held]

    match key:
        case "int":
            return int(held, 16)
        case "float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[held]
        case "complex":
            real, imaginary = items()
            return complex(real, imaginary)
        case "tuple":
            return tuple(items())
        case "dict":
            return dict(items())
        case "set":
            return set(items())
        case "frozenset":
            return frozenset(items())
        case "bytes":
            return bytes.fromhex(held)
        case "bytearray":
            return bytearray.fromhex(held)
        case "range":
            return range(*items())
        case "type":
            return TYPES[held]
        case _:
            if type(held) is not int:
                raise TypeError("it holds no number")
            return other(key, held)


class Line:
    """One end of two pipes, that sends and receives JSON line by line."""

    def __init__(self, read: int, write: int) -> None:
        self.read, self.write = read, write
        self._held = bytearray()

    def send(self, message: Json) -> None:
        """Raises OSError where the other side is gone, and WireError where the message is too long."""
        data = json.dumps(message).encode() + b"\n"
        if len(data) > LONGEST:
            raise WireError(f"a value takes {len(data)} bytes, and {LONGEST} may be sent at once")
        while data:
            data = data[os.write(self.write, data) :]

    def receive(self) -> Json:
        """Raises EOFError where the other side is gone, and WireError where it sends no JSON."""
        searched = 0
        while (end := self._held.find(b"\n", searched)) < 0:
            searched = len(self._held)
            if searched > LONGEST:
                raise WireError(f"it sends more than {LONGEST} bytes at once")
            data = os.read(self.read, 1 << 16)
            if not data:
                raise EOFError
            self._held += data
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise WireError("it sends what is no JSON") from None
