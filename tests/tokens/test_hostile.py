"""Tokenizer files that are damaged, or made to harm: each is refused by name, quickly and without filling memory."""

from __future__ import annotations

import base64
import copy
import json
import os
import random
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_sentencepiece import train_model

from guiju.errors import ModelError
from guiju.tokens import Tokenizer, TokenizerSettings, train_tokenizer
from guiju.tokens.decoding import BYTE_SYMBOLS
from guiju.tokens.sentencepiece_file import read_model

Change = Callable[[dict[str, Any]], Any]
BIG = 10**9
LEVELS = 1000
PIECES = [["<unk>", 0.0], ["</s>", 0.0], ["\u2581a", -1.0], ["a", -2.0], ["b", -3.0]]


@pytest.fixture(scope="module")
def layout() -> dict[str, Any]:
    learned = train_tokenizer(["low lower lowest"] * 3, TokenizerSettings(vocab_size=BYTE_SYMBOLS + 5))
    return json.loads(learned._data)


@pytest.fixture(autouse=True)
def bounded():
    """None of it may take seconds or a gigabyte."""
    begun, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - begun < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 700_000  # kB


def refused(folder: Path, pattern: str) -> str:
    with pytest.raises(ModelError, match=pattern) as caught:
        Tokenizer.load(folder)
    message = str(caught.value)
    assert str(folder) in message, "the file is named"
    assert len(message) < 1500
    return message


def added(**fields: Any) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": 261, "content": "<x>", "special": True, **flags, **fields}


def put(*path: str | int, value: Any) -> Change:
    """A change that sets one value."""

    def change(layout: dict[str, Any]) -> None:
        place: Any = layout
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def add(**fields: Any) -> Change:
    return lambda layout: layout["added_tokens"].append(added(**fields))


def unigram(vocab: list[Any], **fields: Any) -> Change:
    return put("model", value={"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": False, **fields})


def replacing(*contents: str, pattern: dict[str, str] | None = None) -> Change:
    steps = [{"type": "Replace", "pattern": pattern or {"String": "a"}, "content": content} for content in contents]
    return put("normalizer", value={"type": "Sequence", "normalizers": steps})


def splitting(pattern: str) -> Change:
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return put("pre_tokenizer", value=step)


def table(data: bytes) -> Change:
    step = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}
    return put("normalizer", value=step)


