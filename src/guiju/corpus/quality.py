"""Rules that drop a text: too short, too long, in another language, or hardly text at all."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from functools import cache
from typing import Any

from guiju.corpus.characters import Characters
from guiju.corpus.repair import Applied
from guiju.corpus.settings import CleaningSettings
from guiju.corpus.shingles import UInt64s, distinct
from guiju.errors import ConfigError, StorageError

_PROBE = 64
_LEAST_LETTERS = 24
_LEAST_SHINGLES = 40
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


def check_longest(text: str, settings: CleaningSettings) -> Applied | None:
    """Before anything else is done, because every further rule takes memory in proportion to the text."""
    if len(text) <= settings.max_characters:
        return None
    why = f"{len(text)} characters are more than max_characters ({settings.max_characters})"
    return Applied("too-long", why, {"characters": len(text)})


def check_length(counts: Characters, settings: CleaningSettings) -> Applied | None:
    if counts.solid < settings.min_characters:
        return Applied(
            "too-short",
            f"{counts.solid} characters are fewer than min_characters ({settings.min_characters})",
            {"characters": counts.solid},
        )
    return None


def check_quality(text: str, counts: Characters, settings: CleaningSettings) -> Applied | None:
    """Whether the text's characters and lines look like text; the first thing that does not."""
    solid = max(1, counts.solid)
    shares = (
        ("replacement-characters", counts.lost / solid, settings.max_replacement_share, "text was lost"),
        ("symbols", counts.symbols / solid, settings.max_symbol_share, "mostly symbols"),
        ("digits", counts.digits / solid, settings.max_digit_share, "mostly digits"),
        ("repeated-lines", _repeated_lines(text), settings.max_repeated_lines, "its lines repeat"),
    )
    for rule, share, most, why in shares:
        if share > most:
            return Applied(rule, f"{why}: {share:.3f} is more than {most}", {"share": round(share, 4)})
    mean = counts.solid / max(1, counts.words)
    if mean > settings.max_word_length and (counts.han + counts.kana) * 10 < counts.letters:
        return Applied(
            "word-length",
            f"words of {mean:.1f} characters in the mean are more than {settings.max_word_length}",
            {"mean": round(mean, 2)},
        )
    return None


def check_repetition(shingles: UInt64s, settings: CleaningSettings) -> Applied | None:
    """Whether the text goes round in circles: how many of its runs of words occurred before in it."""
    if shingles.size < _LEAST_SHINGLES:
        return None
    share = 1 - distinct(shingles).size / shingles.size
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
        self._labels = {_kin(label) for label in self._detector.labels}

    def require(self, source: str, expected: tuple[str, ...]) -> None:
        """Raises a ConfigError where the detector does not know a language that a source states."""
        for code in expected:
            if _kin(code) not in self._labels:
                raise ConfigError(
                    f"corpus.sources.{source}.language is {code!r}, which the detector does not know; "
                    "set corpus.cleaning.detect_language to false, or state the nearest code that it knows"
                )

    def detect(
        self, text: str, counts: Characters, expected: tuple[str, ...], confidence: float
    ) -> tuple[str, Applied | None]:
        """The text's language, and why it is dropped where it is surely none of the expected.

        A text of few letters, or one that the detector is unsure of, counts as the likeliest of the expected.
        """
        if "zh" in expected and counts.han * 2 > counts.letters and counts.kana * 20 <= counts.han:
            return "zh", None  # the detector takes classical verse for Cantonese, or Japanese
        if counts.letters < _LEAST_LETTERS:
            return (expected[0] if expected else "und"), None
        probe = _probe(text)
        stated = {_kin(code): code for code in reversed(expected)}
        likeliest = _kin(self._detector.classify(probe)[0])
        if likeliest in stated or not expected:
            return stated.get(likeliest, likeliest), None
        chances: dict[str, float] = defaultdict(float)
        for label, chance in self._detector.rank(probe):
            chances[_kin(label)] += chance
        best, sure = max(chances.items(), key=lambda item: item[1])
        if best in stated:
            return stated[best], None
        if sure >= confidence:
            why = f"its language is {best} (confidence {sure:.2f}), not {' or '.join(expected)}"
            return best, Applied("language", why, {"language": best, "confidence": round(sure, 4)})
        return max(expected, key=lambda code: chances[_kin(code)]), None


def _kin(code: str) -> str:
    return _KIN.get(code, code)


@cache
def _detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    try:
        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    except OSError as problem:  # it unpacks its model into a temporary file
        raise StorageError(
            f"the language detector could not unpack its model into {tempfile.gettempdir()}: {problem.strerror}. Make "
            "room there, point TMPDIR to another folder, or set corpus.cleaning.detect_language to false"
        ) from None


def _probe(text: str) -> str:
    """Pieces from three places: the detector's time grows with length, its answer hardly changes."""
    if len(text) <= 3 * _PROBE:
        return text
    middle = len(text) // 2
    late = len(text) * 4 // 5
    return "\n".join((text[:_PROBE], text[middle : middle + _PROBE], text[late : late + _PROBE]))
