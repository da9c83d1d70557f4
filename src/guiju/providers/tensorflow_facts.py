"""guiju.json: what a SavedModel's graph does not say of the model, read without TensorFlow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guiju.errors import ModelError, StorageError
from guiju.storage import read_foreign

GRAPH = "saved_model.pb"
FACTS = "guiju.json"
"""What the graph does not say, beside it."""

_UNKNOWN_CONTEXT = 1 << 31
_LARGEST_FACTS = 1 << 20


@dataclass(frozen=True)
class Facts:
    """Of a model's config, what continuing a text takes; the names are ModelConfig's."""

    vocab_size: int
    context: int = _UNKNOWN_CONTEXT
    stop_ids: tuple[int, ...] = ()
    forced_first_id: int | None = None
    forced_last_id: int | None = None
    never_ids: tuple[int, ...] = ()
    kind: str = "decoder"


def read_facts(path: Path) -> dict[str, Any]:
    """What guiju.json says, checked; of another program's model, nothing."""
    found: dict[str, Any] = {}
    for name, value in _read_object(path).items() if path.exists() else ():
        if name == "format":
            if value != 1:
                raise ModelError(f"{path} is of format {value!r}; this version reads 1. Use a newer guiju")
        elif name in ("vocab_size", "context"):
            found[name] = _whole(path, name, value, 1)
        elif name in ("stop_ids", "never_ids"):
            values = value if isinstance(value, list) else [value]
            found[name] = tuple(_whole(path, name, one, 0) for one in values)
        elif name in ("forced_first_id", "forced_last_id"):
            found[name] = None if value is None else _whole(path, name, value, 0)
        elif name in ("model", "training"):  # for `read_shape`, and for people
            if not isinstance(value, dict):
                raise ModelError(f"{path}: {name} must be an object, not {type(value).__name__}")
        else:
            raise ModelError(f"{path} has a field {name!r} that this version does not know. Use a newer guiju")
    return found


def read_shape(path: Path) -> dict[str, Any]:
    """The model's config, as guiju.json states it.

    Raises:
        ModelError: it states none.
    """
    shape = (_read_object(path) if path.exists() else {}).get("model")
    if not isinstance(shape, dict):
        raise ModelError(
            f"{path} does not say what shape the model has, so its weights cannot be taken out of the graph. Use the "
            f"model that it was made from"
        )
    return shape


def _read_object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(read_foreign(path, _LARGEST_FACTS))
    except StorageError as problem:
        raise ModelError(str(problem)) from None
    except (ValueError, RecursionError) as problem:
        raise ModelError(f"{path} is not valid JSON: {problem}") from None
    if not isinstance(data, dict):
        raise ModelError(f"{path} must hold a JSON object, not {type(data).__name__}")
    return data


def _whole(path: Path, name: str, value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _UNKNOWN_CONTEXT:
        raise ModelError(f"{path}: {name} is {value!r}; it must be a whole number of at least {least}")
    return value
