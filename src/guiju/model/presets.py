"""The usual shapes, by the names of the models that made them known, and what a recipe may wish of a new one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, get_args

from guiju.errors import ConfigError
from guiju.model.config import Activation, Head, ModelConfig, NormPlace, RotaryScaling


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
    rotary_scaling: RotaryScaling | None = None,
    rotary_share: float = 1.0,
    window: int | None = None,
    window_from: int = 0,
    qkv_bias: bool = False,
    query_key_norm: bool = False,
    dropout: float = 0.0,
    stop_ids: tuple[int, ...] = (),
) -> ModelConfig:
    """Llama's shape (arXiv:2302.13971, with grouped queries of arXiv:2307.09288), and what its heirs changed in it:
    Llama 3 `rotary_scaling`, Mistral `window`, Qwen2 `qkv_bias`, Qwen3 `query_key_norm`, Phi-3 `rotary_share`.

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
        rotary_scaling=rotary_scaling,
        rotary_share=rotary_share,
        window=window,
        window_from=window_from,
        qkv_bias=qkv_bias,
        query_key_norm=query_key_norm,
        dropout=dropout,
        stop_ids=stop_ids,
    )


def bert_config(
    *,
    vocab_size: int,
    context: int = 512,
    width: int = 768,
    layers: int = 12,
    heads: int = 12,
    hidden: int | None = None,
    activation: Activation = "gelu",
    segments: int = 2,
    position_offset: int = 0,
    head: Head = "vocabulary",
    pooler: bool | None = None,
    labels: tuple[str, ...] = (),
    norm_epsilon: float = 1e-12,
    dropout: float = 0.0,
    pad_id: int | None = None,
) -> ModelConfig:
    """BERT's shape (arXiv:1810.04805), an encoder; the sizes by default are those of its base model. RoBERTa's
    (arXiv:1907.11692) has one segment and a position_offset of 2.

    Args:
        pooler: by default only where the head needs it.
    Raises:
        ConfigError: a size that cannot be, or labels without a head for them.
    """
    vocabulary = head == "vocabulary"
    return ModelConfig(
        kind="encoder",
        vocab_size=vocab_size,
        context=context,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_width=_head_width(width, heads),
        hidden=4 * width if hidden is None else hidden,
        positions="learned",
        position_offset=position_offset,
        segments=segments,
        embedding_norm=True,
        norm="layer",
        norm_place="after",
        activation=activation,
        bias=True,
        head=head,
        tied=vocabulary,
        head_transform=vocabulary,
        logits_bias=vocabulary,
        pooler=head == "classes" if pooler is None else pooler,
        labels=labels,
        norm_epsilon=norm_epsilon,
        dropout=dropout,
        pad_id=pad_id,
    )


def transformer_config(
    *,
    vocab_size: int,
    context: int = 512,
    width: int = 512,
    layers: int = 6,
    encoder_layers: int | None = None,
    heads: int = 8,
    hidden: int | None = None,
    activation: Activation = "relu",
    norm_place: NormPlace = "after",
    logits_bias: bool = False,
    scaled: bool = True,
    norm_epsilon: float = 1e-5,
    dropout: float = 0.0,
    stop_ids: tuple[int, ...] = (),
    pad_id: int | None = None,
    start_id: int | None = None,
) -> ModelConfig:
    """The shape of "Attention is all you need" (arXiv:1706.03762), an encoder with decoder that share their embedding;
    the sizes by default are those of its base model. Marian has it too. Linear layers have biases, as in its heirs.

    Args:
        norm_place: "after" as in 2017; "before" trains more steadily (arXiv:2002.04745).
        scaled: whether embeddings are multiplied by sqrt(width).
    Raises:
        ConfigError: a size that cannot be, such as a width that the heads do not divide.
    """
    return ModelConfig(
        kind="encoder-decoder",
        vocab_size=vocab_size,
        context=context,
        width=width,
        layers=layers,
        encoder_layers=layers if encoder_layers is None else encoder_layers,
        heads=heads,
        kv_heads=heads,
        head_width=_head_width(width, heads),
        hidden=4 * width if hidden is None else hidden,
        positions="sinusoidal",
        embedding_scale=math.sqrt(width) if scaled else 1.0,
        norm="layer",
        norm_place=norm_place,
        activation=activation,
        bias=True,
        tied=True,
        logits_bias=logits_bias,
        norm_epsilon=norm_epsilon,
        dropout=dropout,
        stop_ids=stop_ids,
        pad_id=pad_id,
        start_id=start_id,
    )


