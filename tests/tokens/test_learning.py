"""Vocabularies of other kinds, learned here; and what bits per byte mean with them."""

from __future__ import annotations

import json
import math

import pytest
import torch
import transformers
from mixed_lines import mixed_lines, training_texts

from guiju.errors import ConfigError, DataError, ModelError
from guiju.generation import score
from guiju.model import Transformer, llama_config
from guiju.tokens import TokenData, Tokenizer, TokenizerSettings, train_tokenizer, write_shards
from guiju.training import evaluate_bits_per_byte, ngram_baselines

SENTINELS = tuple(f"<extra_id_{number}>" for number in range(5))
KINDS = {
    "wordpiece": TokenizerSettings(kind="wordpiece", vocab_size=4000),
    "wordpiece, lower case": TokenizerSettings(kind="wordpiece", vocab_size=4000, lower_case=True),
    "unigram": TokenizerSettings(kind="unigram", vocab_size=4000),
    "unigram with sentinels": TokenizerSettings(
        kind="unigram", vocab_size=4000, special_tokens=("<pad>", "</s>", "<unk>", "<mask>", *SENTINELS)
    ),
    "bpe with marks": TokenizerSettings(
        vocab_size=3000, special_tokens=("<|endoftext|>", "<pad>", "<mask>", *SENTINELS)
    ),
}


@pytest.fixture(scope="module")
def learned() -> dict[str, Tokenizer]:
    return {name: train_tokenizer(training_texts(), settings) for name, settings in KINDS.items()}


@pytest.mark.parametrize("name", KINDS)
def test_a_learned_vocabulary_is_of_the_size_that_was_asked_for_and_repeats(learned, name):
    ours = learned[name]
    assert ours.vocab_size == KINDS[name].vocab_size
    assert train_tokenizer(iter(training_texts()), KINDS[name]).digest == ours.digest


@pytest.mark.parametrize("name", KINDS)
def test_autotokenizer_opens_what_was_learned_with_the_same_ids(learned, name, tmp_path):
    ours = learned[name]
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    lines = list(mixed_lines(1500, seed=11))
    ids = ours.encode_batch(lines)
    assert theirs(lines, add_special_tokens=False).input_ids == ids
    assert theirs(lines[40], lines[50]).input_ids == ours.with_template(ids[40], ids[50])[0]
    assert [theirs.decode(line, skip_special_tokens=True) for line in ids[:300]] == [
        ours.decode(line) for line in ids[:300]
    ]
    assert Tokenizer.load(tmp_path).encode_batch(lines) == ids
    for part in ("bos", "eos", "pad", "mask", "cls", "sep"):
        assert getattr(ours, f"{part}_id") == getattr(theirs, f"{part}_token_id"), part


def test_each_kind_has_the_marks_that_its_models_need(learned):
    bert = learned["wordpiece"]
    one, two = bert.encode("the fox"), bert.encode("the lamp")
    ids, segments = bert.with_template(one, two)
    assert ids == [bert.cls_id, *one, bert.sep_id, *two, bert.sep_id]
    assert segments == [0] * (len(one) + 2) + [1] * (len(two) + 1)
    assert None not in (bert.mask_id, bert.pad_id, bert.unknown_id, bert.eos_id, bert.bos_id)
    assert (bert.bos_id, bert.eos_id) == (bert.cls_id, bert.sep_id)
    t5 = learned["unigram with sentinels"]
    assert t5.suffix_ids == [t5.eos_id] and t5.prefix_ids == []
    assert t5.sentinel_ids == tuple(range(4, 9)) and t5.mask_id == 3
    assert learned["bpe with marks"].sentinel_ids == tuple(range(3, 8))
    assert learned["bpe with marks"].unknown_id is None
    for ours in learned.values():
        for text in ("[MASK]", "[SEP]", "</s>", "<unk>", "<extra_id_0>", "<mask>", "<|endoftext|>"):
            assert not set(ours.encode(f"a {text} b {text}")) & (ours.special_ids - {ours.unknown_id}), text


@pytest.mark.parametrize("name", KINDS)
def test_a_text_given_out_token_by_token_is_the_text(learned, name):
    ours = learned[name]
    for line in mixed_lines(400, seed=12):
        ids = [*ours.prefix_ids, *ours.encode(line), *ours.suffix_ids]
        parts, first = [], True
        for token in ids:
            parts.append(ours.added_bytes(token, first=first))
            first = first and ours.keeps_beginning(token)
        assert b"".join(parts) == ours.decode_bytes(ids)


