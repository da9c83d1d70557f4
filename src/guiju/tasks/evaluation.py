"""A task put to a model, or to answers made elsewhere: samples kept one by one, figures with n and interval."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from guiju.errors import ConfigError, DataError
from guiju.settings import to_mapping
from guiju.storage import write_json, write_text
from guiju.tasks.asking import Asker
from guiju.tasks.estimates import Difference, Estimate, Statistic, difference, estimate
from guiju.tasks.languages import language_of
from guiju.tasks.linear import linear_probabilities
from guiju.tasks.predictions import predicted_samples
from guiju.tasks.programming import Programming
from guiju.tasks.question_answering import QuestionAnswering
from guiju.tasks.records import CodeProblem, Labelled, Pair, Question, Record
from guiju.tasks.samples import Sample, Scores, Task
from guiju.tasks.sandbox import require_sandbox
from guiju.tasks.sentiment import Sentiment
from guiju.tasks.settings import TaskSettings
from guiju.tasks.store import RESULT, TABLE, SampleLog, require_same, write_samples
from guiju.tasks.summarization import Summarization
from guiju.tasks.table import sample_table
from guiju.tasks.translation import Translation

if TYPE_CHECKING:
    from guiju.providers import LanguageModel

_ALL: tuple[Task, ...] = (Translation(), Summarization(), QuestionAnswering(), Programming(), Sentiment())
TASKS: Mapping[str, Task] = {task.name: task for task in _ALL}


class Reporter(Protocol):
    """Who is told how far it has come."""

    def stage(self, name: str, status: str, why: str) -> None: ...
    def progress(self, done: int, total: int, label: str) -> None: ...
    def note(self, text: str) -> None: ...


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


def collect(records: Iterable[Record], limit: int | None) -> list[Record]:
    """The records that are asked.

    Raises:
        DataError: two have the same id, so that nobody could tell whose an answer is.
    """
    found: dict[str, Record] = {}
    for record in records:
        if limit is not None and len(found) == limit:
            break
        if record.id in found:
            raise DataError(f"{record.place} has the id {record.id!r}, which {found[record.id].place} has, too")
        found[record.id] = record
    if not found:
        raise DataError("there is no record to measure with")
    return list(found.values())


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
        records: of the task's kind.
        predictions: each id's answer and its place, as read_predictions gives them; in place of a model.
        train: labelled texts from which a simple classifier learns, to stand beside a sentiment's figures.
        out: a folder for samples, result and table. What a model has answered there before is not asked again.
    Raises:
        ConfigError: neither a model nor predictions are given, or both; or the folder holds something else.
        DataError: the data, or the predictions for it, cannot be used as they are.
        ModelError: the model cannot do the task, or failed; what it answered before is kept.
    """
    settings, chosen = settings or TaskSettings(), task_named(task)
    # Which classes there are is asked of all the data: a model chooses among them, however few are put to it.
    held = collect(records, None if chosen.kind is Labelled else settings.limit)
    labels = sorted({record.label for record in held if isinstance(record, Labelled)})
    held = held[: settings.limit]
    language = settings.language if settings.language != "auto" else language_of(_told_by(held))
    if (model is None) == (predictions is None):
        raise ConfigError("give either a model or predictions, and not both")
    if isinstance(chosen, Programming):
        require_sandbox()  # before anybody is asked
    elif settings.tries > 1:
        raise ConfigError(f"tries is {settings.tries}, but several programs are written for the task code alone")
    if model is None:
        assert predictions is not None
        samples = predicted_samples(chosen, held, predictions, settings.limit is None)
        if isinstance(chosen, Programming):
            samples = list(_all_judged(samples, reporter))
        if out is not None:
            require_same(out, _identity(chosen, settings, language, labels, None))
            write_samples(out, _identity(chosen, settings, language, labels, None), samples)
    else:
        samples = _asked(chosen, held, labels, model, settings, language, out, reporter)
    result, marks = score_samples(chosen, samples, language, train=train, folder=out)
    if out is not None:
        write_json(out / RESULT, result.to_json())
        write_text(out / TABLE, sample_table(chosen, result, samples, marks))
    return result


def score_samples(
    task: Task, samples: Sequence[Sample], language: str, train: Sequence[Labelled] = (), folder: Path | None = None
) -> tuple[TaskResult, Sequence[Mapping[str, float]]]:
    """The figures of samples, and what each sample scored by itself."""
    given: dict[str, Any] = {}
    if train and isinstance(task, Sentiment):
        asked = [sample.record.text for sample in samples if isinstance(sample.record, Labelled)]
        given["baseline"] = linear_probabilities(
            [one.text for one in train], [one.label for one in train], asked, language
        )
    scores = task.score(samples, language, **given)
    result = TaskResult(
        task=task.name,
        n=len(samples),
        metrics=_estimates(scores.metrics),
        language=language,
        unanswered=sum(sample.prediction is None for sample in samples),
        refused=sum(sample.status == "refused" for sample in samples),
        baselines={name: _estimates(metrics) for name, metrics in scores.baselines.items()},
        gaps=_gaps(scores),
        groups={name: _estimates(metrics) for name, metrics in scores.groups.items()},
        signatures=scores.signatures,
        folder=folder,
    )
    return result, scores.marks


