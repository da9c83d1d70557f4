"""OpenAI's GPT-2 folders: TensorFlow writes them and guiju reads them, and the other way round."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from guiju.errors import ModelError
from guiju.model import Transformer, gpt2_config, llama_config
from guiju.model.openai_gpt2 import is_openai_gpt2, load_openai_gpt2, save_openai_gpt2
from guiju.model.tensor_bundle import TensorBundle, write_bundle

HPARAMS = {"n_vocab": 61, "n_ctx": 24, "n_embd": 12, "n_head": 3, "n_layer": 2}
IDS = [[5, 60, 0, 17, 3, 3, 42], [1, 2, 3, 4, 5, 6, 7]]


def openai_model(v1: Any, ids: Any, hparams: dict[str, int]) -> Any:
    """src/model.py of openai/gpt-2, shortened to what gives logits: (batch, time) ids -> (batch, time, vocab)."""
    tf, width, heads = v1, hparams["n_embd"], hparams["n_head"]

    def draw(deviation: float, mean: float = 0.0) -> Any:
        return tf.random_normal_initializer(mean, deviation)

    def norm(x, scope):
        with tf.variable_scope(scope):
            g = tf.get_variable("g", [width], initializer=draw(0.3, 1.0))
            b = tf.get_variable("b", [width], initializer=draw(0.3))
            u = tf.reduce_mean(x, axis=-1, keepdims=True)
            s = tf.reduce_mean(tf.square(x - u), axis=-1, keepdims=True)
            return (x - u) * tf.rsqrt(s + 1e-5) * g + b

    def conv1d(x, scope, nf):
        with tf.variable_scope(scope):
            nx = x.shape[-1]
            w = tf.get_variable("w", [1, nx, nf], initializer=draw(0.3))
            b = tf.get_variable("b", [nf], initializer=draw(0.3))
            flat = tf.matmul(tf.reshape(x, [-1, nx]), tf.reshape(w, [-1, nf])) + b
            return tf.reshape(flat, [*x.shape[:-1], nf])

    def split_heads(x):
        return tf.transpose(tf.reshape(x, [*x.shape[:-1], heads, width // heads]), [0, 2, 1, 3])

    def attention(x):
        with tf.variable_scope("attn"):
            q, k, v = map(split_heads, tf.split(conv1d(x, "c_attn", width * 3), 3, axis=2))
            w = tf.matmul(q, k, transpose_b=True) * (width // heads) ** -0.5
            b = tf.linalg.band_part(tf.ones([w.shape[-2], w.shape[-1]]), -1, 0)
            a = tf.matmul(tf.nn.softmax(w * b - 1e10 * (1 - b)), v)
            return conv1d(tf.reshape(tf.transpose(a, [0, 2, 1, 3]), x.shape), "c_proj", width)

    def mlp(x):
        with tf.variable_scope("mlp"):
            h = conv1d(x, "c_fc", width * 4)
            h = 0.5 * h * (1 + tf.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * tf.pow(h, 3))))
            return conv1d(h, "c_proj", width)

    with tf.variable_scope("model"):
        wpe = tf.get_variable("wpe", [hparams["n_ctx"], width], initializer=draw(0.3))
        wte = tf.get_variable("wte", [hparams["n_vocab"], width], initializer=draw(0.3))
        h = tf.gather(wte, ids) + wpe[: ids.shape[1]]
        for layer in range(hparams["n_layer"]):
            with tf.variable_scope(f"h{layer}"):
                h += attention(norm(h, "ln_1"))
                h += mlp(norm(h, "ln_2"))
        return tf.matmul(norm(h, "ln_f"), wte, transpose_b=True)


def write_hparams(folder: Path, **changed: Any) -> None:
    (folder / "hparams.json").write_text(json.dumps({**HPARAMS, **changed}))


@pytest.fixture(scope="module")
def release(tensorflow, tmp_path_factory):
    """(folder, logits of IDS) of a model that TensorFlow made, saved as OpenAI did."""
    v1 = tensorflow.compat.v1
    folder = tmp_path_factory.mktemp("release")
    with tensorflow.Graph().as_default(), v1.Session() as session:
        tensorflow.random.set_seed(4)
        logits = openai_model(v1, v1.constant(IDS), HPARAMS)
        session.run(v1.global_variables_initializer())
        values = session.run({variable.op.name: variable for variable in v1.global_variables()})
        v1.train.Saver().save(session, str(folder / "model.ckpt"))
        expected = session.run(logits)
    write_hparams(folder)
    return folder, expected, values


def make(layers: int) -> Transformer:
    torch.manual_seed(1)
    model = Transformer(gpt2_config(vocab_size=61, context=24, width=12, layers=layers, heads=3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def lively() -> Transformer:
    return make(layers=11)  # h10 stands before h2 in the index


def test_a_release_computes_here_what_it_computed_in_tensorflow(release):
    folder, expected, _ = release
    assert is_openai_gpt2(folder)
    model = load_openai_gpt2(folder)
    assert not model.training
    with torch.inference_mode():
        np.testing.assert_allclose(model(torch.tensor(IDS)).numpy(), expected, atol=1e-4, rtol=1e-5)
    assert np.abs(expected).max() > 1


def test_a_release_read_and_written_again_has_the_same_bits_in_tensorflow(release, tensorflow, tmp_path):
    folder, _, values = release
    save_openai_gpt2(load_openai_gpt2(folder), tmp_path)
    assert json.loads((tmp_path / "hparams.json").read_text()) == HPARAMS
    assert tensorflow.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt")
    reader = tensorflow.train.load_checkpoint(str(tmp_path))
    assert set(reader.get_variable_to_shape_map()) == set(values)
    for name, value in values.items():
        assert np.array_equal(reader.get_tensor(name), value), name


def test_openais_own_program_computes_what_was_written_here(tensorflow, lively, tmp_path):
    save_openai_gpt2(lively, tmp_path)
    v1 = tensorflow.compat.v1
    hparams = json.loads((tmp_path / "hparams.json").read_text())
    with tensorflow.Graph().as_default(), v1.Session() as session:
        logits = openai_model(v1, v1.constant(IDS), hparams)
        v1.train.Saver().restore(session, tensorflow.train.latest_checkpoint(str(tmp_path)))
        found = session.run(logits)
    with torch.inference_mode():
        np.testing.assert_allclose(found, lively(torch.tensor(IDS)).numpy(), atol=1e-4, rtol=1e-5)


def test_a_model_comes_back_with_the_same_bits(lively, tmp_path):
    save_openai_gpt2(lively, tmp_path)
    again = load_openai_gpt2(tmp_path)
    assert again.config == lively.config
    for (name, one), (_, other) in zip(lively.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one, other), name
    assert load_openai_gpt2(tmp_path, dtype=torch.bfloat16).embedding.weight.dtype == torch.bfloat16


def test_a_fine_tuned_checkpoint_under_another_name_and_place_is_read(lively, tmp_path):
    save_openai_gpt2(lively, tmp_path)
    bundle = TensorBundle(tmp_path / "model.ckpt")
    tensors = {name: bundle.load(name) for name in bundle.entries}
    optimizer = {"model/wte/Adam": tensors["model/wte"], "beta1_power": np.float32(0.5), "global_step": np.int64(9)}
    for file in tmp_path.glob("model.ckpt*"):
        file.unlink()
    write_bundle(tmp_path / "model-1000", {**tensors, **optimizer}.items())
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/home/me/gpt-2/models/124M/model-1000"\n')
    assert torch.equal(load_openai_gpt2(tmp_path).embedding.weight, lively.embedding.weight)


def changed(tensors: dict[str, np.ndarray], name: str, tensor: np.ndarray | None) -> dict[str, np.ndarray]:
    tensors = {**tensors, name: tensor}
    return {name: value for name, value in tensors.items() if value is not None}


@pytest.mark.parametrize(("name", "tensor", "message"), [
    ("model/h3/mlp/c_fc/b", None, r"tensor model/h3/mlp/c_fc/b of shape \(48,\) is missing"),
    ("model/wpe", np.zeros((24, 13), "float32"), r"tensor model/wpe has shape \(24, 13\), but by hparams.json it must"),
    ("model/h0/attn/c_attn/w", np.zeros((12, 36), "float32"), r"c_attn/w has shape \(12, 36\), .*\(1, 12, 36\)"),
    ("model/h11/ln_1/g", np.zeros(12, "float32"), r"tensor model/h11/ln_1/g .* has no place in a GPT-2 of 11 layers"),
    ("model/ln_f/g", np.zeros(12, "int32"), "tensor model/ln_f/g .* is of type int32; weights are floats"),
])  # fmt: skip
def test_a_tensor_that_is_missing_extra_or_misshapen_is_named(name, tensor, message, lively, tmp_path):
    save_openai_gpt2(lively, tmp_path)
    bundle = TensorBundle(tmp_path / "model.ckpt")
    tensors = changed({name: bundle.load(name) for name in bundle.entries}, name, tensor)
    write_bundle(tmp_path / "model.ckpt", tensors.items())
    with pytest.raises(ModelError, match=message):
        load_openai_gpt2(tmp_path)


@pytest.mark.parametrize(("hparams", "message"), [
    ({"n_layer": 10**9}, "states 1000000000 layers, but model.ckpt.index names 136 tensors"),
    ({"n_layer": 12}, "states 12 layers"),
    ({"n_layer": 10}, "model/h10/attn/c_attn/b .* has no place"),
    ({"n_embd": 10**8, "n_head": 1}, r"has shape \(61, 12\), but by hparams.json it must have \(61, 100000000\)"),
    ({"n_vocab": 62}, r"must have \(62, 12\)"),
    ({"n_head": 5}, "model.width is 12; it must be a multiple of model.heads, which is 5"),
    ({"n_ctx": 0}, "n_ctx is 0; it must be a whole number"),
    ({"n_ctx": 24.0}, "n_ctx is 24.0"),
    ({"n_ctx": True}, "n_ctx is True"),
    ({"n_ctx": None}, "n_ctx is None"),
    ({"n_ctx": 1 << 70}, "n_ctx is 1180591620717411303424"),
])  # fmt: skip
def test_hparams_that_do_not_fit_are_refused_with_the_value(hparams, message, lively, tmp_path):
    save_openai_gpt2(lively, tmp_path)
    write_hparams(tmp_path, n_layer=11)
    data = json.loads((tmp_path / "hparams.json").read_text())
    (tmp_path / "hparams.json").write_text(json.dumps({**data, **hparams}))
    with pytest.raises(ModelError, match=message):
        load_openai_gpt2(tmp_path)


@pytest.mark.parametrize("text", [
    "",
    "model.ckpt",
    'model_checkpoint_path: ".."',
    'model_checkpoint_path: "../secret/"',
    'model_checkpoint_path: "a\\\\b"',
    '# model_checkpoint_path: "model.ckpt"',
    "\0\xff",
])  # fmt: skip
def test_a_checkpoint_file_that_names_no_file_beside_it_is_refused(text, lively, tmp_path):
    save_openai_gpt2(lively, tmp_path)
    (tmp_path / "checkpoint").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=r"checkpoint (has no line such as|is not text)"):
        load_openai_gpt2(tmp_path)


def test_damage_anywhere_is_refused_or_changes_nothing(tmp_path):
    model = make(layers=1)
    save_openai_gpt2(model, tmp_path)
    rng = np.random.default_rng(0)
    for file in sorted(tmp_path.glob("model.ckpt.*")):
        whole = file.read_bytes()
        for place in rng.integers(0, len(whole), 30):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << place % 8
            file.write_bytes(damaged if place % 3 else whole[:place])
            with contextlib.suppress(ModelError):
                again = load_openai_gpt2(tmp_path)
                for one, other in zip(model.parameters(), again.parameters(), strict=True):
                    assert torch.equal(one, other)
        file.write_bytes(whole)


@pytest.mark.parametrize(("config", "message"), [
    (llama_config(vocab_size=9, context=8, width=8, layers=1, heads=2), "model.head|model.hidden|model.kv|model.pos"),
    (gpt2_config(vocab_size=9, context=8, width=8, layers=1, heads=2, hidden=16), "model.hidden is 16, .* has 32"),
    (gpt2_config(vocab_size=9, context=8, width=8, layers=1, heads=2, activation="gelu"), "model.activation is 'gelu'"),
    (gpt2_config(vocab_size=9, context=8, width=8, layers=1, heads=2, tied=False), "model.tied is False"),
    (gpt2_config(vocab_size=9, context=8, width=8, layers=1, heads=2, norm_epsilon=1e-6), "norm_epsilon is 1e-06"),
])  # fmt: skip
def test_a_shape_that_the_release_cannot_describe_is_refused_by_field(config, message, tmp_path):
    with pytest.raises(ModelError, match=message):
        save_openai_gpt2(Transformer(config), tmp_path)
    assert not list(tmp_path.iterdir())
