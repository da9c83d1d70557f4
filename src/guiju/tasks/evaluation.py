"""A task put to a model, or to answers made elsewhere: samples kept one by one, figures with n and interval."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from guiju.errors import ConfigError
from guiju.settings import to_mapping
from guiju.storage import write_json
from guiju.tasks.asking import Asker
from guiju.tasks.estimates import Difference, Estimate, differences, estimates
from guiju.tasks.linear import linear_probabilities
from guiju.tasks.predictions import predicted_samples, require_known
from guiju.tasks.programming import Programming
from guiju.tasks.question_answering import QuestionAnswering
from guiju.tasks.records import CodeProblem, Labelled, Record
from guiju.tasks.samples import Sample, Samples, Scores, Task
from guiju.tasks.sandbox import require_sandbox
from guiju.tasks.sentiment import Sentiment
from guiju.tasks.settings import TaskSettings
from guiju.tasks.store import RESULT, TABLE, KeptSamples, SampleLog, SampleSpool, require_same, write_samples
from guiju.tasks.summarization import Summarization
from guiju.tasks.survey import Reporter, Survey, survey, told
from guiju.tasks.table import Marks, write_table
from guiju.tasks.translation import Translation

if TYPE_CHECKING:
    from guiju.providers import LanguageModel

_ALL: tuple[Task, ...] = (Translation(), Summarization(), QuestionAnswering(), Programming(), Sentiment())
TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}

_JUDGED_AT_ONCE = 256
"""Problems whose programs wait for their tests."""

Places = NDArray[np.int64]


@dataclass(frozen=True)
class TaskResult:
    """What was measured."""

    task: str
    n: int
    metrics: Mapping[str, Estimate]
    language: str
    unanswered: int
    """Samples without an answer. They count as wrong in every figure."""
    refused: int
    """Of them, those whose source was too long."""
    baselines: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    gaps: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)
    """How much more the answers have of a metric than a baseline, on the same samples."""
    groups: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    """Where samples, result and table lie."""

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "task": self.task,
            "n": self.n,
            "metrics": {name: one.to_json() for name, one in self.metrics.items()},
            "language": self.language,
            "unanswered": self.unanswered,
            "refused": self.refused,
        }
        for name, held in (("baselines", self.baselines), ("gaps", self.gaps), ("groups", self.groups)):
            if held:
                told[name] = {
                    who: {metric: one.to_json() for metric, one in figures.items()} for who, figures in held.items()
                }
        if self.signatures:
            told["signatures"] = dict(self.signatures)
        if self.folder is not None:
            told["out"] = str(self.folder)
        return told


def task_named(name: str) -> Task:
    """The task of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in TASKS:
        raise ConfigError(f"there is no task {name!r}; there are {', '.join(TASKS)}")
    return TASKS[name]


def evaluate(
    task: str,
    records: Iterable[Record],
    *,
    model: LanguageModel | None = None,
    predictions: Mapping[str, tuple[Any, str]] | None = None,
    settings: TaskSettings | None = None,
    train: Sequence[Labelled] = (),
    out: Path | None = None,
    reporter: Reporter | None = None,
) -> TaskResult:
    """Ask a model, or take predictions, and score them.

    Args:
        task: one of TASKS.
        records: of the task's kind. They are gone through twice and not held, unless they come from an iterator, which
            can be gone through once: of a file, give a RecordFile.
        predictions: each id's answer and its place, as read_predictions gives them; in place of a model.
        train: labelled texts from which a simple classifier learns, to stand beside a sentiment's figures.
        out: a folder for samples, result and table. What a model has answered there before is not asked again.
    Raises:
        ConfigError: neither a model nor predictions are given, or both; or the folder holds something else.
        DataError: the data, or the predictions for it, cannot be used as they are.
        ModelError: the model cannot do the task, or failed; what it answered before is kept.
    """
    settings, chosen = settings or TaskSettings(), task_named(task)
    if (model is None) == (predictions is None):
        raise ConfigError("give either a model or predictions, and not both")
    if isinstance(chosen, Programming):
        require_sandbox()  # before anybody is asked
    elif settings.tries > 1:
        raise ConfigError(f"tries is {settings.tries}, but several programs are written for the task code alone")
    if reporter is not None:
        reporter.stage("reading", "", "the data")
    found = survey(records, settings.limit, reporter)
    language = settings.language if settings.language != "auto" else found.language
    asked = _identity(chosen, settings, language, found.labels, model)
    if model is not None:
        samples = _asked(Asker(chosen, model, settings, language, found.labels), found, asked, out, reporter)
    else:
        assert predictions is not None
        require_known(predictions, found.ids, found.first, settings.limit is None)
        samples = _predicted(chosen, found, predictions, asked, out, reporter)
    result, marks = score_samples(chosen, samples, language, train=train, folder=out, reporter=reporter)
    if out is not None:
        write_json(out / RESULT, result.to_json())
        write_table(out / TABLE, chosen, result, samples, marks)
    return result


