"""Two evaluations of the same samples: what changed from the one to the other, by the paired bootstrap."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guiju.errors import DataError
from guiju.tasks.estimates import Difference, Estimate, differences, estimates
from guiju.tasks.evaluation import task_named
from guiju.tasks.store import EvaluatedFolder, KeptSamples, read_samples


@dataclass(frozen=True)
class Comparison:
    """What changed from one evaluation to the other; differences are the other's less the one's."""

    task: str
    n: int
    """Samples that both hold."""
    left_out: int
    """Samples that only one of them holds."""
    before: Mapping[str, Estimate]
    after: Mapping[str, Estimate]
    changes: Mapping[str, Difference]
    main: str

    @property
    def verdict(self) -> str:
        """Of the task's main metric: better, worse or undecided."""
        return self.changes[self.main].verdict

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "n": self.n,
            "left_out": self.left_out,
            "verdict": self.verdict,
            "metrics": {
                name: {
                    "before": self.before[name].to_json(),
                    "after": self.after[name].to_json(),
                    "change": change.to_json(),
                }
                for name, change in self.changes.items()
            },
        }


def compare(before: Path, after: Path) -> Comparison:
    """Compare two folders that evaluations have written.

    Raises:
        DataError: one holds no evaluation, they are of different tasks or languages, or of different data.
    """
    one, other = read_samples(before), read_samples(after)
    for name in ("task", "language"):
        if one.asked.get(name) != other.asked.get(name):
            raise DataError(
                f"{before} is an evaluation of {name} {one.asked.get(name)}, and {after} of {other.asked.get(name)}: "
                "there is nothing to compare"
            )
    left, right = _paired(one, other)
    task, language = task_named(str(one.asked["task"])), str(one.asked["language"])
    old, new = task.score(left, language).metrics, task.score(right, language).metrics
    # A metric over the answers given, such as how many are cited, is of other samples on each side.
    shared = [name for name in old if name in new and old[name].has_members_of(new[name])]
    return Comparison(
        task=task.name,
        n=len(left),
        left_out=len(one.samples) + len(other.samples) - 2 * len(left),
        before=estimates({name: old[name] for name in shared}),
        after=estimates({name: new[name] for name in shared}),
        changes=differences({name: (new[name], old[name]) for name in shared}),
        main=task.main,
    )


def _paired(one: EvaluatedFolder, other: EvaluatedFolder) -> tuple[KeptSamples, KeptSamples]:
    """The samples of the records that both hold, in the same order."""
    left, right = array("q"), array("q")
    for number, content in enumerate(one.contents):
        there = other.ids.find_digest(one.digests[number])
        if there is None:
            continue
        if other.contents[there] != content:
            raise DataError(
                f"{one.samples[number].record.id!r} is another record in {other.folder} than in {one.folder}: they are "
                "evaluations of different data, and cannot be compared"
            )
        left.append(number)
        right.append(there)
    if not left:
        raise DataError(f"{one.folder} and {other.folder} have no sample in common, so there is nothing to compare")
    return one.samples.chosen(left), other.samples.chosen(right)
