"""The shape of a model: what its weights are, and which computation they steer."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from guiju.errors import ConfigError, ModelError

Positions = Literal["learned", "rotary"]
Norm = Literal["layer", "rms"]
Activation = Literal["gelu", "gelu_tanh", "swiglu"]

_CHOICES = {
    "positions": ("learned", "rotary"),
    "norm": ("layer", "rms"),
    "activation": ("gelu", "gelu_tanh", "swiglu"),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A decoder-only Transformer, field by field. `gpt2_config` and `llama_config` fill in the two usual shapes."""

    vocab_size: int
    """Token ids that the model knows."""

    context: int
    """Positions: how many tokens it can look at."""

    width: int
    """Length of the residual stream's vectors."""

    layers: int
    """Blocks of attention and MLP."""

    heads: int
    """Query heads."""

    kv_heads: int
    """Key and value heads; each is shared by heads / kv_heads query heads (arXiv:2305.13245)."""

    head_width: int
    """Length of one head's queries, keys and values."""

    hidden: int
    """Inner length of the MLP."""

    positions: Positions
    """"learned": a vector added for each position. "rotary": queries and keys are turned by it (arXiv:2104.09864)."""

    norm: Norm
    """"layer": LayerNorm with bias. "rms": RMSNorm (arXiv:1910.07467)."""

    activation: Activation
    """Of the MLP; "gelu_tanh" is GPT-2's approximation, "swiglu" has a gate (arXiv:2002.05202)."""

    bias: bool
    """Whether the linear layers have a bias."""

    tied: bool
    """Whether the head that gives logits is the embedding itself."""

    norm_epsilon: float = 1e-5
    """Added to the variance before its root is taken."""

    rotary_base: float = 10000.0
    """Slowest turn of rotary positions; means nothing with learned ones."""

    dropout: float = 0.0
    """Share of values set to zero in training: embedding, attention, and each branch's output."""

    stop_ids: tuple[int, ...] = ()
    """Ids that end a generation; where there is none, the tokenizer's end of text does."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "context", "width", "layers", "heads", "kv_heads", "head_width", "hidden"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"model.{name} is {value!r}; it must be a whole number of at least 1")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"model.{name} is {getattr(self, name)!r}; it can be {', '.join(allowed)}")
        if self.heads % self.kv_heads:
            raise ConfigError(f"model.kv_heads is {self.kv_heads}; it must divide model.heads, which is {self.heads}")
        if self.positions == "rotary" and self.head_width % 2:
            raise ConfigError(f"model.head_width is {self.head_width}; rotary positions turn pairs, so it must be even")
        if not (math.isfinite(self.norm_epsilon) and self.norm_epsilon > 0):
            raise ConfigError(f"model.norm_epsilon is {self.norm_epsilon}; it must be more than 0")
        if not (math.isfinite(self.rotary_base) and self.rotary_base > 0):
            raise ConfigError(f"model.rotary_base is {self.rotary_base}; it must be more than 0")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout is {self.dropout}; it must be at least 0 and less than 1")
        beyond = [stop for stop in self.stop_ids if not 0 <= stop < self.vocab_size]
        if beyond:
            raise ConfigError(f"model.stop_ids holds {beyond[0]}, but ids run from 0 to {self.vocab_size - 1}")


def gpt2_config(
    *,
    vocab_size: int,
    context: int = 1024,
    width: int = 768,
    layers: int = 12,
    heads: int = 12,
    hidden: int | None = None,
    activation: Activation = "gelu_tanh",
    tied: bool = True,
    norm_epsilon: float = 1e-5,
    dropout: float = 0.0,
    stop_ids: tuple[int, ...] = (),
) -> ModelConfig:
    """GPT-2's shape (Radford et al. 2019); the sizes by default are those of its 124 M model.

    Raises:
        ConfigError: a size that cannot be, such as a width that the heads do not divide.
    """
    return ModelConfig(
        vocab_size=vocab_size,
        context=context,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_width=_head_width(width, heads),
        hidden=4 * width if hidden is None else hidden,
        positions="learned",
        norm="layer",
        activation=activation,
        bias=True,
        tied=tied,
        norm_epsilon=norm_epsilon,
        dropout=dropout,
        stop_ids=stop_ids,
    )


def llama_config(
    *,
    vocab_size: int,
    context: int = 1024,
    width: int = 768,
    layers: int = 12,
    heads: int = 12,
    kv_heads: int | None = None,
    head_width: int | None = None,
    hidden: int | None = None,
    tied: bool = False,
    norm_epsilon: float = 1e-5,
    rotary_base: float = 10000.0,
    dropout: float = 0.0,
    stop_ids: tuple[int, ...] = (),
) -> ModelConfig:
    """Llama's shape (arXiv:2302.13971, with grouped queries of arXiv:2307.09288).

    `hidden` is 8/3 of the width by default, rounded up to a multiple of 32, so that a gated MLP has about as many
    weights as one of 4 x width without a gate.

    Raises:
        ConfigError: a size that cannot be, such as a width that the heads do not divide.
    """
    return ModelConfig(
        vocab_size=vocab_size,
        context=context,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads if kv_heads is None else kv_heads,
        head_width=_head_width(width, heads) if head_width is None else head_width,
        hidden=-(-8 * width // 96) * 32 if hidden is None else hidden,
        positions="rotary",
        norm="rms",
        activation="swiglu",
        bias=False,
        tied=tied,
        norm_epsilon=norm_epsilon,
        rotary_base=rotary_base,
        dropout=dropout,
        stop_ids=stop_ids,
    )


def _head_width(width: int, heads: int) -> int:
    if heads < 1:
        raise ConfigError(f"model.heads is {heads}; it must be a whole number of at least 1")
    if width % heads:
        raise ConfigError(f"model.width is {width}; it must be a multiple of model.heads, which is {heads}")
    return width // heads


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A recipe's wishes for a new model; what is left out follows the shape."""

    shape: Literal["gpt2", "llama"] = "llama"
    """"gpt2": learned positions, LayerNorm, GELU. "llama": rotary positions, RMSNorm, SwiGLU, grouped queries."""

    context: int = 256
    """Positions: how many tokens the model can look at."""

    width: int = 256
    """Length of the residual stream's vectors."""

    layers: int = 6
    """Blocks of attention and MLP."""

    heads: int = 8
    """Query heads."""

    kv_heads: int | None = None
    """Key and value heads; by default as many as query heads. Llama's shape only."""

    head_width: int | None = None
    """Length of one head; by default width / heads. Llama's shape only."""

    hidden: int | None = None
    """Inner length of the MLP; by default 4 x width, or 8/3 x width with a gate."""

    tied: bool | None = None
    """Whether the head is the embedding itself; by default as the shape has it (gpt2 yes, llama no)."""

    norm_epsilon: float = 1e-5
    """Added to the variance before its root is taken."""

    rotary_base: float | None = None
    """Slowest turn of rotary positions; 10000 by default. Llama's shape only."""

    dropout: float = 0.0
    """Share of values set to zero in training."""

    def __post_init__(self) -> None:
        if self.shape not in ("gpt2", "llama"):
            raise ConfigError(f"model.shape is {self.shape!r}; it can be gpt2 or llama")
        if self.shape == "gpt2":
            for name in ("kv_heads", "head_width", "rotary_base"):
                if getattr(self, name) is not None:
                    raise ConfigError(
                        f"model.{name} is {getattr(self, name)}, but model.shape is gpt2, which has no such choice. "
                        f"Leave it out, or take shape: llama"
                    )
        self.config(vocab_size=1)  # what cannot be is said when the recipe is read, not an hour later

    def config(self, vocab_size: int) -> ModelConfig:
        """The model's whole shape, once the tokenizer's size is known."""
        chosen = {
            field.name: value
            for field in fields(self)
            if field.name != "shape" and (value := getattr(self, field.name)) is not None
        }
        build = gpt2_config if self.shape == "gpt2" else llama_config
        return build(vocab_size=vocab_size, **chosen)


def require_context(config: ModelConfig, tokens: int) -> None:
    """Raise ModelError where more tokens are asked for than the model has positions."""
    if tokens > config.context:
        raise ModelError(
            f"{tokens} tokens do not fit the model's context of {config.context}: it has no positions beyond. "
            f"Shorten the text, or take a model with a longer context"
        )