def _asked(
    task: Task,
    records: Sequence[Record],
    labels: Sequence[str],
    model: LanguageModel,
    settings: TaskSettings,
    language: str,
    out: Path | None,
    reporter: Reporter | None,
) -> list[Sample]:
    """A sample of each record, in their order; those that are in the folder already are not asked again."""
    if reporter is not None:
        reporter.stage("asking", "", f"{model.reference}: {task.name}, {len(records)} samples")
    with closing(Asker(task, model, settings, language, labels)) as asker:
        if out is None:
            found = {sample.record.id: sample for sample in _answers(asker, records, 0, len(records), reporter)}
            return [found[record.id] for record in records]
        with SampleLog(out, _identity(task, settings, language, labels, model)) as log:
            missing = [record for record in records if not _is_there(record, log)]
            done = len(records) - len(missing)
            if done and reporter is not None:
                reporter.note(f"{done} of {len(records)} samples are there already, in {out}")
            for sample in _answers(asker, missing, done, len(records), reporter):
                log.add(sample)
            return [log.samples[record.id] for record in records]


def _is_there(record: Record, log: SampleLog) -> bool:
    """Whether a record has been answered already.

    Raises:
        ConfigError: the answer is to another record of the same id.
    """
    sample = log.samples.get(record.id)
    if sample is not None and replace(sample.record, place="") != replace(record, place=""):
        raise ConfigError(
            f"{log.folder} holds an answer to {record.id!r}, but of other data than {record.place}: mixed, they would "
            "be nobody's figures. Give another folder with --out"
        )
    return sample is not None


def _answers(
    asker: Asker, records: Sequence[Record], done: int, total: int, reporter: Reporter | None
) -> Iterable[Sample]:
    samples: Iterable[Sample] = asker.ask(records)
    for sample in samples:
        # Judged before the next one is asked for, so that a model that fails takes no finished sample with it.
        yield from _all_judged([sample]) if isinstance(asker.task, Programming) else [sample]
        done += 1
        if reporter is not None:
            reporter.progress(done, total, f"{done} of {total} samples")


def _all_judged(samples: Sequence[Sample], reporter: Reporter | None = None) -> Iterable[Sample]:
    """The same with the verdicts of their programs' tests, as many at once as there are cores."""
    from guiju.tasks.code import check_all

    if reporter is not None:
        reporter.stage("testing", "", f"{len(samples)} problems")
    tries = [[one for one in sample.details.get("tries", []) if one.strip()] for sample in samples]
    pairs = [(sample.record, one) for sample, row in zip(samples, tries, strict=True) for one in row]
    verdicts = check_all((problem, one) for problem, one in pairs if isinstance(problem, CodeProblem))
    for done, (sample, row) in enumerate(zip(samples, tries, strict=True), start=1):
        told = [{"status": one.status, "detail": one.detail[:2000]} for one in itertools.islice(verdicts, len(row))]
        told += [{"status": "empty", "detail": ""}] * (len(sample.details.get("tries", [])) - len(row))
        yield replace(sample, details={**sample.details, "verdicts": told})
        if reporter is not None:
            reporter.progress(done, len(samples), f"{done} of {len(samples)} problems")


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


def _told_by(records: Sequence[Record]) -> Iterable[str]:
    """The texts by which the language of the answers is told."""
    for record in records:
        if isinstance(record, Pair):
            yield from record.targets
        elif isinstance(record, Question):
            yield f"{record.question} {record.context}"
        elif isinstance(record, Labelled):
            yield record.text
        elif isinstance(record, CodeProblem):
            yield record.prompt


def _estimates(metrics: Mapping[str, Statistic]) -> dict[str, Estimate]:
    return {name: estimate(statistic) for name, statistic in metrics.items()}


def _gaps(scores: Scores) -> dict[str, dict[str, Difference]]:
    found: dict[str, dict[str, Difference]] = {}
    for name, baseline in scores.baselines.items():
        for metric, theirs in baseline.items():
            ours = scores.metrics.get(metric)
            if ours is not None and ours.members == theirs.members:
                found.setdefault(name, {})[metric] = difference(ours, theirs)
    return found
