from __future__ import annotations

import dataclasses

import pytest

from guiju.errors import ConfigError
from guiju.model import ModelSettings, Transformer, gpt2_config, llama_config
from guiju.settings import from_mapping, to_mapping


def test_gpt2s_shape_has_gpt2s_number_of_parameters():
    import torch

    with torch.device("meta"):
        model = Transformer(gpt2_config(vocab_size=50257))
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808  # Hugging Face's count


def test_llamas_shape_has_llama_2_7bs_number_of_parameters():
    import torch

    config = llama_config(vocab_size=32000, context=4096, width=4096, layers=32, heads=32, hidden=11008)
    with torch.device("meta"):
        model = Transformer(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == 6_738_415_616


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": 0}, r"model\.layers is 0"),
        ({"width": 30}, r"model\.width is 30.*heads, which is 4"),
        ({"heads": 0}, r"model\.heads is 0"),
        ({"shape": "llama", "kv_heads": 3}, r"model\.kv_heads is 3; it must divide"),
        ({"kv_heads": 2}, r"model\.kv_heads is 2, but model\.shape is gpt2"),
        ({"shape": "llama", "head_width": 3}, r"model\.head_width is 3.*even"),
        ({"dropout": 1.0}, r"model\.dropout is 1\.0"),
        ({"dropout": float("nan")}, r"model\.dropout is nan"),
        ({"norm_epsilon": 0.0}, r"model\.norm_epsilon"),
        ({"shape": "llama", "rotary_base": float("inf")}, r"model\.rotary_base is inf"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_when_the_recipe_is_read(change, message):
    with pytest.raises(ConfigError, match=message):
        ModelSettings(**{"shape": "gpt2", "width": 32, "heads": 4, **change})


def test_an_unknown_shape_is_refused():
    with pytest.raises(ConfigError, match="mamba"):
        from_mapping(ModelSettings, {"shape": "mamba"}, "model")


def test_settings_survive_the_way_through_a_recipe():
    settings = ModelSettings(shape="llama", width=64, heads=8, kv_heads=2, tied=True)
    assert from_mapping(ModelSettings, to_mapping(settings)) == settings
    config = settings.config(vocab_size=300)
    assert (config.kv_heads, config.hidden, config.tied, config.head_width) == (2, 192, True, 8)


def test_an_id_beyond_the_vocabulary_cannot_end_a_text():
    with pytest.raises(ConfigError, match=r"stop_ids holds 97"):
        dataclasses.replace(gpt2_config(vocab_size=97, width=32, heads=4), stop_ids=(97,))
