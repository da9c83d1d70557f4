"""Names of classes, across data sets, heads and languages: what one calls 1 another calls positive or 正面."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from guiju.errors import DataError

_POLARITIES = {
    "negative": ("0", "-1", "neg", "negative", "negativ", "bad", "负面", "负", "消极", "差评", "否定"),
    "neutral": ("neutral", "neu", "中性", "中立"),
    "positive": ("1", "pos", "positive", "positiv", "good", "正面", "正", "积极", "好评", "肯定"),
}
_MEANING = {name: polarity for polarity, names in _POLARITIES.items() for name in names}

WORDS = {
    "en": {"negative": "negative", "neutral": "neutral", "positive": "positive"},
    "zh": {"negative": "负面", "neutral": "中性", "positive": "正面"},
    "de": {"negative": "negativ", "neutral": "neutral", "positive": "positiv"},
}
_NUMBERED = re.compile(r"label_(\d+)")


def polarity(label: str) -> str | None:
    """negative, neutral or positive, where a name of a class says so; LABEL_1 is 1."""
    name = label.strip().lower()
    numbered = _NUMBERED.fullmatch(name)
    return _MEANING.get(numbered.group(1) if numbered else name)


def match_label(given: str, labels: Sequence[str]) -> str | None:
    """Which of the data's labels a name of a class means; None for none of them."""
    if given in labels:
        return given
    folded = given.strip().lower()
    same = [label for label in labels if label.lower() == folded]
    if not same and (numbered := _NUMBERED.fullmatch(folded)):
        same = [label for label in labels if label == numbered.group(1)]
    if not same and (meant := polarity(given)) is not None:
        same = [label for label in labels if polarity(label) == meant]
    return same[0] if len(same) == 1 else None


def match_head(names: Sequence[str], labels: Iterable[str]) -> list[str | None]:
    """Which of the data's labels each class of a model's head means; None for a class that the data has not.

    Raises:
        DataError: the data holds a label that the head has not: it could never be right.
    """
    wanted = list(labels)
    found = [match_label(name, wanted) for name in names]
    missing = [label for label in wanted if label not in found]
    if missing:
        raise DataError(
            f"the data holds the label {missing[0]!r}, which the model's head has not: its classes are "
            f"{', '.join(names)}. Name the head's classes in its config.json (id2label) as the data does, or take the "
            "data that it was tuned for"
        )
    return found


def label_word(label: str, language: str) -> str:
    """The word that a model would say for a label."""
    meant = polarity(label)
    return label if meant is None else WORDS[language][meant]
