"""Marian's pair (OPUS-MT): two SentencePiece models cut source and target texts, one vocab.json numbers the pieces.

Source: transformers' MarianTokenizer; https://github.com/marian-nmt/marian.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guiju.errors import ModelError
from guiju.tokens.added import added_token
from guiju.tokens.foreign import read_file, read_json, require_id, require_text
from guiju.tokens.layout import written
from guiju.tokens.sentencepiece import SentencePieceEncoder
from guiju.tokens.sentencepiece_file import MOST_BYTES, Algorithm, Kind, SentencePieceModel, read_model
from guiju.tokens.sentencepiece_layout import sentencepiece_layout
from guiju.tokens.source import Source
from guiju.tokens.template import single_template

FILES = ("source.spm", "target.spm", "vocab.json")
_LANGUAGE = re.compile(r">>[^<]*<<")
_STRANGE = " "
"""Before a piece of vocab.json that the SentencePiece model lacks: no text has a space there once it is normalised."""


class MarianEncoder:
    """One side's texts: pieces by SentencePiece, ids by vocab.json; pieces that it lacks are unknown."""

    def __init__(self, model: SentencePieceModel, vocabulary: Mapping[str, int], unknown: int) -> None:
        self._encoder = SentencePieceEncoder(model)
        self._vocabulary = vocabulary
        self._ids = [vocabulary.get(piece.text, unknown) for piece in model.pieces]
        self._ids[self._encoder.unknown] = unknown

    def encode(self, text: str) -> list[int]:
        """Ids of a text; where it begins with the mark of a language, such as >>zho<<, that is one token."""
        mark = _LANGUAGE.match(text)
        if mark is not None and mark[0] in self._vocabulary:
            return [self._vocabulary[mark[0]], *self.encode(text[mark.end() :])]
        return [self._ids[token] for token in self._encoder.encode(text)]


def read_marian(folder: Path, config: Mapping[str, Any]) -> Source:
    """Both sides of a pair.

    Raises:
        ModelError: a file is missing or damaged, the vocabularies are two, or vocab.json lacks what every text needs.
    """
    if config.get("separate_vocabs"):
        raise ModelError(f"{folder} has two vocabularies (separate_vocabs), where one for both languages is read")
    where = str(folder / "vocab.json")
    vocabulary: dict[str, int] = {}
    for text, number in read_json(folder / "vocab.json").items():
        vocabulary[require_text(text, where)] = require_id(number, f"{where}: the token {text[:80]!r}")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ModelError(f"{where} does not number its {len(vocabulary)} tokens from 0 on, each once")
    given = {name: value.get("content") if isinstance(value, Mapping) else value for name, value in config.items()}
    names = {f"{name}_token": given.get(f"{name}_token") or usual for name, usual in _USUAL.items()}
    for name in ("eos_token", "unk_token", "pad_token"):
        if names[name] not in vocabulary:
            raise ModelError(
                f"{where} has no {str(names[name])[:80]!r}, which this kind of vocabulary cannot do without"
            )
    files = {name: read_file(folder / name, MOST_BYTES) for name in FILES}
    sides = {name: read_model(files[name], str(folder / name)) for name in FILES[:2]}

    def side(name: str, target: Source | None) -> Source:
        return Source(
            data=written(_layout(sides[name], vocabulary, names)),
            where=str(folder / name),
            config=names,
            encoder=MarianEncoder(sides[name], vocabulary, vocabulary[names["unk_token"]]),
            files=files,
            saved_config={
                "tokenizer_class": "MarianTokenizer",
                **{name: given[name] for name in ("source_lang", "target_lang") if isinstance(given.get(name), str)},
            },
            surfaces=_surfaces(vocabulary, names),
            drops_leading_spaces=sides[name].remove_extra_spaces,
            target=target,
        )

    return side("source.spm", side("target.spm", None))


_USUAL = {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"}


def _surfaces(vocabulary: Mapping[str, int], names: Mapping[str, str]) -> dict[int, bytes]:
    """What the decoder's tokens are in text; one that tokenizer.json has to call otherwise, and the unknown one."""
    return {vocabulary[names["unk_token"]]: " \u2047 ".encode()}


def _layout(model: SentencePieceModel, vocabulary: Mapping[str, int], names: Mapping[str, str]) -> dict[str, Any]:
    """One side as a tokenizer.json: the pieces of its model keep their scores, all others can not come up."""
    if model.algorithm is not Algorithm.UNIGRAM or model.byte_fallback:
        raise ModelError("Marian's SentencePiece models are of kind unigram, without byte_fallback; this one is not")
    scores = {piece.text: piece.score for piece in model.pieces if piece.kind is Kind.NORMAL}
    least = min(scores.values())
    special = {names[name]: vocabulary[names[name]] for name in ("eos_token", "unk_token", "pad_token")}
    special |= {text: token for text, token in vocabulary.items() if _LANGUAGE.fullmatch(text)}
    vocab = [
        [text if text in scores or text in special else _STRANGE + text, scores.get(text, least)]
        for text, _ in sorted(vocabulary.items(), key=lambda item: item[1])
    ]
    layout = sentencepiece_layout(model)
    layout["model"] = {
        "type": "Unigram",
        "unk_id": vocabulary[names["unk_token"]],
        "vocab": vocab,
        "byte_fallback": False,
    }
    layout["decoder"]["decoders"].insert(0, {"type": "Replace", "pattern": {"String": _STRANGE}, "content": ""})
    eos = names["eos_token"]
    layout["post_processor"] = single_template(after=(eos, vocabulary[eos]))
    layout["added_tokens"] = [
        added_token(token, text) for text, token in sorted(special.items(), key=lambda item: item[1])
    ]
    return layout
