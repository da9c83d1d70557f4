"""BERT (arXiv:1810.04805) and RoBERTa (arXiv:1907.11692): encoders, with the heads that transformers has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from guiju.model.config import Head, ModelConfig
from guiju.model.families.border import (
    NEVER,
    Border,
    Family,
    Fields,
    Held,
    Tensors,
    activation_name,
    for_layers,
    label_fields,
    linear,
)
from guiju.model.presets import bert_config

_ATTENTION = "layers.{}.attention"
_THEIRS = "encoder.layer.{}"
_WORDS = "embeddings.word_embeddings.weight"


def _body(config: ModelConfig) -> tuple[Border, ...]:
    layers = for_layers(
        config.layers,
        linear(f"{_THEIRS}.attention.self.query", f"{_ATTENTION}.to_query", bias=True),
        linear(f"{_THEIRS}.attention.self.key", f"{_ATTENTION}.to_key", bias=True),
        linear(f"{_THEIRS}.attention.self.value", f"{_ATTENTION}.to_value", bias=True),
        linear(f"{_THEIRS}.attention.output.dense", f"{_ATTENTION}.to_output", bias=True),
        linear(f"{_THEIRS}.attention.output.LayerNorm", "layers.{}.attention_norm", bias=True),
        linear(f"{_THEIRS}.intermediate.dense", "layers.{}.mlp.to_hidden", bias=True),
        linear(f"{_THEIRS}.output.dense", "layers.{}.mlp.to_output", bias=True),
        linear(f"{_THEIRS}.output.LayerNorm", "layers.{}.mlp_norm", bias=True),
    )
    return (
        Border(_WORDS, ("embedding.weight",)),
        Border("embeddings.position_embeddings.weight", ("position_embedding.weight",)),
        Border("embeddings.token_type_embeddings.weight", ("segment_embedding.weight",)),
        *linear("embeddings.LayerNorm", "embedding_norm", bias=True),
        *layers,
    )


def _bert_tensors(config: ModelConfig) -> Tensors:
    pooler = linear("pooler.dense", "pooler", bias=True) if config.pooler else ()
    if config.head == "vocabulary":
        head = (
            *linear("cls.predictions.transform.dense", "transform", bias=True),
            *linear("cls.predictions.transform.LayerNorm", "transform_norm", bias=True),
            Border("cls.predictions.bias", ("logits_bias",)),
        )
        copies = {"cls.predictions.decoder.weight": _WORDS, "cls.predictions.decoder.bias": "cls.predictions.bias"}
        return Tensors((*_body(config), *pooler), head, copies)
    return Tensors((*_body(config), *pooler), _HEADS[config.head])


def _roberta_tensors(config: ModelConfig) -> Tensors:
    if config.head == "vocabulary":
        head = (
            *linear("lm_head.dense", "transform", bias=True),
            *linear("lm_head.layer_norm", "transform_norm", bias=True),
            Border("lm_head.bias", ("logits_bias",)),
        )
        copies = {"lm_head.decoder.weight": _WORDS, "lm_head.decoder.bias": "lm_head.bias"}
        return Tensors(_body(config), head, copies)
    if config.head == "classes":  # BERT's pooler and classifier, by other names
        head = linear("classifier.dense", "pooler", bias=True) + linear("classifier.out_proj", "to_labels", bias=True)
        return Tensors(_body(config), head)
    pooler = linear("pooler.dense", "pooler", bias=True) if config.pooler else ()
    return Tensors((*_body(config), *pooler), _HEADS[config.head])


_HEADS: dict[Head, tuple[Border, ...]] = {
    "none": (),
    "classes": linear("classifier", "to_labels", bias=True),
    "token_classes": linear("classifier", "to_labels", bias=True),
    "span": linear("qa_outputs", "to_span", bias=True),
}


# Dropout steers training alone, so a model read from a folder has none: a recipe says how it is trained on.
def _read(given: Fields, head: Head, own: Callable[[Fields, Head], dict[str, Any]]) -> ModelConfig:
    """What both have in common; `own` gives what the family alone has, with the table's rows as `rows`."""
    if head == "vocabulary" and not given.flag("tie_word_embeddings", True):
        raise given.refuse("tie_word_embeddings", "this version computes a head that is the embedding itself")
    if head == "span" and len(given.labels(2)) != 2:
        raise given.refuse("id2label", "a span has two logits, of its first and of its last token")
    fields = own(given, head)
    rows = given.whole("max_position_embeddings", 512)
    return bert_config(
        context=rows - fields.get("position_offset", 0),
        width=given.whole("hidden_size", 768),
        layers=given.whole("num_hidden_layers", 12),
        heads=given.whole("num_attention_heads", 12),
        hidden=given.whole("intermediate_size", 3072),
        activation=given.activation("hidden_act", "gelu"),
        segments=given.whole("type_vocab_size", 2),
        head=head,
        labels=given.labels(2) if head in ("classes", "token_classes") else (),
        norm_epsilon=given.number("layer_norm_eps", 1e-12),
        **fields,
    )


