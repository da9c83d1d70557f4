"""Counts of characters by class, for many texts at once: what the quality rules and the language rule go by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

_SPACE, _DIGIT, _SYMBOL, _LETTER, _HAN, _KANA, _LOST = (1 << bit for bit in range(7))
# The punctuation that prose, verse and Chinese are written with; anything else that is no letter or digit is a symbol.
_PUNCTUATION = ".,;:!?'\"()[]-_‘’“”–—…、。，；：！？（）《》〈〉「」『』【】〔〕·・～"
_MARKS = ((0x0300, 0x036F), (0x0600, 0x06FF), (0x0900, 0x109F), (0x1780, 0x17FF))
_HAN_RANGES = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))


@dataclass(frozen=True, slots=True)
class Characters:
    """A text's characters by class."""

    characters: int
    solid: int
    """Those that are not white space."""
    words: int
    """Stretches between white space."""
    digits: int
    symbols: int
    letters: int
    """Chinese characters included."""
    han: int
    kana: int
    lost: int
    """U+FFFD, which stands where a decoder lost text."""


@cache
def _classes() -> npt.NDArray[np.uint8]:
    """The class bits of every code point."""
    table = np.full(0x110000, _SYMBOL, np.uint8)
    for code in range(0x20000):
        character = chr(code)
        if character.isalpha():
            table[code] = _LETTER
        elif character.isdigit():
            table[code] = _DIGIT
        elif character.isspace():
            table[code] = _SPACE
        elif character.isalnum():
            table[code] = 0
    for low, high in _MARKS:
        table[low : high + 1] &= ~np.uint8(_SYMBOL)
    for low, high in _HAN_RANGES:
        table[low : high + 1] = _LETTER | _HAN
    table[0x3040:0x3100] = _LETTER | _KANA
    table[[ord(character) for character in _PUNCTUATION]] = 0
    table[0xFFFD] = _LOST
    return table


def count_characters(texts: list[str]) -> list[Characters]:
    """The counts of each text; empty texts have none."""
    lengths = np.array([len(text) for text in texts], np.int64)
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    if not codes.size:
        return [Characters(*[0] * 9)] * len(texts)
    classes = _classes()[codes]
    full = np.flatnonzero(lengths)
    starts = (np.cumsum(lengths) - lengths)[full]
    space = (classes & _SPACE) != 0
    begins = ~space
    begins[1:] &= space[:-1]
    begins[starts] = ~space[starts]
    columns = [lengths[full], lengths[full] - _sums(space, starts), _sums(begins, starts)]
    columns += [_sums((classes & bit) != 0, starts) for bit in (_DIGIT, _SYMBOL, _LETTER, _HAN, _KANA, _LOST)]
    counts = np.zeros((len(texts), len(columns)), np.int64)
    counts[full] = np.stack(columns, axis=1)
    return [Characters(*row) for row in counts.tolist()]


def _sums(flags: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    sums: npt.NDArray[np.int64] = np.add.reduceat(flags, starts, dtype=np.int64)
    return sums
