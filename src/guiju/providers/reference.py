"""A model reference becomes a model, whatever it is kept in. The kind's own module is loaded when it is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from guiju.errors import ConfigError

if TYPE_CHECKING:
    from guiju.providers.calls import RecordCall, RemoteSettings
    from guiju.providers.interface import LanguageModel


def load(
    reference: str | Path,
    tokenizer: str | Path | None = None,
    *,
    pickles: bool = False,
    remote: RemoteSettings | None = None,
    record_call: RecordCall | None = None,
) -> LanguageModel:
    """The model behind a reference.

    Args:
        reference: a run folder (its model/ is read), a Hugging Face folder, OpenAI's GPT-2 folder, a llama2.c
            checkpoint with its tokenizer (tok*.bin, with as many pieces as the model has ids) beside it, `hf:NAME` (or
            `hf:ORG/NAME@REVISION`) of the Hugging Face hub, `transformers:FOLDER` for what transformers alone computes,
            `tf:FOLDER` of a TensorFlow SavedModel, or `openai:NAME` of the server that OPENAI_BASE_URL names.
        tokenizer: a tokenizer's file, or a folder that holds one; by default the model's own.
        pickles: whether PyTorch's .bin files may be read, where there is no safetensors file (guiju.model.pickled).
        remote: how a remote model is asked: limits, caps, retries.
        record_call: is called for each request that leaves this machine.
    Raises:
        ConfigError: a library that the kind needs is not installed, or `remote` is given for a model of this machine.
        ModelError: there is none, it is damaged or of another kind, or no tokenizer fits it.
    """
    reference = str(reference)
    given = None if tokenizer is None else Path(tokenizer)
    if reference.startswith("openai:"):
        from guiju.providers.openai_model import load_openai

        return load_openai(reference, given, remote, record_call)
    if remote is not None:
        raise ConfigError(
            f"{reference} is a model of this machine, but settings for a remote one are given; leave out remote"
        )
    if reference.startswith("hf:"):
        from guiju.providers.folders import load_local
        from guiju.providers.hub import find_in_hub

        found = find_in_hub(reference, pickles=pickles, tokenizer=given is None)
        local = load_local(reference, found.folder, given, pickles=pickles)
        return replace(local, downloads=found.downloads)
    if reference.startswith("tf:"):
        from guiju.providers.tensorflow import load_tensorflow

        return load_tensorflow(reference, given)  # torch stays out of the process
    if reference.startswith("transformers:"):
        from guiju.providers.transformers_model import load_transformers

        return load_transformers(reference, given)
    from guiju.providers.folders import load_local

    return load_local(reference, Path(reference), given, pickles=pickles)
