"""Byte-level BPE in two files, as one tokenizer.json: GPT-2's and RoBERTa's vocab.json with merges.txt, OpenAI's
encoder.json with vocab.bpe.

Source: https://github.com/openai/gpt-2, src/encoder.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guiju.errors import ModelError
from guiju.tokens.added import added_token, complete, read_added
from guiju.tokens.foreign import read_file, read_json, require_id, require_text
from guiju.tokens.layout import written
from guiju.tokens.source import Source
from guiju.tokens.template import single_template

QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2_LIKE = ("GPT2Tokenizer", "CodeGenTokenizer")
ROBERTA_LIKE = ("RobertaTokenizer", "BartTokenizer")
QWEN_LIKE = ("Qwen2Tokenizer",)
_END = "<|endoftext|>"
_WORD_END = "</w>"
_VERSION = "#version: 0.2"  # the first line of the merges, which their readers skip
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def read_byte_level(vocab_file: Path, merges_file: Path, config: Mapping[str, Any], kind: str) -> Source:
    """Both files as one tokenizer.json.

    Args:
        config: what tokenizer_config.json holds.
        kind: the class that transformers reads the folder by; empty where nothing says so.
    Raises:
        ModelError: a file is damaged, the two do not fit together, or words are split in a way that is not known.
    """
    where = str(vocab_file)
    vocabulary: dict[str, int] = {}
    for text, number in read_json(vocab_file).items():
        vocabulary[require_text(text, where)] = require_id(number, f"{where}: the token {text[:80]!r}")
    if any(text.endswith(_WORD_END) for text in vocabulary):
        raise ModelError(
            f"{where} marks the ends of words by {_WORD_END} (GPT-1 and CLIP do): no byte-level BPE, so it is not read"
        )
    marks = {name: vocabulary.get(name) for name in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")}
    if not kind:
        kind = "RobertaTokenizer" if None not in marks.values() and _END not in vocabulary else "GPT2Tokenizer"
    merges = _read_merges(merges_file)
    unknown = next((merge for merge in merges if merge[0] + merge[1] not in vocabulary), None)
    if unknown is not None:
        raise ModelError(
            f"{merges_file} merges {unknown[0][:80]!r} and {unknown[1][:80]!r} to a token that {vocab_file} lacks: the "
            "two do not belong together"
        )
    own = [added_token(vocabulary[_END], _END)] if _END in vocabulary else []
    layout = _layout(vocabulary, merges)
    if kind in ROBERTA_LIKE:
        config = _roberta_names(config)
        own = [
            added_token(token, name, lstrip=name == "<mask>")
            for name, token in marks.items()
            if token is not None and name in config.values()
        ]
        layout["post_processor"] = _roberta_processor(config, vocabulary, where)
    elif kind in QWEN_LIKE:
        config = {"bos_token": None, "eos_token": _END, "pad_token": _END, "unk_token": _END, **config}
        layout["normalizer"] = {"type": "NFC"}
        split = {"type": "Split", "pattern": {"Regex": QWEN_PATTERN}, "behavior": "Isolated", "invert": False}
        layout["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [split, {**_BYTE_LEVEL, "use_regex": False}],
        }
    elif kind in GPT2_LIKE:
        layout["post_processor"] = _start_processor(config, vocabulary)
    else:
        raise ModelError(
            f"{vocab_file.parent} is read by {kind[:80]!r} in transformers, and how that splits words is not known "
            "here. Load it there once and save it again: its tokenizer.json is read"
        )
    if config.get("add_prefix_space"):
        layout["pre_tokenizer"] = {**_BYTE_LEVEL, "add_prefix_space": True}
    listed = {entry["id"]: entry for entry in own} | read_added(vocab_file.parent, config)
    layout["added_tokens"] = complete(vocabulary, listed.values(), where)
    return Source(data=written(layout), where=where, config=config)


def as_two_files(content: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """A tokenizer.json as vocab.json and merges.txt, which OpenAI's release names encoder.json and vocab.bpe.

    Raises:
        ModelError: it is of another kind than GPT-2's, which is all that readers of the two files know.
    """
    model = content["model"]
    _require_gpt2_like(content, model)
    vocabulary = dict(model["vocab"])
    for added in content.get("added_tokens") or ():
        if added["content"] != _END:
            raise _refusal(f"it has the token {added['content']!r} beside its merges; GPT-2 has {_END} alone")
        vocabulary[_END] = added["id"]
    ordered = dict(sorted(vocabulary.items(), key=lambda piece: piece[1]))
    pairs = (merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
    return json.dumps(ordered).encode(), "".join(f"{line}\n" for line in (_VERSION, *pairs)).encode()


def _require_gpt2_like(content: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """See that GPT-2's own reader, which knows one way alone, gives the same ids."""
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        raise _refusal(f"it is of type {model.get('type')}, and GPT-2's is byte-level BPE")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout", "byte_fallback", "ignore_merges"):
        if model.get(name):
            raise _refusal(f"it has {name} = {model[name]!r}")
    if content.get("normalizer"):
        raise _refusal(f"it changes texts first (normalizer {content['normalizer'].get('type')})")
    splitter = content.get("pre_tokenizer") or {}
    if splitter.get("type") != "ByteLevel" or splitter.get("add_prefix_space") or not splitter.get("use_regex", True):
        raise _refusal(f"it cuts texts in another way (pre_tokenizer {json.dumps(splitter)[:200]})")


def _refusal(why: str) -> ModelError:
    return ModelError(
        f"the tokenizer cannot be written as encoder.json and vocab.bpe: {why}. Take --to huggingface, whose "
        f"tokenizer.json holds every kind"
    )


def _layout(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": _BYTE_LEVEL,
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [list(merge) for merge in merges],
        },
    }


def _read_merges(file: Path) -> list[tuple[str, str]]:
    """Pairs in the order in which they are merged; a first line may tell the version."""
    try:
        text = read_file(file).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ModelError(f"{file} is no UTF-8 text ({problem.reason} at byte {problem.start})") from None
    merges: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        parts = line.split(" ")
        if len(parts) != 2 or not all(parts):
            raise ModelError(f"{file}, line {number}: {line[:80]!r} is not a pair of tokens with a space between them")
        merges.append((parts[0], parts[1]))
    return merges


def _start_processor(config: Mapping[str, Any], vocabulary: Mapping[str, int]) -> dict[str, Any] | None:
    """What puts the first token before a text, where the folder asks for it (OPT's does)."""
    value = config.get("bos_token", _END)
    name = value.get("content") if isinstance(value, Mapping) else value
    if not config.get("add_bos_token") or name not in vocabulary:
        return None
    return single_template(before=(str(name), vocabulary[str(name)]))


def _roberta_names(config: Mapping[str, Any]) -> dict[str, Any]:
    usual = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    }
    given = {name: value.get("content") if isinstance(value, Mapping) else value for name, value in config.items()}
    return {**usual, **{name: value for name, value in given.items() if value is not None or name not in usual}}


def _roberta_processor(config: Mapping[str, Any], vocabulary: Mapping[str, int], where: str) -> dict[str, Any]:
    first, last = str(config["cls_token"]), str(config["sep_token"])
    missing = next((name for name in (first, last) if name not in vocabulary), None)
    if missing is not None:
        raise ModelError(
            f"{where} has no token {missing[:80]!r}, which stands around every text in this kind of vocabulary"
        )
    return {
        "type": "RobertaProcessing",
        "sep": [last, vocabulary[last]],
        "cls": [first, vocabulary[first]],
        "trim_offsets": True,
        "add_prefix_space": bool(config.get("add_prefix_space")),
    }