def score_samples(
    task: Task,
    samples: Samples,
    language: str,
    train: Sequence[Labelled] = (),
    folder: Path | None = None,
    reporter: Reporter | None = None,
) -> tuple[TaskResult, Marks]:
    """The figures of samples, and what each sample scored by itself."""
    if reporter is not None:
        reporter.stage("scoring", "", f"{len(samples)} samples")
    given: dict[str, Any] = {}
    if train and isinstance(task, Sentiment):
        asked = (sample.record.text for sample in samples if isinstance(sample.record, Labelled))
        given["baseline"] = linear_probabilities(
            [one.text for one in train], [one.label for one in train], asked, language
        )
    noted = _Noted(samples, reporter)
    scores = task.score(noted, language, **given)
    result = TaskResult(
        task=task.name,
        n=len(samples),
        metrics=estimates(scores.metrics),
        language=language,
        unanswered=int(noted.unanswered.sum()),
        refused=int(noted.refused.sum()),
        baselines={name: estimates(metrics) for name, metrics in scores.baselines.items()},
        gaps=_gaps(scores),
        groups={name: estimates(metrics) for name, metrics in scores.groups.items()},
        signatures=scores.signatures,
        folder=folder,
    )
    return result, Marks(scores.marks, noted.unanswered)


class _Noted:
    """Samples, and which of them have no answer: noted while they are scored, so that they need not be read again."""

    def __init__(self, samples: Samples, reporter: Reporter | None) -> None:
        self._samples, self._reporter = samples, reporter
        self.unanswered = np.zeros(len(samples), np.bool_)
        self.refused = np.zeros(len(samples), np.bool_)

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Sample]:
        count = len(self._samples)
        for number, sample in enumerate(told(self._samples, self._reporter, f"of {count} samples scored", count)):
            self.unanswered[number] = sample.prediction is None
            self.refused[number] = sample.status == "refused"
            yield sample


def _predicted(
    task: Task,
    found: Survey,
    predictions: Mapping[str, tuple[Any, str]],
    asked: Mapping[str, Any],
    out: Path | None,
    reporter: Reporter | None,
) -> KeptSamples:
    """A sample of each record, out of predictions."""
    if out is not None:
        require_same(out, asked)
    if isinstance(task, Programming) and reporter is not None:
        reporter.stage("testing", "", f"{found.count} problems")
    samples = predicted_samples(task, found.asked(), predictions)
    if isinstance(task, Programming):
        samples = _all_judged(samples)
    samples = told(samples, reporter, f"of {found.count} samples", found.count)
    if out is not None:
        return write_samples(out, asked, samples)
    spool = SampleSpool()
    return spool.kept(np.fromiter(map(spool.add, samples), np.int64, found.count))


