"""How much memory training takes: exact for what belongs to a parameter, an estimate for what belongs to a token."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from guiju.compute.shape import Shape, is_gated, parameters

FLOAT32 = 4
BFLOAT16 = 2
LOSS_CHUNK_BYTES = 64 << 20
"""Logits of one chunk of the loss in float32 (the training room's size)."""
PATTERNS = 3
"""Copies of attention's patterns that are kept where no fused kernel can be used."""
RUNTIME_BYTES = 450_000_000
"""What is there besides the model: Python and torch's CPU build before a first step (240 MB on Linux), and what their
libraries take in it (190 to 210 MB over five shapes)."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes at the highest point of a training step."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    loss: int
    runtime: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.loss + self.runtime

    def to_json(self) -> dict[str, int]:
        """By part, with the total."""
        return {**asdict(self), "total": self.total}


def training_memory(
    shape: Shape,
    batch: int,
    length: int,
    *,
    source: int = 0,
    predicted: int | None = None,
    dtype: str = "float32",
    activation_checkpointing: bool = False,
    runtime: int = RUNTIME_BYTES,
) -> Memory:
    """Memory of one process that trains with AdamW.

    Weights, gradients and AdamW's two moments are float32. With "bfloat16" each weight has a short copy for the
    products, and what products keep for the backward pass is short.

    Args:
        batch, length: rows and tokens of one forward and backward pass; passes that are accumulated come after each
            other and cost no more.
        source: tokens of each row's source, beside an encoder.
        predicted: tokens in all rows together that have logits; every token by default.
        runtime: what the process holds besides the model.
    """
    count = parameters(shape).total
    short = dtype == "bfloat16"
    item = BFLOAT16 if short else FLOAT32
    tokens, sources = batch * length, batch * source
    layer, cross = _kept_per_token(shape, item)
    own = layer + (cross if source else 0)  # of a token in a decoder's layer
    beside = shape.encoder_layers or 0
    kept = shape.layers * tokens * own + beside * sources * layer
    if source:
        kept += shape.layers * sources * 2 * shape.kv_heads * shape.head_width * item  # keys and values of the memory
    if shape.positions == "relative":  # scores with a learned part are kept: no fused kernel gives their gradient
        pairs = shape.layers * length * length + beside * source * source
        kept += PATTERNS * batch * shape.heads * pairs * item
    if activation_checkpointing:
        inputs = (shape.layers * tokens + beside * sources) * shape.width * FLOAT32
        kept = inputs + max(tokens * own, sources * layer)
    chunk = min((tokens if predicted is None else predicted) * shape.vocab_size * FLOAT32, LOSS_CHUNK_BYTES)
    head_gradient = shape.vocab_size * shape.width * FLOAT32
    return Memory(
        weights=count * (FLOAT32 + (BFLOAT16 if short else 0)),
        gradients=count * FLOAT32,
        optimizer=2 * count * FLOAT32,
        activations=kept + (tokens + sources) * 3 * shape.width * FLOAT32,
        loss=chunk + (chunk // 2 if short else 0) + head_gradient,
        runtime=runtime,
    )


def _kept_per_token(shape: Shape, item: int) -> tuple[int, int]:
    """Bytes that one layer keeps of one token until its gradient is computed, and what a cross-attention adds."""
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    stream = shape.width * FLOAT32 + shape.width * item  # a norm's input, and its output
    attention = (2 * queries + 2 * keys) * item + shape.heads * FLOAT32  # queries, keys, values, result; their sums
    mlp = (4 if is_gated(shape) else 2) * shape.hidden * item
    return 2 * stream + attention + mlp, stream + 2 * queries * item + shape.heads * FLOAT32