def bart_config(
    *,
    vocab_size: int,
    context: int = 1024,
    width: int = 768,
    layers: int = 6,
    encoder_layers: int | None = None,
    heads: int = 12,
    hidden: int | None = None,
    activation: Activation = "gelu",
    logits_bias: bool = False,
    scaled: bool = False,
    norm_epsilon: float = 1e-5,
    dropout: float = 0.0,
    stop_ids: tuple[int, ...] = (),
    pad_id: int | None = None,
    start_id: int | None = None,
) -> ModelConfig:
    """BART's shape (arXiv:1910.13461), an encoder with decoder and learned positions, whose table has two rows in front
    that nothing uses; the sizes by default are those of its base model.

    Raises:
        ConfigError: a size that cannot be, such as a width that the heads do not divide.
    """
    return ModelConfig(
        kind="encoder-decoder",
        vocab_size=vocab_size,
        context=context,
        width=width,
        layers=layers,
        encoder_layers=layers if encoder_layers is None else encoder_layers,
        heads=heads,
        kv_heads=heads,
        head_width=_head_width(width, heads),
        hidden=4 * width if hidden is None else hidden,
        positions="learned",
        position_offset=2,
        embedding_norm=True,
        embedding_scale=math.sqrt(width) if scaled else 1.0,
        norm="layer",
        norm_place="after",
        activation=activation,
        bias=True,
        tied=True,
        logits_bias=logits_bias,
        norm_epsilon=norm_epsilon,
        dropout=dropout,
        stop_ids=stop_ids,
        pad_id=pad_id,
        start_id=start_id,
    )


def t5_config(
    *,
    vocab_size: int,
    context: int = 512,
    width: int = 512,
    layers: int = 6,
    encoder_layers: int | None = None,
    heads: int = 8,
    head_width: int | None = None,
    hidden: int | None = None,
    activation: Activation = "relu",
    tied: bool = True,
    relative_buckets: int = 32,
    relative_distance: int = 128,
    norm_epsilon: float = 1e-6,
    dropout: float = 0.0,
    stop_ids: tuple[int, ...] = (),
    pad_id: int | None = None,
    start_id: int | None = None,
) -> ModelConfig:
    """T5's shape (arXiv:1910.10683), an encoder with decoder and relative positions; the sizes by default are those of
    its small model. Version 1.1 has activation "geglu_tanh" and is not tied.

    Args:
        context: what it is made for; relative positions set no limit.
    Raises:
        ConfigError: a size that cannot be, such as a width that the heads do not divide.
    """
    return ModelConfig(
        kind="encoder-decoder",
        vocab_size=vocab_size,
        context=context,
        width=width,
        layers=layers,
        encoder_layers=layers if encoder_layers is None else encoder_layers,
        heads=heads,
        kv_heads=heads,
        head_width=_head_width(width, heads) if head_width is None else head_width,
        hidden=4 * width if hidden is None else hidden,
        positions="relative",
        relative_buckets=relative_buckets,
        relative_distance=relative_distance,
        attention_scale=1.0,
        norm="rms",
        activation=activation,
        bias=False,
        tied=tied,
        logit_scale=1 / math.sqrt(width) if tied else 1.0,
        norm_epsilon=norm_epsilon,
        dropout=dropout,
        stop_ids=stop_ids,
        pad_id=pad_id,
        start_id=start_id,
    )


