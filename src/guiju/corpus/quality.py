"""Rules that drop a text: too short, too long, in another language, or hardly text at all."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from guiju.corpus.repair import Applied
from guiju.corpus.settings import CleaningSettings
from guiju.corpus.shingles import UInt64s
from guiju.errors import ConfigError

_SPACES = re.compile(r"\s+")
# Letters, digits and marks are \w; and the punctuation that prose, verse and Chinese are written with.
_PUNCTUATION = re.escape(".,;:!?'\"()[]-‘’“”–—…、。，；：！？（）《》〈〉「」『』【】〔〕·・～")
_SYMBOLS = re.compile(rf"[^\w\s\u0300-\u036f\u0600-\u06ff\u0900-\u109f\u1780-\u17ff{_PUNCTUATION}]")
_DIGITS = re.compile(r"\d")
_LETTERS = re.compile(r"[^\W\d_]")
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_KANA = re.compile(r"[\u3040-\u30ff]")
_PROBE = 160
_LEAST_LETTERS = 24
# Labels of the detector that are one language to a corpus.
_KIN = {
    "yue": "zh",
    "wuu": "zh",
    "lzh": "zh",
    "cmn": "zh",
    "nn": "no",
    "nb": "no",
    "hbo": "he",
    "arz": "ar",
    "ary": "ar",
}


def check_length(text: str, settings: CleaningSettings) -> Applied | None:
    if len(text) > settings.max_characters:
        return Applied(
            "too-long",
            f"{len(text)} characters are more than max_characters ({settings.max_characters})",
            {"characters": len(text)},
        )
    if len(text) < 8 * settings.min_characters:
        characters = len(_SPACES.sub("", text))
        if characters < settings.min_characters:
            return Applied(
                "too-short",
                f"{characters} characters are fewer than min_characters ({settings.min_characters})",
                {"characters": characters},
            )
    return None


def check_quality(text: str, settings: CleaningSettings) -> Applied | None:
    """Whether the text's characters and lines look like text; the first thing that does not."""
    solid = len(_SPACES.sub("", text)) or 1
    shares = (
        (
            "replacement-characters",
            text.count("\ufffd") / solid,
            settings.max_replacement_share,
            "characters were lost",
        ),
        ("symbols", (len(text) - len(_SYMBOLS.sub("", text))) / solid, settings.max_symbol_share, "mostly symbols"),
        ("digits", (len(text) - len(_DIGITS.sub("", text))) / solid, settings.max_digit_share, "mostly digits"),
        ("repeated-lines", _repeated_lines(text), settings.max_repeated_lines, "its lines repeat"),
    )
    for rule, share, most, why in shares:
        if share > most:
            return Applied(rule, f"{why}: {share:.3f} is more than {most}", {"share": round(share, 4)})
    if not _HAN.search(text[:2000]):
        words = text.split()
        mean = sum(map(len, words)) / max(1, len(words))
        if mean > settings.max_word_length:
            return Applied(
                "word-length",
                f"words of {mean:.1f} characters in the mean are more than {settings.max_word_length}",
                {"mean": round(mean, 2)},
            )
    return None


def check_repetition(shingles: UInt64s, distinct: UInt64s, settings: CleaningSettings) -> Applied | None:
    """Whether the text goes round in circles: how many of its runs of words occurred before in it."""
    if shingles.size < 40:
        return None
    share = 1 - distinct.size / shingles.size
    if share > settings.max_repeated_ngrams:
        return Applied(
            "repeated-ngrams",
            f"{share:.3f} of its runs of words occurred before in it, more than {settings.max_repeated_ngrams}",
            {"share": round(share, 4)},
        )
    return None


def _repeated_lines(text: str) -> float:
    lines = [line for line in text.split("\n") if line.strip()]
    if len(lines) < 5:
        return 0.0
    seen: set[str] = set()
    total = again = 0
    for line in lines:
        total += len(line)
        if line in seen:
            again += len(line)
        seen.add(line)
    return again / total


class Languages:
    """Finds a text's language, with py3langid's model of 140 labels."""

    def __init__(self) -> None:
        self._detector = _detector()
        self._labels = {_KIN.get(label, label) for label in self._detector.labels}

    def require(self, source: str, expected: tuple[str, ...]) -> None:
        """Raises a ConfigError where the detector does not know a language that a source states."""
        for code in expected:
            if _KIN.get(code, code) not in self._labels:
                raise ConfigError(
                    f"corpus.sources.{source}.language is {code!r}, which the detector does not know; "
                    "set corpus.cleaning.detect_language to false, or state the nearest code that it knows"
                )

    def detect(self, text: str, expected: tuple[str, ...], confidence: float) -> tuple[str, Applied | None]:
        """The text's language, and why it is dropped where it is surely none of the expected.

        A text of few letters, or one that the detector is unsure of, counts as the likeliest of the expected.
        """
        probe = _probe(text)
        letters = len(_LETTERS.findall(probe))
        han = len(_HAN.findall(probe))
        if expected and "zh" in expected and han * 2 > letters and not _KANA.search(probe):
            return "zh", None  # the detector takes classical verse for Cantonese, or Japanese
        if letters < _LEAST_LETTERS:
            return (expected[0] if expected else "und"), None
        chances: dict[str, float] = {}
        for label, chance in self._detector.rank(probe):
            kin = _KIN.get(label, label)
            chances[kin] = chances.get(kin, 0.0) + chance
        best = max(chances.items(), key=lambda item: item[1])[0]
        if not expected or best in {_KIN.get(code, code) for code in expected}:
            return best, None
        if chances[best] >= confidence:
            why = f"its language is {best} (confidence {chances[best]:.2f}), not {' or '.join(expected)}"
            return best, Applied("language", why, {"language": best, "confidence": round(chances[best], 4)})
        return max(expected, key=lambda code: float(chances.get(_KIN.get(code, code), 0.0))), None


@cache
def _detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _probe(text: str) -> str:
    """Pieces from three places: the detector's time grows with length, its answer hardly changes."""
    if len(text) <= 3 * _PROBE:
        return text
    middle = len(text) // 2
    late = len(text) * 4 // 5
    return "\n".join((text[:_PROBE], text[middle : middle + _PROBE], text[late : late + _PROBE]))
