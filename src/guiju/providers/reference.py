"""A model reference becomes a model, whatever it is kept in. The kind's own module is loaded when it is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from guiju.errors import ModelError

if TYPE_CHECKING:
    from guiju.providers.language_model import LanguageModel

_LATER = ("openai:",)


def load(reference: str | Path, tokenizer: str | Path | None = None, *, pickles: bool = False) -> LanguageModel:
    """The model behind a reference.

    Args:
        reference: a run folder (its model/ is read), a Hugging Face folder, OpenAI's GPT-2 folder, a llama2.c
            checkpoint with its tokenizer (tok*.bin, with as many pieces as the model has ids) beside it, `hf:NAME` (or
            `hf:ORG/NAME@REVISION`) of the Hugging Face hub, or `tf:FOLDER` of a TensorFlow SavedModel.
        tokenizer: a tokenizer's file, or a folder that holds one; by default the model's own.
        pickles: whether PyTorch's .bin files may be read, where there is no safetensors file (guiju.model.pickled).
    Raises:
        ModelError: there is none, it is damaged or of another kind, or no tokenizer fits it.
    """
    reference = str(reference)
    given = None if tokenizer is None else Path(tokenizer)
    if reference.startswith(_LATER):
        kind = reference.partition(":")[0]
        raise ModelError(f"{reference}: {kind}: references are not in this version. Give the path of a folder or file")
    if reference.startswith("hf:"):
        from guiju.providers.folders import load_local
        from guiju.providers.hub import find_in_hub

        found = find_in_hub(reference, pickles=pickles, tokenizer=given is None)
        local = load_local(reference, found.folder, given, pickles=pickles)
        return replace(local, downloads=found.downloads)
    if reference.startswith("tf:"):
        from guiju.providers.tensorflow import load_tensorflow

        return cast("LanguageModel", load_tensorflow(reference, given))  # torch stays out of the process
    from guiju.providers.folders import load_local

    return load_local(reference, Path(reference), given, pickles=pickles)
