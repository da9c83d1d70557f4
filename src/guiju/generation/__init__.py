"""A model continues text, and says how likely it finds one.

The names load when they are asked for: settings, results and text streams are there without torch in the process.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guiju.generation.continuation import generate
    from guiju.generation.engine import Engine
    from guiju.generation.grammar import form_of
    from guiju.generation.logprobs import TokenLogprob
    from guiju.generation.requests import Handle, Request
    from guiju.generation.restriction import Restriction
    from guiju.generation.result import Generation, Sequence, Work
    from guiju.generation.runner import Chunk, Runner, open_runner
    from guiju.generation.sampling import Chooser
    from guiju.generation.scoring import (
        ContinuationScore,
        Reader,
        Reading,
        Row,
        Score,
        pair_ids,
        score,
        score_continuation_ids,
        score_continuations,
        score_continuations_with,
        score_each,
        score_with,
        windows,
    )
    from guiju.generation.settings import MAX_LOGPROBS, Precision, RunnerName, SamplingSettings, require_known
    from guiju.generation.stream import TextStream
    from guiju.generation.tasks import Task, plan, prompt_ids, require_fit, stop_ids
    from guiju.generation.texts import Text

_HOMES = {
    "continuation": ("generate",),
    "engine": ("Engine",),
    "grammar": ("form_of",),
    "logprobs": ("TokenLogprob",),
    "requests": ("Handle", "Request"),
    "result": ("Generation", "Sequence", "Work"),
    "restriction": ("Restriction",),
    "runner": ("Chunk", "Runner", "open_runner"),
    "sampling": ("Chooser",),
    "scoring": (
        "ContinuationScore",
        "Reader",
        "Reading",
        "Row",
        "Score",
        "pair_ids",
        "score",
        "score_continuation_ids",
        "score_continuations",
        "score_continuations_with",
        "score_each",
        "score_with",
        "windows",
    ),
    "settings": ("MAX_LOGPROBS", "Precision", "RunnerName", "SamplingSettings", "require_known"),
    "stream": ("TextStream",),
    "tasks": ("Task", "plan", "prompt_ids", "require_fit", "stop_ids"),
    "texts": ("Text",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "MAX_LOGPROBS",
    "Chooser",
    "Chunk",
    "ContinuationScore",
    "Engine",
    "Generation",
    "Handle",
    "Precision",
    "Reader",
    "Reading",
    "Request",
    "Restriction",
    "Row",
    "Runner",
    "RunnerName",
    "SamplingSettings",
    "Score",
    "Sequence",
    "Task",
    "Text",
    "TextStream",
    "TokenLogprob",
    "Work",
    "form_of",
    "generate",
    "open_runner",
    "pair_ids",
    "plan",
    "prompt_ids",
    "require_fit",
    "require_known",
    "score",
    "score_continuation_ids",
    "score_continuations",
    "score_continuations_with",
    "score_each",
    "score_with",
    "stop_ids",
    "windows",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
