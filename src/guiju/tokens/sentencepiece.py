"""A text's ids by a SentencePiece model, as SentencePiece itself gives them, to the last rounding.

Written anew because the `tokenizers` library, which other tools use, does both steps a little differently: its
normaliser replaces within grapheme clusters only, and its Viterbi search adds in float64. SentencePiece takes the
longest replacement at each character, and adds in float32, whose rounding decides between equal cuts of "......".
Source: https://github.com/google/sentencepiece, src/normalizer.cc, unigram_model.cc, bpe_model.cc,
sentencepiece_processor.cc; Kudo 2018 (arXiv:1804.10959).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from guiju.errors import ModelError
from guiju.tokens.merging import merge_best_first
from guiju.tokens.sentencepiece_file import Algorithm, Kind, SentencePieceModel, byte_of

SPACE_MARK = "\u2581"
UNKNOWN_PENALTY = 10.0
LEAST_SUM = -100_000.0
"""Where a sum falls below it, SentencePiece counts on from zero (found by measuring version 0.2.3)."""
_LEAST_FLOAT32 = 2.0**-126
_CACHED_WORDS, _LONGEST_CACHED = 1 << 15, 32
_CROSSING = re.compile(f"[^{SPACE_MARK}]{SPACE_MARK}", re.DOTALL)
_WORD = re.compile(f"{SPACE_MARK}+[^{SPACE_MARK}]*|[^{SPACE_MARK}]+")


class SentencePieceEncoder:
    """Texts to ids."""

    def __init__(self, model: SentencePieceModel) -> None:
        self.model = model
        self._normalize = Normalizer(model)
        self._ids = {
            piece.text: number
            for number, piece in enumerate(model.pieces)
            if piece.kind in (Kind.NORMAL, Kind.USER_DEFINED, Kind.UNUSED)
        }
        unknown = model.first(Kind.UNKNOWN)
        assert unknown is not None
        self.unknown = unknown
        self._bytes = {
            byte_of(piece.text): number for number, piece in enumerate(model.pieces) if piece.kind is Kind.BYTE
        }
        self._cut = (_Unigram if model.algorithm is Algorithm.UNIGRAM else _Bpe)(model, self._ids)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without tokens before or after it."""
        ids: list[int] = []
        unknown_before = False
        for piece in self._cut(self._normalize(text)):
            found = self._ids.get(piece, self.unknown)
            unknown = found == self.unknown
            if unknown and self._bytes:
                ids += [self._bytes[byte] for byte in piece.encode()]
            elif not (unknown and unknown_before):  # a run of unknown characters is one token
                ids.append(found)
            unknown_before = unknown
        return ids

    def require_own_tests(self, where: str) -> None:
        """See that the texts that the file brings come out as it says.

        Raises:
            ModelError: one does not.
        """
        for text, expected in self.model.tests:
            pieces = list(self._cut(self._normalize(text)))
            if " ".join(pieces) != expected:
                raise ModelError(
                    f"{where} says that {text[:50]!r} is cut into {expected[:80]!r}, but it is cut into "
                    f"{' '.join(pieces)[:80]!r}: the file was made for another way of cutting than the one that is read"
                )


class Normalizer:
    """What SentencePiece makes of a text before it cuts it."""

    def __init__(self, model: SentencePieceModel) -> None:
        self._model = model
        self._charsmap = model.charsmap
        own = [piece.text for piece in model.pieces if piece.kind is Kind.USER_DEFINED]
        self._own = _longest_of(own)
        self._space = SPACE_MARK if model.escape_spaces else " "

    def __call__(self, text: str) -> str:
        model = self._model
        if not text:
            return ""
        parts = list(self._parts(text))
        if model.remove_extra_spaces:
            first = next((number for number, part in enumerate(parts) if part != " "), None)
            if first is None:
                return ""
            parts = _without_extra_spaces(parts[first:])
        made = "".join(parts)
        if model.escape_spaces:
            made = made.replace(" ", SPACE_MARK)
        prefix = self._space if model.add_dummy_prefix else ""
        if not model.space_as_suffix:
            made = prefix + made
        if model.remove_extra_spaces:
            made = made.rstrip(self._space)
        return made + prefix if model.space_as_suffix else made

    def _parts(self, text: str) -> Iterator[str]:
        """The text, each character or run of them replaced; symbols of the user's own stay as they are."""
        charsmap, own = self._charsmap, self._own
        if charsmap is None and own is None:
            yield from text
            return
        place = 0
        while place < len(text):
            kept = own.match(text, place) if own is not None else None
            if kept is not None:
                yield kept[0]
                place = kept.end()
                continue
            found = charsmap.longest(text, place) if charsmap is not None else None
            if found is None:
                yield text[place]
                place += 1
            else:
                replacement, place = found
                yield replacement


