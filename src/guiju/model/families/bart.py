"""Encoders with decoder that descend from the Transformer of 2017: Marian (the same, arXiv:1804.00344), Pegasus (the
same with norms before, arXiv:1912.08777), BART (learned positions, arXiv:1910.13461) and mBART (that with norms before,
arXiv:2001.08210)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from guiju.errors import ModelError
from guiju.model.config import Head, ModelConfig
from guiju.model.families.border import (
    CAUSAL,
    Border,
    Family,
    Fields,
    Held,
    Tensors,
    activation_name,
    for_layers,
    linear,
)
from guiju.model.positions import sinusoids
from guiju.model.presets import bart_config, transformer_config

_BIAS = "final_logits_bias"


def _stack(config: ModelConfig, side: str, layers: int) -> tuple[Border, ...]:
    theirs, ours = f"{side}.layers.{{}}", f"{side}.layers.{{}}"
    groups = [*_attention(f"{theirs}.self_attn", f"{ours}.attention")]
    if side == "decoder":
        groups += _attention(f"{theirs}.encoder_attn", f"{ours}.cross_attention")
    borders = for_layers(
        layers,
        *groups,
        linear(f"{theirs}.fc1", f"{ours}.mlp.to_hidden", bias=True),
        linear(f"{theirs}.fc2", f"{ours}.mlp.to_output", bias=True),
        linear(f"{theirs}.final_layer_norm", f"{ours}.mlp_norm", bias=True),
    )
    if config.positions == "learned":
        borders += (Border(f"{side}.embed_positions.weight", (f"{side}.position_embedding.weight",)),)
    if config.embedding_norm:
        borders += linear(f"{side}.layernorm_embedding", f"{side}.embedding_norm", bias=True)
    if config.norm_place == "before":
        borders += linear(f"{side}.layer_norm", f"{side}.final_norm", bias=True)
    return borders


def _attention(theirs: str, ours: str) -> list[tuple[Border, ...]]:
    names = {"q_proj": "to_query", "k_proj": "to_key", "v_proj": "to_value", "out_proj": "to_output"}
    return [
        *(linear(f"{theirs}.{name}", f"{ours}.{own}", bias=True) for name, own in names.items()),
        linear(f"{theirs}_layer_norm", f"{ours}_norm", bias=True),
    ]


def _tensors(config: ModelConfig, keeps_positions: bool) -> Tensors:
    assert config.encoder_layers is not None
    positions: dict[str, Callable[[], Tensor]] = {}
    if config.positions == "sinusoidal":
        table = partial(_positions, config)
        positions = {f"{side}.embed_positions.weight": table for side in ("encoder", "decoder")}
    return Tensors(
        body=(
            Border("shared.weight", ("embedding.weight",)),
            *_stack(config, "encoder", config.encoder_layers),
            *_stack(config, "decoder", config.layers),
        ),
        head=(Border(_BIAS, ("logits_bias",), "row"),) if config.logits_bias else (),
        copies={
            "encoder.embed_tokens.weight": "shared.weight",
            "decoder.embed_tokens.weight": "shared.weight",
            "lm_head.weight": "shared.weight",
        },
        computed=positions,
        keeps_computed=keeps_positions,
    )


def _positions(config: ModelConfig) -> Tensor:
    return sinusoids(torch.arange(config.context), config.width, torch.float32)


# Dropout steers training alone, so a model read from a folder has none: a recipe says how it is trained on.
def _read(given: Fields, head: Head, defaults: Mapping[str, int], build: Callable[..., ModelConfig]) -> ModelConfig:
    """What they have in common; `defaults` are those of their configs, `build` is our preset."""
    for name, default in (("attention_heads", 16), ("ffn_dim", 4096)):
        both = [given.whole(f"{side}_{name}", default) for side in ("encoder", "decoder")]
        if both[0] != both[1]:
            raise ModelError(
                f"{given.where}: encoder_{name} is {both[0]} and decoder_{name} is {both[1]}; this version computes "
                f"both alike"
            )
    vocab_size = given.whole("vocab_size", defaults["vocab_size"])
    if given.data.get("decoder_vocab_size") not in (None, vocab_size):
        raise given.refuse("decoder_vocab_size", f"this version computes one vocabulary for both, here {vocab_size}")
    return build(
        vocab_size=vocab_size,
        context=given.whole("max_position_embeddings", 1024),
        width=given.whole("d_model", 1024),
        layers=given.whole("decoder_layers", 12),
        encoder_layers=given.whole("encoder_layers", 12),
        heads=given.whole("decoder_attention_heads", 16),
        hidden=given.whole("decoder_ffn_dim", 4096),
        activation=given.activation("activation_function", "gelu"),
        scaled=given.flag("scale_embedding", False),
        logits_bias=True,
        pad_id=given.id("pad_token_id", defaults["pad_token_id"], vocab_size),
        start_id=given.id("decoder_start_token_id", defaults.get("decoder_start_token_id"), vocab_size),
    )


def _mbart(**fields: Any) -> ModelConfig:
    return replace(bart_config(**fields), norm_place="before")


def _with_bias(config: ModelConfig, held: Held) -> ModelConfig:
    """A bias that was not stored is zero."""
    return replace(config, logits_bias=_BIAS in held)


def _write(config: ModelConfig, own: Mapping[str, object]) -> dict[str, object]:
    sides: dict[str, object] = {}
    for side, layers in (("encoder", config.encoder_layers), ("decoder", config.layers)):
        sides[f"{side}_layers"] = layers
        sides[f"{side}_attention_heads"] = config.heads
        sides[f"{side}_ffn_dim"] = config.hidden
    return {
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context,
        "d_model": config.width,
        **sides,
        "activation_function": activation_name(config.activation),
        "scale_embedding": config.embedding_scale != 1,
        "tie_word_embeddings": True,
        "dropout": config.dropout,
        "attention_dropout": config.dropout,
        "activation_dropout": 0.0,
        "forced_eos_token_id": None,
        **own,
    }


def _also_required(config: ModelConfig) -> str | None:
    if config.kv_heads != config.heads:
        return f"model.kv_heads is {config.kv_heads}, but bart has as many as heads, {config.heads}"
    if config.head_width * config.heads != config.width:
        return f"model.head_width is {config.head_width}, but bart has model.width / model.heads"
    if config.embedding_scale not in (1, math.sqrt(config.width)):
        return f"model.embedding_scale is {config.embedding_scale}, but bart has 1 or the root of model.width"
    return None


def _family(
    model_type: str,
    architecture: str,
    defaults: Mapping[str, int],
    build: Callable[..., ModelConfig],
    required: Mapping[str, tuple[object, ...]],
    body: str,
    fixed: Mapping[str, tuple[object, ...]] | None = None,
    write: Mapping[str, object] | None = None,
    keeps_positions: bool = False,
) -> Family:
    return Family(
        model_type=model_type,
        heads={architecture: "vocabulary", body: "vocabulary"},
        default=architecture,
        prefix="model.",
        fixed={
            **CAUSAL,
            "is_encoder_decoder": (True,),
            "is_decoder": (False,),
            "tie_word_embeddings": (True,),
            **(fixed or {}),
        },
        required={
            "kind": ("encoder-decoder",),
            "norm": ("layer",),
            "activation": ("gelu", "gelu_tanh", "relu", "silu"),
            "bias": (True,),
            "tied": (True,),
            **required,
        },
        free=frozenset({"kv_heads", "head_width", "encoder_layers", "embedding_scale", "logits_bias"}),
        also_required=_also_required,
        read=partial(_read, defaults=defaults, build=build),
        write=partial(_write, own=write or {}),
        tensors=partial(_tensors, keeps_positions=keeps_positions),
        settle=_with_bias,
        left_out=r"(encoder|decoder)\.version",
    )


_BEFORE: dict[str, tuple[object, ...]] = {"norm_place": ("before",)}
_AFTER: dict[str, tuple[object, ...]] = {"norm_place": ("after",)}
_WAVES: dict[str, tuple[object, ...]] = {"positions": ("sinusoidal",)}
_LEARNED: dict[str, tuple[object, ...]] = {
    "positions": ("learned",),
    "position_offset": (2,),
    "embedding_norm": (True,),
}

MARIAN = _family(
    "marian",
    "MarianMTModel",
    {"vocab_size": 58101, "pad_token_id": 58100, "decoder_start_token_id": 58100},
    transformer_config,
    {**_AFTER, **_WAVES},
    body="MarianModel",
    fixed={"share_encoder_decoder_embeddings": (True,)},
    write={"share_encoder_decoder_embeddings": True},
)
PEGASUS = _family(
    "pegasus",
    "PegasusForConditionalGeneration",
    {"vocab_size": 50265, "pad_token_id": 0, "decoder_start_token_id": 0},
    partial(transformer_config, norm_place="before"),
    {**_BEFORE, **_WAVES},
    body="PegasusModel",
    keeps_positions=True,
)
BART = _family(
    "bart",
    "BartForConditionalGeneration",
    {"vocab_size": 50265, "pad_token_id": 1, "decoder_start_token_id": 2},
    bart_config,
    {**_AFTER, **_LEARNED},
    body="BartModel",
)
MBART = _family(
    "mbart",
    "MBartForConditionalGeneration",
    {"vocab_size": 50265, "pad_token_id": 1},
    _mbart,
    {**_BEFORE, **_LEARNED},
    body="MBartModel",
)
