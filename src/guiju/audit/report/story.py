"""What a run's ledger and files tell, gathered for the report. Nothing here is taken from anywhere else.

Every field may be empty: a run that was cut off, or that built a corpus alone, still has a story.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guiju.audit.records import current_entries
from guiju.evidence import Entry, Kind, Run

LOG = "train_log.jsonl"


@dataclass(frozen=True, kw_only=True)
class Story:
    path: Path
    name: str
    entries: dict[int, Entry]
    """Every entry by its index: a finding may cite any."""
    current: list[Entry]
    """Those that still speak."""
    environment: dict[str, Any]
    stages: dict[str, Mapping[str, Any]]
    """The summary of each stage that is done, by its name."""
    seconds: dict[str, float]
    manifest: dict[str, str]
    losses: list[tuple[float, float]]
    """(step, nats a token)"""
    evaluations: list[tuple[float, float]]
    """(step, bits per byte on held-out text)"""
    created: str = ""
    key: str = ""

    def bodies(self, kind: Kind) -> list[Mapping[str, Any]]:
        return [entry.body for entry in self.current if entry.kind == kind]

    def measurement(self, measure: str) -> Mapping[str, Any] | None:
        """The last measurement of that name."""
        found = [body for body in self.bodies(Kind.MEASUREMENT) if body.get("measure") == measure]
        return found[-1] if found else None

    def summary(self, *names: str) -> Mapping[str, Any]:
        """The summary of the first of these stages that is done."""
        return next((self.stages[name] for name in names if name in self.stages), {})


def read_story(run: Run) -> Story:
    entries = list(run.entries())
    current = current_entries(entries)
    environment: dict[str, Any] = {}
    stages: dict[str, Mapping[str, Any]] = {}
    seconds: dict[str, float] = {}
    for entry in current:
        found = entry.body.get("environment")
        if isinstance(found, Mapping):
            environment = dict(found)
        if entry.kind == Kind.STAGE_FINISHED:
            name, summary = str(entry.body.get("stage")), entry.body.get("summary")
            stages[name] = summary if isinstance(summary, Mapping) else {}
            if (took := number(entry.body.get("seconds"))) is not None:
                seconds[name] = took
    losses, evaluations = _training_log(run.path)
    first = entries[0] if entries else None
    return Story(
        path=run.path,
        name=str(first.body.get("name") or run.path.resolve().name) if first else run.path.resolve().name,
        entries={entry.index: entry for entry in entries},
        current=current,
        environment=environment,
        stages=stages,
        seconds=seconds,
        manifest=dict(run.manifest()),
        losses=losses,
        evaluations=evaluations,
        created=str(first.time) if first else "",
        key=str(first.body.get("key", "")) if first else "",
    )


def number(value: object) -> float | None:
    """A finite number, or nothing."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def flat(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) for everything inside."""
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, a line each; a missing file or a line that is none gives nothing."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value


def _training_log(folder: Path) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    losses, evaluations = [], []
    places = [folder / "checkpoints" / LOG, *sorted((folder / "checkpoints").glob(f"*/{LOG}"))]
    for line in read_lines(next((place for place in places if place.is_file()), places[0])):
        step = number(line.get("step"))
        if step is None:
            continue
        if (loss := number(line.get("loss"))) is not None:
            losses.append((step, loss))
        if (bits := number(line.get("bits_per_byte"))) is not None:
            evaluations.append((step, bits))
    return losses, evaluations
