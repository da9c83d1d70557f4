"""Personal data in text: found by shape, checksum and context, and masked by a typed marker.

Kinds that are mainland China's begin with cn-. What is found, what is not, and how well: docs/personal-data.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from guiju.corpus.personal_data_china import find_in_numbers, find_passports, find_plates, find_social_credit_codes
from guiju.corpus.personal_data_international import (
    find_addresses_v4,
    find_addresses_v6,
    find_emails,
    find_ibans,
    find_phones,
)
from guiju.corpus.personal_data_text import (
    ASCII_DIGITS,
    DIGITS,
    FILLER,
    ORDINARY,
    RUN,
    Found,
    free_after,
    free_before,
    normalise,
)
from guiju.errors import ConfigError

# From the most specific to the least: of two finds of one length, the earlier kind is kept.
PERSONAL_DATA_KINDS: tuple[str, ...] = (
    "email",
    "cn-identity",
    "cn-credit-code",
    "iban",
    "cn-bank-card",
    "card",
    "cn-mobile",
    "cn-plate",
    "cn-passport",
    "ip",
    "phone",
)
KINDS = PERSONAL_DATA_KINDS
MARKERS: dict[str, str] = {kind: f"[{kind.upper()}]" for kind in KINDS}

_RANK = {kind: rank for rank, kind in enumerate(KINDS)}
# No find is longer than this, nor looks further around itself, so a change in the text matters no further away.
_REACH = 120


@dataclass(frozen=True, order=True)
class Span:
    """Characters text[start:end] are personal data of this kind."""

    start: int
    end: int
    kind: str


def find_personal_data(text: str, kinds: Collection[str] = KINDS) -> list[Span]:
    """Where personal data stands in a text, in order and without overlap.

    Of finds that overlap the longest is kept, and of equally long ones the most specific. What becomes visible only
    once a find is taken out (a number that touched it, say) is found as well, so that nothing is left after masking.

    Args:
        kinds: which of KINDS to look for.
    Raises:
        ConfigError: a kind is unknown.
    """
    wanted = frozenset(kinds)
    if unknown := sorted(wanted - _RANK.keys()):
        raise ConfigError(f"personal data of kind {unknown[0]!r} is unknown; known are {', '.join(KINDS)}")
    regions = _neighbourhoods(_seeds(text), len(text))
    text = _normalise(text, regions)
    spans: list[Span] = []
    while regions:
        new = _resolve(span for start, end in regions for span in _candidates(text, start, end, wanted))
        if not new:
            break
        spans += new
        text = _fill(text, new)
        regions = _neighbourhoods([(span.start, span.end) for span in new], len(text))
    return sorted(spans)


def mask_personal_data(text: str, kinds: Collection[str] = KINDS) -> tuple[str, list[Span]]:
    """The text with every find replaced by its kind's marker, such as [EMAIL], and the finds.

    Spans count characters of the text that was given. Masking a masked text changes nothing.

    Raises:
        ConfigError: a kind is unknown.
    """
    spans = find_personal_data(text, kinds)
    parts: list[str] = []
    position = 0
    for span in spans:
        parts += (text[position : span.start], MARKERS[span.kind])
        position = span.end
    return "".join((*parts, text[position:])) if spans else text, spans


def _seeds(text: str) -> list[tuple[int, int]]:
    """Where digits and @ stand: every find holds one, and most of a text lies far from any."""
    seeds = [match.span() for match in (ASCII_DIGITS if text.isascii() else DIGITS).finditer(text)]
    at = text.find("@")
    if at == -1:
        return seeds
    while at != -1:
        seeds.append((at, at + 1))
        at = text.find("@", at + 1)
    return sorted(seeds)


def _candidates(text: str, start: int, end: int, wanted: frozenset[str]) -> Iterator[Span]:
    for kind, first, last in _finders(text, start, end, wanted):
        if kind in wanted:
            yield Span(first, last, kind)


def _finders(text: str, start: int, end: int, wanted: frozenset[str]) -> Iterator[Found]:
    """Everything that some finder takes for personal data, overlapping as it may."""
    for run in RUN.finditer(text, start, end):
        first, last = run.span()
        if ORDINARY.fullmatch(text, first, last) and free_before(text, first) and free_after(text, last):
            continue
        yield from find_in_numbers(text, first, last)
        yield from find_social_credit_codes(text, first, last)
        yield from find_passports(text, first, last)
        yield from find_ibans(text, first, last)
        yield from find_addresses_v4(text, first, last)
        if "phone" in wanted:
            yield from find_phones(text, first, last)
    if not text.isascii():
        yield from find_plates(text, start, end)
    yield from find_emails(text, start, end)
    yield from find_addresses_v6(text, start, end)


def _resolve(candidates: Iterator[Span]) -> list[Span]:
    """The longest of what overlaps, and of equally long ones the most specific."""
    kept: list[Span] = []
    best_first = sorted(candidates, key=lambda span: (span.start - span.end, _RANK[span.kind], span.start))
    if len(best_first) < 2:
        return best_first
    taken: set[int] = set()  # finds are short, so their characters are few
    for span in best_first:
        characters = range(span.start, span.end)
        if taken.isdisjoint(characters):
            taken.update(characters)
            kept.append(span)
    return sorted(kept)


def _fill(text: str, spans: list[Span]) -> str:
    """The text with each span overwritten, at its length: to every rule the filler looks like a marker."""
    parts: list[str] = []
    position = 0
    for span in spans:
        parts += (text[position : span.start], FILLER * (span.end - span.start))
        position = span.end
    return "".join((*parts, text[position:]))


def _neighbourhoods(places: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """The stretches of text around places, merged where they touch."""
    regions: list[tuple[int, int]] = []
    last_end = -1
    for place_start, place_end in places:
        start, end = max(0, place_start - _REACH), min(length, place_end + _REACH)
        if start <= last_end:
            regions[-1] = regions[-1][0], end
        else:
            regions.append((start, end))
        last_end = end
    return regions


def _normalise(text: str, regions: list[tuple[int, int]]) -> str:
    """The text, normalised within regions alone: outside of them nothing is looked for."""
    if text.isascii():
        return text
    parts: list[str] = []
    position = 0
    for start, end in regions:
        parts += (text[position:start], normalise(text[start:end]))
        position = end
    return "".join((*parts, text[position:]))
