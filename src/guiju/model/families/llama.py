"""Llama (arXiv:2302.13971) and its heirs: Mistral (arXiv:2310.06825), Qwen2 (arXiv:2407.10671), Qwen3
(arXiv:2505.09388) and Phi-3 (arXiv:2404.14219). One table: what differs in it is a condition on our own fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from guiju.errors import ModelError
from guiju.model.config import Head, ModelConfig, RotaryScaling
from guiju.model.families.border import (
    DECODER_ONLY,
    OTHER_HEADS,
    Border,
    Family,
    Fields,
    Tensors,
    decoder_head,
    for_layers,
    label_fields,
    linear,
    with_decoder_head,
)
from guiju.model.presets import llama_config

_ATTENTION = "layers.{}.attention"
_MLP = "layers.{}.mlp"


def _tensors(config: ModelConfig, fused: bool = False) -> Tensors:
    qkv = f"{_ATTENTION}.to_query", f"{_ATTENTION}.to_key", f"{_ATTENTION}.to_value"
    gate_up = f"{_MLP}.to_gate", f"{_MLP}.to_hidden"
    if fused:
        inputs = [
            linear("layers.{}.self_attn.qkv_proj", *qkv, bias=False),
            linear("layers.{}.mlp.gate_up_proj", *gate_up, bias=False),
        ]
    else:
        inputs = [
            linear("layers.{}.self_attn.q_proj", qkv[0], bias=config.qkv_bias),
            linear("layers.{}.self_attn.k_proj", qkv[1], bias=config.qkv_bias),
            linear("layers.{}.self_attn.v_proj", qkv[2], bias=config.qkv_bias),
            linear("layers.{}.mlp.gate_proj", gate_up[0], bias=False),
            linear("layers.{}.mlp.up_proj", gate_up[1], bias=False),
        ]
    if config.query_key_norm:
        inputs += [
            linear("layers.{}.self_attn.q_norm", f"{_ATTENTION}.query_norm", bias=False),
            linear("layers.{}.self_attn.k_norm", f"{_ATTENTION}.key_norm", bias=False),
        ]
    layers = for_layers(
        config.layers,
        linear("layers.{}.input_layernorm", "layers.{}.attention_norm", bias=False),
        *inputs,
        linear("layers.{}.self_attn.o_proj", f"{_ATTENTION}.to_output", bias=False),
        linear("layers.{}.post_attention_layernorm", "layers.{}.mlp_norm", bias=False),
        linear("layers.{}.mlp.down_proj", f"{_MLP}.to_output", bias=False),
    )
    return Tensors(
        body=(
            Border("embed_tokens.weight", ("embedding.weight",)),
            *layers,
            *linear("norm", "final_norm", bias=False),
        ),
        head=decoder_head(config),
        copies={"lm_head.weight": "embed_tokens.weight"} if config.tied else {},
    )


@dataclass(frozen=True)
class _Defaults:
    """What a config.json means that leaves a field out."""

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    max_position_embeddings: int = 2048
    num_key_value_heads: int | None = None  # as many as heads
    head_dim: int | None = None  # hidden_size / heads
    rms_norm_eps: float = 1e-6


def _read(given: Fields, head: Head, defaults: _Defaults, own: Callable[[Fields, int], dict[str, Any]]) -> ModelConfig:
    """What they have in common; `own` gives, by the number of layers, what the family alone has."""
    width, heads = given.whole("hidden_size", defaults.hidden_size), given.whole("num_attention_heads", 32)
    layers = given.whole("num_hidden_layers", 32)
    plain_width = max(1, width // heads)
    config = llama_config(
        vocab_size=given.whole("vocab_size", defaults.vocab_size),
        context=given.whole("max_position_embeddings", defaults.max_position_embeddings),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=given.whole("num_key_value_heads", defaults.num_key_value_heads or heads, null=heads),
        head_width=given.whole("head_dim", defaults.head_dim or plain_width, null=plain_width),
        hidden=given.whole("intermediate_size", defaults.intermediate_size),
        tied=given.flag("tie_word_embeddings", False),
        norm_epsilon=given.number("rms_norm_eps", defaults.rms_norm_eps),
        **rotary_fields(given),
        **own(given, layers),
    )
    return with_decoder_head(config, given, head)


def _window(default: int | None) -> Callable[[Fields, int], dict[str, Any]]:
    """sliding_window, in all layers, or none where it is null."""

    def own(given: Fields, layers: int) -> dict[str, Any]:
        absent = given.data.get("sliding_window", default) is None
        return {"window": None if absent else given.whole("sliding_window", default)}

    return own


def _qwen(**fields: bool) -> Callable[[Fields, int], dict[str, Any]]:
    """sliding_window where use_sliding_window says so, in the layers that layer_types or max_window_layers name."""

    def own(given: Fields, layers: int) -> dict[str, Any]:
        used = given.flag("use_sliding_window", False) and given.data.get("sliding_window", 4096) is not None
        window = given.whole("sliding_window", 4096) if used else None
        start = min(layers, given.whole("max_window_layers", 28, least=0)) if used else layers
        kinds = given.data.get("layer_types")
        if kinds is not None:
            start = _first_sliding(given, kinds, layers)
            if start < layers and window is None:
                raise given.refuse("layer_types", "but no sliding_window is used (use_sliding_window)")
        return {"window": window if start < layers else None, "window_from": start if start < layers else 0, **fields}

    return own


def _first_sliding(given: Fields, kinds: object, layers: int) -> int:
    full, sliding = "full_attention", "sliding_attention"
    if isinstance(kinds, list) and len(kinds) == layers:
        start = kinds.index(sliding) if sliding in kinds else layers
        if kinds == [full] * start + [sliding] * (layers - start):
            return start
    raise given.refuse(
        "layer_types", f"this version computes {layers} of them, {full} first and {sliding} from some layer on"
    )


_ROTARY_KEYS = {
    "default": set(),
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
}


def rotary_fields(given: Fields) -> dict[str, Any]:
    """Our rotary_base, rotary_share and rotary_scaling, out of rope_theta and rope_scaling (transformers 4) or
    rope_parameters (5).

    Raises:
        ModelError: another kind of rotary positions, or two statements that differ.
    """
    bases = {given.number("rope_theta")} if given.data.get("rope_theta") is not None else set()
    shares = {given.number("partial_rotary_factor")} if given.data.get("partial_rotary_factor") is not None else set()
    scalings: set[RotaryScaling | None] = set()
    for name in ("rope_parameters", "rope_scaling"):
        part = given.data.get(name)
        if part is None:
            continue
        if not isinstance(part, dict):
            raise given.refuse(name, "it must be an object or null")
        inside = Fields(part, f"{given.where}, {name}")
        if "rope_theta" in part:
            bases.add(inside.number("rope_theta"))
        if "partial_rotary_factor" in part:
            shares.add(inside.number("partial_rotary_factor"))
        scalings.add(_scaling(inside, given))
    for name, found in (("rope_theta", bases), ("partial_rotary_factor", shares), ("rope_scaling", scalings)):
        if len(found) > 1:
            stated = ", ".join(sorted(map(str, found)))
            raise ModelError(f"{given.where} states several values of {name}: {stated}")
    return {
        "rotary_base": bases.pop() if bases else 10000.0,
        "rotary_share": shares.pop() if shares else 1.0,
        "rotary_scaling": scalings.pop() if scalings else None,
    }


def _scaling(inside: Fields, given: Fields) -> RotaryScaling | None:
    part = inside.data
    kind = part.get("rope_type", part.get("type", "default"))
    if not isinstance(kind, str) or kind not in _ROTARY_KEYS:
        name = "rope_type" if "rope_type" in part else "type"
        raise inside.refuse(name, f"this version computes rotary positions of type {', '.join(_ROTARY_KEYS)}")
    beyond = sorted(set(part) - _ROTARY_KEYS[kind] - {"rope_type", "type", "rope_theta", "partial_rotary_factor"})
    if beyond:
        raise inside.refuse(beyond[0], f"rotary positions of type {kind} have no such field")
    if kind == "default":
        return None
    if kind == "linear":
        return RotaryScaling(kind="linear", factor=inside.number("factor"))
    context = given.whole("max_position_embeddings")
    return RotaryScaling(
        kind="llama3",
        factor=inside.number("factor"),
        low=inside.number("low_freq_factor"),
        high=inside.number("high_freq_factor"),
        original_context=inside.whole("original_max_position_embeddings", context),
    )


def _rope_parameters(config: ModelConfig) -> dict[str, object]:
    scaling = config.rotary_scaling
    base: dict[str, object] = {"rope_type": "default", "rope_theta": config.rotary_base}
    if config.rotary_share != 1:
        base["partial_rotary_factor"] = config.rotary_share
    if scaling is None:
        return base
    if scaling.kind == "linear":
        return {**base, "rope_type": "linear", "factor": scaling.factor}
    return {
        **base,
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": scaling.low,
        "high_freq_factor": scaling.high,
        "original_max_position_embeddings": scaling.original_context,
    }


def _write(config: ModelConfig, own: Callable[[ModelConfig], dict[str, object]]) -> dict[str, object]:
    parameters = _rope_parameters(config)
    older: dict[str, object] = {"rope_theta": config.rotary_base}  # what transformers 4 and other programs read
    if config.rotary_scaling is not None:
        older["rope_scaling"] = {name: value for name, value in parameters.items() if name != "rope_theta"}
    return {
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied,
        "max_position_embeddings": config.context,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.hidden,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        **older,
        "rope_parameters": parameters,
        "attention_dropout": config.dropout,
        **label_fields(config),
        **own(config),
    }


def _write_qwen(config: ModelConfig) -> dict[str, object]:
    start = config.layers if config.window is None else min(config.window_from, config.layers)
    return {
        "use_sliding_window": config.window is not None,
        "sliding_window": config.window,
        "max_window_layers": start,
        "layer_types": ["full_attention"] * start + ["sliding_attention"] * (config.layers - start),
    }


def _family(
    model_type: str,
    name: str,
    defaults: _Defaults,
    *,
    own: Callable[[Fields, int], dict[str, Any]] = lambda given, layers: {},
    write: Callable[[ModelConfig], dict[str, object]] = lambda config: {},
    required: Mapping[str, tuple[object, ...]] | None = None,
    free: tuple[str, ...] = (),
    fixed: Mapping[str, tuple[object, ...]] | None = None,
    reads: tuple[str, ...] = (),
    fused: bool = False,
) -> Family:
    """`reads` are the fields that the family itself reads, though others must leave them alone."""
    left = {theirs: values for theirs, values in DECODER_ONLY.items() if theirs not in reads}
    return Family(
        model_type=model_type,
        heads={
            f"{name}ForCausalLM": "vocabulary",
            f"{name}Model": "vocabulary",
            f"{name}ForSequenceClassification": "classes",
        },
        default=f"{name}ForCausalLM",
        prefix="model.",
        fixed={**left, "hidden_act": ("silu", "swish"), **(fixed or {})},
        required={
            "positions": ("rotary",),
            "norm": ("rms",),
            "activation": ("swiglu",),
            "bias": (False,),
            "head": ("vocabulary", "classes"),
            **(required or {}),
        },
        free=frozenset({"kv_heads", "head_width", "tied", "norm_epsilon", "rotary_base", "labels", *free}),
        read=partial(_read, defaults=defaults, own=own),
        write=partial(_write, own=write),
        tensors=partial(_tensors, fused=fused),
        left_out=rf"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq|{OTHER_HEADS}",
    )


_WHOLE_HEADS: dict[str, tuple[object, ...]] = {"partial_rotary_factor": (1.0, None)}
_NO_BIAS: dict[str, tuple[object, ...]] = {"attention_bias": (False,), "mlp_bias": (False,)}

LLAMA = _family(
    "llama",
    "Llama",
    _Defaults(),
    write=lambda config: {"attention_bias": False, "mlp_bias": False},
    free=("rotary_scaling",),
    fixed={**_WHOLE_HEADS, **_NO_BIAS, "pretraining_tp": (1, None)},
)
MISTRAL = _family(
    "mistral",
    "Mistral",
    _Defaults(intermediate_size=14336, max_position_embeddings=4096 * 32, num_key_value_heads=8),
    own=_window(4096),
    reads=("sliding_window",),
    write=lambda config: {"sliding_window": config.window},
    free=("rotary_scaling", "window"),
    fixed=_WHOLE_HEADS,
)
_QWEN = _Defaults(vocab_size=151936, intermediate_size=22016, max_position_embeddings=32768, num_key_value_heads=32)
QWEN2 = _family(
    "qwen2",
    "Qwen2",
    _QWEN,
    own=_qwen(qkv_bias=True),
    reads=("sliding_window", "layer_types"),
    write=_write_qwen,
    required={"qkv_bias": (True,)},
    free=("rotary_scaling", "window", "window_from"),
    fixed=_WHOLE_HEADS,
)
QWEN3 = _family(
    "qwen3",
    "Qwen3",
    replace(_QWEN, head_dim=128),
    own=_qwen(query_key_norm=True),
    reads=("sliding_window", "layer_types"),
    write=lambda config: {**_write_qwen(config), "attention_bias": False},
    required={"query_key_norm": (True,)},
    free=("rotary_scaling", "window", "window_from"),
    fixed={**_WHOLE_HEADS, "attention_bias": (False,)},
)
PHI3 = _family(
    "phi3",
    "Phi3",
    _Defaults(
        vocab_size=32064, hidden_size=3072, intermediate_size=8192, max_position_embeddings=4096, rms_norm_eps=1e-5
    ),
    own=_window(None),
    reads=("sliding_window",),
    write=lambda config: {
        "sliding_window": config.window,
        "original_max_position_embeddings": config.context,
        "partial_rotary_factor": config.rotary_share,
    },
    free=("window", "rotary_share"),
    fused=True,
)
