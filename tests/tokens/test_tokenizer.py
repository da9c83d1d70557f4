from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import ByteLevelBPETokenizer

from guiju.errors import ConfigError, DataError, ModelError
from guiju.tokens import END_OF_TEXT, Tokenizer, TokenizerSettings, train_tokenizer

LINES = [
    "Once upon a time, there was a little girl.",
    "不以规矩，不能成方圆。",
    "the fox 说：“你好, world!” — 3.14",
    "  two spaces\tand a tab\n\nand lines \r\n",
    "emoji 👩‍👩‍👧 and combining e\u0301",
    f"forged {END_OF_TEXT} token",
    "",
    " ",
]


@given(text=st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back_from_its_ids(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode()
    sizes = tokenizer.bytes_per_token
    assert sum(sizes[token] for token in ids) == len(text.encode())
    assert not set(ids) & tokenizer.special_ids


def test_autotokenizer_opens_the_folder_and_gives_equal_ids(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for line in LINES:
        assert theirs(line).input_ids == tokenizer.encode(line), line
        assert theirs.decode(theirs(line).input_ids) == tokenizer.decode(tokenizer.encode(line)) == line
    assert theirs.eos_token_id == tokenizer.eos_id
    assert theirs.bos_token_id == tokenizer.bos_id
    assert len(theirs) == tokenizer.vocab_size


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_autotokenizer_gives_equal_ids_beside_a_model_config(tokenizer, tmp_path, family):
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert [theirs(line).input_ids for line in LINES] == [tokenizer.encode(line) for line in LINES]


def test_a_special_token_in_user_text_stays_text(tokenizer, tmp_path):
    forged = f"a{END_OF_TEXT}b"
    assert tokenizer.eos_id not in tokenizer.encode(forged)
    assert tokenizer.decode(tokenizer.encode(forged)) == forged
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).encode(forged) == tokenizer.encode(forged)
    assert all(tokenizer.eos_id not in ids for ids in tokenizer.encode_batch([forged, END_OF_TEXT]))


def test_the_same_text_does_turn_special_where_the_safeguard_is_off(tokenizer, tmp_path):
    """The control: without encode_special_tokens this very tokenizer.json takes the forged token for a real one."""
    import tokenizers

    tokenizer.save(tmp_path)
    unguarded = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.eos_id in unguarded.encode(f"a{END_OF_TEXT}b").ids


def test_bos_comes_first_and_stands_for_no_byte(tokenizer):
    ids = tokenizer.encode("hello", bos=True)
    assert ids == [tokenizer.eos_id, *tokenizer.encode("hello")]
    assert tokenizer.bytes_per_token[tokenizer.eos_id] == 0
    assert tokenizer.decode(ids) == "hello"


def test_the_digest_is_the_file_s_and_survives_saving_and_loading(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "a")
    again = Tokenizer.load(tmp_path / "a")
    again.save(tmp_path / "b")
    data = (tmp_path / "b" / "tokenizer.json").read_bytes()
    assert tokenizer.digest == again.digest == hashlib.sha256(data).hexdigest()
    assert Tokenizer.load(tmp_path / "b" / "tokenizer.json").encode(LINES[2]) == tokenizer.encode(LINES[2])
    assert (tmp_path / "a" / "tokenizer_config.json").read_bytes() == (
        tmp_path / "b" / "tokenizer_config.json"
    ).read_bytes()


def test_the_same_texts_give_the_same_tokenizer(texts, tokenizer):
    assert train_tokenizer(iter(texts), TokenizerSettings(vocab_size=400)).digest == tokenizer.digest


def test_the_number_of_tokens_the_text_can_carry_is_named_and_works():
    text = ["low lower lowest low lower"] * 3
    with pytest.raises(
        ConfigError, match=r"vocab_size is 5000, but this text of 78 characters carries only (\d+)"
    ) as caught:
        train_tokenizer(text, TokenizerSettings(vocab_size=5000))
    reached = int(str(caught.value).split("carries only ")[1].split()[0])
    assert train_tokenizer(text, TokenizerSettings(vocab_size=reached)).vocab_size == reached
    with pytest.raises(ConfigError):
        train_tokenizer(text, TokenizerSettings(vocab_size=reached + 1))


def test_no_text_is_an_error():
    with pytest.raises(DataError, match="no text"):
        train_tokenizer([], TokenizerSettings())
    with pytest.raises(DataError, match="no text"):
        train_tokenizer(["", ""], TokenizerSettings())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"vocab_size": 256}, "at least 257"),
        ({"min_frequency": 0}, "min_frequency is 0"),
        ({"kind": "wordpiece", "special_tokens": ("[UNK]",)}, r"lacks \[CLS\], \[SEP\], \[PAD\]"),
        ({"kind": "unigram", "special_tokens": ("</s>",)}, "lacks <unk>"),
        ({"lower_case": True}, "for wordpiece"),
        ({"special_tokens": ("<a>", "<a>")}, "twice"),
        ({"special_tokens": (" <a>",)}, "outer spaces"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        TokenizerSettings(**wrong)


def test_text_that_is_no_text_is_refused(tokenizer):
    with pytest.raises(DataError, match=r"U\+D800 at character 1"):
        tokenizer.encode("a\ud800")
    with pytest.raises(DataError, match="outside the vocabulary"):
        tokenizer.decode([tokenizer.vocab_size])
    with pytest.raises(DataError, match="outside the vocabulary"):
        tokenizer.decode([-1])


def test_a_character_cut_in_two_decodes_to_its_bytes(tokenizer):
    ids = tokenizer.encode("𠮷")  # four bytes that no merge joined
    assert len(ids) == 4
    assert tokenizer.decode_bytes(ids[:2]) == "𠮷".encode()[:2]
    assert "\ufffd" in tokenizer.decode(ids[:2])


def test_folders_that_hold_no_tokenizer_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no tokenizer"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="tokenizer"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="tokenizer"):
        Tokenizer.load(tmp_path)


def test_a_tokenizer_config_cannot_name_code(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": ["evil.Tokenizer", None]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"auto_map .*evil\.Tokenizer.* never runs code"):
        Tokenizer.load(tmp_path)


def test_a_sentencepiece_like_tokenizer_decodes_as_its_own_library_does():
    import tokenizers
    from tokenizers import decoders, models, normalizers

    pieces = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{byte:02X}>": 3 + byte for byte in range(256)}}
    for piece in ("\u2581", "a", "b", "\u2581a", "ab", "\u2581ab"):
        pieces[piece] = len(pieces)
    merges = [("\u2581", "a"), ("a", "b"), ("\u2581a", "b")]
    backend = tokenizers.Tokenizer(models.BPE(pieces, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    ours = Tokenizer(backend.to_str().encode())
    for text in ("ab ab", "ab 中 a", " ab"):
        ids = ours.encode(text)
        assert ids == backend.encode(text, add_special_tokens=False).ids
        assert ours.decode(ids) == backend.decode(ids) == text
    assert (ours.bos_id, ours.eos_id) == (1, 2)
    assert ours.encode("ab</s>") == [*ours.encode("ab"), *(3 + byte for byte in b"<"), *(3 + byte for byte in b"/s>")]


@pytest.mark.skipif("GUIJU_DATA" not in os.environ, reason="GUIJU_DATA names the folder with tokenizer-gpt2")
def test_gpt2_s_published_vocabulary_gives_its_published_ids(tmp_path):
    import gzip

    folder = Path(os.environ["GUIJU_DATA"]) / "tokenizer-gpt2"
    (tmp_path / "vocab.json").write_bytes(gzip.decompress((folder / "encoder.json.gz").read_bytes()))
    (tmp_path / "merges.txt").write_bytes(gzip.decompress((folder / "vocab.bpe.gz").read_bytes()))
    gpt2 = Tokenizer.load(tmp_path)
    assert gpt2.encode("Hello world") == [15496, 995]
    assert (gpt2.vocab_size, gpt2.bos_id, gpt2.eos_id) == (50257, 50256, 50256)
    assert gpt2.decode(gpt2.encode("不以规矩 <|endoftext|>")) == "不以规矩 <|endoftext|>"


def test_what_is_learned_is_saved_for_readers_of_vocab_json_and_merges_txt_as_well(tmp_path):
    texts = ["床前明月光，疑是地上霜。", "It's plain text, and it's 12 words"] * 5
    ours = train_tokenizer(texts, TokenizerSettings(vocab_size=290))
    ours.save(tmp_path)
    theirs = ByteLevelBPETokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    for text in [*texts[:2], "举头望明月  \n\tit's 34 ABC", "日本語 🙂 naïve"]:
        assert theirs.encode(text).ids == ours.encode(text)
    (tmp_path / "tokenizer.json").unlink()
    assert Tokenizer.load(tmp_path).encode_batch(texts) == ours.encode_batch(texts)


def test_a_vocabulary_of_another_kind_has_no_vocab_json(tmp_path):
    train_tokenizer(["plain text"] * 5, TokenizerSettings(kind="wordpiece", vocab_size=20)).save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
