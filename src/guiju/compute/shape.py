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


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Parameters by part; a tied head is counted once, in the embedding."""

    embedding: int
    positions: int
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
    if shape.bias:
        attention += queries + 2 * keys + shape.width
        mlp += (projections - 1) * shape.hidden + shape.width
    norm = shape.width * _choose("norm", shape.norm, {"layer": 2, "rms": 1})
    return Parameters(
        embedding=shape.vocab_size * shape.width,
        positions=_choose("positions", shape.positions, {"learned": shape.context * shape.width, "rotary": 0}),
        attention=shape.layers * attention,
        mlp=shape.layers * mlp,
        norms=(2 * shape.layers + 1) * norm,
        head=0 if shape.tied else shape.vocab_size * shape.width,
    )


def is_gated(shape: Shape) -> bool:
    """Whether the MLP has a third matrix, which gates."""
    return _choose("activation", shape.activation, {"swiglu": True, "gelu": False, "gelu_tanh": False})


def _choose(name: str, value: str, by_value: Mapping[str, Chosen]) -> Chosen:
    if value not in by_value:
        raise ConfigError(f"model.{name} is {value!r}, for which no arithmetic is known; {', '.join(by_value)} are")
    return by_value[value]
