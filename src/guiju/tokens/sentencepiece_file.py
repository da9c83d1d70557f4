"""SentencePiece's .model file: a protobuf message, read by hand and within bounds; what cannot be meant is refused.

No protobuf library: the few fields that encoding needs take less code than a guard around one would.
Source: https://github.com/google/sentencepiece, src/sentencepiece_model.proto; the wire format:
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from guiju.errors import ModelError
from guiju.tokens.charsmap import Charsmap
from guiju.tokens.foreign import MOST_IDS

MOST_BYTES = 128 << 20
LONGEST_PIECE = 8000
"""Bytes; SentencePiece itself reads none that is longer."""
MOST_TESTS = 1000
MOST_WORK = 1 << 30
"""Sum of the squares of the pieces' lengths, with which the time grows that finding their parts takes."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Value = int | bytes


class Kind(IntEnum):
    """What a piece is for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Algorithm(IntEnum):
    """How a text is cut into pieces."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary; its id is its place."""

    text: str
    score: float
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class SentencePieceModel:
    """What a .model file says about encoding."""

    pieces: tuple[Piece, ...]
    algorithm: Algorithm
    byte_fallback: bool
    space_as_suffix: bool
    unknown_surface: str
    names: dict[str, str]
    """bos, eos, pad, unk -> the piece's text."""
    charsmap: Charsmap | None
    charsmap_data: bytes
    add_dummy_prefix: bool
    remove_extra_spaces: bool
    escape_spaces: bool
    tests: tuple[tuple[str, str], ...] = field(default=())
    """Texts with their pieces, joined by spaces, that the file brings to be checked by."""

    def first(self, kind: Kind) -> int | None:
        """The first id of a kind."""
        return next((number for number, piece in enumerate(self.pieces) if piece.kind is kind), None)

    def id_of(self, name: str) -> int | None:
        """The id of the piece that the file calls bos, eos or pad, where it is a control piece."""
        wanted = self.names[name]
        return next(
            (number for number, piece in enumerate(self.pieces) if piece.text == wanted and piece.kind is Kind.CONTROL),
            None,
        )


def read_model(data: bytes, where: str) -> SentencePieceModel:
    """The model in the bytes of a .model file.

    Raises:
        ModelError: it is none, is cut off, contradicts itself, or is of a kind that is not read.
    """
    pieces: list[Piece] = []
    trainer: dict[int, Value] = {}
    normalizer: dict[int, Value] = {}
    tests: list[tuple[str, str]] = []
    for number, value in _fields(data, where):
        if number == 1:
            if len(pieces) >= MOST_IDS:
                raise ModelError(f"{where} has more than {MOST_IDS} pieces, which no vocabulary has")
            pieces.append(_piece(_message(value, where), f"{where}: piece {len(pieces)}"))
        elif number == 2:
            trainer.update(_fields(_message(value, where), where))
        elif number == 3:
            normalizer.update(_fields(_message(value, where), where))
        elif number == 4:
            tests += _tests(_message(value, where), where)
        elif number == 5 and dict(_fields(_message(value, where), where)).get(2):
            raise ModelError(f"{where} changes texts when it decodes (denormalizer_spec), which is not done here")
    if len(tests) > MOST_TESTS:
        raise ModelError(f"{where} brings {len(tests)} texts to be checked by; at most {MOST_TESTS} are read")
    return _checked(_model(pieces, trainer, normalizer, tests, where), where)


def _model(
    pieces: list[Piece],
    trainer: dict[int, Value],
    normalizer: dict[int, Value],
    tests: list[tuple[str, str]],
    where: str,
) -> SentencePieceModel:
    """Field numbers become names; the defaults are the proto's."""
    charsmap_data = _message(normalizer.get(2, b""), where)
    kind = _number(trainer.get(3, 1), where)
    if kind not in (Algorithm.UNIGRAM, Algorithm.BPE):
        known = Algorithm(kind).name.lower() if kind in Algorithm.__members__.values() else f"number {kind}"
        raise ModelError(f"{where} is a SentencePiece model of kind {known}; unigram and bpe are read")
    return SentencePieceModel(
        pieces=tuple(pieces),
        algorithm=Algorithm(kind),
        byte_fallback=bool(_number(trainer.get(35, 0), where)),
        space_as_suffix=bool(_number(trainer.get(24, 0), where)),
        unknown_surface=_text(trainer.get(44, " \u2047 ".encode()), where),
        names={
            name: _text(trainer.get(place, b""), where) or usual
            for name, place, usual in (
                ("unk", 45, "<unk>"),
                ("bos", 46, "<s>"),
                ("eos", 47, "</s>"),
                ("pad", 48, "<pad>"),
            )
        },
        charsmap=Charsmap(charsmap_data, f"{where}: its table of replacements") if charsmap_data else None,
        charsmap_data=charsmap_data,
        add_dummy_prefix=bool(_number(normalizer.get(3, 1), where)),
        remove_extra_spaces=bool(_number(normalizer.get(4, 1), where)),
        escape_spaces=bool(_number(normalizer.get(5, 1), where)),
        tests=tuple(tests),
    )


