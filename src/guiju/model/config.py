"""The shape of a model: what its weights are, and which computation they steer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from guiju.errors import ConfigError, ModelError

Kind = Literal["decoder", "encoder", "encoder-decoder"]
Positions = Literal["learned", "rotary", "sinusoidal", "relative"]
Norm = Literal["layer", "rms"]
NormPlace = Literal["before", "after"]
Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "swiglu", "geglu", "geglu_tanh"]
Head = Literal["vocabulary", "classes", "token_classes", "span", "none"]

_CHOICES = {
    "kind": get_args(Kind),
    "positions": get_args(Positions),
    "norm": get_args(Norm),
    "norm_place": get_args(NormPlace),
    "activation": get_args(Activation),
    "head": get_args(Head),
}
LARGEST_SIZE = 1 << 30
"""Of any size: a matrix of two such sizes still has a size in bytes that 64 bits can say."""
GATED = ("swiglu", "geglu", "geglu_tanh")
"""Activations of an MLP with a gate, which is a third matrix."""


@dataclass(frozen=True, kw_only=True)
class RotaryScaling:
    """How rotary positions are stretched, so that a model sees farther than it was first trained to."""

    kind: Literal["linear", "llama3"]
    """"linear": every turn is slowed by `factor` (arXiv:2306.15595). "llama3": slow turns are, fast ones are not, and
    those between partly (Llama 3.1)."""

    factor: float
    """How many times slower."""

    low: float = 1.0
    """llama3: turns that come round fewer times than this within `original_context` are slowed in full."""

    high: float = 4.0
    """llama3: turns that come round more often than this stay as they are."""

    original_context: int = 8192
    """llama3: the context of the first training."""

    def __post_init__(self) -> None:
        if self.kind not in ("linear", "llama3"):
            raise ConfigError(f"rotary_scaling.kind is {self.kind!r}; it can be linear or llama3")
        for name in ("factor", "low", "high", "original_context"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"rotary_scaling.{name} is {value}; it must be more than 0")
        if self.kind == "llama3" and self.low >= self.high:
            raise ConfigError(f"rotary_scaling.low is {self.low}; it must be less than high, which is {self.high}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A Transformer, field by field; `gpt2_config`, `bert_config` and their like (presets.py) fill in the usual shapes.

    A field that is left at its default changes nothing: it came with a later family of models.
    """

    vocab_size: int
    """Token ids that the model knows."""

    context: int
    """Positions: how many tokens it can look at."""

    width: int
    """Length of the residual stream's vectors."""

    layers: int
    """Blocks of attention and MLP; the decoder's, where there are both."""

    heads: int
    """Query heads."""

    kv_heads: int
    """Key and value heads; each is shared by heads / kv_heads query heads (arXiv:2305.13245)."""

    head_width: int
    """Length of one head's queries, keys and values."""

    hidden: int
    """Inner length of the MLP."""

    positions: Positions
    """"learned": a vector added for each position. "sinusoidal": one of sines and cosines (arXiv:1706.03762). "rotary":
    queries and keys are turned (arXiv:2104.09864). "relative": scores differ by distance (T5, arXiv:1910.10683)."""

    norm: Norm
    """"layer": LayerNorm with bias. "rms": RMSNorm (arXiv:1910.07467)."""

    activation: Activation
    """Of the MLP; "gelu_tanh" is GPT-2's approximation; "swiglu", "geglu" and "geglu_tanh" have a gate, which goes
    through SiLU or GELU (arXiv:2002.05202)."""

    bias: bool
    """Whether the linear layers have a bias; the head has none."""

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

    kind: Kind = "decoder"
    """"decoder": each token sees what is before it. "encoder": all see all. "encoder-decoder": a decoder that also
    looks at what an encoder made of a source text."""

    encoder_layers: int | None = None
    """Blocks of the encoder beside a decoder."""

    norm_place: NormPlace = "before"
    """"before": a branch reads the residual stream through a norm, and one more stands at the end (arXiv:2002.04745).
    "after": the stream is normed when the branch was added, as in 2017."""

    embedding_norm: bool = False
    """Whether the first layer reads embeddings that were normed."""

    embedding_scale: float = 1.0
    """Token embeddings are multiplied by it; sqrt(width) in 2017."""

    segments: int = 0
    """Kinds of segments (such as question and text) that have a vector each, added to the embeddings."""

    position_offset: int = 0
    """Rows of the learned positions' table that stand before the first position's, unused (2 in BART and RoBERTa)."""

    qkv_bias: bool = False
    """Whether queries, keys and values have a bias although other linear layers have none."""

    query_key_norm: bool = False
    """Whether each head's queries and keys are normed (RMSNorm) before they are turned."""

    attention_scale: float | None = None
    """What scores are multiplied by; None is 1 / sqrt(head_width). T5 has 1."""

    window: int | None = None
    """How many tokens a token sees, itself included; None is all before it (sliding window, arXiv:2310.06825)."""

    window_from: int = 0
    """First layer that has the window; those below it see all."""

    rotary_share: float = 1.0
    """Share of a head's values that rotary positions turn; the others are let through."""

    rotary_scaling: RotaryScaling | None = None
    """How rotary positions are stretched."""

    relative_buckets: int = 32
    """Relative positions: into how many groups distances fall."""

    relative_distance: int = 128
    """Relative positions: from this distance on all are alike."""

    head: Head = "vocabulary"
    """What is made of the last layer's vectors: logits of a token at each place ("vocabulary"), of one label for a text
    ("classes"; a decoder's only other one), of a label for each token ("token_classes"), of an answer's first and last
    token ("span"); "none"."""

    head_transform: bool = False
    """Whether a linear layer, activation and norm stand before the vocabulary's logits (BERT)."""

    logits_bias: bool = False
    """Whether the vocabulary's logits have a bias."""

    logit_scale: float = 1.0
    """What the head reads is multiplied by it; 1 / sqrt(width) in T5's first version."""

    pooler: bool = False
    """Whether an encoder makes one vector of a text, out of its first token's; the head "classes" reads it."""

    labels: tuple[str, ...] = ()
    """Names of the classes, for "classes" and "token_classes"."""

    pad_id: int | None = None
    """Id that fills a row up; it steers no computation: which places are padding is said by a mask."""

    start_id: int | None = None
    """Id that a decoder beside an encoder begins each text with."""

    forced_first_id: int | None = None
    """The only id that may follow the start in a generation (BART's forced BOS)."""

    forced_last_id: int | None = None
    """The only id that may stand at a generation's limit."""

    never_ids: tuple[int, ...] = ()
    """Ids that no generation chooses (Marian's padding)."""

    def __post_init__(self) -> None:
        _require_choices(self)
        _require_sizes(self)
        _require_numbers(self)
        _require_ids(self)
        _require_combinations(self)

    @property
    def is_gated(self) -> bool:
        """Whether the MLP has a gate."""
        return self.activation in GATED

    @property
    def rotary_width(self) -> int:
        """How many of a head's values rotary positions turn."""
        return int(self.head_width * self.rotary_share)


