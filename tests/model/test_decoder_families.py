"""Decoders: every family's logits and greedy tokens are those of transformers, in both directions."""

from __future__ import annotations

import pytest
import torch
import transformers
from foreign_models import CONTEXT, VOCABULARY, edit, ids, made, padding, saved

from guiju.errors import ModelError
from guiju.model import Transformer, build_model, load_model, save_model

GPT2 = {"vocab_size": VOCABULARY, "n_positions": CONTEXT, "n_embd": 32, "n_layer": 3, "n_head": 4}
LLAMA = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 20,  # so that some turns are fast, some slow and some between
}
WINDOW = {"use_sliding_window": True, "sliding_window": 5}
THEIRS = {
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "gpt2 relu": ("GPT2LMHeadModel", {**GPT2, "activation_function": "relu"}),
    "llama 3": ("LlamaForCausalLM", {**LLAMA, "rope_parameters": LLAMA3}),
    "llama linear": (
        "LlamaForCausalLM",
        {**LLAMA, "rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.5}},
    ),
    "mistral": ("MistralForCausalLM", {**LLAMA, "sliding_window": 5}),
    "mistral without window": ("MistralForCausalLM", {**LLAMA, "sliding_window": None, "head_dim": 16}),
    "qwen2": ("Qwen2ForCausalLM", LLAMA),
    "qwen2 window": ("Qwen2ForCausalLM", {**LLAMA, **WINDOW, "max_window_layers": 1}),
    "qwen2 window everywhere, tied": (
        "Qwen2ForCausalLM",
        {**LLAMA, **WINDOW, "max_window_layers": 0, "tie_word_embeddings": True},
    ),
    "qwen2 window nowhere": ("Qwen2ForCausalLM", {**LLAMA, **WINDOW, "max_window_layers": 3}),
    "qwen3": ("Qwen3ForCausalLM", {**LLAMA, "head_dim": 16, "tie_word_embeddings": True}),
    "qwen3 window": ("Qwen3ForCausalLM", {**LLAMA, **WINDOW, "head_dim": 16, "max_window_layers": 2}),
    "phi3": ("Phi3ForCausalLM", LLAMA),
    "phi3 window, partly rotary": (
        "Phi3ForCausalLM",
        {
            **LLAMA,
            "sliding_window": 5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 300.0, "partial_rotary_factor": 0.5},
        },
    ),
}


