"""`--to openai-gpt2`: the folder that OpenAI's own program reads, with the tokenizer as encoder.json and vocab.bpe."""

from __future__ import annotations

import gzip
import json
import os
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import pytest
import regex
import torch

from guiju.errors import ModelError
from guiju.model import Transformer, gpt2_config, save_model
from guiju.providers import export_model, load
from guiju.tokens import Tokenizer, TokenizerSettings, train_tokenizer

TEXT = (
    "床前明月光，疑是地上霜。举头望明月，低头思故乡。 Once upon a time there was a little dog, wasn't there? 3.14 " * 20
)
LINES = ["Once upon a time", "床前明月光 dog's  3.1 \n\t x", "it'll'd !?", " é 🤔\u2028", "<|endoftext|>", "a" * 40]


def openai_encoder(folder: Path):
    """src/encoder.py of openai/gpt-2, as it stands but for names."""
    encoder = json.loads((folder / "encoder.json").read_text())
    lines = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")[1:-1]
    ranks = {tuple(line.split()): rank for rank, line in enumerate(lines)}
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    symbols = {byte: chr(byte) for byte in kept}
    symbols |= {byte: chr(256 + n) for n, byte in enumerate(byte for byte in range(256) if byte not in symbols)}
    pattern = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")

    @lru_cache
    def bpe(token: str) -> list[str]:
        word = list(token)
        while len(word) > 1:
            best = min(pairwise(word), key=lambda pair: ranks.get(pair, float("inf")))
            if best not in ranks:
                break
            merged, place = [], 0
            while place < len(word):
                pair = tuple(word[place : place + 2])
                merged.append("".join(pair) if pair == best else word[place])
                place += 2 if pair == best else 1
            word = merged
        return word

    def encode(text: str) -> list[int]:
        ids = []
        for token in regex.findall(pattern, text):
            ids += [encoder[piece] for piece in bpe("".join(symbols[byte] for byte in token.encode()))]
        return ids

    return encode


def model_for(tokenizer: Tokenizer, folder: Path, **changed) -> Path:
    torch.manual_seed(0)
    model = Transformer(
        gpt2_config(
            **{"vocab_size": tokenizer.vocab_size, "context": 32, "width": 8, "layers": 2, "heads": 2} | changed
        )
    )
    save_model(model, folder, tokenizer)
    return folder


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    return train_tokenizer([TEXT], TokenizerSettings(vocab_size=320))


def test_openais_own_encoder_gives_the_same_ids(trained, tmp_path):
    done = export_model(model_for(trained, tmp_path / "in"), to="openai-gpt2", out=tmp_path / "out")
    assert done["files"] == [
        "checkpoint",
        "encoder.json",
        "hparams.json",
        "model.ckpt.data-00000-of-00001",
        "model.ckpt.index",
        "vocab.bpe",
    ]
    encode = openai_encoder(tmp_path / "out")
    for line in LINES:
        assert encode(line) == trained.encode(line)
    assert json.loads((tmp_path / "out" / "encoder.json").read_text())["<|endoftext|>"] == trained.eos_id


def test_the_folder_is_read_again_with_the_same_text_and_scores(trained, tmp_path):
    folder = model_for(trained, tmp_path / "in")
    export_model(folder, to="openai-gpt2", out=tmp_path / "out")
    before, after = load(folder), load(tmp_path / "out")
    assert all(after.tokenizer.encode(line) == trained.encode(line) for line in LINES)
    assert after.tokenizer.eos_id == after.tokenizer.bos_id == trained.eos_id
    assert (
        before.generate("Once", greedy=True, max_new_tokens=20)[0]
        == after.generate("Once", greedy=True, max_new_tokens=20)[0]
    )
    assert before.score(LINES) == after.score(LINES)


def test_the_digest_names_the_weights_under_any_name(trained, tmp_path):
    export_model(model_for(trained, tmp_path / "in"), to="openai-gpt2", out=tmp_path / "out")
    for path in (tmp_path / "out").glob("model.ckpt*"):
        path.rename(path.with_name(path.name.replace("model.ckpt", "model-1000")))
    (tmp_path / "out" / "checkpoint").write_text('model_checkpoint_path: "model-1000"\n')
    names = {path.name for path in load(tmp_path / "out").files}
    assert {"model-1000.index", "model-1000.data-00000-of-00001", "encoder.json", "vocab.bpe", "hparams.json"} <= names


@pytest.mark.skipif("GUIJU_DATA" not in os.environ, reason="needs GUIJU_DATA, the folder that holds tokenizer-gpt2")
def test_gpt2s_own_vocabulary_goes_in_and_comes_out_as_openai_published_it(tmp_path):
    source = Path(os.environ["GUIJU_DATA"]) / "tokenizer-gpt2"
    published = {name: gzip.decompress((source / f"{name}.gz").read_bytes()) for name in ("encoder.json", "vocab.bpe")}
    for name, data in published.items():
        (tmp_path / name).write_bytes(data)
    folder = model_for(Tokenizer.load(tmp_path), tmp_path / "in")
    export_model(folder, to="openai-gpt2", out=tmp_path / "out")
    for name, data in published.items():
        assert (tmp_path / "out" / name).read_bytes() == data


def changed_tokenizer(tokenizer: Tokenizer, folder: Path, *path: str, value: object) -> Tokenizer:
    tokenizer.save(folder)
    layout = json.loads((folder / "tokenizer.json").read_text())
    part = layout
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    return Tokenizer(json.dumps(layout).encode())


@pytest.mark.parametrize(("path", "value", "message"), [
    (("normalizer",), {"type": "Lowercase"}, "it changes texts first .normalizer Lowercase."),
    (("pre_tokenizer", "add_prefix_space"), True, "it cuts texts in another way"),
    (("pre_tokenizer", "use_regex"), False, "it cuts texts in another way"),
    (("pre_tokenizer",), None, "it cuts texts in another way .pre_tokenizer {}."),
    (("model", "ignore_merges"), True, "it has ignore_merges = True"),
])  # fmt: skip
def test_a_tokenizer_that_openais_encoder_would_read_otherwise_is_refused(path, value, message, trained, tmp_path):
    tokenizer = changed_tokenizer(trained, tmp_path / "tokenizer", *path, value=value)
    folder = model_for(tokenizer, tmp_path / "in")
    with pytest.raises(ModelError, match=message):
        export_model(folder, to="openai-gpt2", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_with_more_special_tokens_is_refused_by_name(tmp_path):
    special = ("<|endoftext|>", "<|user|>")
    tokenizer = train_tokenizer([TEXT], TokenizerSettings(vocab_size=300, special_tokens=special))
    folder = model_for(tokenizer, tmp_path / "in")
    with pytest.raises(ModelError, match=r"it has the token '<\|user\|>' beside its merges"):
        export_model(folder, to="openai-gpt2", out=tmp_path / "out")


def test_a_model_of_another_shape_is_refused_by_field(trained, tmp_path):
    folder = model_for(trained, tmp_path / "in", tied=False)
    with pytest.raises(ModelError, match=r"model.tied is False.*--to huggingface"):
        export_model(folder, to="openai-gpt2", out=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
