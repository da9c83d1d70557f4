"""Sentiment: accuracy, macro-F1 and calibration, by group, beside logistic regression over words."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guiju.tasks.estimates import Floats, Statistic, rate
from guiju.tasks.labels import label_word, match_label
from guiju.tasks.records import Labelled
from guiju.tasks.samples import Sample, Samples, Scores

Integers = NDArray[Any]

BINS = 15
"""Of confidence, from 0 to 1, equally wide (Guo et al. 2017, arXiv:1706.04599)."""

_PROMPTS = {"en": "Review: {text}\nSentiment:", "zh": "评论：{text}\n情感：", "de": "Bewertung: {text}\nStimmung:"}


class Sentiment:
    """A text and its class. Any classes will do, not only positive and negative."""

    name = "sentiment"
    kind = Labelled
    main = "accuracy"
    new_tokens = 8

    def prompt(self, record: Labelled, language: str) -> str:
        return _PROMPTS[language].format(text=record.text)

    def source(self, record: Labelled) -> str:
        return record.text

    def read(self, text: str, record: Labelled) -> str | None:
        """The first word; which label it means is decided against the labels of the whole set."""
        found = re.search(r"[\w+-]+", text)
        return found.group() if found else None

    def continuation(self, label: str, language: str) -> str:
        """What stands for a label behind the prompt."""
        word = label_word(label, language)
        return word if language == "zh" else f" {word}"

    def score(
        self,
        samples: Samples,
        language: str,
        *,
        baseline: tuple[Sequence[str], Floats] | None = None,
        **given: Any,
    ) -> Scores:
        """`baseline`: what logistic regression says of each text: its classes, and (n, classes) probabilities."""
        labels = sorted({sample.record.label for sample in samples if isinstance(sample.record, Labelled)})
        answers = _Answers(samples, labels)
        metrics = _metrics(answers.truth, answers.said, answers.table, answers.rows, labels)
        right = answers.truth == answers.said
        baselines: dict[str, dict[str, Statistic]] = {}
        if baseline is not None:
            classes, table = baseline
            said = np.array([_place(one, labels) for one in classes])[table.argmax(axis=1)]
            columns = [list(classes).index(label) if label in classes else None for label in labels]
            nothing = np.zeros(len(table))
            table = np.stack([nothing if one is None else table[:, one] for one in columns], axis=1)
            baselines["tfidf-logistic-regression"] = _metrics(answers.truth, said, table, None, labels)
        groups = {group: {"accuracy": rate(right[held], held)} for group, held in sorted(answers.groups.items())}
        return Scores(metrics, {"accuracy": right.astype(np.float64)}, baselines, groups)


class _Answers:
    """What samples hold, in numbers: labels as their places in the list of them, -1 for none of these."""

    def __init__(self, samples: Samples, labels: Sequence[str]) -> None:
        truth, said, rows, table = array("i"), array("i"), array("i"), array("d")
        groups: dict[str, array[int]] = {}
        for number, sample in enumerate(samples):
            record = sample.record
            assert isinstance(record, Labelled)
            truth.append(labels.index(record.label))
            said.append(-1 if sample.prediction is None else _place(match_label(sample.prediction, labels), labels))
            probabilities = _probabilities(sample, labels)
            if probabilities is not None:
                rows.append(number)
                table.extend(probabilities)
            for name, value in (*record.groups.items(), ("label", record.label)):
                groups.setdefault(f"{name}: {value}", array("i")).append(number)
        self.truth, self.said = np.asarray(truth), np.asarray(said)
        self.table = np.asarray(table).reshape(-1, len(labels))
        """(m, labels) probabilities of those samples that have some, (m,) `rows`."""
        self.rows = None if len(rows) == len(truth) else np.asarray(rows)
        self.groups = {name: np.asarray(held) for name, held in groups.items()}
        """Accuracy is told within each group, and within each class, where a model may know one and not the other."""


def _place(label: str | None, labels: Sequence[str]) -> int:
    return labels.index(label) if label in labels else -1


def _probabilities(sample: Sample, labels: Sequence[str]) -> list[float] | None:
    given = sample.details.get("probabilities")
    if not isinstance(given, Mapping):
        return None
    named = {match_label(str(name), labels): float(value) for name, value in given.items()}
    return [named.get(label, 0.0) for label in labels]


def _metrics(
    truth: Integers, said: Integers, table: Floats, rows: Integers | None, labels: Sequence[str]
) -> dict[str, Statistic]:
    """
    Args:
        truth, said: (n,) places of labels.
        table: (m, labels) probabilities of the samples `rows`; None for all.
    """
    right = truth == said
    metrics = {"accuracy": rate(right), "macro_f1": _f1_of_places(truth, said, len(labels))}
    if len(table):
        held = slice(None) if rows is None else rows
        metrics["ece"] = calibration_error(table, right[held], rows)
        metrics["brier"] = brier(table, truth[held], rows)
    return metrics


def macro_f1(truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]) -> Statistic:
    """The mean over the data's classes of each one's F1, so that a rare class counts as much as a common one."""
    wanted, said = (np.array([_place(one, labels) for one in held]) for held in (truth, predicted))
    return _f1_of_places(wanted, said, len(labels))


def _f1_of_places(truth: Integers, said: Integers, labels: int) -> Statistic:
    rows = np.zeros((len(truth), labels, 3), np.uint8)  # true positive, falsely said, missed
    numbers, right, known = np.arange(len(truth)), truth == said, said >= 0
    rows[numbers[right], truth[right], 0] = 1
    rows[numbers[~right], truth[~right], 2] = 1
    rows[numbers[~right & known], said[~right & known], 1] = 1
    return Statistic(rows.reshape(len(truth), -1), _macro_f1)


def _macro_f1(sums: Floats) -> float:
    hit, said, missed = sums.reshape(-1, 3).T
    whole = 2 * hit + said + missed
    there = whole > 0  # samples drawn anew may lack a class
    return float((2 * hit[there] / whole[there]).mean()) if there.any() else 0.0


def calibration_error(table: Floats, right: NDArray[np.bool_], members: Any = None) -> Statistic:
    """How far confidence is from accuracy, in the mean over samples: the expected calibration error over BINS bins.

    Args:
        table: (n, labels) probabilities.
        right: (n,) whether the answer was.
    """
    confidence = table.max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    rows = np.zeros((len(table), BINS + 1))
    rows[np.arange(len(table)), bins] = confidence - right
    rows[:, BINS] = 1  # so that the sums hold n
    return Statistic(rows, _calibration_error, members=members, better="lower")


def _calibration_error(sums: Floats) -> float:
    return float(np.abs(sums[:BINS]).sum() / sums[BINS])


def brier(table: Floats, wanted: Integers, members: Any = None) -> Statistic:
    """The mean squared distance of the probabilities from what is so (Brier 1950), 0 to 1 for two classes, where it is
    that of the one class alone; 0 to 2 for more."""
    truth = np.zeros_like(table)
    truth[np.arange(len(table)), wanted] = 1
    squares = ((table - truth) ** 2).sum(axis=1) * (0.5 if table.shape[1] <= 2 else 1.0)
    rows = np.stack([squares, np.ones(len(table))], axis=1)
    return Statistic(rows, lambda sums: float(sums[0] / sums[1]), members=members, better="lower")