def _open(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def _require_equal(ours: Transformer, theirs) -> None:
    """Logits of whole rows, of rows padded on either side, and greedy tokens by the cache."""
    rows = ids()
    with torch.no_grad():
        expected = theirs(rows).logits
        assert expected.std() > 0.3  # or else any two models would be near each other
        assert (ours(rows) - expected).abs().max() <= 1e-4
        for left in (False, True):
            real = padding([24, 17, 6], 24, left)
            places = (real.cumsum(1) - 1).clamp(min=0)
            expected = theirs(rows, attention_mask=real.long(), position_ids=places).logits
            assert (ours(rows, padding=real) - expected)[real].abs().max() <= 1e-4
        row = rows[:1, :8]
        expected = theirs.generate(
            row,
            attention_mask=torch.ones_like(row),
            do_sample=False,
            max_new_tokens=40,
            eos_token_id=None,
            pad_token_id=0,
        )
        cache = ours.new_cache()
        for _ in range(40):
            row = torch.cat([row, ours(row[:, cache.length :], cache)[:, -1:].argmax(-1)], dim=1)
    assert row.tolist() == expected.tolist()


@pytest.mark.parametrize("name", THEIRS)
def test_a_decoder_goes_in_and_out_with_equal_logits_and_tokens(name, tmp_path):
    theirs = made(*THEIRS[name])
    ours = load_model(saved(theirs, tmp_path / "theirs"))
    _require_equal(ours, theirs)
    save_model(ours, tmp_path / "ours")
    again = _open(tmp_path / "ours")
    as_llama = name in ("mistral without window", "phi3")  # the same computation, written by its first name
    assert type(again).__name__ == ("LlamaForCausalLM" if as_llama else THEIRS[name][0])
    _require_equal(ours, again)
    assert load_model(tmp_path / "ours").config == ours.config


@pytest.mark.parametrize("name", ["llama 3", "phi3 window, partly rotary"])
def test_rotary_fields_as_transformers_4_wrote_them_mean_the_same(name, tmp_path):
    theirs = made(*THEIRS[name])
    folder = saved(theirs, tmp_path)
    parameters = dict(theirs.config.rope_parameters)
    base, share = parameters.pop("rope_theta"), parameters.pop("partial_rotary_factor", None)
    edit(
        folder,
        rope_parameters=None,
        rope_theta=base,
        partial_rotary_factor=share,
        rope_scaling=None if parameters["rope_type"] == "default" else parameters,
    )
    _require_equal(load_model(folder), theirs)


@pytest.mark.parametrize(("name", "fields", "message"), [
    ("llama 3", {"rope_parameters": {**LLAMA3, "rope_type": "yarn"}}, r"rope_type is 'yarn'.*default, linear, llama3"),
    ("llama 3", {"rope_parameters": {**LLAMA3, "beta_fast": 3}}, r"beta_fast is 3; .* type llama3 have no such field"),
    ("llama 3", {"rope_parameters": {**LLAMA3, "factor": "8"}}, r"rope_parameters: factor is '8'"),
    ("llama 3", {"rope_parameters": {**LLAMA3, "low_freq_factor": 9}}, r"low is 9\.0; it must be less than high"),
    ("llama 3", {"rope_scaling": {"type": "linear", "factor": 2.0}}, r"several values of rope_scaling"),
    ("llama 3", {"rope_scaling": 3}, r"rope_scaling is 3; it must be an object or null"),
    ("llama 3", {"partial_rotary_factor": 0.5}, r"partial_rotary_factor is 0\.5"),
    ("llama 3", {"attention_bias": True}, r"attention_bias is True"),
    ("llama 3", {"architectures": ["LlamaForTokenClassification"]}, r"architectures is .*LlamaForCausalLM"),
    ("llama 3", {"is_causal": False}, r"is_causal is False"),
    ("llama 3", {"sliding_window": 5}, r"sliding_window is 5"),
    ("llama 3", {"layer_types": ["full_attention"] * 3}, r"layer_types is "),
    ("llama 3", {"per_layer_config": {"0": {"hidden_size": 3}}}, r"per_layer_config is "),
    ("llama 3", {"text_config": {"hidden_size": 3}}, r"text_config is "),
    ("gpt2", {"is_causal": None}, r"is_causal is None"),
    ("gpt2", {"attention_chunk_size": 8}, r"attention_chunk_size is 8"),
    ("qwen2", {"is_causal": False}, r"is_causal is False"),
    ("mistral", {"layer_types": ["full_attention"] * 3}, r"layer_types is "),
    ("mistral", {"sliding_window": 0}, r"sliding_window is 0"),
    ("mistral", {"sliding_window": 5.0}, r"sliding_window is 5\.0"),
    ("mistral", {"hidden_act": "gelu"}, r"hidden_act is 'gelu'"),
    ("qwen2", {"layer_types": ["sliding_attention"] * 3}, r"layer_types is .*no sliding_window is used"),
    ("qwen2", {"layer_types": ["full_attention"] * 2}, r"layer_types is .*computes 3 of them"),
    ("qwen2 window", {"layer_types": ["sliding_attention"] + ["full_attention"] * 2}, r"full_attention first"),
    ("qwen2 window", {"use_sliding_window": "yes"}, r"use_sliding_window is 'yes'"),
    ("qwen3", {"attention_bias": True}, r"attention_bias is True"),
    ("phi3", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, r"rope_type is 'longrope'"),
    ("phi3", {"rope_scaling": {"type": "su", "short_factor": [1]}}, r"type is 'su'"),
    ("phi3", {"num_key_value_heads": 4}, r"qkv_proj\.weight has shape \(64, 32\), but by config\.json .* \(96, 32\)"),
])  # fmt: skip
def test_a_field_that_is_not_computed_here_is_refused_by_name(name, fields, message, tmp_path):
    folder = saved(made(*THEIRS[name]), tmp_path)
    edit(folder, **fields)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_a_window_makes_a_difference(tmp_path):
    theirs = made(*THEIRS["mistral"])
    ours = load_model(saved(theirs, tmp_path))
    edit(tmp_path, sliding_window=None)
    free = load_model(tmp_path)
    rows = ids()
    torch.testing.assert_close(ours(rows)[:, :5], free(rows)[:, :5], atol=1e-5, rtol=0)
    assert (ours(rows)[:, 5:] - free(rows)[:, 5:]).abs().amax((0, 2)).min() > 1e-3


@pytest.mark.parametrize("name", ["mistral", "qwen2 window"])
def test_a_prompt_read_in_pieces_longer_than_the_window_equals_one_pass(name, tmp_path):
    ours = load_model(saved(made(*THEIRS[name]), tmp_path))
    rows, cache = ids(), ours.new_cache(batch=3)
    parts = [ours(part, cache) for part in rows.split([2, 9, 1, 1, 11], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), ours(rows), atol=1e-5, rtol=0)


def test_mixtures_that_no_family_has_are_not_written(tmp_path):
    import dataclasses

    config = load_model(saved(made(*THEIRS["qwen2"]), tmp_path)).config
    for change in ({"norm": "layer"}, {"query_key_norm": True}, {"rotary_share": 0.5}, {"logits_bias": True}):
        mixed = dataclasses.replace(config, **change)
        with pytest.raises(ModelError, match=rf"model\.{next(iter(change))} is .*no published format"):
            save_model(build_model(mixed), tmp_path / "out")
    assert not (tmp_path / "out").exists()