def _without_extra_spaces(parts: list[str]) -> list[str]:
    """No part begins with a space where the one before it ended with one, or where the text begins."""
    kept = []
    after_space = True
    for part in parts:
        rest = part.lstrip(" ") if after_space else part
        if rest:
            kept.append(rest)
            after_space = rest.endswith(" ")
    return kept


def _longest_of(texts: list[str]) -> re.Pattern[str] | None:
    """Matches the longest of the texts at a place."""
    ordered = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


class _Unigram:
    """The likeliest cut of a whole text, by the sum of its pieces' scores."""

    def __init__(self, model: SentencePieceModel, ids: dict[str, int]) -> None:
        scores = [piece.score for piece in model.pieces if piece.kind is Kind.NORMAL]
        self._unknown_score = _float32(min(scores) - UNKNOWN_PENALTY)
        best = max(_LEAST_FLOAT32, *scores)
        self._scores: dict[str, float] = {}
        lengths: dict[str, set[int]] = {}
        for text, number in ids.items():
            piece = model.pieces[number]
            if piece.kind is not Kind.UNUSED:
                own = piece.kind is Kind.USER_DEFINED  # near zero, so that nothing else is likelier
                self._scores[text] = _float32(len(text.encode()) * best) - 0.1 if own else piece.score
                lengths.setdefault(text[:2], set()).add(len(text))
        self._longest = max(map(len, self._scores))
        self._lengths = {start: sorted(found) for start, found in lengths.items()}
        """By their first two characters, how long pieces are; those of one character stand by it."""

    def __call__(self, text: str) -> Iterator[str]:
        size, scores, lengths = len(text), self._scores, self._lengths
        best = array("f", bytes(4 * (size + 1)))  # by end; float32, whose rounding decides between equal sums
        rounded = array("f", [0.0])
        begins = [-1] * (size + 1)

        def offer(begin: int, end: int, score: float) -> None:
            rounded[0] = score + best[begin]
            if begins[end] < 0 or rounded[0] > best[end]:
                best[end], begins[end] = rounded[0], begin

        for begin in range(size):
            if best[begin] < LEAST_SUM:  # so that sums stay exact enough: what goes on from here begins anew
                base = best[begin]
                for end in range(begin, min(begin + self._longest, size) + 1):
                    best[end] -= base if begins[end] >= 0 else 0.0
            single = scores.get(text[begin])
            offer(begin, begin + 1, self._unknown_score if single is None else single)
            for length in lengths.get(text[begin : begin + 2], ()):
                if length > 1 and begin + length <= size:
                    score = scores.get(text[begin : begin + length])
                    if score is not None:
                        offer(begin, begin + length, score)
        cuts = [size]
        while cuts[-1] > 0:
            cuts.append(begins[cuts[-1]])
        return (text[begin:end] for begin, end in pairwise(reversed(cuts)))


class _Bpe:
    """Pairs merged by score; symbols of the user's own are never merged."""

    def __init__(self, model: SentencePieceModel, ids: dict[str, int]) -> None:
        self._scores = {text: model.pieces[number].score for text, number in ids.items()}
        kinds = {text: model.pieces[number].kind for text, number in ids.items()}
        self._unused = {text for text, kind in kinds.items() if kind is Kind.UNUSED}
        self._own = _longest_of([text for text, kind in kinds.items() if kind is Kind.USER_DEFINED])
        # Where no piece goes on after a space mark, words can be cut each alone, and common ones but once.
        self._by_word = not self._unused and not any(_CROSSING.search(text) for text in ids)
        self._word = lru_cache(_CACHED_WORDS)(self._merged)

    def __call__(self, text: str) -> Iterator[str]:
        place = 0
        for own in self._own.finditer(text) if self._own is not None else ():
            yield from self._segment(text[place : own.start()])
            yield own[0]
            place = own.end()
        yield from self._segment(text[place:])

    def _segment(self, text: str) -> Iterator[str]:
        if not self._by_word:
            yield from self._merged(text)
            return
        for word in _WORD.findall(text):
            yield from self._word(word) if len(word) <= _LONGEST_CACHED else self._merged(word)

    def _merged(self, text: str) -> list[str]:
        scores, unused = self._scores, self._unused
        made_of: dict[str, tuple[str, str]] = {}

        def join(left: str, right: str) -> tuple[float, str] | None:
            joined = left + right
            score = scores.get(joined)
            if score is None:
                return None
            if joined in unused:
                made_of[joined] = left, right
            return score, joined

        pieces = merge_best_first(text, join)
        while made_of and any(piece in made_of for piece in pieces):  # what is not used is taken apart again
            pieces = [part for piece in pieces for part in made_of.get(piece, (piece,))]
        return pieces


def _float32(number: float) -> float:
    return array("f", [number])[0]
