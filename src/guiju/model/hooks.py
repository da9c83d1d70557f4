"""Points in the model where a caller may look at a tensor, or put another in its place.

A decoder alone and an encoder alone have the points

    embedding                                    (B, T, width)
    layers.N.residual_before                     (B, T, width)
    layers.N.attention.pattern                   (B, H, T, S), each row a distribution
    layers.N.attention.output                    (B, T, width), what the branch adds
    layers.N.mlp.output                          (B, T, width), what the branch adds
    layers.N.residual_after                      (B, T, width)
    final_norm                                   (B, T, width), what the head reads

and an encoder with a decoder has them twice, in front of each name `encoder.` or `decoder.`, with two more:

    decoder.layers.N.cross_attention.pattern     (B, H, T, M), over the M tokens of the source
    decoder.layers.N.cross_attention.output      (B, T, width)

`final_norm` is what a stack of layers gives out, also where its last layer holds the last norm (norm_place "after").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from guiju.errors import ModelError
from guiju.model.config import ModelConfig

Hooks = Mapping[str, Callable[[Tensor], "Tensor | None"]]
"""Name of a point -> what to call with the tensor there; what it returns takes the tensor's place, None leaves it."""

_BEFORE = ("residual_before", "attention.pattern", "attention.output")
_CROSS = ("cross_attention.pattern", "cross_attention.output")
_AFTER = ("mlp.output", "residual_after")


def hook_names(shape: ModelConfig | int) -> list[str]:
    """Every point of a model of this shape (or of a decoder with so many layers), in the order in which they are
    reached."""
    if isinstance(shape, int):
        return _stack_names("", shape, cross=False)
    if shape.encoder_layers is None:
        return _stack_names("", shape.layers, cross=False)
    encoder = _stack_names("encoder.", shape.encoder_layers, cross=False)
    return encoder + _stack_names("decoder.", shape.layers, cross=True)


def _stack_names(prefix: str, layers: int, cross: bool) -> list[str]:
    points = (*_BEFORE, *_CROSS, *_AFTER) if cross else (*_BEFORE, *_AFTER)
    inner = [f"{prefix}layers.{layer}.{point}" for layer in range(layers) for point in points]
    return [f"{prefix}embedding", *inner, f"{prefix}final_norm"]


def require_known(hooks: Hooks, config: ModelConfig) -> None:
    """Raise ModelError for a name that no point bears: its function would never be called, and no one would notice."""
    unknown = sorted(set(hooks) - set(hook_names(config)))
    if not unknown:
        return
    if config.encoder_layers is None:
        where = f"{config.layers} layers"
        points = ".residual_before, .attention.pattern, .attention.output, .mlp.output, .residual_after"
        names = f"embedding, final_norm, and layers.N{points}"
    else:
        where = f"{config.encoder_layers} encoder and {config.layers} decoder layers"
        points = ".cross_attention.pattern, .cross_attention.output"
        names = (
            "encoder. and decoder., followed by embedding, final_norm, layers.N.residual_before, .attention.pattern, "
            f".attention.output, .mlp.output, .residual_after, and decoder.layers.N{points}"
        )
    raise ModelError(f"there is no hook point {unknown[0]!r} in a model of {where}. There are: {names}")


def tap(hooks: Hooks | None, name: str, value: Tensor) -> Tensor:
    """Give the tensor at a point to its hook, and back what the model goes on with."""
    if hooks is None or name not in hooks:
        return value
    replacement = hooks[name](value)
    if replacement is None:
        return value
    if replacement.shape != value.shape:
        raise ModelError(
            f"the hook at {name} returned the shape {tuple(replacement.shape)}, but the model goes on with "
            f"{tuple(value.shape)}. Return that shape, or None to leave the tensor as it is"
        )
    return replacement
