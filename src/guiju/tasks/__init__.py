"""Translation, summaries, questions, code and sentiment: their data, what models are asked, how answers are scored."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guiju.tasks.asking import ask
    from guiju.tasks.battery import BatteryResult, BatteryRule, BatterySettings, load_battery, run_battery
    from guiju.tasks.comparing import Comparison, compare
    from guiju.tasks.consistency import Faithfulness, check_faithfulness
    from guiju.tasks.estimates import Difference, Estimate
    from guiju.tasks.evaluation import TASKS, TaskResult, evaluate, task_named
    from guiju.tasks.languages import LANGUAGES, language_of
    from guiju.tasks.predictions import read_predictions
    from guiju.tasks.reading import FORMATS, RecordFile, read_records, read_unanswered, rereadable
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
    from guiju.tasks.samples import Sample
    from guiju.tasks.settings import TaskSettings

_HOMES = {
    "asking": ("ask",),
    "battery": ("BatteryResult", "BatteryRule", "BatterySettings", "load_battery", "run_battery"),
    "comparing": ("Comparison", "compare"),
    "consistency": ("Faithfulness", "check_faithfulness"),
    "estimates": ("Difference", "Estimate"),
    "evaluation": ("TASKS", "TaskResult", "evaluate", "task_named"),
    "languages": ("LANGUAGES", "language_of"),
    "predictions": ("read_predictions",),
    "reading": ("FORMATS", "RecordFile", "read_records", "read_unanswered", "rereadable"),
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
    "samples": ("Sample",),
    "settings": ("TaskSettings",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "FORMATS",
    "LANGUAGES",
    "TASKS",
    "BatteryResult",
    "BatteryRule",
    "BatterySettings",
    "CodeProblem",
    "Comparison",
    "Completion",
    "Conversation",
    "Difference",
    "Estimate",
    "Faithfulness",
    "Labelled",
    "Message",
    "Pair",
    "Preference",
    "Question",
    "Record",
    "RecordFile",
    "Sample",
    "TaskResult",
    "TaskSettings",
    "ask",
    "check_faithfulness",
    "compare",
    "evaluate",
    "language_of",
    "load_battery",
    "read_predictions",
    "read_records",
    "read_unanswered",
    "rereadable",
    "run_battery",
    "task_named",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
