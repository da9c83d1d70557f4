from __future__ import annotations

import os
import random
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
import transformers

from guiju.errors import ModelError
from guiju.model import Transformer, gpt2_config, llama_config, load_llama2c, save_model
from guiju.model.llama2c import save_llama2c
from guiju.providers import export_model, load
from guiju.tokens import TokenizerSettings, train_tokenizer

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K"
TEXTS = ("Once upon a time, there was a dog.", "床前明月光", "  two  spaces\n", "é🦜")


@pytest.fixture
def checkpoint(tmp_path):
    for name in ("stories260K.bin", "tok512.bin"):
        shutil.copy(STORIES / name, tmp_path / name)
    return tmp_path / "stories260K.bin"


@pytest.mark.parametrize("place", [STORIES, Path(os.environ.get("GUIJU_DATA", "none")) / "stories260K"])
def test_the_published_checkpoint_comes_out_as_it_went_in_byte_for_byte(place, tmp_path):
    if not place.exists():
        pytest.skip("GUIJU_DATA names no folder with stories260K; the copy in examples/data is tried besides")
    written = export_model(place / "stories260K.bin", to="llama2c", out=tmp_path / "out")
    assert written == {"out": str(tmp_path / "out"), "format": "llama2c", "files": ["model.bin", "tokenizer.bin"]}
    assert (tmp_path / "out" / "model.bin").read_bytes() == (place / "stories260K.bin").read_bytes()
    assert (tmp_path / "out" / "tokenizer.bin").read_bytes() == (place / "tok512.bin").read_bytes()


def test_the_way_through_a_hugging_face_folder_and_back_keeps_weights_and_ids(checkpoint, tmp_path):
    export_model(checkpoint, to="huggingface", out=tmp_path / "there")
    written = export_model(tmp_path / "there", to="llama2c", out=tmp_path / "back")
    assert written["tokenizer_check"] == {"lines": 1000, "different": 0}
    assert (tmp_path / "back" / "model.bin").read_bytes() == checkpoint.read_bytes()
    before, after = load(checkpoint), load(tmp_path / "back" / "model.bin")
    assert [after.tokenizer.encode(text) for text in TEXTS] == [before.tokenizer.encode(text) for text in TEXTS]
    assert after.generate("Once upon", greedy=True) == before.generate("Once upon", greedy=True)


