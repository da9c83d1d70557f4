"""Translation, summaries, questions, code and sentiment: their data, what models are asked, how answers are scored."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guiju.tasks.reading import FORMATS, read_records
    from guiju.tasks.records import (
        CodeProblem,
        Completion,
        Conversation,
        Labelled,
        Message,
        Pair,
        Preference,
        Question,
        Record,
    )

_HOMES = {
    "reading": ("FORMATS", "read_records"),
    "records": (
        "CodeProblem",
        "Completion",
        "Conversation",
        "Labelled",
        "Message",
        "Pair",
        "Preference",
        "Question",
        "Record",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "FORMATS",
    "CodeProblem",
    "Completion",
    "Conversation",
    "Labelled",
    "Message",
    "Pair",
    "Preference",
    "Question",
    "Record",
    "read_records",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
