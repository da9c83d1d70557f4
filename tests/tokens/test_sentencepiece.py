"""SentencePiece models: the same ids and texts as the sentencepiece library's own."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path

import pytest
import sentencepiece
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_lines import mixed_lines, odd_strings, real_texts, training_texts

from guiju.errors import ModelError
from guiju.tokens import Tokenizer
from guiju.tokens.charsmap import Charsmap
from guiju.tokens.sentencepiece import SentencePieceEncoder
from guiju.tokens.sentencepiece_file import Algorithm, Kind, Piece, SentencePieceModel

OWN = ("<sep>", "▁▁▁", "xyz", "Tom")
MODELS = {
    "unigram": {"model_type": "unigram"},
    "unigram with bytes": {
        "model_type": "unigram", "byte_fallback": True, "user_defined_symbols": OWN, "control_symbols": ["<ctl>"],
    },
    "unigram, other spaces": {
        "model_type": "unigram", "split_by_whitespace": False, "remove_extra_whitespaces": False, "pad_id": 3,
        "normalization_rule_name": "nfkc_cf", "unk_surface": "?",
    },
    "unigram, spaces behind": {"model_type": "unigram", "treat_whitespace_as_suffix": True},
    "bpe": {"model_type": "bpe"},
    "bpe with bytes": {  # Llama's way
        "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity", "split_digits": True,
        "remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True,
    },
    "bpe with own symbols": {  # Gemma's way
        "model_type": "bpe", "byte_fallback": True, "normalization_rule_name": "identity", "add_dummy_prefix": False,
        "remove_extra_whitespaces": False, "user_defined_symbols": [*OWN, "\n", "\n\n", "  "],
    },
    "bpe over spaces": {"model_type": "bpe", "split_by_whitespace": False, "max_sentencepiece_length": 24},
}  # fmt: skip


def train_model(**options) -> bytes:
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(training_texts(2500)),
        model_writer=made,
        minloglevel=2,
        num_threads=1,
        **{"vocab_size": 2500, "character_coverage": 0.98, **options},
    )
    return made.getvalue()


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    files = {}
    for name, options in MODELS.items():
        files[name] = folder / f"{name}.model"
        files[name].write_bytes(train_model(**options))
    return files


def different(ours: list[list[int]], theirs: list[list[int]]) -> list[int]:
    return [number for number, (one, two) in enumerate(zip(ours, theirs, strict=True)) if one != two]


@pytest.mark.parametrize("name", ["unigram", "unigram with bytes", "bpe", "bpe with bytes"])
def test_ids_and_texts_are_the_library_s_on_ten_thousand_lines(models, name):
    theirs, ours = sentencepiece.SentencePieceProcessor(model_file=str(models[name])), Tokenizer.load(models[name])
    lines = list(mixed_lines())
    ids = ours.encode_batch(lines)
    assert different(ids, theirs.encode(lines)) == []
    assert [ours.decode(line) for line in ids] == theirs.decode(ids)


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_is_cut_as_the_library_cuts_it(models, name):
    theirs, ours = sentencepiece.SentencePieceProcessor(model_file=str(models[name])), Tokenizer.load(models[name])
    lines = [*mixed_lines(800, seed=3), *odd_strings(700, seed=4)]
    ids = ours.encode_batch(lines)
    assert different(ids, theirs.encode(lines)) == []
    assert [ours.decode(line) for line in ids] == theirs.decode(ids)
    assert (ours.vocab_size, ours.unknown_id) == (theirs.vocab_size(), theirs.unk_id())
    own = [found if found is not None else -1 for found in (ours.bos_id, ours.eos_id, ours.pad_id)]
    assert own == [theirs.bos_id(), theirs.eos_id(), theirs.pad_id()]


@pytest.mark.skipif("GUIJU_DATA" not in os.environ, reason="GUIJU_DATA names the folder with tokenizer-sentencepiece")
def test_the_library_s_own_english_model_gives_its_ids_on_ten_thousand_lines():
    file = Path(os.environ["GUIJU_DATA"]) / "tokenizer-sentencepiece" / "test_model.model"
    theirs, ours = sentencepiece.SentencePieceProcessor(model_file=str(file)), Tokenizer.load(file)
    lines = [*mixed_lines()[:9000], *odd_strings(1000, seed=5)]
    assert different(ours.encode_batch(lines), theirs.encode(lines)) == []
    ids = ours.encode_batch(lines)
    assert [ours.decode(line) for line in ids] == theirs.decode(ids)
    assert ours.encode("I saw a girl with a telescope.") == theirs.encode("I saw a girl with a telescope.")


def test_cuts_of_very_long_texts_are_the_library_s(models):
    """Where sums fall below -100,000 they begin anew; without that float32 would be too coarse to tell cuts apart."""
    theirs, ours = (
        sentencepiece.SentencePieceProcessor(model_file=str(models["unigram"])),
        Tokenizer.load(models["unigram"]),
    )
    words = " ".join(line for line in real_texts()[2] if len(line) > 40)[:30_000]
    chinese = "".join(real_texts()[1])[:20_000]
    for text in ("𠮷" * 7000 + words, words + "𠮷" * 20_000 + chinese, chinese * 2):
        assert ours.encode(text) == theirs.encode(text)


def test_a_model_saves_and_comes_back_as_it_was(models, tmp_path):
    for name in ("unigram with bytes", "bpe with own symbols"):
        file, ours = models[name], Tokenizer.load(models[name])
        ours.save(tmp_path / name)
        again = Tokenizer.load(tmp_path / name)
        lines = mixed_lines(200, seed=6)
        assert again.encode_batch(lines) == ours.encode_batch(lines), name
        assert again.digest == ours.digest == hashlib.sha256(file.read_bytes()).hexdigest()
        assert (tmp_path / name / "spiece.model").read_bytes() == file.read_bytes()


@pytest.mark.parametrize("name", MODELS)
def test_autotokenizer_opens_a_saved_model_with_the_same_ids(models, name, tmp_path):
    """But for cuts that are equally good to the last bits of float32, which tokenizer.json adds up in float64."""
    ours = Tokenizer.load(models[name])
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    written = [line for part in real_texts() for line in part[:800]]
    lines = [*written, *mixed_lines(1500, seed=9), *odd_strings(500, seed=10)]
    ids, expected = ours.encode_batch(lines), theirs(lines, add_special_tokens=False).input_ids
    unlike = different(ids, expected)
    assert len([number for number in unlike if number < len(written)]) <= (1 if "unigram" in name else 0)
    assert ours.lines_saved_otherwise(lines) == len(unlike)
    assert "unigram" in name or not unlike
    scores = {number: piece.score for number, piece in enumerate(ours._source.encoder.model.pieces)}
    for number in unlike:
        one, two = (sum(scores[token] for token in cut) for cut in (ids[number], expected[number]))
        assert one == pytest.approx(two, rel=1e-6), lines[number]


@pytest.mark.parametrize("name", ["unigram", "unigram with bytes", "bpe with bytes"])
def test_no_text_becomes_a_control_or_byte_piece_here_or_in_autotokenizer(models, name, tmp_path):
    ours = Tokenizer.load(models[name])
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    vocabulary = ours._layout.vocabulary
    for text in ("<s>", "</s>", "<unk>", "<0x41>", "<0xE4>", "<ctl>"):
        for line in (text, f"a{text}b", f" {text} ", f"中{text}{text}"):
            ids = ours.encode(line)
            assert theirs(line, add_special_tokens=False).input_ids == ids, line
            assert vocabulary.get(text, -1) not in ids or text == "<unk>", line


def test_llama_s_and_t5_s_files_are_read_with_what_these_families_add(models, tmp_path):
    llama, t5 = tmp_path / "llama", tmp_path / "t5"
    numbered_as_t5 = train_model(model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    for folder, model_type, file, data in (
        (llama, "llama", "tokenizer.model", models["bpe with bytes"].read_bytes()),
        (t5, "t5", "spiece.model", numbered_as_t5),
    ):
        folder.mkdir()
        (folder / file).write_bytes(data)
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    ours = Tokenizer.load(llama)
    assert (ours.prefix_ids, ours.suffix_ids) == ([1], [])
    ours = Tokenizer.load(t5)
    assert (ours.prefix_ids, ours.suffix_ids) == ([], [1])
    assert ours.vocab_size == 2600
    assert (ours.sentinel_ids[0], ours.sentinel_ids[99]) == (2599, 2500)
    assert not set(ours.encode("a<extra_id_0>b")) & set(ours.sentinel_ids)
    ours.save(tmp_path / "saved")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_99>"]) == [2599, 2500]
    assert theirs("a<extra_id_0>b").input_ids == ours.with_template(ours.encode("a<extra_id_0>b"))[0]
    assert Tokenizer.load(tmp_path / "saved").sentinel_ids == ours.sentinel_ids
    t5_by_transformers = transformers.T5Tokenizer.from_pretrained(t5)
    for line in ("The small fox went home.", "不以规矩，不能成方圆。 Two  spaces", ""):
        assert ours.with_template(ours.encode(line))[0] == t5_by_transformers(line).input_ids
    assert t5_by_transformers.convert_tokens_to_ids("<extra_id_0>") == 2599


def test_a_family_that_numbers_pieces_otherwise_is_refused(models, tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(models["unigram"].read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "XLMRobertaTokenizer"}))
    with pytest.raises(ModelError, match=r"'XLMRobertaTokenizer'.*other ids.*tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_replacements_are_the_longest_at_each_character():
    """Every entry of the library's own tables, each alone."""
    for file in sorted((Path(sentencepiece.__file__).parent / "package_data").glob("nmt_*.bin")):
        table = Charsmap(file.read_bytes(), file.name)
        for text, wanted in (("ﬃ", "ffi"), ("ｶﾞ", "ガ"), ("か\u3099", "が"), ("\u1112\u1161\u11ab", "한"), ("\x07", "")):
            assert table.longest(f"x{text}y", 1) == (wanted, 1 + len(text))
        assert table.longest("～", 0) is None
        assert table.longest("\x00", 0) is None


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab▁", max_size=14), st.permutations(range(7)), st.sets(st.integers(0, 6), max_size=2))
def test_merging_words_apart_equals_merging_whole_texts(text, order, unused):
    pieces = ["ab", "ba", "aa", "▁a", "▁▁", "aba", "▁ab"]
    kinds = [Kind.UNUSED if number in unused else Kind.NORMAL for number in range(7)]
    model = SentencePieceModel(
        pieces=(
            Piece("<unk>", 0.0, Kind.UNKNOWN), *(Piece(text, -9.0, Kind.NORMAL) for text in "ab▁"),
            *(Piece(text, -float(rank), kind) for text, rank, kind in zip(pieces, order, kinds, strict=True)),
        ),
        algorithm=Algorithm.BPE, byte_fallback=False, space_as_suffix=False, unknown_surface="?",
        names={"bos": "<s>", "eos": "</s>", "pad": "<pad>", "unk": "<unk>"}, charsmap=None, charsmap_data=b"",
        add_dummy_prefix=False, remove_extra_spaces=False, escape_spaces=True,
    )  # fmt: skip
    encoder = SentencePieceEncoder(model)
    whole = SentencePieceEncoder(model)
    whole._cut._by_word = False
    assert encoder.encode(text) == whole.encode(text)
