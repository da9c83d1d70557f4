"""Our decoder as a TensorFlow module: the same weights, and the same computation written in TensorFlow's operations.

Every field of a decoder's ModelConfig is heeded; what is not known here is refused by name, never left out.
Axes: B batch, T new tokens, S cached and new tokens, H query heads, K key-value heads, D head width, R turned values.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from guiju.errors import ModelError
from guiju.model import ModelConfig, Transformer, rotary_frequencies

Array = Any
"""A TensorFlow tensor; TensorFlow is imported late and has no types."""

# Everything that steers a decoder's answer, or cannot: what stands in neither is a later version's.
_COMPUTED = {
    "vocab_size",
    "context",
    "width",
    "layers",
    "heads",
    "kv_heads",
    "head_width",
    "hidden",
    "positions",
    "norm",
    "activation",
    "bias",
    "tied",
    "norm_epsilon",
    "rotary_base",
    "embedding_norm",
    "embedding_scale",
    "norm_place",
    "position_offset",
    "qkv_bias",
    "query_key_norm",
    "attention_scale",
    "window",
    "window_from",
    "rotary_share",
    "rotary_scaling",
    "relative_buckets",
    "relative_distance",
    "logits_bias",
    "logit_scale",
}
_WITHOUT_EFFECT = {"dropout", "stop_ids", "pad_id", "start_id", "forced_first_id", "forced_last_id", "never_ids"}


def require_decoder(config: ModelConfig) -> None:
    """Raise ModelError for a shape that is not computed here; the field is named."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name not in _COMPUTED | _WITHOUT_EFFECT and value != field.default:
            raise ModelError(
                f"model.{field.name} is {value!r}, and a TensorFlow SavedModel is written of decoders that have "
                f"{field.default!r} there. Take --to onnx, or --to huggingface"
            )


def build_decoder(tf: Any, model: Transformer) -> Any:
    """A tf.Module with `weights`, by the names that the model's own parameters have, `tables`, which never change, and
    the function `step`, see _Decoder."""
    require_decoder(model.config)
    decoder = _Decoder(tf, model.config)
    module = tf.Module(name="decoder")
    weights = {name: tensor.detach().float().cpu().numpy() for name, tensor in model.named_parameters()}
    module.weights = {name: tf.Variable(value, name=name) for name, value in weights.items()}
    module.tables = {name: tf.Variable(value, trainable=False, name=name) for name, value in _tables(model).items()}
    decoder.weights = {**module.weights, **module.tables}
    module.step = decoder.step
    return module


def _tables(model: Transformer) -> dict[str, NDArray[Any]]:
    tables: dict[str, NDArray[Any]] = {}
    if model.relative_bias is not None:  # which row of the bias each distance has; beyond the farthest all are alike
        numbered = copy.deepcopy(model.relative_bias)
        with torch.no_grad():
            numbered.weight.copy_(torch.arange(numbered.num_embeddings)[:, None].expand_as(numbered.weight))
            buckets = numbered.between(1, model.config.relative_distance + 1)[0, 0, 0]  # (S,), farthest first
        tables["relative_buckets"] = buckets.flip(0).round().int().numpy()
    if model.config.positions == "sinusoidal":
        tables["position_embedding.weight"] = _sinusoids(model.config)
    if model.config.positions == "rotary":
        tables["rotary_frequencies"] = rotary_frequencies(model.config).numpy()
    return tables


def _sinusoids(config: ModelConfig) -> NDArray[np.float32]:
    pairs = np.arange(0, config.width, 2) / config.width
    angles = np.arange(config.context)[:, None] / 10000.0**pairs
    return np.concatenate((np.sin(angles), np.cos(angles)), axis=-1).astype(np.float32)


