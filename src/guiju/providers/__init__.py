"""One way to a model, whatever it is kept in: load it by reference, let it continue and score text, export it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guiju.providers.export import export_model
    from guiju.providers.language_model import LanguageModel
    from guiju.providers.reference import load
    from guiju.providers.texts import read_texts

__all__ = ["LanguageModel", "export_model", "load", "read_texts"]

# Loaded when asked for: a model of TensorFlow is used without torch in the process.
_PLACES = {"LanguageModel": "language_model", "export_model": "export", "load": "reference", "read_texts": "texts"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
