"""Two evaluations of the same samples: what changed from the one to the other, by the paired bootstrap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from guiju.errors import DataError
from guiju.tasks.estimates import Difference, Estimate, difference, estimate
from guiju.tasks.evaluation import task_named
from guiju.tasks.samples import Sample
from guiju.tasks.store import read_samples


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
    (one_asked, one), (other_asked, other) = read_samples(before), read_samples(after)
    for name in ("task", "language"):
        if one_asked.get(name) != other_asked.get(name):
            raise DataError(
                f"{before} is an evaluation of {name} {one_asked.get(name)}, and {after} of {other_asked.get(name)}: "
                "there is nothing to compare"
            )
    pairs, left_out = _paired(before, one, after, other)
    task, language = task_named(str(one_asked["task"])), str(one_asked["language"])
    old = task.score([pair[0] for pair in pairs], language).metrics
    new = task.score([pair[1] for pair in pairs], language).metrics
    # A metric over the answers given, such as how many are cited, is of other samples on each side.
    shared = [name for name in old if name in new and old[name].members == new[name].members]
    return Comparison(
        task=task.name,
        n=len(pairs),
        left_out=left_out,
        before={name: estimate(old[name]) for name in shared},
        after={name: estimate(new[name]) for name in shared},
        changes={name: difference(new[name], old[name]) for name in shared},
        main=task.main,
    )


def _paired(
    before: Path, one: list[Sample], after: Path, other: list[Sample]
) -> tuple[list[tuple[Sample, Sample]], int]:
    """The samples of the same records, and how many have no counterpart."""
    there = {sample.record.id: sample for sample in other}
    pairs = [(sample, there[sample.record.id]) for sample in one if sample.record.id in there]
    if not pairs:
        raise DataError(f"{before} and {after} have no sample in common, so there is nothing to compare")
    for left, right in pairs:
        if replace(left.record, place="") != replace(right.record, place=""):
            raise DataError(
                f"{left.record.id!r} is another record in {after} than in {before}: they are evaluations of different "
                "data, and cannot be compared"
            )
    return pairs, len(one) + len(other) - 2 * len(pairs)
