"""`--to tensorflow`: TensorFlow computes from the exported graph what torch computes from the model."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from guiju.errors import ModelError
from guiju.model import (
    ModelConfig,
    RotaryScaling,
    Transformer,
    bert_config,
    gpt2_config,
    llama_config,
    transformer_config,
)
from guiju.providers.formats.tensorflow import save_graph
from guiju.providers.formats.tensorflow_decoder import require_decoder

SIZES = {"vocab_size": 61, "context": 40, "width": 32, "layers": 2, "heads": 4}
PARTS = {**SIZES, "kv_heads": 2, "head_width": 8, "hidden": 48}
SHAPES = {
    "gpt2": gpt2_config(**SIZES),
    "llama 3": llama_config(
        **SIZES,
        kv_heads=2,
        tied=True,
        rotary_share=0.5,
        rotary_scaling=RotaryScaling(kind="llama3", factor=8, original_context=16),
    ),
    "qwen": llama_config(
        **SIZES, kv_heads=1, head_width=16, qkv_bias=True, query_key_norm=True, window=5, window_from=1
    ),
    "relative": ModelConfig(
        **PARTS,
        positions="relative",
        norm="rms",
        activation="relu",
        bias=False,
        tied=False,
        attention_scale=1.0,
        relative_buckets=8,
        relative_distance=20,
        window=11,
    ),
    "of 2017": ModelConfig(
        **PARTS,
        positions="sinusoidal",
        norm="layer",
        norm_place="after",
        activation="geglu",
        bias=True,
        tied=True,
        embedding_norm=True,
        embedding_scale=5.6,
        logits_bias=True,
        logit_scale=0.3,
    ),
    "offset": ModelConfig(
        **PARTS, positions="learned", position_offset=2, norm="rms", activation="silu", bias=True, tied=False
    ),
}


def lively(config: ModelConfig) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.eval()


@pytest.fixture(scope="module")
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 61, (3, 33)).astype("int32")


@pytest.mark.parametrize("name", SHAPES)
def test_whole_and_step_by_step_the_logits_are_torchs(name, ids, tensorflow, tmp_path):
    model = lively(SHAPES[name])
    with torch.inference_mode():
        expected = model(torch.from_numpy(ids).long()).numpy()
    assert np.abs(expected).max() > 1
    save_graph(tensorflow, model, tmp_path, trains=False)
    loaded = tensorflow.saved_model.load(str(tmp_path))
    whole = loaded.signatures["serving_default"](input_ids=tensorflow.constant(ids))["logits"]
    np.testing.assert_allclose(whole.numpy(), expected, atol=2e-5)
    step = loaded.signatures["decode"]
    config = model.config
    names = [f"{kind}_{layer}" for kind in ("key", "value") for layer in range(config.layers)]
    cache = {name: tensorflow.zeros((3, config.kv_heads, 0, config.head_width)) for name in names}
    parts = []
    for begin, end in [(0, 10), (10, 11), (11, 20), *((place, place + 1) for place in range(20, 33))]:
        cache = step(input_ids=tensorflow.constant(ids[:, begin:end]), **cache)
        parts.append(cache.pop("logits").numpy())
        assert {tuple(held.shape) for held in cache.values()} == {(3, config.kv_heads, end, config.head_width)}
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, atol=2e-5)
    reader = tensorflow.train.load_checkpoint(str(tmp_path / "variables" / "variables"))
    held = [reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name]
    for parameter in model.parameters() if config.positions != "relative" else ():  # those are laid out by distance
        own = parameter.detach().numpy()
        assert any(value.shape == own.shape and np.array_equal(value, own) for value in held)  # to the bit


@pytest.mark.parametrize(("config", "message"), [
    (bert_config(**SIZES), "model.kind is 'encoder'"),
    (transformer_config(**SIZES), "model.kind is 'encoder-decoder'.* Take --to onnx"),
])  # fmt: skip
def test_what_is_no_decoder_is_refused_by_field(config, message):
    with pytest.raises(ModelError, match=message):
        require_decoder(config)


def test_a_field_of_a_later_version_is_refused_instead_of_left_out(monkeypatch):
    from guiju.providers.formats import tensorflow_decoder

    monkeypatch.setattr(tensorflow_decoder, "_COMPUTED", tensorflow_decoder._COMPUTED - {"window"})
    with pytest.raises(ModelError, match=r"model\.window is 5"):
        require_decoder(SHAPES["qwen"])
    require_decoder(SHAPES["gpt2"])


def test_every_field_of_a_decoder_is_known():
    from guiju.providers.formats.tensorflow_decoder import _COMPUTED, _WITHOUT_EFFECT

    other = {"kind", "encoder_layers", "segments", "head", "head_transform", "pooler", "labels"}
    assert set(ModelConfig.__dataclass_fields__) == _COMPUTED | _WITHOUT_EFFECT | other, SimpleNamespace(
        hint="a new field of ModelConfig: compute it in formats/tensorflow_decoder.py, or let it be refused here"
    )
