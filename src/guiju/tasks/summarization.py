"""Summaries: ROUGE, whether they keep to their source, and beside them what copying whole sentences reaches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from guiju.tasks.consistency import Faithfulness, check_faithfulness
from guiju.tasks.estimates import Statistic, mean, rate
from guiju.tasks.records import Pair
from guiju.tasks.rouge import TYPES, lead, oracle, rouge_scores
from guiju.tasks.samples import Sample, Scores

_PROMPTS = {
    "en": "Summarise the text in one sentence.\n\n{source}\n\nSummary:",
    "zh": "请用一句话概括下文。\n\n{source}\n\n概括：",
    "de": "Fasse den Text in einem Satz zusammen.\n\n{source}\n\nZusammenfassung:",
}


class Summarization:
    """A text and its summaries."""

    name = "summarization"
    kind = Pair
    main = "rougeL"
    new_tokens = 96

    def prompt(self, record: Pair, language: str) -> str:
        return _PROMPTS[language].format(source=record.source)

    def source(self, record: Pair) -> str:
        return record.source

    def read(self, text: str, record: Pair) -> str | None:
        """The first paragraph: models that go on with text begin a new one where they are done."""
        return text.strip().split("\n\n")[0].strip() or None

    def score(self, samples: Sequence[Sample], language: str, **given: Any) -> Scores:
        pairs = [sample.record for sample in samples if isinstance(sample.record, Pair)]
        references = [pair.targets for pair in pairs]
        metrics, marks = self._metrics([sample.prediction or "" for sample in samples], pairs, language)
        leads = [lead(pair.source) for pair in pairs]
        oracles = [oracle(pair.source, pair.targets) for pair in pairs]
        baselines: dict[str, dict[str, Statistic]] = {
            "lead": _rouge_means(rouge_scores(leads, references)),
            "oracle": _rouge_means(rouge_scores(oracles, references)),
            # What people wrote does not always pass either: that is as far as the check carries.
            "references": _kept([(pair.targets[0], pair) for pair in pairs], language)[0],
        }
        return Scores(metrics, marks, baselines)

    def _metrics(
        self, predictions: Sequence[str], pairs: Sequence[Pair], language: str
    ) -> tuple[dict[str, Statistic], list[dict[str, float]]]:
        scores = rouge_scores(predictions, [pair.targets for pair in pairs])
        kept, found = _kept(list(zip(predictions, pairs, strict=True)), language)
        marks = [
            {"rougeL": score["rougeL"], "consistent": float(bool(prediction) and one.consistent)}
            for score, one, prediction in zip(scores, found, predictions, strict=True)
        ]
        return {**_rouge_means(scores), **kept}, marks


def _rouge_means(scores: Sequence[dict[str, float]]) -> dict[str, Statistic]:
    return {name: mean([score[name] for score in scores]) for name in TYPES}


def _kept(summaries: Sequence[tuple[str, Pair]], language: str) -> tuple[dict[str, Statistic], list[Faithfulness]]:
    """The share of summaries in which numbers, names and negation are all borne out. No summary keeps nothing."""
    found = [check_faithfulness(summary, pair.source, language) for summary, pair in summaries]
    there = [bool(summary.strip()) for summary, _ in summaries]
    return {
        "numbers_kept": rate([here and not one.numbers for here, one in zip(there, found, strict=True)]),
        "names_kept": rate([here and not one.names for here, one in zip(there, found, strict=True)]),
        "negation_kept": rate([here and not one.negations for here, one in zip(there, found, strict=True)]),
        "consistent": rate([here and one.consistent for here, one in zip(there, found, strict=True)]),
    }, found