class _Decoder:
    """The computation, steered by the same fields as guiju.model's."""

    def __init__(self, tf: Any, config: ModelConfig) -> None:
        self.tf, self.config = tf, config
        self.weights: dict[str, Array] = {}
        self.activation = _activation(tf, config)

    def step(self, ids: Array, keys: list[Array], values: list[Array]) -> tuple[Array, list[Array], list[Array]]:
        """Read (B, T) ids after those that are held.

        Args:
            keys, values: of each layer, (B, K, S - T, D) in float32; of length 0 at the beginning.
        Returns:
            Logits (B, T, vocab), and each layer's keys and values with the new tokens', (B, K, S, D).
        """
        tf, config = self.tf, self.config
        old = tf.shape(keys[0])[2]
        positions = old + tf.range(tf.shape(ids)[1])  # (T,)
        x = tf.gather(self.weights["embedding.weight"], ids)  # (B, T, width)
        if config.embedding_scale != 1:
            x = x * config.embedding_scale
        if config.positions in ("learned", "sinusoidal"):
            x = x + tf.gather(self.weights["position_embedding.weight"], positions + config.position_offset)
        if config.embedding_norm:
            x = self._norm(x, "embedding_norm")
        rotation = self._rotation(positions) if config.positions == "rotary" else None
        places = tf.range(old + tf.shape(ids)[1])  # (S,)
        distances = positions[:, None] - places[None]  # (T, S)
        far, near = self._sight(distances, None), self._sight(distances, config.window)
        new_keys, new_values = [], []
        for index in range(config.layers):
            sight = far if index < config.window_from else near
            x, key, value = self._layer(x, f"layers.{index}", rotation, sight, keys[index], values[index])
            new_keys.append(key)
            new_values.append(value)
        if config.norm_place == "before":
            x = self._norm(x, "final_norm")
        if config.logit_scale != 1:
            x = x * config.logit_scale
        head = "embedding.weight" if config.tied else "to_logits.weight"
        logits = self._product(x, head)
        return logits + self.weights["logits_bias"] if config.logits_bias else logits, new_keys, new_values

    def _layer(
        self, x: Array, name: str, rotation: tuple[Array, Array] | None, sight: Array, key: Array, value: Array
    ) -> tuple[Array, Array, Array]:
        before = self.config.norm_place == "before"
        attention_norm, mlp_norm = f"{name}.attention_norm", f"{name}.mlp_norm"
        found, key, value = self._attention(
            self._norm(x, attention_norm) if before else x, f"{name}.attention", rotation, sight, key, value
        )
        x = x + found if before else self._norm(x + found, attention_norm)
        thought = self._mlp(self._norm(x, mlp_norm) if before else x, f"{name}.mlp")
        return x + thought if before else self._norm(x + thought, mlp_norm), key, value

    def _attention(
        self, x: Array, name: str, rotation: tuple[Array, Array] | None, sight: Array, key: Array, value: Array
    ) -> tuple[Array, Array, Array]:
        tf, config = self.tf, self.config
        new_query = self._heads(x, f"{name}.to_query", config.heads)  # (B, H, T, D)
        new_key = self._heads(x, f"{name}.to_key", config.kv_heads)  # (B, K, T, D)
        new_value = self._heads(x, f"{name}.to_value", config.kv_heads)  # (B, K, T, D)
        if config.query_key_norm:
            new_query = self._scaled(new_query, f"{name}.query_norm")
            new_key = self._scaled(new_key, f"{name}.key_norm")
        if rotation is not None:
            new_query, new_key = self._rotate(new_query, rotation), self._rotate(new_key, rotation)
        key, value = tf.concat((key, new_key), axis=2), tf.concat((value, new_value), axis=2)  # (B, K, S, D)
        scale = 1 / math.sqrt(config.head_width) if config.attention_scale is None else config.attention_scale
        batch, new, group = tf.shape(x)[0], tf.shape(x)[1], config.heads // config.kv_heads
        # A group of queries stands in one row of its shared keys, so that these need not be repeated.
        rows = tf.reshape(new_query * scale, (batch, config.kv_heads, group * new, config.head_width))
        scores = tf.matmul(rows, key, transpose_b=True)  # (B, K, H / K * T, S)
        scores = tf.reshape(scores, (batch, config.heads, new, -1)) + sight  # (B, H, T, S)
        pattern = tf.reshape(tf.nn.softmax(scores), (batch, config.kv_heads, group * new, -1))
        mixed = tf.reshape(tf.matmul(pattern, value), (batch, config.heads, new, config.head_width))
        merged = tf.reshape(tf.transpose(mixed, (0, 2, 1, 3)), (batch, new, config.heads * config.head_width))
        return self._linear(merged, f"{name}.to_output"), key, value

    def _sight(self, distances: Array, window: int | None) -> Array:
        """What is added to scores: (T, S) or (H, T, S); much below 0 where a query may not look."""
        tf = self.tf
        seen = distances >= 0
        if window is not None:
            seen = seen & (distances < window)
        if self.config.positions != "relative":
            return tf.where(seen, 0.0, -np.inf)
        nearest = tf.clip_by_value(distances, 0, self.config.relative_distance)
        buckets = tf.gather(self.weights["relative_buckets"], nearest)  # (T, S)
        bias = tf.transpose(tf.gather(self.weights["relative_bias.weight"], buckets), (2, 0, 1))
        return tf.where(seen, bias, -np.inf)

    def _rotation(self, positions: Array) -> tuple[Array, Array]:
        """Cosine and sine of the angles, (T, R / 2) each."""
        angles = self.tf.cast(positions, self.tf.float32)[:, None] * self.weights["rotary_frequencies"]
        return self.tf.cos(angles), self.tf.sin(angles)

    def _rotate(self, x: Array, rotation: tuple[Array, Array]) -> Array:
        """Turn the pairs (x[i], x[i + R/2]) of (B, n, T, D); values beyond R stay."""
        cosine, sine = rotation
        half = self.config.rotary_width // 2
        first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        return self.tf.concat((first * cosine - second * sine, second * cosine + first * sine, rest), axis=-1)

    def _mlp(self, x: Array, name: str) -> Array:
        hidden = self._linear(x, f"{name}.to_hidden")
        if self.config.is_gated:
            hidden = self.activation(self._linear(x, f"{name}.to_gate")) * hidden
        else:
            hidden = self.activation(hidden)
        return self._linear(hidden, f"{name}.to_output")

    def _heads(self, x: Array, name: str, heads: int) -> Array:
        """(B, T, width) -> (B, heads, T, D)."""
        tf = self.tf
        split = tf.reshape(self._linear(x, name), (tf.shape(x)[0], tf.shape(x)[1], heads, self.config.head_width))
        return tf.transpose(split, (0, 2, 1, 3))

    def _linear(self, x: Array, name: str) -> Array:
        product = self._product(x, f"{name}.weight")
        bias = self.weights.get(f"{name}.bias")
        return product if bias is None else product + bias

    def _product(self, x: Array, name: str) -> Array:
        """(B, T, inputs) by the (outputs, inputs) of a weight -> (B, T, outputs), as one product of two matrices."""
        tf, weight = self.tf, self.weights[name]
        flat = tf.matmul(tf.reshape(x, (-1, weight.shape[1])), weight, transpose_b=True)
        return tf.reshape(flat, (tf.shape(x)[0], tf.shape(x)[1], weight.shape[0]))

    def _norm(self, x: Array, name: str) -> Array:
        if self.config.norm == "rms":
            return self._scaled(x, name)
        tf = self.tf
        mean = tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(x - mean), axis=-1, keepdims=True)
        normed = (x - mean) * tf.math.rsqrt(variance + self.config.norm_epsilon)
        return normed * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _scaled(self, x: Array, name: str) -> Array:
        """RMSNorm over the last axis."""
        tf = self.tf
        square = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        return x * tf.math.rsqrt(square + self.config.norm_epsilon) * self.weights[f"{name}.weight"]


def _activation(tf: Any, config: ModelConfig) -> Callable[[Array], Array]:
    if config.activation == "relu":
        return tf.nn.relu  # type: ignore[no-any-return]
    if config.activation in ("silu", "swiglu"):
        return lambda x: x * tf.sigmoid(x)
    if config.activation in ("gelu", "geglu"):
        return lambda x: 0.5 * x * (1 + tf.math.erf(x / math.sqrt(2)))
    if config.activation in ("gelu_tanh", "geglu_tanh"):
        return lambda x: 0.5 * x * (1 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    raise ModelError(f"model.activation is {config.activation!r}, which is not written for TensorFlow")
