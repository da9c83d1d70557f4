"""How many parameters a model has, from its shape alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol, TypeVar

from guiju.errors import ConfigError

Chosen = TypeVar("Chosen")


class Shape(Protocol):
    """What must be known of a model: the fields of the model room's ModelConfig that decide sizes."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_width(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def positions(self) -> str: ...
    @property
    def norm(self) -> str: ...
    @property
    def activation(self) -> str: ...
    @property
    def bias(self) -> bool: ...
    @property
    def tied(self) -> bool: ...
    @property
    def kind(self) -> str: ...
    @property
    def encoder_layers(self) -> int | None: ...
    @property
    def norm_place(self) -> str: ...
    @property
    def embedding_norm(self) -> bool: ...
    @property
    def segments(self) -> int: ...
    @property
    def position_offset(self) -> int: ...
    @property
    def relative_buckets(self) -> int: ...
    @property
    def qkv_bias(self) -> bool: ...
    @property
    def query_key_norm(self) -> bool: ...
    @property
    def head(self) -> str: ...
    @property
    def head_transform(self) -> bool: ...
    @property
    def logits_bias(self) -> bool: ...
    @property
    def pooler(self) -> bool: ...
    @property
    def labels(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters by part; a tied head is counted once, in the embedding."""

    embedding: int
    positions: int
    """And kinds of segments."""
    attention: int
    mlp: int
    norms: int
    head: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.embedding + self.positions + self.attention + self.mlp + self.norms + self.head

    @property
    def without_embeddings(self) -> int:
        """What scaling laws call N: neither tokens' nor positions' embeddings, nor the head (arXiv:2001.08361)."""
        return self.attention + self.mlp + self.norms

    def to_json(self) -> dict[str, int]:
        """By part, with the total."""
        return {**asdict(self), "total": self.total}


def parameters(shape: Shape) -> Parameters:
    """The parameters of a model of this shape, equal to the sum over its weights."""
    queries, keys = shape.heads * shape.head_width, shape.kv_heads * shape.head_width
    attention = shape.width * (2 * queries + 2 * keys)
    projections = 3 if is_gated(shape) else 2
    mlp = projections * shape.width * shape.hidden
    if shape.bias or shape.qkv_bias:
        attention += queries + 2 * keys
    if shape.bias:
        attention += shape.width
        mlp += (projections - 1) * shape.hidden + shape.width
    norm = shape.width * _choose("norm", shape.norm, {"layer": 2, "rms": 1})
    beside = shape.encoder_layers or 0
    stacks, layers = (2 if beside else 1), shape.layers + beside
    attentions = layers + (shape.layers if beside else 0)  # each layer of a decoder beside an encoder has two
    norms = attentions + layers
    norms += stacks * (int(shape.embedding_norm) + _choose("norm_place", shape.norm_place, {"before": 1, "after": 0}))
    places = {
        "learned": (shape.context + shape.position_offset) * shape.width,
        "relative": shape.relative_buckets * shape.heads,
        "sinusoidal": 0,
        "rotary": 0,
    }
    return Parameters(
        embedding=shape.vocab_size * shape.width,
        positions=stacks * (_choose("positions", shape.positions, places) + shape.segments * shape.width),
        attention=attentions * attention,
        mlp=layers * mlp,
        norms=norms * norm + (attentions * 2 * shape.head_width if shape.query_key_norm else 0),
        head=_head(shape, norm),
    )


def _head(shape: Shape, norm: int) -> int:
    """What stands between the last layer and what the model says; a tied matrix is the embedding's."""
    square = shape.width * shape.width + shape.width
    outputs = _choose(
        "head",
        shape.head,
        {
            "vocabulary": 0 if shape.tied else shape.vocab_size * shape.width,
            "classes": (shape.width + (shape.kind == "encoder")) * len(shape.labels),  # a decoder's has no bias
            "token_classes": (shape.width + 1) * len(shape.labels),
            "span": (shape.width + 1) * 2,
            "none": 0,
        },
    )
    outputs += square + norm if shape.head_transform else 0
    outputs += shape.vocab_size if shape.logits_bias else 0
    return outputs + (square if shape.pooler else 0)


def is_gated(shape: Shape) -> bool:
    """Whether the MLP has a third matrix, which gates."""
    gated = dict.fromkeys(("swiglu", "geglu", "geglu_tanh"), True)
    return _choose("activation", shape.activation, gated | dict.fromkeys(("gelu", "gelu_tanh", "relu", "silu"), False))


def _choose(name: str, value: str, by_value: Mapping[str, Chosen]) -> Chosen:
    if value not in by_value:
        raise ConfigError(f"model.{name} is {value!r}, for which no arithmetic is known; {', '.join(by_value)} are")
    return by_value[value]