def _require_choices(config: ModelConfig) -> None:
    for name, allowed in _CHOICES.items():
        if getattr(config, name) not in allowed:
            raise ConfigError(f"model.{name} is {getattr(config, name)!r}; it can be {', '.join(allowed)}")


def _require_sizes(config: ModelConfig) -> None:
    sizes = ["vocab_size", "context", "width", "layers", "heads", "kv_heads", "head_width", "hidden"]
    sizes += ["relative_buckets", "relative_distance"]
    sizes += [name for name in ("window", "encoder_layers") if getattr(config, name) is not None]
    for name, least in (*((name, 1) for name in sizes), ("segments", 0), ("position_offset", 0), ("window_from", 0)):
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"model.{name} is {value!r}; it must be a whole number of at least {least}")
        if value > LARGEST_SIZE:
            raise ConfigError(f"model.{name} is {value}; no model has more than {LARGEST_SIZE}")
    if config.heads * config.head_width > LARGEST_SIZE:
        raise ConfigError(
            f"model.heads x model.head_width is {config.heads} x {config.head_width}; no model has more than "
            f"{LARGEST_SIZE}"
        )
    if config.heads % config.kv_heads:
        raise ConfigError(f"model.kv_heads is {config.kv_heads}; it must divide model.heads, which is {config.heads}")


