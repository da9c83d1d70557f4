"""A tokenizer's vocabulary as other programs want it: pieces by id, with their scores or merges."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guiju.errors import ModelError
from guiju.tokens import Tokenizer

SPACE_MARK = "\u2581"  # how SentencePiece writes a space
_BYTES = {f"<0x{byte:02X}>": byte for byte in range(256)}


@dataclass(frozen=True)
class Vocabulary:
    """What a tokenizer.json holds."""

    byte_level: bool
    """Whether its pieces are GPT-2's printable stand-ins for bytes, or text with SentencePiece's marks."""
    pieces: list[str | None]
    """By id; None where the tokenizer has no such id."""
    special: frozenset[int]
    """Ids that no text encodes to."""
    unknown: int | None
    """The id of what has no piece."""
    merges: list[tuple[str, str]]
    """Pairs in the order in which they are merged."""
    layout: Mapping[str, Any]
    """The tokenizer.json itself."""

    def scores(self, never: float) -> list[float]:
        """By id: the higher, the earlier text is merged into it; `never` for what no merge makes.

        BPE merges by the rank of a pair, these programs by the score of what the pair becomes: it gets the negative of
        the first rank that makes it.
        """
        ranks: dict[str, int] = {}
        for rank, (left, right) in enumerate(self.merges):
            ranks.setdefault(left + right, rank)
        return [-float(ranks[piece]) if piece in ranks else never for piece in self.pieces]

    def byte_of(self, token: int) -> int | None:
        """The byte that a piece such as <0x0A> stands for."""
        return _BYTES.get(self.pieces[token] or "")


def read_vocabulary(tokenizer: Tokenizer, whose: str) -> Vocabulary:
    """The vocabulary of a BPE tokenizer.

    Raises:
        ModelError: it is of another kind, for which the format (`whose`, such as "llama2.c") has no place.
    """
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        layout = json.loads((Path(folder) / "tokenizer.json").read_bytes())
    model = layout["model"]
    kind = model.get("type")
    if kind != "BPE":
        raise ModelError(f"the tokenizer is of kind {kind}; {whose} can hold BPE vocabularies alone")
    pieces: list[str | None] = [None] * tokenizer.vocab_size
    added = {entry["content"]: entry["id"] for entry in layout.get("added_tokens", ())}
    for piece, token in {**model["vocab"], **added}.items():
        pieces[token] = piece
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"])
    return Vocabulary(
        byte_level="ByteLevel" in part_types(layout.get("decoder")),
        pieces=pieces,
        special=tokenizer.special_ids,
        unknown=tokenizer.unknown_id,
        merges=[(left, right) for left, right in pairs],
        layout=layout,
    )


def part_types(part: object) -> list[str]:
    """The kinds of a tokenizer.json's part and of what it is made of, in order."""
    if isinstance(part, Mapping):
        inner = [kind for value in part.values() for kind in part_types(value)]
        return [str(part["type"]), *inner] if "type" in part else inner
    if isinstance(part, list):
        return [kind for value in part for kind in part_types(value)]
    return []
