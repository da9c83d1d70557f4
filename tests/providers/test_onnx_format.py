"""`--to onnx`: onnxruntime computes from the exported graph what torch computes from the model, at any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from guiju.model import (
    AnyModel,
    ModelConfig,
    bert_config,
    build_model,
    gpt2_config,
    llama_config,
    save_model,
    t5_config,
)
from guiju.providers import export_model
from guiju.tokens import Tokenizer, TokenizerSettings, train_tokenizer

pytest.importorskip("onnx", reason="needs pip install 'guiju[onnx]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install 'guiju[onnx]'")
formats = pytest.importorskip("guiju.providers.formats.onnx")

SIZES = {"vocab_size": 61, "context": 40, "width": 32, "layers": 1, "heads": 4, "dropout": 0.5}
SHAPES = {
    "decoder": llama_config(**SIZES | {"layers": 2}, kv_heads=2, window=5, window_from=1, query_key_norm=True),
    "encoder": bert_config(**SIZES, head="classes", labels=("no", "yes", "perhaps")),
    "encoder-decoder": t5_config(**SIZES),
}


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


def lively(config: ModelConfig) -> AnyModel:
    torch.manual_seed(0)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.eval()


def session(path: Path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def asked(
    model: AnyModel, batch: int, time: int, target: int, left: bool
) -> tuple[dict[str, np.ndarray], torch.Tensor]:
    """Inputs by name, one row half of padding, and torch's logits."""
    draw = torch.Generator().manual_seed(time)
    ids = torch.randint(0, 61, (batch, time), generator=draw)
    real = torch.ones_like(ids)
    real[0, : time // 2] = 0
    real = real if left else real.flip(1)
    given = {"input_ids": ids, "attention_mask": real}
    with torch.inference_mode():
        if model.config.kind == "decoder":
            logits = model(ids, padding=real.bool())
        elif model.config.kind == "encoder":
            given["token_type_ids"] = torch.randint(0, 2, (batch, time), generator=draw)
            logits = model(ids, padding=real.bool(), segments=given["token_type_ids"])
        else:
            given["decoder_input_ids"] = torch.randint(0, 61, (batch, target), generator=draw)
            logits = model(given["decoder_input_ids"], source=ids, source_padding=real.bool())
    return {name: tensor.numpy() for name, tensor in given.items()}, logits


@pytest.mark.parametrize("name", SHAPES)
def test_onnxruntime_gives_torchs_logits_at_any_batch_and_time_with_padding_on_either_side(name, tmp_path):
    model = lively(SHAPES[name]).train()  # a graph answers as in evaluation, and leaves the model as it was
    inputs, outputs = formats.save_graph(model, tmp_path / "model.onnx")
    assert model.training and not (tmp_path / "model.onnx.data").exists()
    model.eval()
    computing = session(tmp_path / "model.onnx")
    assert [value.name for value in computing.get_inputs()] == inputs
    assert [value.name for value in computing.get_outputs()] == outputs == ["logits"]
    for batch, time, target, left in ((1, 1, 1, True), (3, 33, 7, True), (2, 12, 40, False), (1, 40, 2, False)):
        given, expected = asked(model, batch, time, target, left)
        found = computing.run(["logits"], given)[0]
        assert found.shape == tuple(expected.shape) and expected.abs().max() > 0.5
        # What a decoder makes of padding is nobody's concern.
        seen = given["attention_mask"].astype(bool) if name == "decoder" else slice(None)
        np.testing.assert_allclose(found[seen], expected.numpy()[seen], atol=2e-5)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["plain text, as plain as can be. " * 9], TokenizerSettings(vocab_size=270))


def test_an_export_has_the_tokenizer_beside_and_weights_beyond_one_file_in_another(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setattr(formats, "_LARGEST_IN_ONE", 1000)
    model = lively(gpt2_config(**SIZES | {"vocab_size": 270}))
    save_model(model, tmp_path / "in", tokenizer)
    done = export_model(tmp_path / "in", to="onnx", out=tmp_path / "out")
    assert {"model.onnx", "model.onnx.data", "tokenizer.json"} <= set(done["files"])
    assert (done["inputs"], done["outputs"]) == (["input_ids", "attention_mask"], ["logits"])
    ids = np.array([Tokenizer.load(tmp_path / "out").encode("as plain")])
    found = session(tmp_path / "out" / "model.onnx").run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    with torch.inference_mode():
        np.testing.assert_allclose(found[0], model(torch.from_numpy(ids)).numpy(), atol=2e-5)