def _require_numbers(config: ModelConfig) -> None:
    numbers = ["norm_epsilon", "rotary_base", "embedding_scale", "logit_scale"]
    for name in numbers if config.attention_scale is None else [*numbers, "attention_scale"]:
        value = getattr(config, name)
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"model.{name} is {value}; it must be more than 0")
    if not 0 <= config.dropout < 1:
        raise ConfigError(f"model.dropout is {config.dropout}; it must be at least 0 and less than 1")
    if config.positions == "rotary":
        if not 0 < config.rotary_share <= 1:
            raise ConfigError(f"model.rotary_share is {config.rotary_share}; it must be more than 0 and at most 1")
        if config.rotary_width < 2 or config.rotary_width % 2:
            part = "" if config.rotary_share == 1 else f" and model.rotary_share {config.rotary_share}"
            raise ConfigError(
                f"model.head_width is {config.head_width}{part}; rotary positions turn pairs, so it must be even"
            )
    if config.positions == "sinusoidal" and config.width % 2:
        raise ConfigError(f"model.width is {config.width}; sines and cosines come in pairs, so it must be even")
    if config.positions == "relative" and config.relative_buckets < 4:
        raise ConfigError(f"model.relative_buckets is {config.relative_buckets}; it must be at least 4")
    if config.positions == "relative" and config.relative_distance <= config.relative_buckets // 2:
        raise ConfigError(
            f"model.relative_distance is {config.relative_distance}; it must be more than half of "
            f"model.relative_buckets, which is {config.relative_buckets}"
        )


def _require_ids(config: ModelConfig) -> None:
    ids: dict[str, tuple[int | None, ...]] = {"stop_ids": config.stop_ids, "never_ids": config.never_ids}
    ids |= {name: (getattr(config, name),) for name in ("pad_id", "start_id", "forced_first_id", "forced_last_id")}
    for name, given in ids.items():
        beyond = [token for token in given if token is not None and not 0 <= token < config.vocab_size]
        if beyond:
            verb = "holds" if name in ("stop_ids", "never_ids") else "is"
            raise ConfigError(f"model.{name} {verb} {beyond[0]}, but ids run from 0 to {config.vocab_size - 1}")


def _require_combinations(config: ModelConfig) -> None:
    if (config.encoder_layers is not None) != (config.kind == "encoder-decoder"):
        raise ConfigError(
            f"model.encoder_layers is {config.encoder_layers}, but model.kind is {config.kind}: an encoder-decoder has "
            f"them, and no other"
        )
    if config.window is not None and config.kind != "decoder":
        raise ConfigError(f"model.window is {config.window}, but model.kind is {config.kind}; only a decoder has one")
    heads = {"decoder": ("vocabulary", "classes"), "encoder-decoder": ("vocabulary",)}
    if config.kind != "encoder" and (config.head not in heads[config.kind] or config.pooler or config.segments):
        raise ConfigError(
            f"model.kind is {config.kind}; its head can be {' or '.join(heads[config.kind])}, and only an encoder has "
            f"a pooler or segments"
        )
    if config.head == "classes" and config.kind == "encoder" and not config.pooler:
        raise ConfigError("model.head is classes, which reads the pooler's vector, but model.pooler is false")
    labelled = config.head in ("classes", "token_classes")
    if labelled != bool(config.labels):
        raise ConfigError(
            f"model.labels has {len(config.labels)} names, but model.head is {config.head}: "
            f"{'give the names of its classes' if labelled else 'it has no classes'}"
        )
    if config.head != "vocabulary" and (config.tied or config.logits_bias or config.head_transform):
        raise ConfigError(
            f"model.head is {config.head}, so nothing can be tied, transformed or biased in a vocabulary's logits"
        )


def require_context(config: ModelConfig, tokens: int) -> None:
    """Raise ModelError where more tokens are asked for than the model has positions; relative ones have no end."""
    if config.positions != "relative" and tokens > config.context:
        raise ModelError(
            f"{tokens} tokens do not fit the model's context of {config.context}: it has no positions beyond. "
            f"Shorten the text, or take a model with a longer context"
        )
