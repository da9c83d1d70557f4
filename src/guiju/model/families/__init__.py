"""The border between published models and ours: one table per family turns foreign names into guiju's, and back.

Only what transformers itself heeds is looked at: a field that would change the computation is mapped or must hold the
one value that is computed here; the rest (such as summary_type) is let by, as it is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from guiju.errors import ConfigError, ModelError
from guiju.model.config import ModelConfig
from guiju.model.families.bart import BART, MARIAN, MBART, PEGASUS
from guiju.model.families.bert import BERT, ROBERTA
from guiju.model.families.border import Family, Fields, Held, Tensors
from guiju.model.families.gpt2 import GPT2
from guiju.model.families.llama import LLAMA, MISTRAL, PHI3, QWEN2, QWEN3
from guiju.model.families.t5 import T5

__all__ = ["FAMILIES", "Family", "Fields", "Held", "Tensors", "config_for", "config_from"]

_ALL = (GPT2, LLAMA, MISTRAL, QWEN2, QWEN3, PHI3, BERT, ROBERTA, MARIAN, PEGASUS, BART, MBART, T5)
FAMILIES = {family.model_type: family for family in _ALL}
"""By their model_type. The first one that a shape fits is written."""


def config_from(data: Mapping[str, Any], where: str) -> tuple[Family, ModelConfig]:
    """The family and the shape that a config.json states, without the ids that end a text.

    Raises:
        ModelError: another family or class, remote code, a field missing or malformed, or one that this model does not
            compute.
    """
    if "auto_map" in data:
        raise ModelError(
            f"{where} has auto_map, so it wants its own code to be run. guiju never runs code out of a model. If its "
            f"weights are those of a plain {data.get('model_type')!r} (as Phi-3's are), take auto_map out of the file"
        )
    family = FAMILIES.get(str(data.get("model_type")))
    if family is None:
        raise ModelError(
            f"{where}: model_type is {data.get('model_type')!r}; this version reads {', '.join(FAMILIES)} models"
        )
    for name, allowed in family.fixed.items():
        if data.get(name, allowed[0]) not in allowed:
            raise ModelError(
                f"{where}: {name} is {data[name]!r}, which would change what the model computes; "
                f"this version computes {name} = {allowed[0]!r} only"
            )
    given = Fields(data, where)
    head = family.heads[_architecture(family, given)]
    try:
        config = family.read(given, head)
        pad_id = given.id("pad_token_id", None, config.vocab_size) if config.pad_id is None else config.pad_id
        config = replace(config, pad_id=pad_id)
    except ConfigError as problem:
        raise ModelError(f"{where} states a shape that cannot be: {problem}") from None
    return family, config


def _architecture(family: Family, given: Fields) -> str:
    """The class that a config.json names, or else the family's default."""
    names = given.data.get("architectures")
    if names is None or names == []:
        return family.default
    known = {name.lower(): name for name in family.heads}  # LLaMAForCausalLM is found too
    if not isinstance(names, list) or len(names) != 1 or str(names[0]).lower() not in known:
        raise given.refuse("architectures", f"this version reads {', '.join(family.heads)} of {family.model_type}")
    return known[str(names[0]).lower()]


def config_for(config: ModelConfig) -> tuple[Family, dict[str, object]]:
    """The family that a shape belongs to, and its config.json without token ids.

    Raises:
        ModelError: the shape is none that was published, so that no name fits it.
    """
    misfits = {name: family.misfits(config) for name, family in FAMILIES.items()}
    for name, problems in misfits.items():
        if not problems:
            return FAMILIES[name], {**FAMILIES[name].write(config), "dtype": "float32"}
    nearest = min(misfits.values(), key=len)
    raise ModelError(
        f"{nearest[0]}: no published format describes this mixture, so it cannot be written as one (of "
        f"{', '.join(FAMILIES)})"
    )
