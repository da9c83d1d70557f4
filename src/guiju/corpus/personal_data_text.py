"""What every finder of personal data needs: same-length normalisation, runs of digit groups, boundaries, context."""

from __future__ import annotations

import re
from collections.abc import Iterator

Found = tuple[str, int, int]
"""Kind, start, end."""

FILLER = "\x00"
"""Stands where a find was taken out; no rule lets it be part of a find or of a context."""

RUN = re.compile(r"[0-9](?:(?:[ .()/-]{0,3}[0-9]){6,}|[0-9]{0,2}(?:\.[0-9]{1,3}){3})")
"""At least seven digits, apart by no more than three separators, or four dotted ones: where every number lies."""

ORDINARY = re.compile(r"[0-9]+\.[0-9]+|(?:19|20)[0-9]{2}([./-])[0-9]{1,2}\1[0-9]{1,2}(?: [0-9]{1,2})?")
"""A run that is a decimal fraction or a date holds no personal data, and most runs are such."""

Group = tuple[int, int]
"""Start and end of an unbroken row of digits."""

_GROUP = re.compile(r"[0-9]+")
_LABEL = re.compile(
    r"(?<![A-Za-z])(?:tel|phone|telephone|mobile|mob|cell|fax|ph|id|no|card|cc|ip|iban|wx|vx|wechat|weixin|sfz)$", re.I
)
_LETTERS_BEFORE = re.compile(r"[A-Za-z]+$")
_MARKER_LENGTH = 24  # more than any has, so that the window never shows a part of one that matters
_MARKER = re.compile(rf"\[[A-Z-]+\]|{FILLER}")


def _same_length_table() -> dict[int, str]:
    """Full-width and other written forms of the characters that numbers and addresses are made of."""
    table = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if chr(code - 0xFEE0).isalnum()}
    table |= {code: chr(code - 0xFEE0) for code in map(ord, "＠．－＋（）／＿")}
    table |= dict.fromkeys((0x3000, 0xA0, 0x202F, *range(0x2000, 0x200B)), " ")
    table |= dict.fromkeys((*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63), "-")
    for zero in (
        0x0660,
        0x06F0,
        0x0966,
    ):  # Arabic, Persian, Devanagari; beyond U+FFFF a search takes five times as long
        table |= {zero + digit: str(digit) for digit in range(10)}
    return table


_TABLE = _same_length_table()
DIGITS = re.compile("[0-9＠" + "".join(chr(code) for code, form in sorted(_TABLE.items()) if form.isdigit()) + "]+")
ASCII_DIGITS = re.compile("[0-9]+")
"""Every find holds one of these, or an @."""

_OTHER_FORMS = re.compile("[" + "".join(map(chr, sorted(_TABLE))) + "]")


def normalise(text: str) -> str:
    """The text with full-width digits, letters, dashes and the like in ASCII; no character moves."""
    if text.isascii():
        return text
    return _OTHER_FORMS.sub(lambda match: _TABLE[ord(match[0])], text)


def groups(text: str, start: int, end: int) -> list[Group]:
    return [match.span() for match in _GROUP.finditer(text, start, end)]


def joined(
    text: str, parts: list[Group], first: int, separators: str, most: int
) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """Numbers that begin with group `first`: each with its end, its digits, and the sizes of its groups.

    Args:
        separators: characters of which exactly one, the same throughout, may stand between groups.
        most: digits at which to stop.
    """
    start, end = parts[first]
    if end - start > most:
        return
    digits, separator = text[start:end], ""
    sizes: tuple[int, ...] = (end - start,)
    yield end, digits, sizes
    for next_start, next_end in parts[first + 1 : first + most]:  # no copy of all the rest: that would be quadratic
        gap = text[end:next_start]
        if len(gap) != 1 or gap not in separators or gap != (separator or gap):
            return
        if len(digits) + next_end - next_start > most:
            return
        separator, end = gap, next_end
        digits += text[next_start:next_end]
        sizes = (*sizes, next_end - next_start)
        yield end, digits, sizes


def free_before(text: str, start: int) -> bool:
    """Whether a number may begin here: not inside a longer number, a decimal fraction or a word.

    A word such as tel or id may touch the number.
    """
    if start == 0:
        return True
    before = text[start - 1]
    if before.isascii() and before.isalnum():
        if before.isdigit():
            return False
        return _LABEL.search(text, max(0, start - 10), start) is not None
    return not (before == "." and start > 1 and "0" <= text[start - 2] <= "9")


def free_after(text: str, end: int) -> bool:
    """Whether a number may end here: neither a digit, a letter nor a decimal fraction follows."""
    after = text[end : end + 2]
    if not after:
        return True
    if after[0].isascii() and after[0].isalnum():
        return False
    return not (after[0] == "." and "0" <= after[1:] <= "9")


def context_before(text: str, start: int, characters: int) -> str:
    """What stands before a find, back to the nearest other find or marker: a marker's word must not become context."""
    window = text[max(0, start - characters - _MARKER_LENGTH) : start]
    return _MARKER.split(window)[-1][-characters:]


def context_after(text: str, end: int, characters: int) -> str:
    return _MARKER.split(text[end : end + characters + _MARKER_LENGTH])[0][:characters]
