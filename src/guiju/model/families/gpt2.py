"""GPT-2 (Radford et al. 2019), as transformers keeps it."""

from __future__ import annotations

from guiju.model.config import Head, ModelConfig
from guiju.model.families.border import (
    DECODER_ONLY,
    OTHER_HEADS,
    Border,
    Family,
    Fields,
    Tensors,
    activation_name,
    decoder_head,
    for_layers,
    label_fields,
    linear,
    with_decoder_head,
)
from guiju.model.presets import gpt2_config

_ATTENTION = "layers.{}.attention"
_MLP = "layers.{}.mlp"


def _tensors(config: ModelConfig) -> Tensors:
    layers = for_layers(
        config.layers,
        linear("h.{}.ln_1", "layers.{}.attention_norm", bias=True),
        linear(
            "h.{}.attn.c_attn",
            f"{_ATTENTION}.to_query",
            f"{_ATTENTION}.to_key",
            f"{_ATTENTION}.to_value",
            bias=True,
            form="transposed",
        ),
        linear("h.{}.attn.c_proj", f"{_ATTENTION}.to_output", bias=True, form="transposed"),
        linear("h.{}.ln_2", "layers.{}.mlp_norm", bias=True),
        linear("h.{}.mlp.c_fc", f"{_MLP}.to_hidden", bias=True, form="transposed"),
        linear("h.{}.mlp.c_proj", f"{_MLP}.to_output", bias=True, form="transposed"),
    )
    return Tensors(
        body=(
            Border("wte.weight", ("embedding.weight",)),
            Border("wpe.weight", ("position_embedding.weight",)),
            *layers,
            *linear("ln_f", "final_norm", bias=True),
        ),
        head=decoder_head(config),
        copies={"lm_head.weight": "wte.weight"} if config.tied else {},
    )


# Dropout steers training alone, so a model read from a folder has none: a recipe says how it is trained on.
def _read(given: Fields, head: Head) -> ModelConfig:
    width = given.whole("n_embd", 768)
    config = gpt2_config(
        vocab_size=given.whole("vocab_size", 50257),
        context=given.whole("n_positions", 1024),
        width=width,
        layers=given.whole("n_layer", 12),
        heads=given.whole("n_head", 12),
        hidden=given.whole("n_inner", 4 * width),
        activation=given.activation("activation_function", "gelu_new"),
        tied=given.flag("tie_word_embeddings", True),
        norm_epsilon=given.number("layer_norm_epsilon", 1e-5),
    )
    return with_decoder_head(config, given, head)


def _write(config: ModelConfig) -> dict[str, object]:
    return {
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied,
        "n_positions": config.context,
        "n_embd": config.width,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.hidden,
        "activation_function": activation_name(config.activation),
        "layer_norm_epsilon": config.norm_epsilon,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        **label_fields(config),
    }


def _also_required(config: ModelConfig) -> str | None:
    if config.kv_heads != config.heads:
        return f"model.kv_heads is {config.kv_heads}, but gpt2 has as many as heads, {config.heads}"
    if config.head_width * config.heads != config.width:
        return f"model.head_width is {config.head_width}, but gpt2 has model.width / model.heads"
    return None


GPT2 = Family(
    model_type="gpt2",
    heads={
        "GPT2LMHeadModel": "vocabulary",
        "GPT2Model": "vocabulary",
        "GPT2ForSequenceClassification": "classes",
    },
    default="GPT2LMHeadModel",
    prefix="transformer.",
    fixed={
        **DECODER_ONLY,
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "reorder_and_upcast_attn": (False,),
    },
    required={
        "positions": ("learned",),
        "norm": ("layer",),
        "activation": ("gelu_tanh", "gelu", "relu", "silu"),
        "bias": (True,),
        "head": ("vocabulary", "classes"),
    },
    free=frozenset({"kv_heads", "head_width", "tied", "norm_epsilon", "labels"}),
    also_required=_also_required,
    read=_read,
    write=_write,
    tensors=_tensors,
    left_out=rf"h\.\d+\.attn\.(masked_)?bias|{OTHER_HEADS}",
)
