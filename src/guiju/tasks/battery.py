"""Five tasks in two languages at a size that fits the machine: the price list of a change, and whether to keep it."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from guiju.errors import ConfigError, DataError, ModelError, SandboxError
from guiju.settings import from_mapping, load_yaml, to_mapping
from guiju.storage import write_json
from guiju.tasks.comparing import Comparison, compare
from guiju.tasks.estimates import Difference, Estimate
from guiju.tasks.evaluation import evaluate, task_named
from guiju.tasks.reading import RecordFile
from guiju.tasks.records import Record
from guiju.tasks.settings import TaskSettings
from guiju.tasks.survey import Reporter, survey

if TYPE_CHECKING:
    from guiju.providers import LanguageModel

SIZES = "sizes.json"
_HUNDRED = ("bleu", "chrf++", "bleu_tokenised")
"""Metrics from 0 to 100; a loss of 0.02 is one of 2 there."""


@dataclass(frozen=True, kw_only=True)
class BatteryRow:
    """One set of the battery."""

    task: str
    language: Literal["en", "zh", "de"]
    data: tuple[str, ...] | str
    """A file, or several of which the first that is there is taken; $NAME is an environment variable."""
    format: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    limit: int = 200
    prompt: str | None = None

    def __post_init__(self) -> None:
        task_named(self.task)
        if self.limit < 1:
            raise ConfigError(f"rows: limit is {self.limit}; it must be at least 1")

    @property
    def name(self) -> str:
        return f"{self.task}-{self.language}"


@dataclass(frozen=True, kw_only=True)
class BatteryRule:
    """When a change is kept. It stands before the battery runs, and its result names it."""

    largest_loss: float = 0.02
    """Of a task's main metric, from 0 to 1, that is still borne."""

    losses: Mapping[str, float] = field(default_factory=dict)
    """Other bounds for single tasks, by name."""

    when_undecided: Literal["keep", "revert"] = "revert"
    """What follows where an interval lies on both sides of the bound."""

    def __post_init__(self) -> None:
        for name in self.losses:
            task_named(name)
        for name, loss in {"largest_loss": self.largest_loss, **self.losses}.items():
            if not 0 <= loss <= 1:
                raise ConfigError(f"rule: {name} is {loss}; a loss is a share, from 0 to 1")

    def bound(self, task: str) -> float:
        return self.losses.get(task, self.largest_loss)


@dataclass(frozen=True, kw_only=True)
class BatterySettings:
    """Which sets, how large, and by which rule a change is judged."""

    rows: tuple[BatteryRow, ...]
    root: str = "."
    """Where the rows' paths start, seen from the recipe's folder."""

    seconds: float = 600.0
    """For one model's whole battery, about: sets are made so small that they fit."""

    least: int = 20
    """Samples of a set, however long they take."""

    seed: int = 0
    """Which samples of a set are drawn."""

    rule: BatteryRule = BatteryRule()

    def __post_init__(self) -> None:
        if not self.rows:
            raise ConfigError("rows is empty; a battery needs at least one set")
        if self.seconds <= 0 or self.least < 1:
            raise ConfigError(f"seconds is {self.seconds} and least {self.least}; both must be more than 0")
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ConfigError("rows: each task may stand once for each language")


@dataclass(frozen=True)
class BatteryLine:
    """One line of the table."""

    task: str
    language: str
    metric: str
    n: int = 0
    estimate: Estimate | None = None
    before: Estimate | None = None
    """The other model's."""
    change: Difference | None = None
    verdict: str = ""
    """kept, lost or undecided, where there is another model to compare with."""
    why: str = ""
    """Why there is no figure."""

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"task": self.task, "language": self.language, "metric": self.metric, "n": self.n}
        for name in ("estimate", "before", "change"):
            value = getattr(self, name)
            if value is not None:
                told[name] = value.to_json()
        told |= {name: getattr(self, name) for name in ("verdict", "why") if getattr(self, name)}
        return told


@dataclass(frozen=True)
class BatteryResult:
    """The table, and with another model the verdict."""

    lines: Sequence[BatteryLine]
    rule: BatteryRule
    verdict: Literal["keep", "revert", "not-assessed"] | None = None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"battery": [line.to_json() for line in self.lines]}
        if self.verdict is not None:
            told |= {"verdict": self.verdict, "why": self.why, "rule": to_mapping(self.rule)}
        return told


def load_battery(recipe: Path | None = None) -> BatterySettings:
    """The battery of a recipe, or guiju's own.

    Raises:
        ConfigError: the recipe is no battery.
    """
    if recipe is not None:
        settings = from_mapping(BatterySettings, load_yaml(recipe), "battery")
        return replace(settings, root=str(recipe.parent / settings.root))
    own = (resources.files(__package__) / "battery.yaml").read_text(encoding="utf-8")
    return from_mapping(BatterySettings, yaml.safe_load(own), "battery")


def run_battery(
    model: LanguageModel,
    settings: BatterySettings,
    out: Path,
    *,
    against: LanguageModel | None = None,
    reporter: Reporter | None = None,
) -> BatteryResult:
    """Put all sets to a model, and to another one to compare with.

    A set's size is found by the first model's speed on `least` samples, and written down: a battery that goes on, and
    the other model, get the same samples.

    Args:
        out: the folder; each model's samples lie in one of their own below it.
    Raises:
        DataError: a file is not what its row says.
    """
    lines = [_line(row, settings, model, against, out, reporter) for row in settings.rows]
    if against is None:
        return BatteryResult(lines, settings.rule)
    verdict, why = judge(lines, settings.rule)
    return BatteryResult(lines, settings.rule, verdict, why)


