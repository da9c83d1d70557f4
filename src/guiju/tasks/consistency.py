"""Whether a summary keeps to its source: numbers, names and negation that stand in it must come from there.

The check reads words, not meaning: what it finds is a place to look at, and what it passes may still be wrong in other
ways. It is the same for every model, needs none itself, and every finding can be seen with one's own eyes.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LATIN_NAME = re.compile(r"\b(?:[A-Z][\w'’-]*[A-Z0-9][\w-]*|[A-Z][a-zäöüß'’-]+)\b")
_TITLE = re.compile(r"[《「『“]([^《》「」『』“”]{1,30})[》」』”]")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;。！？：；\n][\"'”’)\]]*)\s*[\"'“‘(\[]*$")

_NEGATIONS_EN = frozenset({"not", "no", "never", "cannot", "without", "neither", "nor", "none"})
_NEGATIONS_DE = frozenset({"nicht", "kein", "keine", "keinen", "keinem", "keiner", "keines", "nie", "niemals", "ohne"})
_NEGATION_ZH = re.compile(
    r"(?:不|没有|没|未|无法|并非|毫无)(?!(?:但|仅|同|断|过|少|久|如|论|管|得不|可避免))([\u4e00-\u9fff]{2})"
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_SMALL = re.compile(
    r"an?|the|to|be|been|is|are|was|were|do|does|did|have|has|had|can|could|will|would|should|may|might|any|very|so|that|it"
    r"|this|there|of|in|on|as|for|with|and|or|but|more|much|only|just|yet|also"
    r"|eine?|einen|einem|der|die|das|den|dem|zu|ist|sind|war|wird|werden|kann|sehr|mehr|auch|nur"
)


@dataclass(frozen=True)
class Faithfulness:
    """What in a summary has no ground in its source."""

    numbers: tuple[str, ...]
    names: tuple[str, ...]
    negations: tuple[str, ...]
    """Words that are negated in the one and only affirmed in the other."""

    @property
    def consistent(self) -> bool:
        return not (self.numbers or self.names or self.negations)


def check_faithfulness(summary: str, source: str, language: str) -> Faithfulness:
    """Which numbers, names and negations of a summary its source does not bear out."""
    summary, source = unicodedata.normalize("NFKC", summary), unicodedata.normalize("NFKC", source)
    known = set(map(_number, _NUMBER.findall(source)))
    numbers = tuple(one for one in _once(_NUMBER.findall(summary)) if _number(one) not in known)
    held = _flat(source)
    names = tuple(name for name in _once(_names(summary, language)) if _flat(name) not in held)
    return Faithfulness(numbers, names, _flipped(summary, source, language))


def _number(text: str) -> str:
    """1,000 and 1000 are one number, and so are 3.50 and 3.5."""
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    text = text.replace(",", ".")
    return text.rstrip("0").rstrip(".") if text.count(".") == 1 else text


def _names(text: str, language: str) -> list[str]:
    found = [match.group(1) for match in _TITLE.finditer(text)] if language == "zh" else []
    for match in _LATIN_NAME.finditer(text):
        word = match.group()
        mixed = any(c.isupper() or c.isdigit() for c in word[1:])
        # German writes every noun with a capital, and every language the first word of a sentence.
        if mixed or (language == "en" and not _SENTENCE_START.search(text[: match.start()])):
            found.append(word)
    return found


def _flat(text: str) -> str:
    return re.sub(r"[\s'’‐-―-]+", "", text.lower())


def _flipped(summary: str, source: str, language: str) -> tuple[str, ...]:
    """Words negated here and only affirmed there, or the other way round."""
    read = _negated_zh if language == "zh" else _negated
    denied, text = read(summary)
    source_denied, source_text = read(source)
    found = [word for word in _once(denied) if word not in source_denied and _affirmed(word, source_text, language)]
    for word in _once(source_denied):
        if word not in denied and _affirmed(word, text, language) and not _affirmed(word, source_text, language):
            found.append(word)
    return tuple(found)


def _affirmed(word: str, text: str, language: str) -> bool:
    return word in text if language == "zh" else f" {word} " in text


def _negated_zh(text: str) -> tuple[list[str], str]:
    """What follows each negation, and the text without those places."""
    return [match.group(1) for match in _NEGATION_ZH.finditer(text)], _NEGATION_ZH.sub("|", text)


def _negated(text: str) -> tuple[list[str], str]:
    """The word that each negation is about (the first with a meaning of its own among the next three), and the other
    words, each between spaces."""
    words = [word.lower().replace("’", "'") for word in _WORD.findall(text)]
    denied: list[str] = []
    taken: set[int] = set()
    for place, word in enumerate(words):
        if word in _NEGATIONS_EN or word in _NEGATIONS_DE or word.endswith("n't"):
            taken.add(place)
            for following in range(place + 1, min(place + 4, len(words))):
                if not _SMALL.fullmatch(words[following]):
                    denied.append(words[following])
                    taken.add(following)
                    break
    return denied, f" {' '.join(word for place, word in enumerate(words) if place not in taken)} "


def _once(items: list[str]) -> list[str]:
    return list(dict.fromkeys(items))
