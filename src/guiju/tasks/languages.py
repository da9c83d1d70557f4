"""Which of the languages that tasks are asked in a set of texts is: Chinese, English or German."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

LANGUAGES = ("en", "zh", "de")

_WORDS = {
    "en": re.compile(r"\b(?:the|and|of|to|in|is|was|for|that|with|are|on|as|by|it|this|from|be|an|which)\b"),
    "de": re.compile(r"\b(?:der|die|das|und|ist|den|von|mit|eine?|zu|im|auf|für|sich|des|nicht|dem|auch|einem)\b"),
}
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def is_chinese(character: str) -> bool:
    return _CHINESE.match(character) is not None


def language_of(texts: Iterable[str], look: int = 200) -> str:
    """The language of a set by its first texts: Chinese where its characters are a tenth or more of the letters, else
    English or German, whichever has more of its commonest words in them."""
    chinese = letters = 0
    counts = dict.fromkeys(_WORDS, 0)
    for text in itertools.islice(texts, look):
        chinese += len(_CHINESE.findall(text))
        letters += sum(map(str.isalpha, text))
        for language, words in _WORDS.items():
            counts[language] += len(words.findall(text.lower()))
    if letters and chinese >= 0.1 * letters:
        return "zh"
    return "de" if counts["de"] > counts["en"] else "en"
