"""Vocabularies of every kind that transformers reads: the same ids as its own tokenizers give, in and out."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import regex
import sentencepiece
import transformers
from mixed_lines import mixed_lines, odd_strings, training_texts
from test_sentencepiece import train_model

from guiju.tokens import Tokenizer, TokenizerSettings, train_tokenizer

ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
CONTRACTIONS = r"'s|'t|'re|'ve|'m|'ll|'d"
GPT2_WORDS = regex.compile(CONTRACTIONS + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


def byte_level_files(folder: Path, vocab: str, merges: str, special: tuple[str, ...]) -> None:
    """A byte-level vocabulary in two files, as published folders have them."""
    learned = train_tokenizer(training_texts(), TokenizerSettings(vocab_size=2000, special_tokens=special))
    learned.save(folder / "learned")
    model = json.loads((folder / "learned" / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    shutil.rmtree(folder / "learned")
    (folder / vocab).write_text(json.dumps(model["vocab"]), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in model["merges"])]
    (folder / merges).write_text("\n".join(lines) + "\n", encoding="utf-8")


def gpt2(folder: Path) -> type:
    published = Path(os.environ.get("GUIJU_DATA", "")) / "tokenizer-gpt2"
    if "GUIJU_DATA" in os.environ:
        (folder / "vocab.json").write_bytes(gzip.decompress((published / "encoder.json.gz").read_bytes()))
        (folder / "merges.txt").write_bytes(gzip.decompress((published / "vocab.bpe.gz").read_bytes()))
    else:
        byte_level_files(folder, "vocab.json", "merges.txt", ("<|endoftext|>",))
    return transformers.GPT2Tokenizer


def roberta(folder: Path) -> type:
    byte_level_files(folder, "vocab.json", "merges.txt", ROBERTA)
    return transformers.RobertaTokenizer


def bart(folder: Path) -> type:
    byte_level_files(folder, "vocab.json", "merges.txt", ROBERTA)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BartTokenizer"}))
    return transformers.BartTokenizer


def qwen2(folder: Path) -> type:
    byte_level_files(folder, "vocab.json", "merges.txt", ("<|endoftext|>",))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Qwen2Tokenizer"}))
    return transformers.Qwen2Tokenizer


def bert(folder: Path, **config: object) -> type:
    settings = TokenizerSettings(kind="wordpiece", vocab_size=4000, lower_case=bool(config.get("do_lower_case", True)))
    learned = train_tokenizer(training_texts(), settings)
    vocabulary = sorted(learned._layout.vocabulary.items(), key=lambda entry: entry[1])
    (folder / "vocab.txt").write_text("\n".join(text for text, _ in vocabulary) + "\n", encoding="utf-8")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return transformers.BertTokenizer


def bert_cased(folder: Path) -> type:
    return bert(folder, do_lower_case=False)


def bert_with_accents(folder: Path) -> type:
    return bert(folder, do_lower_case=True, strip_accents=False, tokenize_chinese_chars=False)


def llama(folder: Path) -> type:
    return _by_transformers(
        transformers.LlamaTokenizer, "tokenizer.model", folder, "bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
    )  # fmt: skip


def t5(folder: Path) -> type:
    return _by_transformers(
        transformers.T5Tokenizer, "spiece.model", folder, "unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1
    )


def _by_transformers(cls: type, file: str, folder: Path, kind: str, **options: object) -> type:
    """A tokenizer.json that transformers itself makes of a .model."""
    (folder / "made").mkdir()
    (folder / "made" / file).write_bytes(train_model(model_type=kind, **options))
    cls.from_pretrained(folder / "made").save_pretrained(folder)
    shutil.rmtree(folder / "made")
    return cls


KINDS: dict[str, Callable[[Path], type]] = {
    "GPT-2": gpt2,
    "RoBERTa": roberta,
    "BART": bart,
    "Qwen2": qwen2,
    "BERT": bert,
    "BERT, cased": bert_cased,
    "BERT, accents kept": bert_with_accents,
    "Llama": llama,
    "T5": t5,
}
FAMILIES = {"GPT-2": "gpt2", "RoBERTa": "roberta", "BART": "bart", "Qwen2": "qwen2", "Llama": "llama", "T5": "t5"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, tuple[Path, type]]:
    found = {}
    for name, write in KINDS.items():
        folder = tmp_path_factory.mktemp("kind")
        found[name] = folder, write(folder)
    return found


def opened(folder: Path, cls: type) -> transformers.PreTrainedTokenizerFast:
    """In transformers, which is told not to take text for special tokens, as the folders say that are saved here."""
    return cls.from_pretrained(folder, split_special_tokens=True)


@pytest.mark.parametrize("name", KINDS)
def test_ids_and_texts_are_transformers_on_ten_thousand_lines(folders, name):
    folder, cls = folders[name]
    theirs, ours, lines = opened(folder, cls), Tokenizer.load(folder), list(mixed_lines())
    ids = ours.encode_batch(lines)
    expected = theirs(lines, add_special_tokens=False).input_ids
    unlike = [line for line, one, two in zip(lines, ids, expected, strict=True) if one != two]
    forged = [text for text in theirs.all_special_tokens if text != theirs.unk_token]
    assert [line for line in unlike if not any(text in line for text in forged)] == []
    assert [ours.decode(line) for line in ids[:3000]] == [
        theirs.decode(line, skip_special_tokens=True, clean_up_tokenization_spaces=False) for line in ids[:3000]
    ]


@pytest.mark.parametrize("name", KINDS)
def test_what_stands_around_a_text_and_a_pair_is_transformers(folders, name):
    folder, cls = folders[name]
    theirs, ours = opened(folder, cls), Tokenizer.load(folder)
    one, two = "The small fox went home.", "不以规矩，不能成方圆。"
    for texts in ((one,), (one, two)):
        expected = theirs(*texts, return_token_type_ids=True)
        ids, segments = ours.with_template(*map(ours.encode, texts))
        assert (ids, segments) == (expected.input_ids, expected.token_type_ids)
    assert ours.prefix_ids + ours.encode(one) + ours.suffix_ids == theirs(one).input_ids
    for part in ("bos", "eos", "pad", "mask", "cls", "sep"):
        assert getattr(ours, f"{part}_id") == getattr(theirs, f"{part}_token_id"), part
    assert ours.vocab_size == len(theirs)


@pytest.mark.parametrize("name", KINDS)
def test_a_saved_folder_opens_by_autotokenizer_with_the_same_ids(folders, name, tmp_path):
    folder, _ = folders[name]
    ours = Tokenizer.load(folder)
    ours.save(tmp_path)
    lines = [*mixed_lines(1500, seed=7), *odd_strings(500, seed=8)]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": FAMILIES.get(name, "bert")}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    expected = ours.encode_batch(lines)
    assert theirs(lines, add_special_tokens=False).input_ids == expected
    assert (
        theirs(lines[50], lines[60], return_token_type_ids=True).input_ids
        == ours.with_template(expected[50], expected[60])[0]
    )
    for part in ("bos", "eos", "pad", "mask", "cls", "sep"):
        assert getattr(ours, f"{part}_id") == getattr(theirs, f"{part}_token_id"), part
    again = Tokenizer.load(tmp_path)
    assert again.encode_batch(lines) == expected
    assert again.digest == ours.digest


@pytest.mark.parametrize("name", KINDS)
def test_no_text_becomes_a_special_token(folders, name):
    ours = Tokenizer.load(folders[name][0])
    written = [text for text, token in ours._layout.vocabulary.items() if token in ours.special_ids]
    for text in written:
        for line in (text, f"a{text}b", f" {text} ", f"中{text}{text}"):
            assert not set(ours.encode(line)) & (ours.special_ids - {ours.unknown_id}), line


def openai_ids(encoder: dict[str, int], merges: list[tuple[str, str]], lines: list[str]) -> list[list[int]]:
    """OpenAI's own way (src/encoder.py of gpt-2), written afresh: words by a pattern, bytes as symbols, the pair of the
    lowest rank merged in all places, again and again."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in symbols:
            symbols[byte] = chr(256 + len(symbols) - len(printable))
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    known: dict[str, list[int]] = {}

    def cut(word: str) -> list[int]:
        parts = [symbols[byte] for byte in word.encode()]
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: ranks.get(pair, len(ranks)))
            if best not in ranks:
                break
            merged, place = [], 0
            while place < len(parts):
                pair = tuple(parts[place : place + 2])
                merged.append("".join(pair) if pair == best else parts[place])
                place += 2 if pair == best else 1
            parts = merged
        return [encoder[part] for part in parts]

    found = []
    for line in lines:
        ids: list[int] = []
        for word in GPT2_WORDS.findall(line):
            if word not in known:
                known[word] = cut(word)
            ids += known[word]
        found.append(ids)
    return found


