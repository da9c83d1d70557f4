from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
import transformers

from guiju.errors import ModelError
from guiju.model import load_llama2c


def _foreign(tied):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=40,
        rms_norm_eps=1e-5,
        tie_word_embeddings=tied,
        initializer_range=0.2,
    )
    return transformers.LlamaForCausalLM(config).eval()


def _write(model, path):
    """What llama2.c's export.py does with a Hugging Face model: rows of queries and keys back to neighbouring pairs."""
    config, body = model.config, model.model

    def neighbours(weight, heads):
        return weight.view(heads, 2, weight.size(0) // heads // 2, weight.size(1)).transpose(1, 2).reshape(weight.shape)

    layers = body.layers
    parts = [body.embed_tokens.weight]
    parts += [layer.input_layernorm.weight for layer in layers]
    parts += [neighbours(layer.self_attn.q_proj.weight, 4) for layer in layers]
    parts += [neighbours(layer.self_attn.k_proj.weight, 2) for layer in layers]
    parts += [layer.self_attn.v_proj.weight for layer in layers]
    parts += [layer.self_attn.o_proj.weight for layer in layers]
    parts += [layer.post_attention_layernorm.weight for layer in layers]
    parts += [layer.mlp.gate_proj.weight for layer in layers]
    parts += [layer.mlp.down_proj.weight for layer in layers]
    parts += [layer.mlp.up_proj.weight for layer in layers]
    parts += [body.norm.weight, torch.zeros(40, 4), torch.zeros(40, 4)]
    vocab_size = 61
    if not config.tie_word_embeddings:
        parts.append(model.lm_head.weight)
        vocab_size = -61
    header = struct.pack("<7i", 32, 48, 2, 4, 2, vocab_size, 40)
    path.write_bytes(header + b"".join(part.detach().numpy().astype("<f4").tobytes() for part in parts))


@pytest.mark.parametrize("tied", [True, False])
def test_a_checkpoint_written_from_a_transformers_model_has_its_logits(tied, tmp_path):
    theirs = _foreign(tied)
    _write(theirs, tmp_path / "model.bin")
    ours = load_llama2c(tmp_path / "model.bin")
    assert ours.config.tied == tied
    ids = torch.randint(61, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = theirs(ids).logits
        assert expected.std() > 0.3
        assert (ours(ids) - expected).abs().max() <= 1e-4


@pytest.mark.parametrize(("change", "message"), [
    (lambda data: data[:-4], r"is cut off: by its header .* it must have"),
    (lambda data: data + b"\0", r"has bytes to spare"),
    (lambda data: data[:20], r"20 bytes long, too short"),
    (lambda data: b"", r"0 bytes long, too short"),
    (lambda data: struct.pack("<i", -32) + data[4:], r"shape that cannot be.*width is -32"),
    (lambda data: data[:12] + struct.pack("<i", 3) + data[16:], r"shape that cannot be"),
    (lambda data: data[:20] + struct.pack("<i", 0) + data[24:], r"vocab_size is 0"),
    (lambda data: data[:8] + struct.pack("<i", 2**30) + data[12:], r"is cut off"),
    (lambda data: data[:8] + struct.pack("<i", 2**31 - 1) + data[12:], r"layers is 2147483647; no model has more"),
    (lambda data: b"24ka" + struct.pack("<i", 2) + data[8:], r"llama2\.c checkpoint of version 2"),
    (lambda data: b'{"a": "json file, not a checkpoint"}', r"no llama2\.c checkpoint|is cut off"),
])  # fmt: skip
def test_a_file_that_is_damaged_or_none_is_refused(change, message, tmp_path):
    path = tmp_path / "model.bin"
    _write(_foreign(True), path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ModelError, match=message):
        load_llama2c(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"nothing\.bin cannot be read: No such file"):
        load_llama2c(tmp_path / "nothing.bin")


def test_the_model_outlives_its_file(tmp_path):
    path = tmp_path / "model.bin"
    _write(_foreign(True), path)
    model = load_llama2c(path)
    before = model.embedding.weight.detach().clone()
    with path.open("r+b") as file:
        file.write(np.zeros(10_000, dtype="<f4").tobytes())
    assert torch.equal(model.embedding.weight, before)