def _checked(model: SentencePieceModel, where: str) -> SentencePieceModel:
    """The same model, once it is certain that its pieces make a vocabulary."""
    if not any(piece.kind is Kind.NORMAL for piece in model.pieces):
        raise ModelError(f"{where} has {len(model.pieces)} pieces, none of them for text: it is no SentencePiece model")
    ids: dict[str, int] = {}
    for number, piece in enumerate(model.pieces):
        if piece.text in ids:
            raise ModelError(f"{where} has the piece {piece.text[:80]!r} twice, as {ids[piece.text]} and {number}")
        ids[piece.text] = number
    work = sum(len(piece.text) ** 2 for piece in model.pieces)
    if work > MOST_WORK:
        longest = max(len(piece.text) for piece in model.pieces)
        raise ModelError(
            f"{where} has {len(model.pieces)} pieces of up to {longest} characters, so long that going through them "
            "would take hours"
        )
    unknown = [number for number, piece in enumerate(model.pieces) if piece.kind is Kind.UNKNOWN]
    if len(unknown) != 1:
        raise ModelError(f"{where} has {len(unknown)} unknown pieces, where there is always one")
    bytes_found = [piece.text for piece in model.pieces if piece.kind is Kind.BYTE]
    wrong = next((text for text in bytes_found if not _BYTE.fullmatch(text)), None)
    if wrong is not None:
        raise ModelError(
            f"{where} has the byte piece {wrong[:80]!r}, which is no byte; they are written <0x00> to <0xFF>"
        )
    if len(bytes_found) not in ((256,) if model.byte_fallback else (0,)):
        raise ModelError(
            f"{where} has {len(bytes_found)} byte pieces; with byte_fallback there are 256, without it none"
        )
    return model


def byte_of(text: str) -> int | None:
    """The byte that a byte piece stands for."""
    found = _BYTE.fullmatch(text)
    return int(found[1], 16) if found else None


def _piece(data: bytes, where: str) -> Piece:
    values = dict(_fields(data, where))
    raw = _message(values.get(1, b""), where)
    if not 0 < len(raw) < LONGEST_PIECE or b"\0" in raw:
        raise ModelError(f"{where} has {len(raw)} bytes; a piece has 1 to {LONGEST_PIECE - 1}, none of them zero")
    score = values.get(2, b"\0\0\0\0")
    number = struct.unpack("<f", score)[0] if isinstance(score, bytes) and len(score) == 4 else math.nan
    if not math.isfinite(number):
        raise ModelError(f"{where} has a score that is no number")
    kind = _number(values.get(3, 1), where)
    if kind not in Kind.__members__.values():
        raise ModelError(f"{where} is of kind {kind}, which SentencePiece does not have (1 to 6)")
    return Piece(_text(raw, where), number, Kind(kind))


def _tests(data: bytes, where: str) -> Iterator[tuple[str, str]]:
    for number, value in _fields(data, where):
        if number == 1:
            sample = dict(_fields(_message(value, where), where))
            yield _text(sample.get(1, b""), where), _text(sample.get(2, b""), where)


def _fields(data: bytes, where: str) -> Iterator[tuple[int, Value]]:
    """Number and value of each field, in order: a whole number, or the bytes of anything else."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place, where)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, place = _varint(data, place, where)
            yield number, value
            continue
        if wire == _BYTES:
            size, place = _varint(data, place, where)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ModelError(f"{where} is no SentencePiece model: at byte {place} is a field of type {wire}{_HINT}")
        if number == 0 or size > len(data) - place:
            raise ModelError(
                f"{where} is cut off, or no SentencePiece model: at byte {place} a field states {size} bytes, and "
                f"{len(data) - place} are left{_HINT}"
            )
        yield number, data[place : place + size]
        place += size


_HINT = " (a tokenizer.model that is lines of base64 text is tiktoken's; bring the tokenizer.json of that model)"


def _varint(data: bytes, place: int, where: str) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ModelError(f"{where} is cut off, or no SentencePiece model: a number does not end at byte {place}{_HINT}")


def _message(value: Value, where: str) -> bytes:
    if isinstance(value, bytes):
        return value
    raise ModelError(f"{where} is no SentencePiece model: it has the number {value} where there must be bytes")


def _number(value: Value, where: str) -> int:
    if isinstance(value, int):
        return value
    raise ModelError(f"{where} is no SentencePiece model: it has {len(value)} bytes where there must be a number")


def _text(value: Value, where: str) -> str:
    try:
        return _message(value, where).decode()
    except UnicodeDecodeError as problem:
        raise ModelError(f"{where} holds text that is no UTF-8 ({problem.reason})") from None
