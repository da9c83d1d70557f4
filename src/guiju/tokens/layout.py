"""A tokenizer.json, looked through before the `tokenizers` library may read it, and made safe to use.

What is changed, in memory and in what is saved: texts are neither cut off nor padded, merges are never dropped by
chance, and a special token that a user writes in a text stays text (in Unigram vocabularies the library would take it
for the real one, because special tokens stand among the pieces).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tokenizers
from tokenizers import pre_tokenizers

from guiju.errors import ModelError
from guiju.tokens.charsmap import Charsmap
from guiju.tokens.decoding import BYTE_PIECE, Surfaces, read_surfaces
from guiju.tokens.foreign import MOST_IDS, parse_json, require_id, require_text
from guiju.tokens.template import Template, read_template

MODELS = ("BPE", "Unigram", "WordPiece")
MOST_ADDED = 1 << 16
LONGEST_ADDED = 1000
"""Characters of an added token."""
LONGEST_WORD = 10_000
"""Characters of a word that WordPiece may try to cut up, which takes time with the square of them."""
LONGEST_PATTERN, LONGEST_TEXT = 200_000, 1000
MOST_STEPS = 1000
"""Parts that normalizer, pre_tokenizer and decoder may have in all."""
DEEPEST = 32
MOST_GROWTH = 4096
"""How many times longer the replacements of a normalizer may make a text."""
SLOW_SECONDS = 0.05
"""A pattern that takes this long on a few hundred characters takes hours on a page."""


_SYNTAX = frozenset("\\^$.|?*+()[]{}-&")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A tokenizer.json that was looked through."""

    data: bytes
    content: Mapping[str, Any]
    vocabulary: dict[str, int]
    """Text -> id, added tokens included."""
    special: frozenset[int]
    unknown: int | None
    """What stands for characters that the vocabulary lacks."""
    template: Template
    surfaces: Surfaces
    backend: tokenizers.Tokenizer


def read_layout(data: bytes, where: str) -> Layout:
    """A tokenizer.json, if it can be used as it is meant.

    Raises:
        ModelError: it cannot be read, contradicts itself, or is made to take time or memory without bound.
    """
    content = parse_json(data, where)
    model = _model(content, where)
    vocabulary = _vocabulary(model, where)
    added, special = _added_tokens(content.get("added_tokens", []), vocabulary, where)
    _look_through({name: content.get(name) for name in ("normalizer", "pre_tokenizer", "decoder")}, where)
    template = _fitting(read_template(content.get("post_processor"), where), set(vocabulary.values()), where)
    surfaces = read_surfaces(content.get("decoder"), vocabulary, added, special, where)
    changed = _made_steady(content)
    data = data if changed is None else written(changed)
    backend = _backend(data, where)
    unknown = _unknown(model, vocabulary)
    forged = _forged(model, vocabulary, special, unknown, backend)
    if forged:
        changed = guarded(changed or content, forged, vocabulary)
        data = written(changed)
        backend = _backend(data, where)
    return Layout(
        data=data,
        content=changed or content,
        vocabulary=vocabulary,
        special=special,
        unknown=unknown,
        template=template,
        surfaces=surfaces,
        backend=backend,
    )