def _bert_own(given: Fields, head: Head) -> dict[str, Any]:
    vocab_size = given.whole("vocab_size", 30522)
    return {"vocab_size": vocab_size, "pad_id": given.id("pad_token_id", 0, vocab_size)}


def _roberta_own(given: Fields, head: Head) -> dict[str, Any]:
    vocab_size = given.whole("vocab_size", 50265)
    pad_id = given.id("pad_token_id", 1, vocab_size)
    if pad_id is None:
        raise given.refuse("pad_token_id", "roberta counts positions from the one after it")
    if head == "vocabulary" and given.activation("hidden_act", "gelu") != "gelu":
        raise given.refuse("hidden_act", "roberta's head has gelu whatever its layers have; this version computes one")
    return {"vocab_size": vocab_size, "pad_id": pad_id, "position_offset": pad_id + 1}


def _with_pooler(config: ModelConfig, held: Held) -> ModelConfig:
    """A body was saved with its pooler, or without."""
    return replace(config, pooler="pooler.dense.weight" in held) if config.head == "none" else config


def _write(config: ModelConfig, own: Callable[[ModelConfig], dict[str, object]]) -> dict[str, object]:
    return {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context + config.position_offset,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden,
        "hidden_act": activation_name(config.activation),
        "type_vocab_size": config.segments,
        "layer_norm_eps": config.norm_epsilon,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "tie_word_embeddings": True,
        **label_fields(config),
        **own(config),
    }


def _also_required(config: ModelConfig) -> str | None:
    if config.kv_heads != config.heads:
        return f"model.kv_heads is {config.kv_heads}, but bert has as many as heads, {config.heads}"
    if config.head_width * config.heads != config.width:
        return f"model.head_width is {config.head_width}, but bert has model.width / model.heads"
    if config.segments < 1:
        return f"model.segments is {config.segments}, but bert has at least 1"
    vocabulary = config.head == "vocabulary"
    for name in ("tied", "head_transform", "logits_bias"):
        if getattr(config, name) != vocabulary:
            return f"model.{name} is {getattr(config, name)}, but bert has {vocabulary} with a head {config.head!r}"
    if config.pooler and config.head not in ("none", "classes"):
        return f"model.pooler is True, but bert has none beside a head {config.head!r}"
    return None


def _roberta_required(config: ModelConfig) -> str | None:
    if config.position_offset < 1 or config.pad_id not in (None, config.position_offset - 1):
        return (
            f"model.position_offset is {config.position_offset}, but roberta has model.pad_id + 1, and pad_id is "
            f"{config.pad_id}"
        )
    if config.head == "vocabulary" and config.activation != "gelu":
        return f"model.activation is {config.activation!r}, but roberta's head has 'gelu'"
    return _also_required(config)


def _family(
    model_type: str,
    name: str,
    tensors: Callable[[ModelConfig], Tensors],
    own: Callable[[Fields, Head], dict[str, Any]],
    also_required: Callable[[ModelConfig], str | None],
    left_out: str,
    more_heads: Mapping[str, Head] | None = None,
    free: tuple[str, ...] = (),
    write: Callable[[ModelConfig], dict[str, object]] = lambda config: {},
) -> Family:
    return Family(
        model_type=model_type,
        heads={
            f"{name}ForMaskedLM": "vocabulary",
            f"{name}Model": "none",
            f"{name}ForSequenceClassification": "classes",
            f"{name}ForTokenClassification": "token_classes",
            f"{name}ForQuestionAnswering": "span",
            **(more_heads or {}),
        },
        default=f"{name}Model",
        prefix=f"{model_type}.",
        fixed={
            **NEVER,
            "is_encoder_decoder": (False,),
            "add_cross_attention": (False,),
            "is_decoder": (False,),
            "position_embedding_type": ("absolute", None),
        },
        required={
            "kind": ("encoder",),
            "positions": ("learned",),
            "norm": ("layer",),
            "norm_place": ("after",),
            "embedding_norm": (True,),
            "activation": ("gelu", "gelu_tanh", "relu", "silu"),
            "bias": (True,),
            "head": ("vocabulary", "none", "classes", "token_classes", "span"),
        },
        free=frozenset(
            {"kv_heads", "head_width", "segments", "tied", "head_transform", "logits_bias", "pooler", "labels"}
            | {"norm_epsilon", *free}
        ),
        also_required=also_required,
        read=partial(_read, own=own),
        write=partial(_write, own=write),
        tensors=tensors,
        settle=_with_pooler,
        left_out=rf"embeddings\.position_ids|pooler\.dense\.(weight|bias)|{left_out}",
        older={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
    )


BERT = _family(
    "bert",
    "Bert",
    _bert_tensors,
    _bert_own,
    _also_required,
    left_out=r"cls\.seq_relationship\.(weight|bias)|cls\.predictions\..*",  # heads that the class named does not have
    more_heads={"BertForPreTraining": "vocabulary"},
)
ROBERTA = _family(
    "roberta",
    "Roberta",
    _roberta_tensors,
    _roberta_own,
    _roberta_required,
    left_out=r"lm_head\..*",
    free=("position_offset",),
    write=lambda config: {"pad_token_id": config.position_offset - 1},
)
