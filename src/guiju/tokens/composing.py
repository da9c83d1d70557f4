"""SentencePiece's replacements in the steps that a tokenizer.json knows.

The `tokenizers` library applies a table of replacements ("Precompiled") within one grapheme cluster at a time, and
takes its shortest entry: half-width katakana with a voicing mark, Korean letter by letter and "Ａ" with an accent come
out otherwise than by SentencePiece, which takes the longest entry at each character. The tables that SentencePiece
ships (nfkc, nmt_nfkc, and both with case folding) join characters exactly where a decomposition (NFKD) of one character
stands written out, in canonical order. So here every place that might be joined is marked, as one that is or is not;
the table replaces single characters; and canonical composition (NFC) joins what is not kept apart.
Source: https://github.com/google/sentencepiece, src/builder.cc, BuildNFKCMap.
"""

from __future__ import annotations

import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

from guiju.tokens.charsmap import Charsmap

JOINED, APART = "\ufff1", "\ufff0"
"""Marks between two characters: no text has them (they are unassigned), and they end a grapheme cluster."""
_ATTACHED = r"\p{M}\x{0e33}\x{0eb3}\x{200c}\x{200d}\x{ff9e}\x{ff9f}\x{1f3fb}-\x{1f3ff}\x{e0020}-\x{e007f}"
"""Characters that go on with the grapheme cluster before them."""
_KOREAN = r"\x{1160}-\x{11ff}\x{d7b0}-\x{d7ff}\x{3131}-\x{318e}\x{ffa0}-\x{ffdc}"
_HANGUL = range(0xAC00, 0xD7A4)
_LEADING, _VOWELS, _TRAILING = range(0x1100, 0x1113), range(0x1161, 0x1176), range(0x11A8, 0x11C3)
_SAMPLES = {"か\u3099": "が", "ｶﾞ": "ガ", "\u1112\u1161\u11ab": "한", "e\u0301": "é", "ﬁ": "fi"}


def composing_steps(table: dict[str, Any], charsmap: Charsmap) -> list[dict[str, Any]]:
    """The normalizers that do what a table does; the table alone, where it is none that SentencePiece ships."""
    if any(charsmap.longest(text, 0) != (wanted, len(text)) for text, wanted in _SAMPLES.items()):
        return [table]
    kept = rf"(?=[{_ATTACHED}{_KOREAN}])(?<=[^{JOINED}])|(?<=\r)(?=\n)"
    return [
        _replace({"Regex": _joined_places()}, JOINED),
        _replace({"Regex": kept}, APART),
        table,
        _replace({"String": JOINED}, ""),
        {"type": "NFC"},
        _replace({"String": APART}, ""),
    ]


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


@cache
def _joined_places() -> str:
    """Matches between two characters that belong to one decomposition."""
    variants: dict[str, set[str]] = defaultdict(set)  # what alone decomposes to this character, and itself
    tails: dict[str, set[str]] = defaultdict(set)  # the rest of a decomposition -> with which it begins
    for character in map(chr, range(sys.maxunicode + 1)):
        if not unicodedata.decomposition(character) or ord(character) in _HANGUL:
            continue
        parts = unicodedata.normalize("NFKD", character)
        if len(parts) == 1:
            variants[parts].add(character)
        elif unicodedata.normalize("NFC", parts) != parts:
            tails[parts[1:]].add(parts[0])

    def among(characters: Iterable[str]) -> str:
        return _class({other for character in characters for other in (character, *variants[character])})

    sequences = [[firsts, *tail] for tail, firsts in tails.items()]
    sequences += [[map(chr, _LEADING), map(chr, _VOWELS)], [map(chr, _LEADING), map(chr, _VOWELS), map(chr, _TRAILING)]]
    places, second = [], set()
    for sequence in sequences:
        classes = [among(characters) for characters in sequence]
        second |= set(classes[1:])
        places += [f"(?<={''.join(classes[:place])})(?={''.join(classes[place:])})" for place in range(1, len(classes))]
    ahead = "".join(found[1:-1] for found in sorted(second))
    return f"(?=[{ahead}])(?:{'|'.join(sorted(places))})"


def _class(characters: set[str]) -> str:
    """A class of a pattern, runs as ranges."""
    codes = sorted(map(ord, characters))
    runs: list[list[int]] = []
    for code in codes:
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "[" + "".join(rf"\x{{{a:x}}}" if a == b else rf"\x{{{a:x}}}-\x{{{b:x}}}" for a, b in runs) + "]"