def around(*parts: Any, ids: Any = (0,)) -> Change:
    tokens = {"<x>": {"id": "<x>", "ids": list(ids), "tokens": ["<x>"]}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    value = {"type": "TemplateProcessing", "single": list(parts), "pair": [text, text], "special_tokens": tokens}
    return put("post_processor", value=value)


def deep(layout: dict[str, Any]) -> None:
    step: dict[str, Any] = {"type": "Lowercase"}
    for _ in range(100):
        step = {"type": "Sequence", "normalizers": [step]}
    layout["normalizer"] = step


TEXT = {"Sequence": {"id": "A", "type_id": 0}}
MARK = {"SpecialToken": {"id": "<x>", "type_id": 0}}
LAYOUTS: dict[str, tuple[Change, str]] = {
    "an id of a billion": (put("model", "vocab", "zzz", value=BIG), r"'zzz' has the id '1000000000'"),
    "a negative id": (put("model", "vocab", "zzz", value=-1), r"'zzz' has the id '-1'"),
    "an id that is text": (put("model", "vocab", "zzz", value="7"), r"'zzz' has the id '7'"),
    "an id that is true": (put("model", "vocab", "zzz", value=True), r"'zzz' has the id 'True'"),
    "an id that is a fraction": (put("model", "vocab", "zzz", value=1.5), r"'zzz' has the id '1\.5'"),
    "one id for two tokens": (put("model", "vocab", "zzz", value=5), r"gives the id 5 to .* and to 'zzz'"),
    "half a surrogate pair": (put("model", "vocab", "\ud800", value=261), r"lone surrogate .*ud800"),
    "an empty vocabulary": (put("model", "vocab", value={}), r"0 tokens"),
    "a vocabulary that is a number": (put("model", "vocab", value=7), r"the vocab is int"),
    "merges of three": (put("model", "merges", value=["a b c"]), r"merge 0 is 'a b c'"),
    "merges that are numbers": (put("model", "merges", value=[[1, 2]]), r"merge 0 is '\[1, 2\]'"),
    "merges that are text": (put("model", "merges", value="a b"), r"the merges are no list"),
    "merges of unknown tokens": (put("model", "merges", value=[["!!", "!!!!"]]), r"!!"),
    "merges to an unknown token": (put("model", "merges", value=[["!", "~"]]), r"!~"),
    "a type of model that is not read": (put("model", "type", value="WordLevel"), r"type 'WordLevel'"),
    "no model": (put("model", value=None), r"has no model"),
    "an added token without text": (add(content=""), r"'' has 0 characters"),
    "an added token that is a number": (add(content=7), r"added token is '7'"),
    "an added token as long as a book": (add(content="x" * 100_000), r"100000 characters"),
    "an added token with an id of a billion": (add(id=BIG), r"'<x>' has the id '1000000000'"),
    "an added token that has another's id": (add(id=5), r"contradicts itself: the added token '<x>' has the id 5"),
    "an added token that has another id": (add(content="!", id=261), r"contradicts itself: the added token '!'"),
    "added tokens without end": (
        put("added_tokens", value=[added(id=261 + n, content=f"<{n}>") for n in range(70_000)]), r"70000 of them"
    ),
    "added tokens that are a name": (put("added_tokens", value={"a": 1}), r"added_tokens is no list"),
    "a piece without a score": (unigram([["a"]]), r"no list of pieces with scores"),
    "a score that is text": (unigram([["<unk>", "high"]]), r"'<unk>' has the score 'high'"),
    "an unknown piece that is not there": (unigram(PIECES, unk_id=77), r"(?i)unk"),
    "words of any length": (put("model", "max_input_chars_per_word", value=BIG), r"chars_per_word is 1000000000"),
    "a pattern with repeats in repeats": (splitting(r"(a+)+b"), r"'\(a\+\)\+b'.*without bound"),
    "a pattern with overlapping ways": (splitting(r"(a|aa)+$"), r"without bound"),
    "a pattern of many stars": (splitting(r"\S*\S*\S*\S*\S*\S*(?<=\s)"), r"without bound"),
    "a pattern with references back": (splitting(r"(\S+)(\S+)(\S*)\1\2\3(?<=\s)"), r"without bound"),
    "a pattern that is none": (splitting(r"((("), r"'\(\(\(', which cannot be read"),
    "a pattern as long as a book": (splitting("a" * 300_000), r"300000 characters"),
    "a hostile pattern in the normalizer": (replacing("x", pattern={"Regex": r"(a+)+b"}), r"without bound"),
    "a replacement as long as a book": (replacing("x" * 100_000), r"100000 characters"),
    "replacements that double and double": (replacing(*["aa"] * 40), r"more than 4096 times as long"),
    "steps without end": (replacing(*["a"] * LEVELS), r"more than 1000 parts"),
    "steps in steps": (deep, r"nested more than 32 deep"),
    "a table that is no base64": (
        put("normalizer", value={"type": "Precompiled", "precompiled_charsmap": "!!"}), r"no base64"
    ),
    "an empty table": (table(b""), r"trie of 0 bytes in a table of 0"),
    "a table that is cut off": (table(struct.pack("<I", 1 << 31) + b"abc"), r"2147483648 bytes in a table of 7"),
    "a table with ways out": (table(struct.pack("<III", 8, 0xFFFFFFFF, 0x7FFFFFFF) + b"z\0"), r"out of its 2 units"),
    "a table that points beyond its texts": (
        table(struct.pack("<I", 2048) + struct.pack("<I", 256 << 10 | 1 << 8) * 512 + b"z\0"), r"way out|points beyond"
    ),
    "a step that nobody knows": (put("normalizer", value={"type": "Evil"}), r"(?i)normalizer"),
    "a template that adds an id of a billion": (around(MARK, TEXT, ids=[BIG]), r"'<x>' has the id '1000000000'"),
    "a template that adds an unknown id": (around(MARK, TEXT, ids=[3000]), r"pair must hold A and B|adds the id 3000"),
    "a template without the text": (around(MARK), r"single must hold A once"),
    "a template without end": (around(*[MARK] * 100_000, TEXT), r"single is no list of 1 to 64 parts"),
    "a template of nonsense": (around({"Evil": 1}, TEXT), r"which is none that a template has"),
    "a post-processor that nobody knows": (put("post_processor", value={"type": "Evil"}), r"(?i)'Evil'|processor"),
    "no decoder": (put("decoder", value=None), r"says nothing about how ids become text"),
    "a decoder that nobody knows": (put("decoder", value={"type": "CTC"}), r"decodes by CTC"),
    "a decoder with a pattern": (
        put("decoder", value={"type": "Replace", "pattern": {"Regex": "(a+)+b"}, "content": ""}), r"without bound"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_hostile_tokenizer_json_is_refused(layout, name, tmp_path):
    change, pattern = LAYOUTS[name]
    changed = copy.deepcopy(layout)
    change(changed)
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed))
    refused(tmp_path, pattern)


RAW: dict[str, tuple[str, bytes, str]] = {
    "a key twice": ("tokenizer.json", b'{"model": 1, "model": 2}', r"the key 'model' twice"),
    "a token twice": ("tokenizer.json", b'{"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}}}', r"the key 'a' twice"),
    "no JSON": ("tokenizer.json", b"\x80\x04pickle", r"not valid JSON"),
    "nothing": ("tokenizer.json", b"", r"not valid JSON"),
    "a list": ("tokenizer.json", b"[]", r"holds list"),
    "a number that is none": ("tokenizer.json", b'{"model": NaN}', r"the number NaN"),
    "brackets without end": ("tokenizer.json", b"[" * 200_000, r"not valid JSON"),
    "a number of many digits": ("tokenizer.json", b'{"model": ' + b"9" * 10_000 + b"}", r"not valid JSON"),
    "a vocab.txt with a token twice": ("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\na\n", r"'a' on lines 5 and 7"),
    "a vocab.txt without [UNK]": ("vocab.txt", b"[CLS]\n[SEP]\na\n", r"has no '\[UNK\]'"),
    "a vocab.txt that is no text": ("vocab.txt", b"[UNK]\n\xff\xfe\n", r"no UTF-8 text"),
    "an empty vocab.txt": ("vocab.txt", b"", r"0 lines"),
    "a .model that is empty": ("tokenizer.model", b"", r"0 pieces"),
    "a .model of tiktoken's": ("tokenizer.model", b"IQ== 0\nIg== 1\nIw== 2\n", r"tiktoken"),
    "a .model that is zeros": ("tokenizer.model", bytes(1000), r"no SentencePiece model"),
}


@pytest.mark.parametrize("name", RAW)
def test_a_file_that_is_something_else_is_refused(name, tmp_path):
    file, data, pattern = RAW[name]
    (tmp_path / file).write_bytes(data)
    refused(tmp_path, pattern)


CONFIGS: dict[str, tuple[str, str]] = {
    "code of its own": ('{"auto_map": {"AutoTokenizer": ["evil--x.Evil", null]}}', r"auto_map .*evil--x\.Evil"),
    "a token that is a number": ('{"eos_token": 7}', r"eos_token is '7'"),
    "a key twice": ('{"eos_token": "a", "eos_token": "b"}', r"'eos_token' twice"),
    "a file in another folder": ('{"sentencepiece_file": "../../etc/passwd"}', r"'../../etc/passwd', which is not in"),
    "no JSON": ("import os", r"not valid JSON"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_hostile_tokenizer_config_is_refused(layout, name, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(layout))
    (tmp_path / "tokenizer_config.json").write_text(CONFIGS[name][0])
    refused(tmp_path, CONFIGS[name][1])


@pytest.mark.parametrize(
    ("vocab", "merges", "pattern"),
    [
        ('{"a": 0, "b": 1, "a": 2}', "a b\n", r"'a' twice"),
        ('{"a": 0, "b": 1}', "#version: 0.2\na b\n", r"merges 'a' and 'b' to a token that .*vocab\.json lacks"),
        ('{"a": 0, "b": 1, "ab": 2}', "a b c\n", r"line 1: 'a b c'"),
        ('{"a": 0, "b": 1000000000, "ab": 2}', "a b\n", r"'b' has the id '1000000000'"),
        ('["a", "b"]', "a b\n", r"holds list"),
        ('{"a": 0, "b": 0, "ab": 2}', "a b\n", r"gives the id 0 to 'a' and to 'b'"),
        ('{"a": "0"}', "", r"'a' has the id '0'"),
        ('{"a</w>": 0}', "", r"ends of words by </w> \(GPT-1"),
    ],
)
def test_a_hostile_pair_of_files_is_refused(vocab, merges, pattern, tmp_path):
    (tmp_path / "vocab.json").write_text(vocab)
    (tmp_path / "merges.txt").write_text(merges)
    refused(tmp_path, pattern)


@pytest.mark.parametrize("kind", ["LongAgoTokenizer", "GPT2Tokenizerx", "../evil"])
def test_a_class_that_splits_words_in_an_unknown_way_is_refused(kind, tmp_path):
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind}))
    refused(tmp_path, r"how that splits words is not known")


