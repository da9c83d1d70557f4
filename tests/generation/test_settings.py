from __future__ import annotations

import math

import pytest

from guiju.errors import ConfigError
from guiju.generation import SamplingSettings, generate
from guiju.settings import from_mapping, to_mapping


@pytest.mark.parametrize(("fields", "message"), [
    ({"temperature": math.nan}, "temperature is nan"),
    ({"temperature": -0.1}, r"temperature is -0\.1"),
    ({"temperature": math.inf}, "temperature is inf"),
    ({"temperature": 1e-320}, r"temperature is 1e-320; between 0, which is greedy, and 1e-40 .* Give 0"),
    ({"top_k": 0}, "top_k is 0"),
    ({"top_p": 0.0}, r"top_p is 0\.0"),
    ({"top_p": 1.1}, r"top_p is 1\.1"),
    ({"top_p": math.nan}, "top_p is nan"),
    ({"min_p": -0.1}, r"min_p is -0\.1"),
    ({"min_p": math.nan}, "min_p is nan"),
    ({"repetition_penalty": 0.0}, r"repetition_penalty is 0\.0"),
    ({"repetition_penalty": math.nan}, "repetition_penalty is nan"),
    ({"repetition_penalty": 1e-308}, r"repetition_penalty is 1e-308; it must be between 1e-06 and 1000000"),
    ({"repetition_penalty": 1e308}, r"repetition_penalty is 1e\+308"),
    ({"max_new_tokens": 0}, "max_new_tokens is 0"),
    ({"max_length": -1}, "max_length is -1"),
    ({"max_new_tokens": 5, "max_length": 9}, "max_new_tokens is 5 and max_length is 9"),
    ({"num_return_sequences": 0}, "num_return_sequences is 0"),
    ({"num_return_sequences": 10**9}, "num_return_sequences is 1000000000"),
    ({"num_return_sequences": 5, "greedy": True}, "num_return_sequences is 5, but greedy decoding has one answer"),
    ({"num_return_sequences": 2, "temperature": 0.0}, "greedy decoding has one answer"),
    ({"seed": -1}, "seed is -1"),
    ({"seed": 2**60}, "seed is"),
    ({"stop": ("",)}, "empty text"),
    ({"stop": ("x",) * 100_000}, "100000 texts"),
    ({"stop": ("x" * 70_000,)}, "70000 characters"),
    ({"stop": "end"}, "must be a tuple"),
    ({"stop": (None,)}, "must be a tuple of texts"),
    ({"stop": None}, "must be a tuple of texts"),
])  # fmt: skip
def test_a_setting_that_cannot_be_is_refused_by_name_and_value(fields, message):
    with pytest.raises(ConfigError, match=message):
        SamplingSettings(**fields)


def test_settings_survive_the_way_through_a_recipe():
    settings = SamplingSettings(temperature=0.8, top_k=50, seed=7, num_return_sequences=5, stop=("\n",))
    assert from_mapping(SamplingSettings, to_mapping(settings)) == settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_k", "3"),
        ("max_new_tokens", 2.5),
        ("num_return_sequences", True),
        ("seed", 1.5),
        ("temperature", "1"),
        ("temperature", None),
    ],
)
def test_values_of_other_types_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"{name} is {value!r}; it must be a"):
        SamplingSettings(**{name: value})


@pytest.mark.parametrize("prompts", [None, 3, [None], [["a"], 5], "one text"])
def test_prompts_that_are_no_texts_are_refused_with_what_they_are(prompts, random_model, bytes_tokenizer):
    with pytest.raises(ConfigError, match="prompts is"):
        generate(random_model, bytes_tokenizer, prompts)