def judge(lines: Sequence[BatteryLine], rule: BatteryRule) -> tuple[Literal["keep", "revert", "not-assessed"], str]:
    """Keep a change where every set that could be compared kept its figure; revert it where one is lost."""
    compared = [line for line in lines if line.change is not None]
    missing = len(lines) - len(compared)
    if not compared:
        return "not-assessed", "no set could be compared"
    lost = [f"{line.task} ({line.language})" for line in compared if line.verdict == "lost"]
    open_ = [f"{line.task} ({line.language})" for line in compared if line.verdict == "undecided"]
    note = f"; {missing} sets could not be compared" if missing else ""
    if lost:
        return "revert", f"lost more than the rule bears: {', '.join(lost)}{note}"
    if open_:
        return rule.when_undecided, f"too few samples to tell, and the rule then says so: {', '.join(open_)}{note}"
    return "keep", f"no set lost more than the rule bears{note}"


def _line(
    row: BatteryRow,
    settings: BatterySettings,
    model: LanguageModel,
    against: LanguageModel | None,
    out: Path,
    reporter: Reporter | None,
) -> BatteryLine:
    task = task_named(row.task)
    blank = BatteryLine(row.task, row.language, task.main)
    place = _file(row, settings.root)
    if place is None:
        return _without(blank, f"its data is not here: {row.data if isinstance(row.data, str) else row.data[0]}")
    records = _drawn(row, place, settings)
    ours = out / model.digest[:12] / row.name
    try:
        size = _sized(row, records, settings, model, ours, out, reporter)
        asked = TaskSettings(language=row.language, prompt=row.prompt, limit=size)
        result = evaluate(row.task, records, model=model, settings=asked, out=ours, reporter=reporter)
        line = BatteryLine(row.task, row.language, task.main, result.n, result.metrics[task.main])
        if against is None:
            return line
        theirs = out / against.digest[:12] / row.name
        evaluate(row.task, records, model=against, settings=asked, out=theirs, reporter=reporter)
    except (SandboxError, DataError) as problem:  # such as labels that the model's head has not
        return _without(blank, str(problem))
    except ModelError as problem:
        if getattr(problem, "finished", None) is not None:  # an endpoint that failed: what is there goes on later
            raise
        return _without(blank, str(problem))
    return _compared(line, compare(theirs, ours), settings.rule)


def _compared(line: BatteryLine, found: Comparison, rule: BatteryRule) -> BatteryLine:
    change = found.changes[line.metric]
    bound = rule.bound(line.task) * (100 if line.metric in _HUNDRED else 1)
    verdict = "kept" if change.low >= -bound else "lost" if change.high < -bound else "undecided"
    return BatteryLine(
        line.task, line.language, line.metric, found.n, line.estimate, found.before[line.metric], change, verdict
    )


def _without(line: BatteryLine, why: str) -> BatteryLine:
    return BatteryLine(line.task, line.language, line.metric, why=why)


def _file(row: BatteryRow, root: str) -> str | None:
    for name in (row.data,) if isinstance(row.data, str) else row.data:
        parts = [Path(root) / part.strip() for part in os.path.expandvars(name).split(",")]
        if all(part.is_file() for part in parts):
            return ",".join(map(str, parts))
    return None


def _drawn(row: BatteryRow, place: str, settings: BatterySettings) -> list[Record]:
    """The set's records in an order that a seed has drawn, as many as may be asked."""
    records = RecordFile(place, task_named(row.task).kind, row.format, row.columns)
    order = list(range(survey(records, None).count))
    random.Random(settings.seed).shuffle(order)  # noqa: S311 -- a draw that can be repeated, no secret
    wanted = order[: row.limit]
    drawn = set(wanted)
    found = {number: record for number, record in enumerate(records) if number in drawn}
    return [found[number] for number in wanted]


def _sized(
    row: BatteryRow,
    records: Sequence[Record],
    settings: BatterySettings,
    model: LanguageModel,
    ours: Path,
    out: Path,
    reporter: Reporter | None,
) -> int:
    """How many samples of the set fit its share of the time; found once, and kept."""
    held = _read_sizes(out)
    if row.name in held:
        return min(held[row.name], len(records))
    least = min(settings.least, len(records))
    began = time.monotonic()
    asked = TaskSettings(language=row.language, prompt=row.prompt, limit=least)
    evaluate(row.task, records, model=model, settings=asked, out=ours, reporter=reporter)
    each = max((time.monotonic() - began) / least, 1e-6)
    share = settings.seconds / len(settings.rows)
    size = max(least, min(len(records), int(share / each)))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / SIZES, {**held, row.name: size})
    return size


def _read_sizes(out: Path) -> dict[str, int]:
    try:
        held = json.loads((out / SIZES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise DataError(
            f"{out / SIZES} cannot be read ({problem}). Take the folder away, or give another --out"
        ) from None
    return {str(name): int(size) for name, size in held.items()}