def _asked(
    asker: Asker, found: Survey, asked: Mapping[str, Any], out: Path | None, reporter: Reporter | None
) -> KeptSamples:
    """A sample of each record, in their order; those that are in the folder already are not asked again."""
    if reporter is not None:
        reporter.stage("asking", "", f"{asker.model.reference}: {asker.task.name}, {found.count} samples")
    with ExitStack() as held:
        held.callback(asker.close)
        log: SampleSpool | SampleLog
        places = np.full(found.count, -1, np.int64)
        if out is None:
            log = SampleSpool()
        else:
            log = held.enter_context(SampleLog(out, asked))
            _find_places(log, found, places)
        done = int((places >= 0).sum())
        if done and reporter is not None:
            reporter.note(f"{done} of {found.count} samples are there already, in {out}")
        missing = (record for number, record in enumerate(found.asked()) if places[number] < 0)
        # Closed at once when the disk fails or somebody stops it: a server is asked no more.
        answers = held.enter_context(closing(_answers(asker, missing, done, found.count, reporter)))
        for sample in answers:
            number = found.ids.find(sample.record.id)
            assert number is not None
            places[number] = log.add(sample)
        assert (places >= 0).all(), "the model was asked of each"
        return log.kept(places)


def _find_places(log: SampleLog, found: Survey, places: Places) -> None:
    """Note where the samples are of records that have been answered already.

    Raises:
        ConfigError: an answer is to another record of the same id.
    """
    for id, content, place in zip(*log.held, strict=True):
        number = found.ids.find_digest(id)
        if number is None:
            continue
        if found.contents[number] != content:
            record = next(itertools.islice(found.records, number, None))
            raise ConfigError(
                f"{log.folder} holds an answer to {record.id!r}, but of other data than {record.place}: mixed, they "
                "would be nobody's figures. Give another folder with --out"
            )
        places[number] = place


def _answers(
    asker: Asker, records: Iterable[Record], done: int, total: int, reporter: Reporter | None
) -> Generator[Sample, None, None]:
    for sample in asker.ask(records):
        # Judged before the next one is asked for, so that a model that fails takes no finished sample with it.
        yield from _all_judged([sample]) if isinstance(asker.task, Programming) else [sample]
        done += 1
        if reporter is not None:
            reporter.progress(done, total, f"{done} of {total} samples")


def _all_judged(samples: Iterable[Sample]) -> Iterator[Sample]:
    """The same with the verdicts of their programs' tests, as many at once as there are cores."""
    from guiju.tasks.code import check_all

    waiting = iter(samples)
    while part := list(itertools.islice(waiting, _JUDGED_AT_ONCE)):
        tries = [[one for one in sample.details.get("tries", []) if one.strip()] for sample in part]
        pairs = [(sample.record, one) for sample, row in zip(part, tries, strict=True) for one in row]
        verdicts = check_all((problem, one) for problem, one in pairs if isinstance(problem, CodeProblem))
        for sample, row in zip(part, tries, strict=True):
            given = [
                {"status": one.status, "detail": one.detail[:2000]} for one in itertools.islice(verdicts, len(row))
            ]
            given += [{"status": "empty", "detail": ""}] * (len(sample.details.get("tries", [])) - len(row))
            yield replace(sample, details={**sample.details, "verdicts": given})


def _identity(
    task: Task, settings: TaskSettings, language: str, labels: Sequence[str], model: LanguageModel | None
) -> dict[str, Any]:
    """Who is asked what and how. How many of the records is left out: more of the same may follow. The records
    themselves stand in the samples."""
    asked = {name: value for name, value in to_mapping(settings).items() if name not in ("limit", "language")}
    return {
        "task": task.name,
        "language": language,
        "settings": asked,
        "labels": list(labels),
        "model": None if model is None else model.reference,
        "digest": None if model is None else model.digest,
    }


def _gaps(scores: Scores) -> dict[str, dict[str, Difference]]:
    found: dict[str, dict[str, Difference]] = {}
    for name, baseline in scores.baselines.items():
        shared = {
            metric: (scores.metrics[metric], theirs)
            for metric, theirs in baseline.items()
            if metric in scores.metrics and scores.metrics[metric].has_members_of(theirs)
        }
        if shared:
            found[name] = differences(shared)
    return found
