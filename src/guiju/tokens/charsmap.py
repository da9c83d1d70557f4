"""SentencePiece's table of replacements: what its normaliser writes for which characters.

The table is a double-array trie over UTF-8 (https://github.com/s-yata/darts-clone) and the texts that it points to:
<bytes of the trie, uint32><units, uint32 each><texts, each ended by a zero byte>. A unit holds its label in the low
8 bits (with bit 31, which a value sets), whether a key ends here in bit 8, and the way to its children above.
Source: https://github.com/google/sentencepiece, src/normalizer.cc.
"""

from __future__ import annotations

import struct

import numpy as np

from guiju.errors import ModelError

_LABEL = 0x8000_00FF
_VALUE = 0x7FFF_FFFF
_IS_VALUE = 1 << 31
_ENDS_HERE = 1 << 8
_FAR = 1 << 9
LONGEST_TEXT = 1000
"""Bytes of a replacement; the longest published one has 33 (U+FDFA)."""
MOST_STEPS = 1 << 17
"""So many ways from one character to the next are kept in memory."""


class Charsmap:
    """Longest-match replacement, character by character."""

    def __init__(self, data: bytes, where: str) -> None:
        """Read the table.

        Raises:
            ModelError: it is cut off, or a way in it leads out of it.
        """
        size = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 0
        if not size or size % 4 or 4 + size >= len(data):
            raise ModelError(f"{where} states a trie of {size} bytes in a table of {len(data)}: it is damaged")
        self._units: list[int] = np.frombuffer(data, "<u4", size // 4, 4).tolist()
        self._texts = data[4 + size :]
        _require_whole(np.array(self._units, dtype=np.uint32), self._texts, where)
        self._root = _children(0, self._units[0])
        self._steps: dict[tuple[int, str], tuple[int, str | None] | None] = {}

    def longest(self, text: str, start: int) -> tuple[str, int] | None:
        """What stands for the longest run of characters from `start` on that has an entry, and where it ends."""
        node, found = self._root, None
        for place in range(start, len(text)):
            key = (node, text[place])
            step = self._steps[key] if key in self._steps else self._walk(key)
            if step is None:
                break
            node, replacement = step
            if replacement is not None:
                found = replacement, place + 1
        return found

    def _walk(self, key: tuple[int, str]) -> tuple[int, str | None] | None:
        """Through the bytes of one character; what comes of it is kept."""
        if len(self._steps) >= MOST_STEPS:
            self._steps.clear()
        self._steps[key] = None
        node, character = key
        unit = 0
        for byte in character.encode():
            unit = self._units[node ^ byte]
            if unit & _LABEL != byte or byte == 0:
                return None
            node = _children(node ^ byte, unit)
        replacement = None
        if unit & _ENDS_HERE:
            begin = self._units[node] & _VALUE
            replacement = self._texts[begin : self._texts.index(0, begin)].decode()
        self._steps[key] = node, replacement
        return self._steps[key]


def _children(place: int, unit: int) -> int:
    """Where the children of a unit begin; each stands at this number with its label's bits flipped."""
    return place ^ ((unit >> 10) << ((unit & _FAR) >> 6))


def _require_whole(units: np.ndarray, texts: bytes, where: str) -> None:
    """See that no unit leads out of the trie, and no value out of the texts: other readers do not look."""
    places = np.arange(len(units), dtype=np.uint64)
    wide = units.astype(np.uint64)
    inner = (units & _IS_VALUE) == 0
    children = places ^ ((wide >> np.uint64(10)) << ((wide & np.uint64(_FAR)) >> np.uint64(6)))
    if bool(((children | np.uint64(0xFF)) >= len(units))[inner].any()):
        raise ModelError(f"{where} has a trie with a way out of its {len(units)} units: it is damaged or made to harm")
    ends = inner & ((units & _ENDS_HERE) != 0)
    begins = units[children[ends].astype(np.int64)] & _VALUE
    if bool((begins >= len(texts)).any()) or not texts.endswith(b"\0"):
        raise ModelError(f"{where} points beyond its {len(texts)} bytes of replacements: it is damaged or made to harm")
    try:
        longest = max(len(text.encode()) for text in texts.decode().split("\0"))
    except UnicodeDecodeError as problem:
        raise ModelError(f"{where} has replacements that are no UTF-8 ({problem.reason}): it is damaged") from None
    inside = np.frombuffer(texts, np.uint8)[begins.astype(np.int64)]
    if bool(((inside & 0xC0) == 0x80).any()):
        raise ModelError(f"{where} points into the middle of a character: it is damaged or made to harm")
    if longest > LONGEST_TEXT:
        raise ModelError(
            f"{where} replaces a character by {longest} bytes; at most {LONGEST_TEXT} are read, so that a text does "
            "not grow without bound"
        )
