"""T5 (arXiv:1910.10683): its first version (relu, the embedding for a head), and 1.1 (a gate, a head of its own)."""

from __future__ import annotations

import math
from dataclasses import replace

from guiju.model.config import GATED, Activation, Head, ModelConfig
from guiju.model.families.border import (
    ACTIVATIONS,
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
from guiju.model.presets import t5_config

_GATES: dict[str, Activation] = {"gelu_tanh": "geglu_tanh", "gelu": "geglu", "silu": "swiglu"}
"""What a gate goes through -> the activation that has it."""


def _stack(config: ModelConfig, side: str, layers: int) -> tuple[Border, ...]:
    block, ours = f"{side}.block.{{}}.layer", f"{side}.layers.{{}}"
    groups = _attention(f"{block}.0.SelfAttention", f"{block}.0.layer_norm", f"{ours}.attention")
    mlp = 1
    if side == "decoder":
        groups += _attention(f"{block}.1.EncDecAttention", f"{block}.1.layer_norm", f"{ours}.cross_attention")
        mlp = 2
    inner = f"{block}.{mlp}.DenseReluDense"
    if config.is_gated:
        groups.append(linear(f"{inner}.wi_0", f"{ours}.mlp.to_gate", bias=False))
        groups.append(linear(f"{inner}.wi_1", f"{ours}.mlp.to_hidden", bias=False))
    else:
        groups.append(linear(f"{inner}.wi", f"{ours}.mlp.to_hidden", bias=False))
    groups.append(linear(f"{inner}.wo", f"{ours}.mlp.to_output", bias=False))
    groups.append(linear(f"{block}.{mlp}.layer_norm", f"{ours}.mlp_norm", bias=False))
    return (
        Border(
            f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", (f"{side}.relative_bias.weight",)
        ),
        *for_layers(layers, *groups),
        *linear(f"{side}.final_layer_norm", f"{side}.final_norm", bias=False),
    )


def _attention(theirs: str, norm: str, ours: str) -> list[tuple[Border, ...]]:
    names = {"q": "to_query", "k": "to_key", "v": "to_value", "o": "to_output"}
    return [
        *(linear(f"{theirs}.{name}", f"{ours}.{own}", bias=False) for name, own in names.items()),
        linear(norm, f"{ours}_norm", bias=False),
    ]


def _tensors(config: ModelConfig) -> Tensors:
    assert config.encoder_layers is not None
    copies = {"encoder.embed_tokens.weight": "shared.weight", "decoder.embed_tokens.weight": "shared.weight"}
    return Tensors(
        body=(
            Border("shared.weight", ("embedding.weight",)),
            *_stack(config, "encoder", config.encoder_layers),
            *_stack(config, "decoder", config.layers),
        ),
        head=() if config.tied else (Border("lm_head.weight", ("to_logits.weight",)),),
        copies={**copies, "lm_head.weight": "shared.weight"} if config.tied else copies,
        # transformers 4 has no head of version 1.1 that is the embedding.
        kept_copies=("lm_head.weight",) if config.tied and config.logit_scale == 1 else (),
    )


# Dropout steers training alone, so a model read from a folder has none: a recipe says how it is trained on.
def _read(given: Fields, head: Head) -> ModelConfig:
    width = given.whole("d_model", 512)
    layers = given.whole("num_layers", 6)
    vocab_size = given.whole("vocab_size", 32128)
    pad_id = given.id("pad_token_id", 0, vocab_size)
    tied = given.flag("tie_word_embeddings", True)
    config = t5_config(
        vocab_size=vocab_size,
        context=given.whole("n_positions", 512),
        width=width,
        layers=given.whole("num_decoder_layers", layers),
        encoder_layers=layers,
        heads=given.whole("num_heads", 8),
        head_width=given.whole("d_kv", 64),
        hidden=given.whole("d_ff", 2048),
        activation=_activation(given),
        tied=tied,
        relative_buckets=given.whole("relative_attention_num_buckets", 32),
        relative_distance=given.whole("relative_attention_max_distance", 128),
        norm_epsilon=given.number("layer_norm_epsilon", 1e-6),
        pad_id=pad_id,
        start_id=given.id("decoder_start_token_id", pad_id, vocab_size),
    )
    # transformers 4 tells version 1.1 by tie_word_embeddings; 5 always writes true there, and says here what it means.
    scaled = given.flag("scale_decoder_outputs", tied)
    return replace(config, logit_scale=1 / math.sqrt(width) if scaled else 1.0)


def _activation(given: Fields) -> Activation:
    """feed_forward_proj: "relu", or "gated-gelu", whose gelu is the approximation; other fields only repeat it."""
    stated = given.data.get("feed_forward_proj", "relu")
    gated = isinstance(stated, str) and stated.startswith("gated-")
    inner = str(stated).removeprefix("gated-")
    name = "gelu_new" if stated == "gated-gelu" else inner
    if name not in ACTIVATIONS or (gated and ACTIVATIONS[name] not in _GATES):
        known = ", ".join([*ACTIVATIONS, *(f"gated-{inner}" for inner in ACTIVATIONS if ACTIVATIONS[inner] in _GATES)])
        raise given.refuse("feed_forward_proj", f"this version computes {known}")
    if given.data.get("is_gated_act", gated) is not gated:
        raise given.refuse("is_gated_act", f"but feed_forward_proj is {stated!r}")
    if given.data.get("dense_act_fn", name) != name:
        raise given.refuse("dense_act_fn", f"but feed_forward_proj is {stated!r}, which means {name}")
    return _GATES[ACTIVATIONS[name]] if gated else ACTIVATIONS[name]


def _settle(config: ModelConfig, held: Held) -> ModelConfig:
    """The head is the embedding unless the weights hold another, whatever config.json says: so does transformers 5. But
    a head of its own that config.json speaks of may not be missing."""
    if "lm_head.weight" not in held:
        return config
    return replace(config, tied="shared.weight" in held and held.are_equal("lm_head.weight", "shared.weight"))


def _write(config: ModelConfig) -> dict[str, object]:
    scaled = config.logit_scale != 1
    inner = activation_name(config.activation)
    gate = "gelu" if config.activation == "geglu_tanh" else inner
    return {
        "is_encoder_decoder": True,
        "vocab_size": config.vocab_size,
        "n_positions": config.context,
        "d_model": config.width,
        "d_kv": config.head_width,
        "d_ff": config.hidden,
        "num_layers": config.encoder_layers,
        "num_decoder_layers": config.layers,
        "num_heads": config.heads,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_distance,
        "feed_forward_proj": f"gated-{gate}" if config.is_gated else inner,
        "is_gated_act": config.is_gated,
        "dense_act_fn": inner,
        "layer_norm_epsilon": config.norm_epsilon,
        "dropout_rate": config.dropout,
        "tie_word_embeddings": scaled,
        "scale_decoder_outputs": scaled,
    }


def _also_required(config: ModelConfig) -> str | None:
    if config.kv_heads != config.heads:
        return f"model.kv_heads is {config.kv_heads}, but t5 has as many as heads, {config.heads}"
    scaled = config.logit_scale != 1
    if scaled and not math.isclose(config.logit_scale, 1 / math.sqrt(config.width)):
        return f"model.logit_scale is {config.logit_scale}, but t5 has 1 or 1 / the root of model.width"
    if scaled and not config.tied:
        return f"model.tied is False, but model.logit_scale is {config.logit_scale}: t5 scales a tied head alone"
    if config.activation == "geglu":
        return "model.activation is 'geglu', but t5's gated-gelu is 'geglu_tanh'"
    return None


T5 = Family(
    model_type="t5",
    heads={
        "T5ForConditionalGeneration": "vocabulary",
        "T5Model": "vocabulary",
        "T5WithLMHeadModel": "vocabulary",  # the class's name when T5 was published
    },
    default="T5ForConditionalGeneration",
    prefix="",
    fixed={**CAUSAL, "is_encoder_decoder": (True,), "is_decoder": (False,)},
    required={
        "kind": ("encoder-decoder",),
        "positions": ("relative",),
        "norm": ("rms",),
        "activation": ("relu", "gelu", "gelu_tanh", "silu", *GATED),
        "bias": (False,),
        "attention_scale": (1.0,),
    },
    free=frozenset(
        {"kv_heads", "head_width", "encoder_layers", "tied", "logit_scale", "norm_epsilon"}
        | {"relative_buckets", "relative_distance"}
    ),
    also_required=_also_required,
    read=_read,
    write=_write,
    tensors=_tensors,
    left_out=r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",  # of old files, unused
    settle=_settle,
)
