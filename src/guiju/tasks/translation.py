"""Translation: sacrebleu's BLEU and chrF++ with their signatures, and BLEU over lower-cased tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from guiju.tasks.estimates import Floats, Statistic
from guiju.tasks.extras import import_extra
from guiju.tasks.records import Pair
from guiju.tasks.samples import Sample, Scores

_PROMPTS = {
    "en": "Translate into {target}.\n\n{source}\n\n{target}:",
    "zh": "请翻译成{target}。\n\n{source}\n\n{target}：",
    "de": "Übersetze ins {target}.\n\n{source}\n\n{target}:",
}
_TARGETS = {
    "en": {"en": "English", "zh": "Chinese", "de": "German"},
    "zh": {"en": "英文", "zh": "中文", "de": "德文"},
    "de": {"en": "Englische", "zh": "Chinesische", "de": "Deutsche"},
}


class Translation:
    """A source and its translations; `language` is that of the translations."""

    name = "translation"
    kind = Pair
    main = "chrf++"
    new_tokens = 128

    def prompt(self, record: Pair, language: str) -> str:
        return _PROMPTS[language].format(source=record.source, target=_TARGETS[language][language])

    def source(self, record: Pair) -> str:
        return record.source

    def read(self, text: str, record: Pair) -> str | None:
        """The first paragraph: models that go on with text begin a new one where they are done."""
        return text.strip().split("\n")[0].strip() or None

    def score(self, samples: Sequence[Sample], language: str, **given: Any) -> Scores:
        predictions = [sample.prediction or "" for sample in samples]
        references = [sample.record.targets for sample in samples if isinstance(sample.record, Pair)]
        metrics, signatures = corpus_metrics(predictions, references, language)
        by_one = metrics["chrf++"]
        marks = [{"chrf++": by_one.of_sums(row) / 100} for row in by_one.rows]
        return Scores(metrics, marks, signatures=signatures)


def corpus_metrics(
    predictions: Sequence[str], references: Sequence[Sequence[str]], language: str
) -> tuple[dict[str, Statistic], dict[str, str]]:
    """BLEU, chrF++ and BLEU over lower-cased tokens, 0 to 100; and under which signature each was computed.

    `bleu_tokenised` is what papers on Multi30k give: text lower-cased and cut as the Moses tokenizer does (here by
    sacrebleu's 13a rules, which are those of mteval), no smoothing, as multi-bleu.perl. It compares with no other BLEU.

    Args:
        references: one or several of each prediction.
        language: of the text: Chinese is cut by character.
    Raises:
        ConfigError: sacrebleu is not installed.
    """
    sacrebleu = import_extra("sacrebleu.metrics", "BLEU")
    cut = "zh" if language == "zh" else "13a"
    scorers = {
        "bleu": sacrebleu.BLEU(tokenize=cut, force=True),
        "chrf++": sacrebleu.CHRF(word_order=2),
        "bleu_tokenised": sacrebleu.BLEU(tokenize=cut, lowercase=True, smooth_method="none", force=True),
    }
    most = max(map(len, references), default=1)
    streams = [[row[place] if place < len(row) else None for row in references] for place in range(most)]
    metrics, signatures = {}, {}
    for name, scorer in scorers.items():
        rows = scorer._extract_corpus_statistics(list(predictions), streams)
        metrics[name] = Statistic(np.array(rows, dtype=np.float64), _Score(scorer))
        signatures[name] = str(scorer.get_signature())
    return metrics, signatures


class _Score:
    """sacrebleu's own arithmetic from summed counts to a score."""

    def __init__(self, scorer: Any) -> None:
        self.scorer = scorer

    def __call__(self, sums: Floats) -> float:
        return float(self.scorer._compute_score_from_stats(sums.astype(int).tolist()).score)