def _theirs(path: Path, vocab_size: int) -> tuple[dict[str, np.ndarray], bool]:
    """A reader of the layout of its own, after memory_map_weights in run.c: names are llama2.c's."""
    data = path.read_bytes()
    width, hidden, layers, heads, kv_heads, vocabulary, context = struct.unpack("<7i", data[:28])
    assert abs(vocabulary) == vocab_size
    head = width // heads
    sizes = {
        "token_embedding_table": (vocab_size, width),
        "rms_att_weight": (layers, width),
        "wq": (layers, width, width),
        "wk": (layers, kv_heads * head, width),
        "wv": (layers, kv_heads * head, width),
        "wo": (layers, width, width),
        "rms_ffn_weight": (layers, width),
        "w1": (layers, hidden, width),
        "w2": (layers, width, hidden),
        "w3": (layers, hidden, width),
        "rms_final_weight": (width,),
        "freq_cis_real": (context, head // 2),
        "freq_cis_imag": (context, head // 2),
    }
    if vocabulary < 0:
        sizes["wcls"] = (vocab_size, width)
    found, place = {}, 28
    for name, shape in sizes.items():
        found[name] = np.frombuffer(data, "<f4", int(np.prod(shape)), place).reshape(shape)
        place += found[name].nbytes
    assert place == len(data)
    return found, vocabulary > 0


def _logits(weights: dict[str, np.ndarray], ids: list[int], heads: int, kv_heads: int, tied: bool) -> np.ndarray:
    """The forward pass as run.c does it, token by token, in numpy: neighbours of a head are turned."""
    norm = lambda x, weight: weight * (x / np.sqrt((x * x).mean() + 1e-5))  # noqa: E731
    head = weights["wq"].shape[1] // heads
    layers = len(weights["wq"])
    keys: list[list[np.ndarray]] = [[] for _ in range(layers)]
    values: list[list[np.ndarray]] = [[] for _ in range(layers)]

    def turned(vector, position):
        out = vector.copy()
        for i in range(0, len(vector), 2):
            angle = position / 10000.0 ** ((i % head) / head)
            x, y = vector[i], vector[i + 1]
            out[i] = x * np.cos(angle) - y * np.sin(angle)
            out[i + 1] = x * np.sin(angle) + y * np.cos(angle)
        return out

    for position, token in enumerate(ids):
        x = weights["token_embedding_table"][token].astype(np.float64)
        for layer in range(layers):
            read = norm(x, weights["rms_att_weight"][layer])
            query = turned(weights["wq"][layer] @ read, position)
            keys[layer].append(turned(weights["wk"][layer] @ read, position))
            values[layer].append(weights["wv"][layer] @ read)
            mixed = np.zeros_like(query)
            for number in range(heads):
                shared = slice(number // (heads // kv_heads) * head, (number // (heads // kv_heads) + 1) * head)
                own = slice(number * head, (number + 1) * head)
                scores = np.array([query[own] @ key[shared] / np.sqrt(head) for key in keys[layer]])
                weight = np.exp(scores - scores.max())
                weight /= weight.sum()
                mixed[own] = sum(share * value[shared] for share, value in zip(weight, values[layer], strict=True))
            x = x + weights["wo"][layer] @ mixed
            read = norm(x, weights["rms_ffn_weight"][layer])
            gate = weights["w1"][layer] @ read
            x = x + weights["w2"][layer] @ (gate / (1 + np.exp(-gate)) * (weights["w3"][layer] @ read))
        head_weight = weights["token_embedding_table" if tied else "wcls"]
        logits = head_weight @ norm(x, weights["rms_final_weight"])
    return logits


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_written_computes_in_another_program_what_the_model_computes(tied, tmp_path):
    torch.manual_seed(0)
    config = llama_config(vocab_size=61, context=24, width=32, layers=2, heads=4, kv_heads=2, hidden=48, tied=tied)
    model = Transformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    save_llama2c(model, tmp_path / "model.bin")
    ids = [1, 40, 7, 7, 60, 3]
    weights, said_tied = _theirs(tmp_path / "model.bin", 61)
    assert said_tied == tied
    with torch.no_grad():
        ours = model(torch.tensor([ids]))[0, -1].numpy()
    assert ours.std() > 0.3
    np.testing.assert_allclose(_logits(weights, ids, 4, 2, tied), ours, atol=1e-4)
    again = load_llama2c(tmp_path / "model.bin")
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("change", "message"), [
    ({"rotary_base": 500000.0}, r"model\.rotary_base is 500000\.0, but llama2\.c computes 10000\.0 alone"),
    ({"norm_epsilon": 1e-6}, r"model\.norm_epsilon is 1e-06"),
    ({"head_width": 16}, r"model\.head_width is 16, but llama2\.c has width / heads, which is 8"),
    ({"qkv_bias": True}, r"model\.qkv_bias is True"),
    ({"window": 8}, r"model\.window is 8"),
    ({"query_key_norm": True}, r"model\.query_key_norm is True"),
])  # fmt: skip
def test_a_model_that_llama2c_does_not_compute_is_refused_by_field(change, message, tmp_path):
    config = llama_config(vocab_size=61, context=24, width=32, layers=1, heads=4)
    with torch.device("meta"):
        model = Transformer(replace(config, **change))
    with pytest.raises(ModelError, match=message):
        save_llama2c(model, tmp_path / "model.bin")
    assert not list(tmp_path.iterdir())


def test_gpt2s_shape_is_refused_by_field(tmp_path):
    model = Transformer(gpt2_config(vocab_size=9, context=8, width=8, layers=1, heads=2))
    with pytest.raises(ModelError, match=r"model\.positions is 'learned', but llama2\.c computes 'rotary' alone"):
        save_llama2c(model, tmp_path / "model.bin")


def test_a_byte_level_tokenizer_is_refused_and_nothing_is_written(tmp_path):
    tokenizer = train_tokenizer(["once upon a time " * 50], TokenizerSettings(vocab_size=260))
    save_model(Transformer(llama_config(vocab_size=260, width=16, layers=1, heads=2)), tmp_path / "in", tokenizer)
    with pytest.raises(ModelError, match=r"byte-level BPE.*other ids"):
        export_model(tmp_path / "in", to="llama2c", out=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_ids_that_run_c_has_fixed_must_be_there(checkpoint, tmp_path):
    export_model(checkpoint, to="huggingface", out=tmp_path / "in")
    path = tmp_path / "in" / "tokenizer.json"
    text = path.read_text()
    path.write_text(text.replace("<0x41>", "<0x??>").replace("<0x42>", "<0x41>").replace("<0x??>", "<0x42>"))
    with pytest.raises(ModelError, match=r"has '<0x42>' at id 68, where run\.c expects the byte <0x41>"):
        export_model(tmp_path / "in", to="llama2c", out=tmp_path / "out")


def test_a_sentencepiece_tokenizer_of_llamas_kind_gives_the_same_ids(tmp_path):
    """A vocabulary trained by SentencePiece itself; the .bin is held against its ids, not against ours."""
    (tmp_path / "text.txt").write_text(
        "\n".join(["the quick brown fox jumps over the lazy dog", "once upon a time there was a little dog"] * 200)
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text.txt"),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=320,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        minloglevel=2,
        hard_vocab_limit=False,
    )
    source = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    model = Transformer(llama_config(vocab_size=source.vocab_size() + 3, width=16, layers=1, heads=2))
    save_model(model, tmp_path / "in")
    transformers.LlamaTokenizer.from_pretrained(tmp_path, legacy=False).save_pretrained(tmp_path / "in")
    export_model(tmp_path / "in", to="llama2c", out=tmp_path / "out")
    ours = load(tmp_path / "out" / "model.bin").tokenizer
    chance = random.Random(0)
    pieces = [source.id_to_piece(token).replace("\u2581", " ") for token in range(300)]
    lines = ["".join(chance.choices(pieces, k=chance.randint(1, 20))) for _ in range(1000)]
    for text in ("the lazy dog jumps", "once upon a time", "a 床 there", " quickly", *lines):
        assert ours.encode(text) == source.encode(text), text
