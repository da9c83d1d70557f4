"""Sentiment: accuracy, macro-F1 and calibration, by group, beside logistic regression over words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from guiju.tasks.estimates import Floats, Statistic, rate
from guiju.tasks.labels import label_word, match_label
from guiju.tasks.records import Labelled
from guiju.tasks.samples import Sample, Scores

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
        samples: Sequence[Sample],
        language: str,
        *,
        baseline: Sequence[Mapping[str, float]] | None = None,
        **given: Any,
    ) -> Scores:
        """`baseline`: what logistic regression says of each text, label to probability."""
        records = [sample.record for sample in samples if isinstance(sample.record, Labelled)]
        truth = [record.label for record in records]
        labels = sorted(set(truth))
        predicted = [_predicted(sample, labels) for sample in samples]
        metrics = _metrics(truth, predicted, [_probabilities(sample, labels) for sample in samples], labels)
        marks = [{"accuracy": float(one == two)} for one, two in zip(truth, predicted, strict=True)]
        baselines: dict[str, dict[str, Statistic]] = {}
        if baseline is not None:
            likeliest = [max(row, key=lambda label: row[label]) for row in baseline]
            rows: list[list[float] | None] = [[row.get(label, 0.0) for label in labels] for row in baseline]
            baselines["tfidf-logistic-regression"] = _metrics(truth, likeliest, rows, labels)
        return Scores(metrics, marks, baselines, _by_group(records, truth, predicted))


def _predicted(sample: Sample, labels: Sequence[str]) -> str | None:
    return None if sample.prediction is None else match_label(sample.prediction, labels)


def _probabilities(sample: Sample, labels: Sequence[str]) -> list[float] | None:
    given = sample.details.get("probabilities")
    if not isinstance(given, Mapping):
        return None
    named = {match_label(str(name), labels): float(value) for name, value in given.items()}
    return [named.get(label, 0.0) for label in labels]


def _metrics(
    truth: Sequence[str],
    predicted: Sequence[str | None],
    probabilities: Sequence[list[float] | None],
    labels: Sequence[str],
) -> dict[str, Statistic]:
    right = [one == two for one, two in zip(truth, predicted, strict=True)]
    metrics = {"accuracy": rate(right), "macro_f1": macro_f1(truth, predicted, labels)}
    held = [place for place, row in enumerate(probabilities) if row is not None]
    if held:
        table = np.array([probabilities[place] for place in held], dtype=np.float64)
        wanted = np.array([labels.index(truth[place]) for place in held])
        members = None if len(held) == len(truth) else tuple(held)
        metrics["ece"] = calibration_error(table, np.array([right[place] for place in held]), members)
        metrics["brier"] = brier(table, wanted, members)
    return metrics


def macro_f1(truth: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]) -> Statistic:
    """The mean over the data's classes of each one's F1, so that a rare class counts as much as a common one."""
    rows = np.zeros((len(truth), len(labels), 3))  # true positive, falsely said, missed
    places = {label: place for place, label in enumerate(labels)}
    for row, one, two in zip(rows, truth, predicted, strict=True):
        if one == two:
            row[places[one], 0] = 1
            continue
        row[places[one], 2] = 1
        if two in places:
            row[places[two], 1] = 1
    return Statistic(rows.reshape(len(truth), -1), _macro_f1)


def _macro_f1(sums: Floats) -> float:
    hit, said, missed = sums.reshape(-1, 3).T
    whole = 2 * hit + said + missed
    there = whole > 0  # samples drawn anew may lack a class
    return float((2 * hit[there] / whole[there]).mean()) if there.any() else 0.0


def calibration_error(table: Floats, right: Floats, members: tuple[int, ...] | None = None) -> Statistic:
    """How far confidence is from accuracy, in the mean over samples: the expected calibration error over BINS bins.

    Args:
        table: (n, labels) probabilities.
        right: (n,) whether the answer was.
    """
    confidence = table.max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    rows = np.zeros((len(table), BINS, 2))
    rows[np.arange(len(table)), bins, 0] = confidence - right
    rows[:, :, 1] = 1 / BINS  # so that the sums hold n
    return Statistic(rows.reshape(len(table), -1), _calibration_error, members=members, better="lower")


def _calibration_error(sums: Floats) -> float:
    gaps, counts = sums.reshape(-1, 2).T
    return float(np.abs(gaps).sum() / counts.sum())


def brier(table: Floats, wanted: Floats, members: tuple[int, ...] | None = None) -> Statistic:
    """The mean squared distance of the probabilities from what is so (Brier 1950), 0 to 1 for two classes, where it is
    that of the one class alone; 0 to 2 for more."""
    truth = np.zeros_like(table)
    truth[np.arange(len(table)), wanted] = 1
    squares = ((table - truth) ** 2).sum(axis=1) * (0.5 if table.shape[1] <= 2 else 1.0)
    rows = np.stack([squares, np.ones(len(table))], axis=1)
    return Statistic(rows, lambda sums: float(sums[0] / sums[1]), members=members, better="lower")


def _by_group(
    records: Sequence[Labelled], truth: Sequence[str], predicted: Sequence[str | None]
) -> dict[str, dict[str, Statistic]]:
    """Accuracy within each group, and within each class, where a model may know one and not the other."""
    places: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        for name, value in (*record.groups.items(), ("label", record.label)):
            places.setdefault(f"{name}: {value}", []).append(place)
    return {
        group: {"accuracy": rate([truth[place] == predicted[place] for place in held], held)}
        for group, held in sorted(places.items())
    }
