"""Points in the model where a caller may look at a tensor, or put another in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from guiju.errors import ModelError

Hooks = Mapping[str, Callable[[Tensor], "Tensor | None"]]
"""Name of a point -> what to call with the tensor there; what it returns takes the tensor's place, None leaves it."""


def hook_names(layers: int) -> list[str]:
    """Every point of a model, in the order in which they are reached. Shapes: (B, T, width), patterns (B, H, T, S)."""
    names = ["embedding"]
    for layer in range(layers):
        names += [
            f"layers.{layer}.{point}"
            for point in ("residual_before", "attention.pattern", "attention.output", "mlp.output", "residual_after")
        ]
    return [*names, "final_norm"]


def require_known(hooks: Hooks, layers: int) -> None:
    """Raise ModelError for a name that no point bears: its function would never be called, and no one would notice."""
    unknown = sorted(set(hooks) - set(hook_names(layers)))
    if unknown:
        raise ModelError(
            f"there is no hook point {unknown[0]!r} in a model of {layers} layers. There are: embedding, final_norm, "
            f"and layers.N.residual_before, .attention.pattern, .attention.output, .mlp.output, .residual_after"
        )


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