def _head_width(width: int, heads: int) -> int:
    if heads < 1:
        raise ConfigError(f"model.heads is {heads}; it must be a whole number of at least 1")
    if width % heads:
        raise ConfigError(f"model.width is {width}; it must be a multiple of model.heads, which is {heads}")
    return width // heads


ShapeName = Literal["gpt2", "llama", "bert", "transformer", "bart", "t5"]

_PRESETS: dict[str, Callable[..., ModelConfig]] = {
    "gpt2": gpt2_config,
    "llama": llama_config,
    "bert": bert_config,
    "transformer": transformer_config,
    "bart": bart_config,
    "t5": t5_config,
}
_SHAPES_WITH = {
    "kv_heads": ("llama",),
    "head_width": ("llama", "t5"),
    "rotary_base": ("llama",),
    "window": ("llama",),
    "tied": ("gpt2", "llama", "t5"),
    "encoder_layers": ("transformer", "bart", "t5"),
    "norm_place": ("transformer",),
}


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A recipe's wishes for a new model; what is left out follows the shape."""

    shape: ShapeName = "llama"
    """Decoders: "gpt2" (learned positions, LayerNorm, GELU), "llama" (rotary positions, RMSNorm, SwiGLU, grouped
    queries). Encoder: "bert". Encoders with decoder: "transformer" (of 2017: sinusoidal positions), "bart" (learned
    positions), "t5" (relative positions)."""

    context: int = 256
    """Positions: how many tokens the model can look at."""

    width: int = 256
    """Length of the residual stream's vectors."""

    layers: int = 6
    """Blocks of attention and MLP; the decoder's, where there is an encoder beside it."""

    encoder_layers: int | None = None
    """Blocks of the encoder beside a decoder; by default as many as the decoder's."""

    heads: int = 8
    """Query heads."""

    kv_heads: int | None = None
    """Key and value heads; by default as many as query heads. Llama's shape only."""

    head_width: int | None = None
    """Length of one head; by default width / heads. Llama's and T5's shapes only."""

    hidden: int | None = None
    """Inner length of the MLP; by default 4 x width, or 8/3 x width in Llama's shape."""

    norm_place: NormPlace | None = None
    """"after" each branch, as in 2017 and by default, or "before" it. The shape "transformer" only."""

    tied: bool | None = None
    """Whether the head is the embedding itself; by default as the shape has it (Llama's no, the others yes)."""

    norm_epsilon: float = 1e-5
    """Added to the variance before its root is taken."""

    rotary_base: float | None = None
    """Slowest turn of rotary positions; 10000 by default. Llama's shape only."""

    window: int | None = None
    """How many tokens a token sees, itself included; by default all before it. Llama's shape only."""

    dropout: float = 0.0
    """Share of values set to zero in training."""

    def __post_init__(self) -> None:
        if self.shape not in _PRESETS:
            raise ConfigError(f"model.shape is {self.shape!r}; it can be {', '.join(get_args(ShapeName))}")
        for name, shapes in _SHAPES_WITH.items():
            if getattr(self, name) is not None and self.shape not in shapes:
                raise ConfigError(
                    f"model.{name} is {getattr(self, name)}, but model.shape is {self.shape}, which has no such "
                    f"choice. Leave it out, or take shape: {' or '.join(shapes)}"
                )
        self.config(vocab_size=1)  # what cannot be is said when the recipe is read, not an hour later

    def config(self, vocab_size: int) -> ModelConfig:
        """The model's whole shape, once the tokenizer's size is known."""
        chosen = {
            field.name: value
            for field in fields(self)
            if field.name != "shape" and (value := getattr(self, field.name)) is not None
        }
        return _PRESETS[self.shape](vocab_size=vocab_size, **chosen)
