"""llama2.c's vocabulary: pieces with scores, merged best score first. Read from its .bin, saved as tokenizer.json.

Source: https://github.com/karpathy/llama2.c, `encode` and `decode` in run.c, and export in tokenizer.py.
"""

from __future__ import annotations

import json
import math
import operator
import random
import re
import struct
from collections.abc import Sequence
from pathlib import Path

from guiju.errors import DataError, ModelError
from guiju.tokens.merging import merge_best_first, ranked_merges
from guiju.tokens.tokenizer import Tokenizer

UNKNOWN, BOS, EOS = 0, 1, 2  # fixed in llama2.c
_NAMES = {UNKNOWN: "<unk>", BOS: "<s>", EOS: "</s>"}
_HEADER = struct.Struct("<i")
_ENTRY = struct.Struct("<fi")
_BYTE = re.compile(rb"<0x([0-9A-Fa-f]{2})>")


class Llama2cTokenizer(Tokenizer):
    """Ids as run.c gives them: a space is put before the text, then pairs merge by score, leftmost first on ties.

    Where the vocabulary has byte pieces (`<0xNN>`, wherever they stand), a character without a piece becomes its bytes;
    else it becomes <unk>. Unlike run.c, no text merges into an unknown, first, last or byte piece, so that nothing a
    user writes is taken for one; and no space is put before the text where the vocabulary has no piece for it.
    """

    def __init__(self, scores: Sequence[float], pieces: Sequence[bytes]) -> None:
        """The vocabulary by id.

        Raises:
            ModelError: it lacks the three special ids, or a score is no number.
        """
        if len(pieces) <= EOS:
            raise ModelError(
                f"a llama2.c vocabulary begins with <unk>, BOS and EOS, but this one has {len(pieces)} pieces"
            )
        if not all(math.isfinite(score) for score in scores):
            raise ModelError("the vocabulary holds a score that is no number, so there is no order to merge in")
        self.entries = tuple(zip(scores, pieces, strict=True))
        """Score and bytes of each piece by id, as the file has them."""
        self._scores = list(scores)
        self._byte_ids: dict[int, int] = {}
        self._ids: dict[bytes, int] = {}
        raw: list[bytes] = []
        for token, piece in enumerate(pieces):
            byte = _BYTE.fullmatch(piece)
            if token in _NAMES:
                raw.append(b"")
            elif byte is not None:
                raw.append(bytes([int(byte[1], 16)]))
                self._byte_ids.setdefault(raw[-1][0], token)
            else:
                raw.append(piece)
                if piece:
                    self._ids.setdefault(piece, token)
        layout = _layout(raw, self._scores, self._ids, self._byte_ids)
        super().__init__(
            (json.dumps(layout, ensure_ascii=False, indent=1) + "\n").encode(),
            {"bos_token": _NAMES[BOS], "eos_token": _NAMES[EOS], "unk_token": _NAMES[UNKNOWN]},
        )
        self._pieces, self._firsts = (
            raw,
            [piece.removeprefix(b" ") if self.adds_space else piece for piece in raw],
        )  # exact, where a piece that is no UTF-8 has only a stand-in in tokenizer.json

    @classmethod
    def read(cls, path: Path, vocab_size: int | None = None) -> Llama2cTokenizer:
        """Read a tokenizer .bin: the longest piece's length, then score, length and bytes of each piece.

        Raises:
            ModelError: the file is none, is cut off, or has not `vocab_size` pieces.
        """
        entries = read_entries(Path(path))
        if vocab_size is not None and len(entries) != vocab_size:
            raise ModelError(
                f"{path} has {len(entries)} pieces, but the model knows {vocab_size} ids: they do not belong together. "
                f"Pass --tokenizer with the model's own"
            )
        return cls([score for score, _ in entries], [piece for _, piece in entries])

    @property
    def adds_space(self) -> bool:
        """Whether a space is put before every text."""
        return b" " in self._ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self._encode(text) for text in texts]

    def lines_that_differ(self, other: Tokenizer, lines: int = 1000) -> int:
        """For how many of so many lines of random pieces, always the same ones, another tokenizer gives other ids."""
        chance = random.Random(0)  # noqa: S311 -- to be repeated, not to be secret
        pieces = [piece.decode(errors="ignore") for piece in self._ids] or [""]
        made = ["".join(chance.choices(pieces, k=chance.randint(1, 20))) for _ in range(lines)]
        return sum(map(operator.ne, self.encode_batch(made), other.encode_batch(made)))

    def _encode(self, text: str) -> list[int]:
        tokens: list[int] = []
        for character in f" {text}" if text and self.adds_space else text:
            try:
                data = character.encode()
            except UnicodeEncodeError:
                raise DataError(f"a text holds the lone surrogate U+{ord(character):04X}, which is no text") from None
            token = self._ids.get(data)
            if token is not None:
                tokens.append(token)
            elif all(byte in self._byte_ids for byte in data):
                tokens += [self._byte_ids[byte] for byte in data]
            else:
                tokens.append(UNKNOWN)
        return merge_best_first(tokens, self._joined)

    def _joined(self, left: int, right: int) -> tuple[float, int] | None:
        mergeable = self._ids.get
        if mergeable(self._pieces[left]) != left or mergeable(self._pieces[right]) != right:
            return None
        joined = mergeable(self._pieces[left] + self._pieces[right])
        return None if joined is None else (self._scores[joined], joined)


