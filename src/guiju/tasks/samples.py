"""A sample: a record, what was answered, and what it scored. And the contract of a task, which makes scores of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from guiju.tasks.estimates import Floats, Statistic
from guiju.tasks.records import Record

Status = Literal["answered", "unanswered", "refused"]


@dataclass(frozen=True)
class Sample:
    """A record and what came of asking it."""

    record: Record
    prediction: str | None
    """What the answer says, taken out of the text; None where there is none, which counts as wrong."""

    status: Status = "answered"
    details: Mapping[str, Any] = field(default_factory=dict)
    """What more is known: the prompt, the text as it came, probabilities, the verdict of a program's tests, or why
    there is no answer."""


class Samples(Protocol):
    """Samples in the records' order. They may lie in a file: whoever scores them goes through them once or twice, and
    keeps numbers of each, but no texts."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...


@dataclass(frozen=True)
class Scores:
    """What a set of samples scores."""

    metrics: Mapping[str, Statistic]
    marks: Mapping[str, Floats]
    """For the table: what each sample scored by itself, (n,), 0 to 1 where 1 is right. The first one counts."""

    baselines: Mapping[str, Mapping[str, Statistic]] = field(default_factory=dict)
    """The same metrics of simple ways, so that a score means something."""

    groups: Mapping[str, Mapping[str, Statistic]] = field(default_factory=dict)
    """Group, such as "product: books", to its metrics."""

    signatures: Mapping[str, str] = field(default_factory=dict)
    """By which version and options of a scorer a metric was computed."""


class Task(Protocol):
    """One of the applications: how a model is asked, how its answer is read, how answers are scored."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> type[Record]:
        """The records that it is made of."""

    @property
    def main(self) -> str:
        """The metric that stands for the task in a table."""

    @property
    def new_tokens(self) -> int:
        """Of an answer at most, where nothing else is said."""

    def prompt(self, record: Any, language: str) -> str:
        """What a model that goes on with text is asked. The whole of it must fit beside the answer."""
        ...

    def source(self, record: Any) -> str:
        """What a model with an encoder reads."""
        ...

    def read(self, text: str, record: Any) -> str | None:
        """The answer that a continuation holds; None where it holds none."""
        ...

    def score(self, samples: Samples, language: str, **given: Any) -> Scores:
        """All metrics of a set."""
        ...
