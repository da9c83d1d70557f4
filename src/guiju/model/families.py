"""The border between published models and ours: one table per family turns foreign names into guiju's, and back.

Only what transformers itself heeds is looked at: a field that would change the computation is mapped or must hold the
one value that is computed here; the rest (such as summary_type) is let by, as it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from guiju.errors import ConfigError, ModelError
from guiju.model.config import Activation, ModelConfig
from guiju.model.presets import gpt2_config, llama_config


@dataclass(frozen=True)
class Border:
    """A published tensor, and those of ours that it holds one after the other along their outputs."""

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False
    """GPT-2 keeps its matrices as (inputs, outputs)."""


@dataclass(frozen=True)
class Family:
    """What a kind of published model calls things. `{}` in a tensor's name is the layer."""

    model_type: str
    architecture: str
    prefix: str
    """Stands before the body's tensors; absent where the body was saved without its head."""
    body: tuple[Border, ...]
    layer: tuple[Border, ...]
    left_out: str
    """Pattern of tensors that are no weights: tables that older versions saved as well."""
    fixed: Mapping[str, tuple[object, ...]]
    """Field -> values under which the computation is the one done here; the first one is the default."""


def _linear(theirs: str, *ours: str, bias: bool, transposed: bool = False) -> tuple[Border, ...]:
    borders = [Border(f"{theirs}.weight", tuple(f"{name}.weight" for name in ours), transposed)]
    if bias:
        borders.append(Border(f"{theirs}.bias", tuple(f"{name}.bias" for name in ours)))
    return tuple(borders)


_ATTENTION = "layers.{}.attention"
_MLP = "layers.{}.mlp"
# Fields of every family.
_NEVER: dict[str, tuple[object, ...]] = {
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "quantization_config": (None,),
    "pruned_heads": (None, {}),
}

GPT2 = Family(
    model_type="gpt2",
    architecture="GPT2LMHeadModel",
    prefix="transformer.",
    body=(
        Border("wte.weight", ("embedding.weight",)),
        Border("wpe.weight", ("position_embedding.weight",)),
        *_linear("ln_f", "final_norm", bias=True),
    ),
    layer=(
        *_linear("h.{}.ln_1", "layers.{}.attention_norm", bias=True),
        *_linear(
            "h.{}.attn.c_attn",
            f"{_ATTENTION}.to_query",
            f"{_ATTENTION}.to_key",
            f"{_ATTENTION}.to_value",
            bias=True,
            transposed=True,
        ),
        *_linear("h.{}.attn.c_proj", f"{_ATTENTION}.to_output", bias=True, transposed=True),
        *_linear("h.{}.ln_2", "layers.{}.mlp_norm", bias=True),
        *_linear("h.{}.mlp.c_fc", f"{_MLP}.to_hidden", bias=True, transposed=True),
        *_linear("h.{}.mlp.c_proj", f"{_MLP}.to_output", bias=True, transposed=True),
    ),
    left_out=r"h\.\d+\.attn\.(masked_)?bias",
    fixed={
        **_NEVER,
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "reorder_and_upcast_attn": (False,),
    },
)

LLAMA = Family(
    model_type="llama",
    architecture="LlamaForCausalLM",
    prefix="model.",
    body=(
        Border("embed_tokens.weight", ("embedding.weight",)),
        Border("norm.weight", ("final_norm.weight",)),
    ),
    layer=(
        *_linear("layers.{}.input_layernorm", "layers.{}.attention_norm", bias=False),
        *_linear("layers.{}.self_attn.q_proj", f"{_ATTENTION}.to_query", bias=False),
        *_linear("layers.{}.self_attn.k_proj", f"{_ATTENTION}.to_key", bias=False),
        *_linear("layers.{}.self_attn.v_proj", f"{_ATTENTION}.to_value", bias=False),
        *_linear("layers.{}.self_attn.o_proj", f"{_ATTENTION}.to_output", bias=False),
        *_linear("layers.{}.post_attention_layernorm", "layers.{}.mlp_norm", bias=False),
        *_linear("layers.{}.mlp.gate_proj", f"{_MLP}.to_gate", bias=False),
        *_linear("layers.{}.mlp.up_proj", f"{_MLP}.to_hidden", bias=False),
        *_linear("layers.{}.mlp.down_proj", f"{_MLP}.to_output", bias=False),
    ),
    left_out=r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",
    fixed={
        **_NEVER,
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "hidden_act": ("silu", "swish"),
        "pretraining_tp": (1, None),
        "partial_rotary_factor": (1.0, None),
    },
)

FAMILIES = {family.model_type: family for family in (GPT2, LLAMA)}
HEAD = "lm_head.weight"
_ACTIVATIONS: dict[str, Activation] = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}


def config_from(data: Mapping[str, Any], stop_ids: tuple[int, ...], where: str) -> tuple[Family, ModelConfig]:
    """The family and the shape that a config.json states.

    Raises:
        ModelError: another family, remote code, a field missing or malformed, or one that this model does not compute.
    """
    if "auto_map" in data:
        raise ModelError(
            f"{where} has auto_map, so it wants its own code to be run. guiju never runs code out of a model"
        )
    family = FAMILIES.get(str(data.get("model_type")))
    if family is None:
        raise ModelError(
            f"{where}: model_type is {data.get('model_type')!r}; this version reads {' and '.join(FAMILIES)} models"
        )
    for name, allowed in family.fixed.items():
        if data.get(name, allowed[0]) not in allowed:
            raise ModelError(
                f"{where}: {name} is {data[name]!r}, which would change what the model computes; "
                f"this version computes {name} = {allowed[0]!r} only"
            )
    read = _Fields(data, where)
    try:
        config = _gpt2_shape(read, stop_ids) if family is GPT2 else _llama_shape(read, stop_ids)
    except ConfigError as problem:
        raise ModelError(f"{where} states a shape that cannot be: {problem}") from None
    return family, config


