"""guiju (规矩): builds language models to a standard, and keeps the proof of every step."""

from __future__ import annotations

import typing

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

if typing.TYPE_CHECKING:
    from guiju.providers import LanguageModel


def load(reference: str, tokenizer: str | None = None, *, pickles: bool = False) -> LanguageModel:
    """The model behind a reference: a run folder, a Hugging Face folder, hf:NAME, transformers:FOLDER, openai:NAME,
    tf:FOLDER or a llama2.c file.

    `pickles` allows PyTorch's .bin files, which are read in a process that can only hand back tensors.

    >>> guiju.load("runs/quickstart").generate("Once upon a time")  # doctest: +SKIP
    """
    from guiju.providers import load as load_reference  # `import guiju` alone stays instant: torch comes with a model

    return load_reference(reference, tokenizer, pickles=pickles)
