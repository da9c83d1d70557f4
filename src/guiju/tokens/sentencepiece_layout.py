"""A SentencePiece model as a tokenizer.json, for other people's tools; here the model itself cuts the texts.

What tokenizer.json cannot say: sums in float32, which decide between cuts of "......" that are equally good, and, in
BPE, that pieces of equal score merge leftmost first. `Tokenizer.lines_saved_otherwise` counts what comes of it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guiju.errors import ModelError
from guiju.tokens.added import added_token, complete, read_added
from guiju.tokens.composing import composing_steps
from guiju.tokens.foreign import read_file
from guiju.tokens.layout import MOST_ADDED, guarded, written
from guiju.tokens.merging import ranked_merges
from guiju.tokens.sentencepiece import SPACE_MARK, SentencePieceEncoder
from guiju.tokens.sentencepiece_file import MOST_BYTES, Algorithm, Kind, SentencePieceModel, read_model
from guiju.tokens.source import Source
from guiju.tokens.template import single_template

SAVED_FILE = "spiece.model"


@dataclass(frozen=True)
class Style:
    """What a family of models puts around a text, and adds to the vocabulary of its .model."""

    bos: bool = False
    eos: bool = False
    extra_ids: int = 0


STYLES = {
    "": Style(),
    "LlamaTokenizer": Style(bos=True),
    "CodeLlamaTokenizer": Style(bos=True),
    "GemmaTokenizer": Style(bos=True),
    "T5Tokenizer": Style(eos=True, extra_ids=100),
}
"""By the class that transformers reads a folder by. Others give the pieces other ids, so that their tokenizer.json is
needed."""


def read_sentencepiece(file: Path, config: Mapping[str, Any], kind: str) -> Source:
    """A .model file, with what tokenizer_config.json beside it adds.

    Args:
        kind: the class that transformers reads the folder by; empty where nothing says so.
    Raises:
        ModelError: the file is none, is damaged, or its family gives the pieces other ids.
    """
    if kind not in STYLES:
        raise ModelError(
            f"{file.parent} is read by {kind[:80]!r} in transformers, which may give the pieces of {file.name} other "
            "ids. Load it there once and save it again: its tokenizer.json is read"
        )
    style = STYLES[kind]
    data = read_file(file, MOST_BYTES)
    model = read_model(data, str(file))
    encoder = SentencePieceEncoder(model)
    encoder.require_own_tests(str(file))
    names = _names(model, config)
    bos = config.get("add_bos_token", style.bos) and names["bos_token"]
    eos = config.get("add_eos_token", style.eos) and names["eos_token"]
    extra_ids = _extra_ids(config.get("extra_ids", style.extra_ids), str(file))
    ids = {piece.text: number for number, piece in enumerate(model.pieces)}
    added = {token["id"]: token for token in _special_tokens(model)} | read_added(file.parent, config)
    for number in range(extra_ids):  # T5 counts its sentinels down from the end of the vocabulary
        token = len(ids) + extra_ids - 1 - number
        added.setdefault(token, added_token(token, f"<extra_id_{number}>"))
    layout = sentencepiece_layout(model)
    layout["added_tokens"] = complete(ids, added.values(), str(file))
    layout["post_processor"] = single_template((bos and (bos, ids[bos])) or None, (eos and (eos, ids[eos])) or None)
    saved = {
        "sentencepiece_file": SAVED_FILE,
        "add_bos_token": bool(bos),
        "add_eos_token": bool(eos),
        "extra_ids": extra_ids,
    }
    return Source(
        data=written(layout),
        where=str(file),
        config={**config, **names},
        encoder=encoder,
        files={SAVED_FILE: data},
        saved_config=saved,
        surfaces={encoder.unknown: model.unknown_surface.encode()},
        drops_leading_spaces=model.remove_extra_spaces,
    )


def sentencepiece_layout(model: SentencePieceModel) -> dict[str, Any]:
    """The tokenizer.json, but for added tokens and what stands around a text."""
    unigram = model.algorithm is Algorithm.UNIGRAM
    own = any(piece.kind is Kind.USER_DEFINED for piece in model.pieces)
    # With symbols of the user's own, which the library seeks first, only its pre-tokenizer knows where a text begins.
    prefix_later = own and model.add_dummy_prefix and not unigram and not model.space_as_suffix
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if model.add_dummy_prefix or model.remove_extra_spaces:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    metaspace = {"type": "Metaspace", "replacement": SPACE_MARK, "prepend_scheme": "first", "split": False}
    normalizers = _normalizers(model, prefix=not prefix_later)
    layout: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": normalizers} if normalizers else None,
        "pre_tokenizer": metaspace if prefix_later else None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _unigram(model) if unigram else _bpe(model),
    }
    if not unigram:
        return layout
    unknown = [piece.text for piece in model.pieces if piece.kind is Kind.UNKNOWN and len(piece.text) > 1]
    return guarded(layout, unknown, {piece.text: number for number, piece in enumerate(model.pieces)})


def _normalizers(model: SentencePieceModel, prefix: bool) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    space = SPACE_MARK if model.escape_spaces else " "
    if model.charsmap is not None:
        table = base64.b64encode(model.charsmap_data).decode()
        steps += composing_steps({"type": "Precompiled", "precompiled_charsmap": table}, model.charsmap)
    if model.remove_extra_spaces:
        steps.append({"type": "Replace", "pattern": {"Regex": r"\A +"}, "content": ""})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if model.escape_spaces:
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK})
    if model.remove_extra_spaces:
        steps.append({"type": "Replace", "pattern": {"Regex": rf"{space}+\z"}, "content": ""})
    if model.add_dummy_prefix and model.space_as_suffix:
        steps.append({"type": "Replace", "pattern": {"Regex": r"(?<=\O)\z"}, "content": space})
    elif model.add_dummy_prefix and prefix:
        steps.append({"type": "Prepend", "prepend": space})
    return steps


def _unigram(model: SentencePieceModel) -> dict[str, Any]:
    """Pieces that no text may be cut into get the least score there is, so that no other is changed by them."""
    least = min(piece.score for piece in model.pieces if piece.kind is Kind.NORMAL)
    scores = {Kind.NORMAL: None, Kind.USER_DEFINED: -0.1}
    return {
        "type": "Unigram",
        "unk_id": model.first(Kind.UNKNOWN),
        "vocab": [
            [piece.text, piece.score if piece.kind is Kind.NORMAL else scores.get(piece.kind, least)]
            for piece in model.pieces
        ],
        "byte_fallback": model.byte_fallback,
    }


def _bpe(model: SentencePieceModel) -> dict[str, Any]:
    unknown = model.first(Kind.UNKNOWN)
    assert unknown is not None
    texts = {number: piece.text for number, piece in enumerate(model.pieces) if piece.kind is Kind.NORMAL}
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": model.pieces[unknown].text,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
        "ignore_merges": False,
        "vocab": {piece.text: number for number, piece in enumerate(model.pieces)},
        "merges": ranked_merges(texts, [piece.score for piece in model.pieces]),
    }


def _special_tokens(model: SentencePieceModel) -> Sequence[dict[str, Any]]:
    """Control pieces and the unknown one are special; symbols of the user's own are sought before pairs are merged."""
    special = (Kind.CONTROL, Kind.UNKNOWN)
    found = []
    for number, piece in enumerate(model.pieces):
        if piece.kind in special:
            found.append(added_token(number, piece.text))
        elif piece.kind is Kind.USER_DEFINED and model.algorithm is Algorithm.BPE and " " not in piece.text:
            found.append(added_token(number, piece.text, special=False, normalized=SPACE_MARK in piece.text))
    return found


def _names(model: SentencePieceModel, config: Mapping[str, Any]) -> dict[str, str | None]:
    """The special tokens by name: as tokenizer_config.json says, else as the file does."""
    unknown = model.first(Kind.UNKNOWN)
    assert unknown is not None
    own: dict[str, str | None] = {"unk_token": model.pieces[unknown].text}
    for name in ("bos", "eos", "pad"):
        own[f"{name}_token"] = model.names[name] if model.id_of(name) is not None else None
    known = {piece.text for piece in model.pieces}
    for name, value in config.items():
        text = value.get("content") if isinstance(value, Mapping) else value
        if name in own and name != "unk_token" and (text is None or text in known):
            own[name] = text
    return own


def _extra_ids(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_ADDED:
        raise ModelError(f"the tokenizer_config.json beside {where} asks for {str(value)[:50]} extra_ids, not a number")
    return value