def _model(content: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    model = content.get("model")
    if not isinstance(model, Mapping):
        raise ModelError(f"{where} has no model, so it is no tokenizer.json; save the tokenizer again")
    kind = model.get("type")
    if kind not in MODELS:
        raise ModelError(
            f"{where} holds a tokenizer model of type {str(kind)[:80]!r}; {', '.join(MODELS)} are read. Save it again "
            "with a current version of transformers"
        )
    return model


def _vocabulary(model: Mapping[str, Any], where: str) -> dict[str, int]:
    vocab = model.get("vocab")
    entries: list[tuple[object, object]]
    if model["type"] == "Unigram":
        if not isinstance(vocab, list) or not all(isinstance(entry, list) and len(entry) == 2 for entry in vocab):
            raise ModelError(f"{where}: the vocab of a Unigram model is no list of pieces with scores")
        wrong = next((entry for entry in vocab if not _is_number(entry[1])), None)
        if wrong is not None:
            raise ModelError(f"{where}: the piece {str(wrong[0])[:80]!r} has the score {str(wrong[1])[:50]!r}")
        entries = [(entry[0], number) for number, entry in enumerate(vocab)]
    elif isinstance(vocab, Mapping):
        entries = list(vocab.items())
        _look_at_merges(model, where)
    else:
        raise ModelError(f"{where}: the vocab is {type(vocab).__name__}, not tokens with ids")
    widest = model.get("max_input_chars_per_word")
    if widest is not None and (not _is_number(widest) or not 0 < widest <= LONGEST_WORD):
        raise ModelError(f"{where}: max_input_chars_per_word is {str(widest)[:50]}; it is 1 to {LONGEST_WORD}")
    if not 0 < len(entries) <= MOST_IDS:
        raise ModelError(f"{where} has {len(entries)} tokens; a vocabulary has 1 to {MOST_IDS}")
    found: dict[str, int] = {}
    owner: dict[int, str] = {}
    for text, number in entries:
        text = require_text(text, f"{where}: a token")
        token = require_id(number, f"{where}: the token {text[:80]!r}")
        if token in owner:
            raise ModelError(f"{where} gives the id {token} to {owner[token][:80]!r} and to {text[:80]!r}")
        found[text] = token
        owner[token] = text
    return found


def _look_at_merges(model: Mapping[str, Any], where: str) -> None:
    merges = model.get("merges", [])
    if not isinstance(merges, list) or len(merges) > MOST_IDS:
        raise ModelError(f"{where}: the merges are no list of at most {MOST_IDS} pairs")
    for number, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise ModelError(f"{where}: merge {number} is {str(merge)[:80]!r}, not a pair of tokens")


def _added_tokens(value: object, vocabulary: dict[str, int], where: str) -> tuple[frozenset[int], frozenset[int]]:
    """Ids of the added tokens, and of those among them that are special; they join the vocabulary."""
    if not isinstance(value, list) or len(value) > MOST_ADDED:
        size = f"{len(value)} of them" if isinstance(value, list) else type(value).__name__
        raise ModelError(f"{where}: added_tokens is no list of at most {MOST_ADDED}: {size}")
    owner = {token: text for text, token in vocabulary.items()}
    added, special = set(), set()
    for entry in value:
        if not isinstance(entry, Mapping):
            raise ModelError(f"{where}: the added token {str(entry)[:80]!r} is no entry with id and content")
        text = require_text(entry.get("content"), f"{where}: an added token")
        if not 0 < len(text) <= LONGEST_ADDED:
            raise ModelError(
                f"{where}: the added token {text[:40]!r} has {len(text)} characters; it has 1 to {LONGEST_ADDED}"
            )
        token = require_id(entry.get("id"), f"{where}: the added token {text[:80]!r}")
        if owner.setdefault(token, text) != text or vocabulary.setdefault(text, token) != token:
            raise ModelError(
                f"{where} contradicts itself: the added token {text[:80]!r} has the id {token}, which is "
                f"{owner[token][:80]!r} ({text[:80]!r} is {vocabulary.get(text, 'new')})"
            )
        added.add(token)
        if entry.get("special"):
            special.add(token)
    return frozenset(added), frozenset(special)


def _look_through(parts: object, where: str) -> None:
    """Each pattern, replacement and table in the steps of a tokenizer."""
    steps = 0
    for name, value in _walk(parts, where):
        steps += 1
        if steps > MOST_STEPS:
            raise ModelError(f"{where} has more than {MOST_STEPS} parts in its normalizer, pre_tokenizer and decoder")
        if not isinstance(value, str):
            continue
        if name == "precompiled_charsmap":
            try:
                Charsmap(base64.b64decode(value, validate=True), f"{where}: its precompiled_charsmap")
            except binascii.Error as problem:
                raise ModelError(f"{where}: its precompiled_charsmap is no base64 text ({problem})") from None
        elif len(value) > (LONGEST_PATTERN if name == "Regex" else LONGEST_TEXT):
            raise ModelError(f"{where}: {name} is a text of {len(value)} characters ({value[:40]!r}...), far too long")
        elif name == "Regex":
            require_quick_pattern(value, where)
    _look_at_growth(parts, where)


def _walk(value: object, where: str, name: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    if depth > DEEPEST:
        raise ModelError(f"{where} is nested more than {DEEPEST} deep")
    yield name, value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walk(inner, where, key, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner, where, name, depth + 1)


def require_quick_pattern(pattern: str, where: str) -> None:
    """See that a pattern takes no more than it should, on runs of its own characters and of usual ones.

    The engine gives up on one match after ten million steps, so that even a hostile pattern ends here.

    Raises:
        ModelError: it is no pattern, or its time grows faster than the text's square.
    """
    try:
        split = pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated")
    except Exception as problem:  # the library raises bare Exception
        raise ModelError(f"{where} has the pattern {pattern[:120]!r}, which cannot be read ({problem})") from None
    for length in (16, 32, 64, 128, 256):
        for probe in _probes(pattern, length):
            begun = time.thread_time()
            try:
                split.pre_tokenize_str(probe)
            except BaseException as problem:
                if type(problem).__name__ != "PanicException":
                    raise
                slow = True
            else:
                slow = time.thread_time() - begun > SLOW_SECONDS
            if slow:
                raise ModelError(
                    f"{where} splits texts by the pattern {pattern[:120]!r}, whose time grows without bound with the "
                    f"text (seen at {length} characters, {probe[:8]!r}...). Rewrite it without repeats in repeats"
                )


def _probes(pattern: str, length: int) -> Iterator[str]:
    """Runs of one or two characters with another one at the end, which is what makes a pattern try all ways."""
    own = sorted(set(re.findall(r"[^\W_]", pattern)))[:24]
    for run in dict.fromkeys([*" \na1.中é", "aB", "a ", "a1", *own]):
        text = (run * length)[:length]
        for end in ("\x00", "!z\n", "".join(reversed(own))):
            yield f"{text}{end}"


def _look_at_growth(parts: object, where: str) -> None:
    """Replacements one after the other can double a text each time."""
    growth = 1
    for _, value in _walk(parts, where):
        if isinstance(value, Mapping) and value.get("type") == "Replace":
            pattern, content = value.get("pattern"), str(value.get("content", ""))
            replaced = str(pattern.get("String", "")) if isinstance(pattern, Mapping) else ""
            growth *= max(1, -(-len(content) // len(replaced)) if replaced else len(content) + 1)
        if growth > MOST_GROWTH:
            raise ModelError(f"{where} has replacements that make a text more than {MOST_GROWTH} times as long")


def _made_steady(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same without truncation, padding and dropout; None where there is none."""
    model = content["model"]
    if content.get("truncation") is None and content.get("padding") is None and not model.get("dropout"):
        return None
    steady: dict[str, Any] = {**content, "truncation": None, "padding": None}
    if model.get("dropout"):
        steady["model"] = {**model, "dropout": None}
    return steady


def guarded(content: Mapping[str, Any], forged: Sequence[str], vocabulary: Mapping[str, int]) -> dict[str, Any]:
    """A tokenizer.json that cuts texts which look like special tokens in two before pieces are sought.

    Where a character is no piece, no piece goes over its border, so that a cut there changes nothing else.
    """

    def cut(text: str) -> str:
        borders = range(1, len(text))
        place = next((at for at in borders if (text[at - 1] in vocabulary) != (text[at] in vocabulary)), 1)
        return f"{_escaped(text[:place])}(?={_escaped(text[place:])})"

    names = {text for text in forged if not BYTE_PIECE.fullmatch(text)}
    patterns = [cut(text) for text in sorted(names)]
    if len(names) < len(forged):
        patterns.append(cut("<0x41>").replace("41", "[0-9A-F]{2}"))
    pattern = "|".join(patterns)
    guard = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "MergedWithPrevious", "invert": False}
    before = content.get("pre_tokenizer")
    steps = [guard] if before is None else [before, guard]
    return {**content, "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}}


def _escaped(text: str) -> str:
    """The pattern of exactly this text; in the library's engine, too, no escaped punctuation has a meaning."""
    return "".join(f"\\{character}" if character in _SYNTAX else character for character in text)


def _fitting(template: Template, known: set[int], where: str) -> Template:
    """The template, if it adds tokens that the vocabulary has."""
    for part, _ in (*template.single, *template.pair):
        strange = next((token for token in part if token not in known), None) if not isinstance(part, str) else None
        if strange is not None:
            raise ModelError(
                f"{where}: the post_processor adds the id {strange}, which the vocabulary of {len(known)} tokens lacks"
            )
    return template


def _forged(
    model: Mapping[str, Any],
    vocabulary: Mapping[str, int],
    special: frozenset[int],
    unknown: int | None,
    backend: tokenizers.Tokenizer,
) -> list[str]:
    """Special tokens for which the library takes a text that is called so."""
    found = []
    falls_back = model["type"] == "Unigram" and bool(model.get("byte_fallback"))
    for text, token in vocabulary.items():
        if len(text) < 2 or not (token in special or (falls_back and BYTE_PIECE.fullmatch(text))):
            continue
        if token != unknown and token in _ids_of(backend, text):
            found.append(text)
    return found


def _unknown(model: Mapping[str, Any], vocabulary: Mapping[str, int]) -> int | None:
    if model["type"] == "Unigram":
        token = model.get("unk_id")
        return token if isinstance(token, int) else None
    return vocabulary.get(str(model.get("unk_token")))


def _backend(data: bytes, where: str) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{where} is not a tokenizer.json that can be read ({error}); save it again") from None
    backend.encode_special_tokens = True  # user text cannot forge a special token
    return backend


def _ids_of(backend: tokenizers.Tokenizer, text: str) -> list[int]:
    try:
        ids: list[int] = backend.encode(text, add_special_tokens=False).ids
    except Exception:
        return []  # a character without a token, in a vocabulary without an unknown one
    return ids


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def written(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, ensure_ascii=False) + "\n").encode()
