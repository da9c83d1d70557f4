"""How many floating-point operations a pass takes: matrix products alone, a multiplication and an addition being two.

The figures are those of torch.utils.flop_counter.FlopCounterMode, to the last digit. That counter counts attention in
full, though a causal mask makes half of it idle; and what it says of attention depends on the kernel, hence
`Attention`.
Axes: B batch, T tokens of a row, H query heads, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from guiju.compute.shape import Shape, is_gated
from guiju.errors import ConfigError

Attention = Literal["plain", "fused", "uncounted"]
"""How attention is computed, and so counted: "plain", as torch's math kernel does, two products forward and four
backward: what the model asks for, and the default. "fused", as flash kernels do, a fifth backward, which makes the
pattern again. "uncounted": what the counter says where it does not know the kernel, such as torch's flash kernel for
CPUs; it takes attention for nothing."""


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Floating-point operations of one pass over a batch."""

    forward: int
    backward: int

    @property
    def total(self) -> int:
        """Forward and backward."""
        return self.forward + self.backward


def training_flops(
    shape: Shape,
    batch: int,
    length: int,
    *,
    attention: Attention = "plain",
    activation_checkpointing: bool = False,
) -> Flops:
    """Forward and backward of the model over `batch` rows of `length` tokens, whole gradient, no optimizer.

    Args:
        attention: which count of attention; see `Attention`.
        activation_checkpointing: whether the layers are computed once more in the backward pass. With it this is what
            a machine executes, no longer what the model asks for. (The loss in chunks computes no product twice, so
            it changes nothing.)
    Raises:
        ConfigError: a size that is not positive, or an unknown kind of attention.
    """
    forward = forward_flops(shape, batch, length, attention=attention)
    products = {"plain": 4, "fused": 5, "uncounted": 0}[attention]
    backward = 2 * _linear_flops(shape, batch * length) + products * _attention_product_flops(shape, batch, length)
    if activation_checkpointing:
        backward += forward - _head_flops(shape, batch * length)
    return Flops(forward=forward, backward=backward)


def forward_flops(shape: Shape, batch: int, length: int, *, attention: Attention = "plain") -> int:
    """One forward pass over `batch` rows of `length` tokens, with logits for each token.

    Raises:
        ConfigError: a size that is not positive, or an unknown kind of attention.
    """
    for name, value in (("batch", batch), ("length", length)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; it counts something, so 1 or more")
    if attention not in ("plain", "fused", "uncounted"):
        raise ConfigError(f"attention is {attention!r}; it can be plain, fused or uncounted")
    products = 0 if attention == "uncounted" else 2
    return _linear_flops(shape, batch * length) + products * _attention_product_flops(shape, batch, length)


def _linear_flops(shape: Shape, tokens: int) -> int:
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    attention = shape.width * (2 * queries + 2 * keys)
    mlp = (3 if is_gated(shape) else 2) * shape.width * shape.hidden
    return 2 * tokens * shape.layers * (attention + mlp) + _head_flops(shape, tokens)


def _head_flops(shape: Shape, tokens: int) -> int:
    return 2 * tokens * shape.width * shape.vocab_size


def _attention_product_flops(shape: Shape, batch: int, length: int) -> int:
    """One of attention's products, over all layers: (B, H, T, D) x (B, H, D, T)."""
    return 2 * shape.layers * batch * shape.heads * length * length * shape.head_width
