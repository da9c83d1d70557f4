"""How many floating-point operations a pass takes: matrix products alone, a multiplication and an addition being two.

The figures are those of torch.utils.flop_counter.FlopCounterMode, to the last digit. That counter counts attention in
full, though a causal mask makes half of it idle; and what it says of attention depends on the kernel, hence
`Attention`.
Axes: B batch, T tokens of a row, S tokens of its source beside an encoder, H query heads, D head width.
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
    source: int = 0,
    predicted: int | None = None,
    attention: Attention = "plain",
    activation_checkpointing: bool = False,
) -> Flops:
    """Forward and backward of the model over `batch` rows of `length` tokens, whole gradient, no optimizer.

    Args:
        source: tokens of each row's source, which an encoder beside the decoder reads.
        predicted: tokens in all rows together for which the head gives logits (of a text's label: rows); every
            token's, or every row's, by default.
        attention: which count of attention; see `Attention`.
        activation_checkpointing: whether the layers are computed once more in the backward pass. With it this is what
            a machine executes, no longer what the model asks for. (The loss in chunks computes no product twice, so
            it changes nothing.)
    Raises:
        ConfigError: a size that is not positive, or an unknown kind of attention.
    """
    forward = forward_flops(shape, batch, length, source=source, predicted=predicted, attention=attention)
    products = {"plain": 4, "fused": 5, "uncounted": 0}[attention]
    head = _head_flops(shape, _predicted(shape, batch, length) if predicted is None else predicted)
    linear = _layer_flops(shape, batch, length, source) + head
    backward = 2 * linear + products * _attention_product_flops(shape, batch, length, source)
    if activation_checkpointing:
        backward += forward - head
    return Flops(forward=forward, backward=backward)


def forward_flops(
    shape: Shape,
    batch: int,
    length: int,
    *,
    source: int = 0,
    predicted: int | None = None,
    attention: Attention = "plain",
) -> int:
    """One forward pass over `batch` rows of `length` tokens, with logits for each token, or for `predicted` ones.

    Raises:
        ConfigError: a size that is not positive, or an unknown kind of attention.
    """
    for name, value in (("batch", batch), ("length", length)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; it counts something, so 1 or more")
    if (source > 0) != (shape.encoder_layers is not None):
        raise ConfigError(
            f"source is {source}, but model.kind is {shape.kind}; an encoder-decoder has one, and no other"
        )
    if attention not in ("plain", "fused", "uncounted"):
        raise ConfigError(f"attention is {attention!r}; it can be plain, fused or uncounted")
    products = 0 if attention == "uncounted" else 2
    linear = _layer_flops(shape, batch, length, source)
    linear += _head_flops(shape, _predicted(shape, batch, length) if predicted is None else predicted)
    return linear + products * _attention_product_flops(shape, batch, length, source)


def _layer_flops(shape: Shape, batch: int, length: int, source: int) -> int:
    """The matrices of all layers."""
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    attention = shape.width * (2 * queries + 2 * keys)
    mlp = (3 if is_gated(shape) else 2) * shape.width * shape.hidden
    made = batch * length * shape.layers * (attention + mlp)
    if shape.encoder_layers is not None:
        made += batch * source * shape.encoder_layers * (attention + mlp)
        # Cross-attention: queries and results of the target's tokens, keys and values of the source's.
        made += shape.layers * batch * 2 * shape.width * (length * queries + source * keys)
    return 2 * made


def _predicted(shape: Shape, batch: int, length: int) -> int:
    """What a head gives logits for, where nothing else is said: each row, or each token."""
    return batch if shape.head == "classes" else batch * length


def _head_flops(shape: Shape, places: int) -> int:
    """The logits, and what an encoder has before them."""
    outputs = {
        "vocabulary": shape.vocab_size,
        "classes": len(shape.labels),
        "token_classes": len(shape.labels),
        "span": 2,
        "none": 0,
    }[shape.head]
    before = shape.width if shape.head_transform or (shape.pooler and shape.head == "classes") else 0
    return 2 * places * shape.width * (outputs + before)


def _attention_product_flops(shape: Shape, batch: int, length: int, source: int) -> int:
    """One of attention's products, over all layers: (B, H, T, D) x (B, H, D, T)."""
    pairs = shape.layers * length * length
    if shape.encoder_layers is not None:
        pairs += shape.encoder_layers * source * source + shape.layers * length * source
    return 2 * batch * shape.heads * shape.head_width * pairs
