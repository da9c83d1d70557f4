"""ROUGE by Google's rouge-score, with a tokenizer that keeps Chinese, which its own drops."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from guiju.tasks.extras import import_extra
from guiju.tasks.languages import is_chinese

TYPES = ("rouge1", "rouge2", "rougeL")

_TOKEN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W_\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")


class RougeTokenizer:
    """Words in lower case, and each Chinese character by itself. English is cut as by rouge-score without stemming."""

    def tokenize(self, text: str) -> list[str]:
        return _TOKEN.findall(text.lower())


def rouge_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[dict[str, float]]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L of each prediction, 0 to 1; with several references the best of each.

    Raises:
        ConfigError: rouge-score is not installed.
    """
    scorer: Any = import_extra("rouge_score.rouge_scorer", "ROUGE").RougeScorer(TYPES, tokenizer=RougeTokenizer())
    found = []
    for prediction, targets in zip(predictions, references, strict=True):
        scored = scorer.score_multi(list(targets), prediction)
        found.append({name: float(scored[name].fmeasure) for name in TYPES})
    return found


_END = re.compile(
    r"(?<=[。！？!?；])\s*"
    r"|(?<=[.!?])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\Wa-z_])"
    r"|(?<=[\u4e00-\u9fff）)][.;])(?=[\u4e00-\u9fff])"  # journals set Western full stops between Chinese sentences
)


def sentences(text: str) -> list[str]:
    """The sentences of a text: after 。！？； at once, after . ! ? where a space and no small letter follow; lines."""
    parts = [part.strip() for line in text.splitlines() for part in _END.split(line)]
    return [part for part in parts if part]


def lead(text: str, count: int = 1) -> str:
    """The first sentences: a summary that takes no skill, and is hard to beat in news."""
    return _joined(sentences(text)[:count])


def oracle(text: str, references: Sequence[str], count: int = 1) -> str:
    """The sentences, `count` at most, that are nearest to a reference by ROUGE-1 and ROUGE-2, taken greedily: about the
    most that copying whole sentences can reach (Nallapati et al. 2017)."""
    cut = RougeTokenizer().tokenize
    wanted = [_grams(cut(reference)) for reference in references]
    tokens = [(sentence, cut(sentence)) for sentence in sentences(text)]
    chosen: list[int] = []
    best = 0.0
    while len(chosen) < count:
        scored = [
            (max(_near(_grams([t for i in (*chosen, place) for t in tokens[i][1]]), one) for one in wanted), -place)
            for place in range(len(tokens))
            if place not in chosen
        ]
        if not scored or max(scored)[0] <= best:
            break
        best, place = max(scored)
        chosen.append(-place)
    return _joined([tokens[place][0] for place in sorted(chosen)])


def _joined(parts: Sequence[str]) -> str:
    return "".join(part if part and is_chinese(part[0]) else f" {part}" for part in parts).strip()


def _grams(tokens: Sequence[str]) -> tuple[set[str], set[tuple[str, str]]]:
    return set(tokens), set(itertools.pairwise(tokens))


def _near(one: tuple[set[Any], set[Any]], other: tuple[set[Any], set[Any]]) -> float:
    return sum(2 * len(a & b) / (len(a) + len(b)) for a, b in zip(one, other, strict=True) if a and b)