def read_entries(path: Path) -> list[tuple[float, bytes]]:
    """Score and bytes of each piece of a tokenizer .bin.

    Raises:
        ModelError: the file is missing, is none, or is cut off.
    """
    try:
        data = path.read_bytes()
    except OSError as problem:
        raise ModelError(f"there is no tokenizer at {path} ({problem.strerror})") from None
    if len(data) < _HEADER.size:
        raise ModelError(f"{path} is {len(data)} bytes long, too short for a llama2.c tokenizer")
    longest = _HEADER.unpack_from(data)[0]
    entries: list[tuple[float, bytes]] = []
    place = _HEADER.size
    while place < len(data):
        if place + _ENTRY.size > len(data):
            raise ModelError(f"{path} is cut off after {len(entries)} pieces, or is no llama2.c tokenizer")
        score, size = _ENTRY.unpack_from(data, place)
        place += _ENTRY.size
        if not 0 <= size <= longest or place + size > len(data):
            raise ModelError(
                f"{path}: piece {len(entries)} states {size} bytes, where the longest is {longest} and "
                f"{len(data) - place} are left: it is cut off, or no llama2.c tokenizer"
            )
        entries.append((score, data[place : place + size]))
        place += size
    return entries


def _layout(
    pieces: Sequence[bytes], scores: Sequence[float], ids: dict[bytes, int], byte_ids: dict[int, int]
) -> dict[str, object]:
    """The same vocabulary as a tokenizer.json of `tokenizers`' BPE: the text and the layout of its parts."""
    texts, vocabulary = _texts(pieces, ids, byte_ids)
    first = {"SpecialToken": {"id": _NAMES[BOS], "type_id": 0}}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    adds_space = b" " in ids
    decoders: list[dict[str, object]] = [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if adds_space:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token, "content": name, **flags} for token, name in _NAMES.items()],
        "normalizer": {"type": "Prepend", "prepend": " "} if adds_space else None,
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [first, {"Sequence": {"id": "A", "type_id": 0}}, first, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {_NAMES[BOS]: {"id": _NAMES[BOS], "ids": [BOS], "tokens": [_NAMES[BOS]]}},
        },
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": _NAMES[UNKNOWN],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": bool(byte_ids),
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": ranked_merges(texts, scores),
        },
    }


def _texts(
    pieces: Sequence[bytes], ids: dict[bytes, int], byte_ids: dict[int, int]
) -> tuple[dict[int, str], dict[str, int]]:
    """Id -> text of the pieces that texts encode to, and the whole vocabulary with a name for every id."""
    vocabulary: dict[str, int] = dict(zip(_NAMES.values(), _NAMES, strict=True))
    for byte, token in byte_ids.items():
        vocabulary[f"<0x{byte:02X}>"] = token
    texts: dict[int, str] = {}
    for piece, token in ids.items():
        try:
            text = piece.decode()
        except UnicodeDecodeError:
            continue
        if text not in vocabulary:  # a piece "<s>" would be taken for the special one
            texts[token] = text
            vocabulary[text] = token
    named = set(vocabulary.values())
    for token in range(len(pieces)):
        if token not in named:  # there twice, or no UTF-8: no text encodes to it
            vocabulary[f"<piece {token}>"] = token
    return texts, dict(sorted(vocabulary.items(), key=lambda item: item[1]))
