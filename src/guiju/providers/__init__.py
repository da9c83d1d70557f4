"""One way to a model, whatever it is kept in: load it by reference, let it continue and score text, export it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guiju.providers.calls import Prices, RecordCall, RemoteCall, RemoteError, RemoteSettings, RequestRefusedError
    from guiju.providers.export import export_model
    from guiju.providers.formats.tensorflow import save_trained
    from guiju.providers.interface import Ability, LanguageModel
    from guiju.providers.local import LocalModel
    from guiju.providers.reference import load
    from guiju.providers.texts import read_texts

# Loaded when asked for: a model of TensorFlow, or a remote one, is used without torch in the process.
_HOMES = {
    "calls": ("Prices", "RecordCall", "RemoteCall", "RemoteError", "RemoteSettings", "RequestRefusedError"),
    "export": ("export_model",),
    "formats.tensorflow": ("save_trained",),
    "interface": ("Ability", "LanguageModel"),
    "local": ("LocalModel",),
    "reference": ("load",),
    "texts": ("read_texts",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Ability",
    "LanguageModel",
    "LocalModel",
    "Prices",
    "RecordCall",
    "RemoteCall",
    "RemoteError",
    "RemoteSettings",
    "RequestRefusedError",
    "export_model",
    "load",
    "read_texts",
    "save_trained",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
