"""A tokenizer among GGUF's metadata: GPT-2's byte-level BPE with its merges, or SentencePiece's BPE with its scores.

Source: https://github.com/ggml-org/ggml, docs/gguf.md, "Tokenizer"; pre-tokenizers: llama.cpp's llama-vocab.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gguf

from guiju.errors import ModelError
from guiju.model import ModelConfig
from guiju.providers.formats.vocabulary import SPACE_MARK, Vocabulary, part_types, read_vocabulary
from guiju.tokens import Llama2cTokenizer, Tokenizer

_LLAMA3 = "|".join(
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
_NEVER = -1e10  # the score of a piece that no merge makes


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer, config: ModelConfig) -> None:
    """Write the vocabulary, as many tokens as the model has ids.

    Raises:
        ModelError: llama.cpp has no such tokenizer, or it splits texts in a way that has no name there.
    """
    vocabulary = read_vocabulary(tokenizer, "GGUF")
    if vocabulary.byte_level:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_pre_tokenizer(vocabulary))
        tokens = [piece if piece is not None else f"[unused {token}]" for token, piece in enumerate(vocabulary.pieces)]
    else:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_add_space_prefix(_adds_space(tokenizer, vocabulary))
        tokens = [
            piece.replace(" ", SPACE_MARK) if piece is not None else f"[unused {token}]"
            for token, piece in enumerate(vocabulary.pieces)
        ]
    missing = range(len(tokens), config.vocab_size)
    tokens += [f"[unused {token}]" for token in missing]
    _require_different(tokens)
    writer.add_token_list(tokens)
    if vocabulary.byte_level:
        writer.add_token_merges([" ".join(pair) for pair in vocabulary.merges])
    else:
        writer.add_token_scores([*_scores(tokenizer, vocabulary), *(_NEVER for _ in missing)])
    writer.add_token_types([*_types(vocabulary), *(gguf.TokenType.UNUSED for _ in missing)])
    _add_special(writer, tokenizer, vocabulary)


def _pre_tokenizer(vocabulary: Vocabulary) -> str:
    """llama.cpp's name for the way in which texts are cut into words."""
    layout, model = vocabulary.layout, vocabulary.layout["model"]
    if layout.get("normalizer") is not None:
        kind = part_types(layout["normalizer"])[0]
        raise ModelError(f"the tokenizer changes texts by {kind} before they are encoded; llama.cpp does not")
    steps = layout.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", []) if steps.get("type") == "Sequence" else [steps]
    kinds = [step.get("type") for step in steps]
    own_pattern = bool(steps) and steps[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and own_pattern and not steps[0].get("add_prefix_space") and not model["ignore_merges"]:
        return "gpt-2"
    if kinds == ["Split", "ByteLevel"] and not own_pattern and _splits_by(steps[0], _LLAMA3) and model["ignore_merges"]:
        return "llama-bpe"
    how = " and ".join(f"{kind}" for kind in kinds) or "nothing"
    raise ModelError(
        f"the tokenizer cuts texts by {how} in a way that has no name here; GGUF is written for GPT-2's and Llama 3's "
        f"patterns, because others would give other ids in llama.cpp"
    )


def _splits_by(step: Mapping[str, Any], pattern: str) -> bool:
    found = step.get("pattern", {})
    return bool(found.get("Regex") == pattern and step.get("behavior") == "Isolated" and not step.get("invert"))


def _adds_space(tokenizer: Tokenizer, vocabulary: Vocabulary) -> bool:
    """Whether a space is put before every text, which is the one change that llama.cpp makes."""
    if isinstance(tokenizer, Llama2cTokenizer):
        return tokenizer.adds_space
    steps = [vocabulary.layout.get("normalizer"), vocabulary.layout.get("pre_tokenizer")]
    kinds = [kind for step in steps for kind in part_types(step)]
    beyond = [kind for kind in kinds if kind not in ("Sequence", "Prepend", "Replace", "Metaspace")]
    if beyond:
        raise ModelError(
            f"the tokenizer changes a text by {beyond[0]} before it is encoded, which llama.cpp does not do"
        )
    schemes = [step.get("prepend_scheme") for step in _flat(steps) if step.get("type") == "Metaspace"]
    return "Prepend" in kinds or any(scheme in ("always", "first") for scheme in schemes)


def _flat(value: object) -> list[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        return [value, *(found for inner in value.values() for found in _flat(inner))]
    return [found for inner in value for found in _flat(inner)] if isinstance(value, list) else []


def _scores(tokenizer: Tokenizer, vocabulary: Vocabulary) -> list[float]:
    if isinstance(tokenizer, Llama2cTokenizer):
        return [score for score, _ in tokenizer.entries]
    return vocabulary.scores(_NEVER)


def _types(vocabulary: Vocabulary) -> list[gguf.TokenType]:
    added = {entry["id"] for entry in vocabulary.layout.get("added_tokens", ())}
    types = []
    for token, piece in enumerate(vocabulary.pieces):
        if piece is None:
            types.append(gguf.TokenType.UNUSED)
        elif token == vocabulary.unknown and not vocabulary.byte_level:
            types.append(gguf.TokenType.UNKNOWN)
        elif token in vocabulary.special:
            types.append(gguf.TokenType.CONTROL)
        elif not vocabulary.byte_level and vocabulary.byte_of(token) is not None:
            types.append(gguf.TokenType.BYTE)
        else:
            types.append(gguf.TokenType.USER_DEFINED if token in added else gguf.TokenType.NORMAL)
    return types


def _add_special(writer: gguf.GGUFWriter, tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    """Which tokens begin and end a text; llama.cpp takes others where it is not told."""
    first, last = tokenizer.bos_id, tokenizer.eos_id
    known = [token for token in (first, last) if token is not None]
    if known:
        writer.add_bos_token_id(known[0])
        writer.add_eos_token_id(known[-1])
    if vocabulary.unknown is not None and not vocabulary.byte_level:
        writer.add_unk_token_id(vocabulary.unknown)
    writer.add_add_bos_token(first is not None and tokenizer.prefix_ids == [first])
    writer.add_add_eos_token(False)


def _require_different(tokens: list[str]) -> None:
    seen: set[str] = set()
    for token, text in enumerate(tokens):
        if text in seen:
            raise ModelError(f"the tokenizer's id {token} stands for {text!r}, as another id does: llama.cpp takes one")
        seen.add(text)