def test_links_out_of_the_folder_and_what_is_no_file_are_refused(tmp_path, layout):
    for name in ("link", "pipe", "folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere.json").write_text(json.dumps(layout))
    (tmp_path / "link" / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    refused(tmp_path / "link", r"a link out of its folder")
    os.mkfifo(tmp_path / "pipe" / "tokenizer.json")
    refused(tmp_path / "pipe", r"no tokenizer")
    (tmp_path / "folder" / "tokenizer.json").mkdir()
    refused(tmp_path / "folder", r"no tokenizer")


# SentencePiece's .model, field by field.


def varint(number: int) -> bytes:
    data = b""
    while number > 0x7F:
        data += bytes([number & 0x7F | 0x80])
        number >>= 7
    return data + bytes([number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def piece(text: bytes, score: float = -1.0, kind: int = 1) -> bytes:
    return field(1, field(1, text) + varint(2 << 3 | 5) + struct.pack("<f", score) + field(3, kind))


UNKNOWN = piece(b"<unk>", 0.0, 2)
WORKING = UNKNOWN + piece("\u2581".encode()) + piece(b"a") + field(2, field(3, 1))
MODELS: dict[str, tuple[bytes, str]] = {
    "a length beyond the end": (UNKNOWN + b"\x0a" + varint(1 << 62), r"states 4611686018427387904 bytes"),
    "a number without end": (UNKNOWN + b"\xff" * 20, r"a number does not end"),
    "a group": (UNKNOWN + b"\x0b\x0c", r"a field of type 3"),
    "a piece twice": (WORKING + piece(b"a"), r"the piece 'a' twice, as 2 and 3"),
    "no unknown piece": (piece(b"a"), r"0 unknown pieces"),
    "two unknown pieces": (WORKING + piece(b"<u>", 0.0, 2), r"2 unknown pieces"),
    "a piece that is no text": (WORKING + piece(b"\xff\xfe"), r"no UTF-8"),
    "a piece of zero bytes": (WORKING + piece(b""), r"piece 3 has 0 bytes"),
    "a piece with a zero byte": (WORKING + piece(b"a\0b"), r"none of them zero"),
    "a piece as long as a book": (WORKING + piece(b"x" * 9000), r"piece 3 has 9000 bytes"),
    "a score that is no number": (WORKING + piece(b"b", float("nan")), r"piece 3 has a score that is no number"),
    "a kind that does not exist": (WORKING + piece(b"b", -1.0, 9), r"is of kind 9"),
    "a model of words": (UNKNOWN + piece(b"a") + field(2, field(3, 3)), r"of kind word"),
    "a model of an unknown kind": (UNKNOWN + piece(b"a") + field(2, field(3, 77)), r"of kind number 77"),
    "bytes without all of them": (WORKING + piece(b"<0x41>", 0.0, 6) + field(2, field(35, 1)), r"1 byte pieces"),
    "a byte that is none": (WORKING + piece(b"<0xZZ>", 0.0, 6) + field(2, field(35, 1)), r"'<0xZZ>', which is no byte"),
    "a hostile table": (
        WORKING + field(3, field(2, struct.pack("<III", 8, 0xFFFFFFFF, 0x7FFFFFFF) + b"z\0")), r"way out of its 2 units"
    ),
    "a table that is a number": (WORKING + field(3, field(2, 7)), r"the number 7 where there must be bytes"),
    "tests that do not come out": (
        WORKING + field(4, field(1, field(1, b"aa") + field(2, "\u2581 aa".encode()))), r"'aa' is cut into '▁ aa', but"
    ),
    "another way of decoding": (WORKING + field(5, field(2, b"x")), r"denormalizer"),
    "pieces so long that merging them takes hours": (
        UNKNOWN + b"".join(piece(b"x" * 7000 + str(n).encode()) for n in range(40)) + field(2, field(3, 2)), r"so long"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_hostile_sentencepiece_model_is_refused(name, tmp_path):
    data, pattern = MODELS[name]
    (tmp_path / "tokenizer.model").write_bytes(data)
    refused(tmp_path, pattern)


def test_the_model_that_those_are_made_of_works(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(WORKING + field(4, field(1, field(1, b"a") + field(2, "▁ a".encode()))))
    assert Tokenizer.load(tmp_path).encode("aa a") == [1, 2, 2, 1, 2]


def test_a_model_cut_off_or_changed_anywhere_is_read_or_refused_and_nothing_else():
    data = train_model(model_type="bpe", byte_fallback=True, vocab_size=2400)
    chance = random.Random(0)
    outcomes = []
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 4)):
            changed[chance.choice((chance.randrange(len(data)), chance.randrange(3000)))] = chance.randrange(256)
        outcomes.append(_outcome(bytes(changed)))
        outcomes.append(_outcome(data[: chance.randrange(len(data))]))
    assert set(outcomes) == {"read", "refused"}


def _outcome(data: bytes) -> str:
    try:
        read_model(data, "a.model")
    except ModelError:
        return "refused"
    return "read"


def test_a_pattern_that_gives_up_in_use_is_an_error_and_no_crash(layout):
    """Patterns are tried out on a few hundred characters; what slips through ends in the engine's own limit."""
    ours = Tokenizer(json.dumps(layout).encode())
    from tokenizers import Regex, pre_tokenizers

    ours._backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"(q+)+b"), "isolated")
    with pytest.raises(ModelError, match=r"cannot encode a text: Onig: Regex search error: retry-limit"):
        ours.encode("q" * 3000)


def test_characters_without_a_token_are_an_error_where_there_is_no_unknown_one(layout):
    changed = copy.deepcopy(layout)
    unigram([["a", -1.0]], unk_id=None)(changed)
    changed["decoder"] = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True}
    changed["pre_tokenizer"], changed["added_tokens"] = None, []
    ours = Tokenizer(json.dumps(changed).encode())
    assert ours.encode("aa") == [0, 0]
    with pytest.raises(ModelError, match=r"cannot encode a text.*unk"):
        ours.encode("ab")


def test_truncation_padding_and_dropout_are_not_kept(layout, tmp_path):
    changed = copy.deepcopy(layout)
    changed["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    changed["padding"] = {
        "strategy": {"Fixed": BIG}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    }  # fmt: skip
    changed["model"]["dropout"] = 0.5
    ours = Tokenizer(json.dumps(changed).encode())
    plain = Tokenizer(json.dumps(layout).encode())
    assert ours.encode("lower lowest") == plain.encode("lower lowest") == ours.encode("lower lowest")
    ours.save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    assert (saved["truncation"], saved["padding"], saved["model"]["dropout"]) == (None, None, None)


def test_published_patterns_are_quick_enough():
    from guiju.tokens.byte_level import QWEN_PATTERN
    from guiju.tokens.layout import require_quick_pattern

    for pattern in (
        QWEN_PATTERN,
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|"
        r"\s*[\r\n]|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
        r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"\d{1,3}(?=(?:\d{3})*\b)",
        r"[一-龥\u3040-ゟ゠-ヿ]+",
        r" ?[^(\s|[.,!?…。，、।۔،])]+",
    ):
        require_quick_pattern(pattern, "a published tokenizer")
