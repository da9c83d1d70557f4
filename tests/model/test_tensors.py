"""A tensor that is missing, one too many or misshapen is named, in every family."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
from foreign_models import VOCABULARY, lively

from guiju.errors import ModelError
from guiju.model import (
    ModelConfig,
    bart_config,
    bert_config,
    gpt2_config,
    llama_config,
    load_model,
    save_model,
    t5_config,
    transformer_config,
)

SMALL = {"vocab_size": VOCABULARY, "context": 24, "width": 16, "heads": 2, "layers": 1}
FAMILIES: dict[str, tuple[str, ModelConfig]] = {
    "gpt2": ("gpt2", gpt2_config(**SMALL)),
    "gpt2 untied": ("gpt2", gpt2_config(**SMALL, tied=False)),
    "llama": ("llama", llama_config(**SMALL)),
    "mistral": ("mistral", llama_config(**SMALL, window=4)),
    "qwen2": ("qwen2", llama_config(**SMALL, qkv_bias=True)),
    "qwen3": ("qwen3", llama_config(**SMALL, query_key_norm=True, tied=True)),
    "phi3": ("phi3", llama_config(**SMALL, rotary_share=0.5)),
    "bert": ("bert", bert_config(**SMALL)),
    "bert classes": ("bert", bert_config(**SMALL, head="classes", labels=("a", "b"))),
    "roberta": ("roberta", bert_config(**SMALL, position_offset=2, head="classes", labels=("a", "b"))),
    "roberta span": ("roberta", bert_config(**SMALL, position_offset=2, head="span")),
    "marian": ("marian", transformer_config(**SMALL, logits_bias=True)),
    "pegasus": ("pegasus", transformer_config(**SMALL, norm_place="before")),
    "bart": ("bart", bart_config(**SMALL)),
    "t5": ("t5", t5_config(**SMALL)),
    "t5 1.1": ("t5", t5_config(**SMALL, activation="geglu_tanh", tied=False)),
}
MAY_BE_MISSING = {"final_logits_bias", "model.encoder.embed_positions.weight", "model.decoder.embed_positions.weight"}
"""Zero, or computed, where they are: in transformers too."""


@pytest.fixture(params=FAMILIES)
def saved(request, tmp_path):
    """(folder, its tensors)"""
    family, config = FAMILIES[request.param]
    save_model(lively(config), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == family
    return tmp_path, safetensors.torch.load_file(tmp_path / "model.safetensors")


def _require_refusal(folder, tensors, message):
    safetensors.torch.save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError) as refusal:
        load_model(folder)
    for part in message:
        assert part in str(refusal.value)


def test_every_tensor_that_is_missing_is_named(saved):
    folder, tensors = saved
    optional = (
        MAY_BE_MISSING if "model.decoder.embed_positions.weight" not in _needed(folder) else {"final_logits_bias"}
    )
    for name in tensors:
        rest = {other: tensor for other, tensor in tensors.items() if other != name}
        if name in optional:
            safetensors.torch.save_file(rest, folder / "model.safetensors")
            load_model(folder)
        else:
            _require_refusal(folder, rest, (f"tensor {name} of shape {tuple(tensors[name].shape)} is missing",))


def _needed(folder):
    """BART's positions are learned, and may not be missing; Pegasus' are computed."""
    learned = json.loads((folder / "config.json").read_text())["model_type"] == "bart"
    return {"model.decoder.embed_positions.weight"} if learned else set()


def test_every_tensor_that_is_misshapen_is_named_with_both_shapes(saved):
    folder, tensors = saved
    for name, tensor in tensors.items():
        if name in MAY_BE_MISSING - _needed(folder):
            continue
        wrong = torch.zeros(*tensor.shape[:-1], tensor.shape[-1] + 1)
        if name == "shared.weight" and "lm_head.weight" in tensors:
            continue  # the two are compared first, and the head is then one of its own: see below
        _require_refusal(folder, {**tensors, name: wrong}, (name, str(tuple(wrong.shape)), str(tuple(tensor.shape))))


def test_a_tensor_too_many_is_named(saved):
    folder, tensors = saved
    layer = next(name for name in sorted(tensors) if ".0." in name)
    for extra in (layer.replace(".0.", ".7.", 1), "surprise.weight"):
        _require_refusal(folder, {**tensors, extra: torch.zeros(3)}, (f"tensor {extra} of shape (3,) has no place",))
