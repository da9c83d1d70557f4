"""Scoring libraries of the extra `eval`, imported when a figure needs them."""

from __future__ import annotations

import importlib
from typing import Any

from guiju.errors import ConfigError


def import_extra(module: str, purpose: str, extra: str = "eval") -> Any:
    """A module of an extra.

    Raises:
        ConfigError: it is not installed; with the way to it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        raise ConfigError(
            f"{purpose} needs {module.partition('.')[0]}, which cannot be imported ({problem}). Install guiju with the "
            f"extra: pip install 'guiju[{extra}]'"
        ) from None