def config_for(config: ModelConfig) -> tuple[Family, dict[str, object]]:
    """The family that a shape belongs to, and its config.json without token ids.

    Raises:
        ModelError: the shape is neither GPT-2's nor Llama's, so that no published name fits it.
    """
    sizes = {"vocab_size": config.vocab_size, "tie_word_embeddings": config.tied, "dtype": "float32"}
    if config.positions == "learned":
        _require_shape(config, "GPT-2's", norm="layer", bias=True, kv_heads=config.heads)
        _require_shape(config, "GPT-2's", head_width=config.width // config.heads)
        if config.activation == "swiglu":
            raise ModelError("model.activation is swiglu, which GPT-2's shape (learned positions) does not have")
        return GPT2, {
            **sizes,
            "n_positions": config.context,
            "n_embd": config.width,
            "n_layer": config.layers,
            "n_head": config.heads,
            "n_inner": config.hidden,
            "activation_function": "gelu_new" if config.activation == "gelu_tanh" else "gelu",
            "layer_norm_epsilon": config.norm_epsilon,
            "resid_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
        }
    _require_shape(config, "Llama's", norm="rms", bias=False, activation="swiglu")
    return LLAMA, {
        **sizes,
        "max_position_embeddings": config.context,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.hidden,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rotary_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rotary_base},
        "attention_bias": False,
        "attention_dropout": config.dropout,
        "mlp_bias": False,
    }


def _require_shape(config: ModelConfig, whose: str, **wanted: object) -> None:
    for name, value in wanted.items():
        if getattr(config, name) != value:
            raise ModelError(
                f"model.{name} is {getattr(config, name)!r}, but {whose} shape, which {config.positions} positions "
                f"belong to, has {value!r}: no published format describes this mixture, so it cannot be written as one"
            )


class _Fields:
    """A config.json, read field by field with its type checked."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data, self.where = data, where

    def whole(self, name: str, default: int | None = None) -> int:
        value = self.data.get(name)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"{self.where}: {name} is {value!r}; it must be a whole number of at least 1")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.data.get(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ModelError(f"{self.where}: {name} is {value!r}; it must be a number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.data.get(name, default)
        if not isinstance(value, bool):
            raise ModelError(f"{self.where}: {name} is {value!r}; it must be true or false")
        return value


# Dropout steers training alone, so a model read from a folder has none: a recipe says how it is trained on.
def _gpt2_shape(read: _Fields, stop_ids: tuple[int, ...]) -> ModelConfig:
    width = read.whole("n_embd", 768)
    activation = read.data.get("activation_function", "gelu_new")
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        known = ", ".join(_ACTIVATIONS)
        raise ModelError(f"{read.where}: activation_function is {activation!r}; this version computes {known}")
    return gpt2_config(
        vocab_size=read.whole("vocab_size", 50257),
        context=read.whole("n_positions", 1024),
        width=width,
        layers=read.whole("n_layer", 12),
        heads=read.whole("n_head", 12),
        hidden=read.whole("n_inner", 4 * width),
        activation=_ACTIVATIONS[activation],
        tied=read.flag("tie_word_embeddings", True),
        norm_epsilon=read.number("layer_norm_epsilon", 1e-5),
        stop_ids=stop_ids,
    )


def _llama_shape(read: _Fields, stop_ids: tuple[int, ...]) -> ModelConfig:
    width, heads = read.whole("hidden_size", 4096), read.whole("num_attention_heads", 32)
    return llama_config(
        vocab_size=read.whole("vocab_size", 32000),
        context=read.whole("max_position_embeddings", 2048),
        width=width,
        layers=read.whole("num_hidden_layers", 32),
        heads=heads,
        kv_heads=read.whole("num_key_value_heads", heads),
        head_width=read.whole("head_dim", max(1, width // heads)),
        hidden=read.whole("intermediate_size", 11008),
        tied=read.flag("tie_word_embeddings", False),
        norm_epsilon=read.number("rms_norm_eps", 1e-6),
        rotary_base=_rotary_base(read),
        stop_ids=stop_ids,
    )


def _rotary_base(read: _Fields) -> float:
    """Out of rope_theta (transformers 4) or rope_parameters (5); any other kind of rotary positions is refused."""
    bases = {read.number("rope_theta", 10000.0)} if read.data.get("rope_theta") is not None else set()
    for field in ("rope_parameters", "rope_scaling"):
        given = read.data.get(field)
        if given is None:
            continue
        if not isinstance(given, dict):
            raise ModelError(f"{read.where}: {field} is {given!r}; it must be an object or null")
        for name, value in given.items():
            if name == "rope_theta":
                bases.add(_Fields(given, f"{read.where}, {field}").number(name, 0.0))
            elif (name, value) not in (("rope_type", "default"), ("type", "default"), ("partial_rotary_factor", 1.0)):
                raise ModelError(
                    f"{read.where}: {field} has {name} = {value!r}; this version computes rotary positions of "
                    f'rope_type "default" only'
                )
    if len(bases) > 1:
        raise ModelError(f"{read.where} states several values of rope_theta: {', '.join(map(str, sorted(bases)))}")
    return bases.pop() if bases else 10000.0
