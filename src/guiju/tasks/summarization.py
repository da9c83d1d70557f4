"""Summaries: ROUGE, whether they keep to their source, and beside them what copying whole sentences reaches."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from guiju.tasks.consistency import check_faithfulness
from guiju.tasks.estimates import Statistic, mean, rate
from guiju.tasks.records import Pair
from guiju.tasks.rouge import TYPES, lead, oracle, rouge_scores
from guiju.tasks.samples import Samples, Scores

KEPT = ("numbers_kept", "names_kept", "negation_kept", "consistent")

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

    def score(self, samples: Samples, language: str, **given: Any) -> Scores:
        found = {name: _Found(language) for name in ("answers", "lead", "oracle", "references")}
        for sample in samples:
            pair = sample.record
            assert isinstance(pair, Pair)
            found["answers"].note_rouge(sample.prediction or "", pair)
            found["answers"].note_kept(sample.prediction or "", pair)
            found["lead"].note_rouge(lead(pair.source), pair)
            found["oracle"].note_rouge(oracle(pair.source, pair.targets), pair)
            # What people wrote does not always pass either: that is as far as the check carries.
            found["references"].note_kept(pair.targets[0], pair)
        answers = found.pop("answers")
        marks = {
            "rougeL": np.asarray(answers.rouge["rougeL"]),
            "consistent": np.asarray(answers.kept["consistent"], np.float64),
        }
        return Scores(answers.metrics(), marks, {name: one.metrics() for name, one in found.items()})


class _Found:
    """What summaries of one kind score, sample by sample."""

    def __init__(self, language: str) -> None:
        self.language = language
        self.rouge = {name: array("d") for name in TYPES}
        self.kept = {name: array("B") for name in KEPT}

    def note_rouge(self, summary: str, pair: Pair) -> None:
        [scores] = rouge_scores([summary], [pair.targets])
        for name, held in self.rouge.items():
            held.append(scores[name])

    def note_kept(self, summary: str, pair: Pair) -> None:
        """Whether numbers, names and negation are all borne out. No summary keeps nothing."""
        found = check_faithfulness(summary, pair.source, self.language)
        here = bool(summary.strip())
        for name, bad in zip(KEPT, (found.numbers, found.names, found.negations, not found.consistent), strict=True):
            self.kept[name].append(here and not bad)

    def metrics(self) -> dict[str, Statistic]:
        rouge = {name: mean(held) for name, held in self.rouge.items() if held}
        return {**rouge, **{name: rate(held) for name, held in self.kept.items() if held}}
