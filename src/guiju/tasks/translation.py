"""Translation: sacrebleu's BLEU and chrF++ with their signatures, and BLEU over lower-cased tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guiju.tasks.estimates import Floats, Statistic
from guiju.tasks.extras import import_extra
from guiju.tasks.records import Pair
from guiju.tasks.samples import Samples, Scores

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


_AT_ONCE = 200
"""Answers whose words are counted together."""


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

    def score(self, samples: Samples, language: str, **given: Any) -> Scores:
        answers = (
            (sample.prediction or "", sample.record.targets) for sample in samples if isinstance(sample.record, Pair)
        )
        metrics, signatures = corpus_metrics(answers, len(samples), language)
        by_one = metrics["chrf++"]
        marks = np.fromiter((by_one.of_sums(row) / 100 for row in by_one.rows), np.float64, len(samples))
        return Scores(metrics, {"chrf++": marks}, signatures=signatures)


def corpus_metrics(
    answers: Iterable[tuple[str, Sequence[str]]], count: int, language: str
) -> tuple[dict[str, Statistic], dict[str, str]]:
    """BLEU, chrF++ and BLEU over lower-cased tokens, 0 to 100; and under which signature each was computed.

    `bleu_tokenised` is what papers on Multi30k give: text lower-cased and cut as the Moses tokenizer does (here by
    sacrebleu's 13a rules, which are those of mteval), no smoothing, as multi-bleu.perl. It compares with no other BLEU.

    Args:
        answers: each prediction with its references, one or several; read a part at a time.
        count: how many answers there are.
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
    waiting, done, most = iter(answers), 0, 1
    references_each: set[int] = set()
    rows: dict[str, NDArray[np.int32]] = {}
    while part := list(itertools.islice(waiting, _AT_ONCE)):
        most = max(most, *(len(references) for _, references in part))
        streams = [[row[place] if place < len(row) else None for _, row in part] for place in range(most)]
        for name, scorer in scorers.items():
            found = scorer._extract_corpus_statistics([prediction for prediction, _ in part], streams)
            rows.setdefault(name, np.zeros((count, len(found[0])), np.int32))[done : done + len(part)] = found
            references_each.add(scorer.num_refs)
            _forget_lines(scorer)
        done += len(part)
    for scorer in scorers.values():  # each part told its own; the signature is for all of them
        scorer.num_refs = min(references_each) if len(references_each) == 1 else -1
    metrics = {name: Statistic(rows[name], _Score(scorer)) for name, scorer in scorers.items()}
    return metrics, {name: str(scorer.get_signature()) for name, scorer in scorers.items()}


def _forget_lines(scorer: Any) -> None:
    """sacrebleu keeps the last 65,536 lines that each of its tokenizers has cut, however long they are."""
    cutter = getattr(scorer, "tokenizer", None)
    for one in (cutter, getattr(cutter, "_post_tokenizer", None)):
        forget = getattr(type(one).__call__, "cache_clear", None)
        if forget is not None:
            forget()


class _Score:
    """sacrebleu's own arithmetic from summed counts to a score."""

    def __init__(self, scorer: Any) -> None:
        self.scorer = scorer

    def __call__(self, sums: Floats) -> float:
        return float(self.scorer._compute_score_from_stats(sums.astype(int).tolist()).score)