def test_lower_case_is_dropped_where_it_is_asked_for(learned):
    lower, cased = learned["wordpiece, lower case"], learned["wordpiece"]
    assert lower.encode("The Fox") == lower.encode("the fox")
    assert cased.encode("The Fox") != cased.encode("the fox")
    assert cased.decode(cased.encode("我们 the")) == "我 们 the"


def test_texts_with_too_many_characters_or_too_little_text_are_refused():
    wide = ["".join(map(chr, range(0x4E00, 0x4F00)))]
    for kind in ("wordpiece", "unigram"):
        with pytest.raises(ConfigError, match=r"vocab_size|characters"):
            train_tokenizer(wide, TokenizerSettings(kind=kind, vocab_size=60))
        with pytest.raises(ConfigError, match=r"vocab_size is 5000, but this text of \d+ characters carries only \d+"):
            train_tokenizer(["low lower lowest"] * 5, TokenizerSettings(kind=kind, vocab_size=5000))
        with pytest.raises(DataError, match="no text"):
            train_tokenizer([], TokenizerSettings(kind=kind))


@pytest.fixture(scope="module")
def data(learned, tmp_path_factory) -> dict[str, TokenData]:
    found = {}
    for name, ours in learned.items():
        folder = tmp_path_factory.mktemp("data") / "tokens"
        texts = [text for text in training_texts()[:300] if ours.encode(text)]
        write_shards(((str(number), text) for number, text in enumerate(texts)), ours, folder)
        found[name] = TokenData.open(folder, ours.digest)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_sizes_of_tokens_add_up_to_the_bytes_of_the_texts(learned, data, name):
    own, found = learned[name].bytes_per_token, data[name]
    sizes = found.byte_sizes(own)
    total = sum(sizes[token] for token in found.read(0, found.tokens))
    assert total == pytest.approx(found.index.text_bytes, rel=1e-9)
    assert (sizes is own) == learned[name].bytes_add_up == (name == "bpe with marks")


def test_bits_per_byte_are_those_of_the_texts_as_they_were_written(learned, data):
    """A model that knows nothing spends log2(vocabulary) bits on each token; unknown ones count, too."""
    for name in ("wordpiece, lower case", "unigram"):
        ours, found = learned[name], data[name]
        config = llama_config(vocab_size=ours.vocab_size, width=8, layers=1, heads=1, context=32, tied=True)
        model = Transformer(config)
        with torch.no_grad():
            model.embedding.weight.zero_()
        tokens = found.read(0, found.tokens)
        text = sum(token not in ours.special_ids or token == ours.unknown_id for token in tokens.tolist())
        expected = text * math.log2(ours.vocab_size) / found.index.text_bytes
        sizes = found.byte_sizes(ours.bytes_per_token)
        assert evaluate_bits_per_byte(model, found, sizes, context=32) == pytest.approx(expected, rel=1e-5)
        assert ngram_baselines(found, found, sizes).validation_bytes == found.index.text_bytes


def test_a_text_with_unknown_characters_is_not_scored_in_bits_per_byte(learned):
    ours = learned["unigram"]
    config = llama_config(vocab_size=ours.vocab_size, width=8, layers=1, heads=1, context=32, tied=True)
    model = Transformer(config)
    assert score(model, ours, ["the old lamp"])[0].tokens == len(ours.encode("the old lamp"))
    with pytest.raises(DataError, match=r"text 1 holds characters .*𠮷 U\+20BB7"):
        score(model, ours, ["the old lamp", "the 𠮷 lamp"])


def test_a_vocabulary_larger_than_the_weights_is_refused_for_every_kind(learned, tmp_path):
    from guiju.model import save_model
    from guiju.providers import load

    ours = learned["wordpiece"]
    small = Transformer(llama_config(vocab_size=3999, width=8, layers=1, heads=1, context=32, tied=True))
    with pytest.raises(ModelError, match=r"4000 ids, but the model knows 3999"):
        save_model(small, tmp_path / "whole", ours)
    save_model(small, tmp_path)
    ours.save(tmp_path)
    with pytest.raises(ModelError, match=r"4000 ids, but the model knows 3999"):
        load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    vocabulary = sorted(ours._layout.vocabulary.items(), key=lambda entry: entry[1])
    (tmp_path / "vocab.txt").write_text("\n".join(text for text, _ in vocabulary) + "\n", encoding="utf-8")
    with pytest.raises(ModelError, match=r"4000 ids, but the model knows 3999"):
        load(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == 3999
