"""What each token adds to a text, in bytes: at its beginning, and after other tokens.

Read off the decoder of a tokenizer.json, so that a text can be given out token by token, and never half a character.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from guiju.errors import ModelError

SPACE_MARK = "\u2581"  # how SentencePiece writes a space
BYTE_SYMBOLS = 256
BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# What WordPiece's decoder undoes where `cleanup` is on, in its order.
_CLEANUPS = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " do not", " 's", " 've", " 're")
_CLEANED = (".", "?", "!", ",", "'", "n't", "'m", " don't", "'s", "'ve", "'re")
Reader = Callable[[str], bytes]


@dataclass(frozen=True)
class Surfaces:
    """By id, the bytes that a token stands for."""

    first: list[bytes]
    """Where it begins a text: some kinds drop the space before the first word there."""
    later: list[bytes]
    """After another token."""


def read_surfaces(
    decoder: object, vocabulary: Mapping[str, int], added: frozenset[int], special: frozenset[int], where: str
) -> Surfaces:
    """What the tokens of a vocabulary stand for; nothing where they are special.

    Raises:
        ModelError: the decoder is of a kind that is not followed here.
    """
    steps = list(_steps(decoder, where))
    first, later = _readers(steps, where)
    size = max(vocabulary.values(), default=-1) + 1
    surfaces = Surfaces([b""] * size, [b""] * size)
    as_text = any(step["type"] == "ByteLevel" for step in steps)  # an added token is text, not bytes in disguise
    for piece, token in vocabulary.items():
        if token not in special:
            plain = as_text and token in added
            surfaces.first[token] = piece.encode() if plain else first(piece)
            surfaces.later[token] = piece.encode() if plain else later(piece)
    return surfaces


def _steps(decoder: object, where: str) -> Iterator[Mapping[str, Any]]:
    """The steps of a decoder, one after the other."""
    if not isinstance(decoder, Mapping):
        raise ModelError(
            f"{where} says nothing about how ids become text (its decoder is {str(decoder)[:50]!r}), so nothing that a "
            "model writes could be read. Bring a tokenizer.json with a decoder"
        )
    if decoder.get("type") == "Sequence":
        for part in decoder.get("decoders", ()):
            yield from _steps(part, where)
    else:
        yield decoder


def _readers(steps: list[Mapping[str, Any]], where: str) -> tuple[Reader, Reader]:
    """From a piece to its bytes: for the first token, and for later ones."""
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"]:
        return _read_byte_level, _read_byte_level
    if kinds == ["WordPiece"]:
        return _word_piece(str(steps[0].get("prefix", "##")), bool(steps[0].get("cleanup", True)))
    known = {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}
    if not kinds or not set(kinds) <= known:
        raise ModelError(
            f"{where} decodes by {', '.join(map(str, kinds)) or 'nothing'}; ByteLevel (GPT-2), WordPiece (BERT), and "
            f"what SentencePiece models become ({', '.join(sorted(known))}) are followed"
        )
    return _sentence_piece(steps, where)


def _read_byte_level(piece: str) -> bytes:
    if all(symbol in _BYTE_OF_SYMBOL for symbol in piece):
        return bytes(_BYTE_OF_SYMBOL[symbol] for symbol in piece)
    return piece.encode()


def _word_piece(prefix: str, cleanup: bool) -> tuple[Reader, Reader]:
    def clean(text: str) -> bytes:
        if cleanup:
            for wrong, right in zip(_CLEANUPS, _CLEANED, strict=True):
                text = text.replace(wrong, right)
        return text.encode()

    def later(piece: str) -> bytes:
        return clean(piece[len(prefix) :] if prefix and piece.startswith(prefix) else f" {piece}")

    return clean, later


def _sentence_piece(steps: list[Mapping[str, Any]], where: str) -> tuple[Reader, Reader]:
    replacements: list[tuple[str, str]] = []
    strips = meta = fallback = False
    for step in steps:
        if step["type"] == "Replace":
            pattern = step.get("pattern")
            wanted = pattern.get("String") if isinstance(pattern, Mapping) else None
            if not isinstance(wanted, str) or not wanted:
                raise ModelError(f"{where} decodes by the pattern {str(pattern)[:80]!r}; plain text is replaced")
            replacements.append((wanted, str(step.get("content", ""))))
        elif step["type"] == "Metaspace":
            replacements.append((str(step.get("replacement", SPACE_MARK)), " "))
            meta = step.get("prepend_scheme", "always") != "never"
        elif step["type"] == "Strip":
            if (step.get("content"), step.get("start"), step.get("stop")) != (" ", 1, 0):
                raise ModelError(f"{where} strips {str(dict(step))[:120]}; one space at the beginning is stripped")
            strips = True
        fallback = fallback or step["type"] == "ByteFallback"

    def later(piece: str) -> bytes:
        byte = BYTE_PIECE.fullmatch(piece) if fallback else None
        if byte is not None:
            return bytes([int(byte[1], 16)])
        for wanted, content in replacements:
            piece = piece.replace(wanted, content)
        return piece.encode()

    def first(piece: str) -> bytes:
        if meta:
            piece = piece.replace(replacements[-1][0], "")
        data = later(piece)
        return data[1:] if strips and data.startswith(b" ") else data

    return first, later


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte: itself where printable, else the next free code point from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(BYTE_SYMBOLS) if byte not in printable]
    symbols = {chr(byte): byte for byte in printable}
    symbols.update({chr(BYTE_SYMBOLS + position): byte for position, byte in enumerate(others)})
    return symbols


_BYTE_OF_SYMBOL = _byte_alphabet()


def byte_symbols(decoder: object) -> list[str]:
    """How a byte-level vocabulary writes each byte; empty for another decoder."""
    return list(_BYTE_OF_SYMBOL) if isinstance(decoder, Mapping) and decoder.get("type") == "ByteLevel" else []
