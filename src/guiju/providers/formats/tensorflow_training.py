"""One step of training inside a SavedModel: loss, gradients and AdamW (arXiv:1711.05101), as guiju.training makes it.

The optimizer's memory is empty until the first step, so that a model that only answers carries none of it.
Axes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from guiju.model import ModelConfig
from guiju.tokens import IGNORED
from guiju.training import TrainingSettings

TRAIN = "train_step"
_EPSILON = 1e-8  # torch's own
_CLIP_EPSILON = 1e-6  # of torch.nn.utils.clip_grad_norm_

Decode = Callable[[Any, list[Any], list[Any]], tuple[Any, list[Any], list[Any]]]


def facts(settings: TrainingSettings) -> dict[str, Any]:
    """What the step is made of, for people."""
    names = ("beta1", "beta2", "weight_decay", "clip_norm")
    return {"optimizer": "adamw", **{name: getattr(settings, name) for name in names}}


def add_training(tf: Any, module: Any, config: ModelConfig, settings: TrainingSettings) -> Any:
    """Give a decoder's module the memory of an optimizer, and return the function of one step:

    input_ids (B, T) int32, targets (B, T) int32 (the token that follows each, or -100 for none), learning_rate () ->
    loss () mean nats of the targets before the step, gradient_norm () before clipping, step () int64. A step whose loss
    or gradient is no number changes nothing. There is no dropout.
    """
    names = list(module.weights)
    sizes = {name: module.weights[name].shape.num_elements() for name in names}
    total = sum(sizes.values())
    module.means, module.squares = (_empty(tf, name) for name in ("means", "squares"))
    module.steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="steps")
    # As guiju.training's optimizer has it: matrices alone, and no embeddings.
    decays = {name: len(weight.shape) >= 2 and "embedding" not in name for name, weight in module.weights.items()}

    def step(input_ids: Any, targets: Any, learning_rate: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = _loss(tf, module.step, config, input_ids, targets)
        found = tape.gradient(loss, dict(module.weights))
        slopes = {name: _dense(tf, found[name], weight) for name, weight in module.weights.items()}
        norm = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(slope)) for slope in slopes.values()]))
        scale = tf.minimum(1.0, settings.clip_norm / (norm + _CLIP_EPSILON))
        sound = tf.math.is_finite(loss) & tf.math.is_finite(norm)
        number = module.steps + tf.cast(sound, tf.int64)
        count = tf.cast(tf.maximum(number, 1), tf.float32)
        flat = tf.concat([tf.reshape(slopes[name], (-1,)) for name in names], axis=0) * scale
        before = [
            tf.cond(
                module.steps < 1, lambda: tf.zeros((total,)), lambda held=held: tf.reshape(held.read_value(), (total,))
            )
            for held in (module.means, module.squares)
        ]
        mean = settings.beta1 * before[0] + (1 - settings.beta1) * flat
        square = settings.beta2 * before[1] + (1 - settings.beta2) * tf.square(flat)
        spread = tf.sqrt(square) / tf.sqrt(1 - tf.pow(settings.beta2, count)) + _EPSILON
        moves = tf.split(learning_rate / (1 - tf.pow(settings.beta1, count)) * mean / spread, [sizes[n] for n in names])
        for name, move in zip(names, moves, strict=True):
            weight = module.weights[name]
            kept = 1 - learning_rate * (settings.weight_decay if decays[name] else 0.0)
            weight.assign(tf.where(sound, weight * kept - tf.reshape(move, weight.shape), weight))
        module.means.assign(tf.where(sound, mean, before[0]))
        module.squares.assign(tf.where(sound, square, before[1]))
        module.steps.assign(number)
        return {"loss": loss, "gradient_norm": norm, "step": number}

    ids = (None, None)
    return tf.function(step, autograph=False).get_concrete_function(
        tf.TensorSpec(ids, tf.int32, name="input_ids"),
        tf.TensorSpec(ids, tf.int32, name="targets"),
        tf.TensorSpec((), tf.float32, name="learning_rate"),
    )


def _empty(tf: Any, name: str) -> Any:
    """All weights' numbers laid end to end, once there are any."""
    return tf.Variable(tf.zeros((0,)), trainable=False, shape=tf.TensorShape(None), name=name)


def _loss(tf: Any, decode: Decode, config: ModelConfig, ids: Any, targets: Any) -> Any:
    """Mean over the targets, in nats."""
    nothing = [tf.zeros((tf.shape(ids)[0], config.kv_heads, 0, config.head_width))] * config.layers
    logits = decode(ids, nothing, nothing)[0]  # (B, T, V)
    counts = targets != IGNORED
    logs = tf.nn.log_softmax(logits)
    nats = -tf.gather(logs, tf.where(counts, targets, 0), batch_dims=2)  # (B, T)
    kept = tf.cast(counts, tf.float32)
    return tf.reduce_sum(nats * kept) / tf.reduce_sum(kept)


def _dense(tf: Any, slope: Any, weight: Any) -> Any:
    """A gradient of a weight's own shape: those of looked-up rows come as the rows alone, or not at all."""
    if slope is None:
        return tf.zeros_like(weight)
    if isinstance(slope, tf.IndexedSlices):
        return tf.math.unsorted_segment_sum(slope.values, slope.indices, weight.shape[0])
    return slope
