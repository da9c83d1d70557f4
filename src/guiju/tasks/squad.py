"""Exact match and F1 of answers by the rules of SQuAD (Rajpurkar et al. 2016, 2018) and CMRC 2018 (Cui et al. 2019)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from guiju.tasks.extras import import_extra

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)

_CMRC_MARKS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""What CMRC's script leaves out. It means to leave out `……` too, but looks at one character at a time, so it stays."""

_CMRC_CHINESE = re.compile(r"[\u4e00-\u9fa5]")


def squad_normal(text: str) -> str:
    """Lower case, without ASCII punctuation, without English articles, with single spaces."""
    kept = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", kept).split())


def squad_exact(prediction: str, answers: Sequence[str]) -> float:
    """1 where the prediction is one of the answers, else 0. No answers means that there is none: "" is then right."""
    normal = squad_normal(prediction)
    return float(any(normal == squad_normal(answer) for answer in answers or [""]))


def squad_f1(prediction: str, answers: Sequence[str]) -> float:
    """The best F1 over the answers, by words: harmonic mean of precision and recall of the words both have."""
    words = squad_normal(prediction).split()
    return max(_f1(words, squad_normal(answer).split()) for answer in answers or [""])


def _f1(predicted: Sequence[str], wanted: Sequence[str]) -> float:
    if not predicted or not wanted:  # SQuAD 2: no answer agrees with no answer alone
        return float(not predicted and not wanted)
    return _harmonic(sum((Counter(predicted) & Counter(wanted)).values()), len(predicted), len(wanted))


def cmrc_normal(text: str) -> str:
    """Lower case, without CMRC's marks."""
    return "".join(character for character in text.lower().strip() if character not in _CMRC_MARKS)


def cmrc_exact(prediction: str, answers: Sequence[str]) -> float:
    """1 where the prediction is one of the answers, else 0. No answers means that there is none: "" is then right."""
    normal = cmrc_normal(prediction)
    return float(any(normal == cmrc_normal(answer) for answer in answers or [""]))


def cmrc_f1(prediction: str, answers: Sequence[str]) -> float:
    """The best F1 over the answers, by the longest run of tokens that both have."""
    tokens = cmrc_tokens(prediction)
    return max(_run_f1(tokens, cmrc_tokens(answer)) for answer in answers or [""])


def cmrc_tokens(text: str) -> list[str]:
    """Each Chinese character is a token; what stands between is cut as NLTK's word_tokenize cuts words."""
    tokens: list[str] = []
    between: list[str] = []
    for character in text.lower().strip():
        if character in _CMRC_MARKS:
            continue
        if _CMRC_CHINESE.match(character):
            tokens += _words("".join(between))
            between.clear()
            tokens.append(character)
        else:
            between.append(character)
    return tokens + _words("".join(between))


def _words(text: str) -> list[str]:
    if not text.strip():
        return []
    if text.strip().isalnum() and text.isascii():
        return [text.strip()]
    tokenizer = import_extra("nltk.tokenize.destructive", "the F1 of Chinese answers").NLTKWordTokenizer()
    return list(tokenizer.tokenize(text))


def _run_f1(predicted: Sequence[str], wanted: Sequence[str]) -> float:
    if not predicted and not wanted:
        return 1.0
    return _harmonic(_longest_run(predicted, wanted), len(predicted), len(wanted))


def _longest_run(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest stretch of tokens that stands in both."""
    longest = 0
    above = [0] * (len(other) + 1)
    for token in one:
        row = [0] * (len(other) + 1)
        for place, against in enumerate(other, start=1):
            if token == against:
                row[place] = above[place - 1] + 1
                longest = max(longest, row[place])
        above = row
    return longest


def _harmonic(common: int, predicted: int, wanted: int) -> float:
    if not common:
        return 0.0
    precision, recall = common / predicted, common / wanted
    return 2 * precision * recall / (precision + recall)