def test_openai_s_files_give_the_ids_of_openai_s_algorithm_on_ten_thousand_lines(folders, tmp_path):
    folder, _ = folders["GPT-2"]
    shutil.copy(folder / "vocab.json", tmp_path / "encoder.json")
    shutil.copy(folder / "merges.txt", tmp_path / "vocab.bpe")
    ours, lines = Tokenizer.load(tmp_path), list(mixed_lines())
    encoder = json.loads((tmp_path / "encoder.json").read_text(encoding="utf-8"))
    merges = [tuple(line.split()) for line in (tmp_path / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]]
    ids = ours.encode_batch(lines)
    assert ids == openai_ids(encoder, merges, lines)
    assert [ours.decode(line) for line in ids] == lines
    assert ours.eos_id == ours.bos_id == encoder["<|endoftext|>"]
    assert Tokenizer.load(tmp_path / "vocab.bpe").digest == ours.digest == Tokenizer.load(folder).digest


@pytest.fixture(scope="module")
def marian(tmp_path_factory) -> Path:
    """A pair as OPUS-MT publishes them: two models, and one vocab.json that numbers the pieces of both anew."""
    folder = tmp_path_factory.mktemp("marian")
    pieces = set()
    for name, options in (("source.spm", {"vocab_size": 2000}), ("target.spm", {"vocab_size": 1500})):
        data = train_model(model_type="unigram", **options)
        (folder / name).write_bytes(data)
        model = sentencepiece.SentencePieceProcessor(model_proto=data)
        pieces |= {model.id_to_piece(number) for number in range(3, model.vocab_size())}
    rare = sorted(pieces)[::50]  # pieces that never came up in training are not in vocab.json
    tokens = ["</s>", "<unk>", ">>zho<<", *sorted(pieces - set(rare), key=lambda text: (len(text), text)), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "eng", "target_lang": "zho"}))
    return folder


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_both_sides_of_a_marian_pair_give_transformers_ids_on_ten_thousand_lines(marian, tmp_path):
    theirs, ours, lines = (
        transformers.MarianTokenizer.from_pretrained(marian),
        Tokenizer.load(marian),
        list(mixed_lines()),
    )
    lines = [line for line in lines if not any(token in line for token in theirs.all_special_tokens)]
    lines += [f">>zho<<{line}" for line in lines[:50]]
    lines += odd_strings(300, seed=14)
    assert len(lines) >= 10_000
    ids = ours.encode_batch(lines)
    assert ids == theirs(lines, add_special_tokens=False).input_ids
    assert ours.target.encode_batch(lines) == theirs(text_target=lines, add_special_tokens=False).input_ids
    assert ours.with_template(ids[50])[0] == theirs(lines[50]).input_ids
    assert (ours.eos_id, ours.pad_id, ours.unknown_id) == (
        theirs.eos_token_id,
        theirs.pad_token_id,
        theirs.unk_token_id,
    )
    clean = [line for line in ids if ours.unknown_id not in line and ours.encode(">>zho<<")[0] not in line]
    assert len(clean) > 2000
    assert [ours.decode(line).strip() for line in clean] == [theirs.decode(line) for line in clean]

    ours.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.digest == ours.digest
    assert again.target.encode_batch(lines[:500]) == ours.target.encode_batch(lines[:500])
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "marian"}))
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(saved, transformers.MarianTokenizer)
    assert saved(lines, add_special_tokens=False).input_ids == ids
    assert saved("a</s>b").input_ids == ours.with_template(ours.encode("a</s>b"))[0]
