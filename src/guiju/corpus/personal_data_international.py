"""Personal numbers and addresses of any country: e-mail, phone, IBAN, IP address (cards stand with China's)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache

import phonenumbers
from stdnum import iban, numdb

from guiju.corpus.personal_data_text import (
    Found,
    Group,
    context_after,
    context_before,
    free_after,
    free_before,
    groups,
)

_LOCAL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+'&-"
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.){1,8}(?:xn--[a-z0-9-]{2,59}|[A-Za-z]{2,24})(?![A-Za-z])", re.I
)
_FILE_NAMES = (".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp")


def find_emails(text: str, start: int, end: int) -> Iterator[Found]:
    """E-mail addresses in ASCII, with names of up to 64 characters (RFC 5321)."""
    at = text.find("@", start, end)
    while at != -1:
        before = text[max(0, at - 64) : at]
        name = before[len(before.rstrip(_LOCAL)) :].lstrip("._%+'&-")
        if name:
            domain = _DOMAIN.match(text, at + 1)
            if domain and not domain[0].lower().endswith(_FILE_NAMES):
                yield "email", at - len(name), domain.end()
        at = text.find("@", at + 1, end)


_ADDRESS_V4 = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9]|\.[0-9])")
_VERSION_BEFORE = re.compile(
    r"(?:(?<![A-Za-z])(?:v|ver|version|release|rev|build|firmware|section|chapter|clause)[\s.:：=]*|版本?号?[\s:：为是]*"
    r"|[A-Za-z]/|[第节章条款§]\s*)$",
    re.I,
)
_ADDRESS_NEAR = re.compile(
    r"(?<![a-z])(?:ip|ipv4|address|addr|host|server|dns|gateway|ping|ssh|proxy|subnet|client)(?![a-z])"
    r"|地址|主机|服务器|网关|代理|://",
    re.I,
)


def find_addresses_v4(text: str, start: int, end: int) -> Iterator[Found]:
    """IPv4 addresses, but not versions and clause numbers, which look alike."""
    if text.count(".", start, end) < 3:
        return
    for match in _ADDRESS_V4.finditer(text, start, min(len(text), end + 2)):
        begin, stop = match.span()
        if not free_before(text, begin) or not free_after(text, stop):
            continue
        before = context_before(text, begin, 24)
        if not _is_address(match[0]) or _VERSION_BEFORE.search(before):
            continue
        # Four single digits are more often a clause or a version than an address.
        if len(match[0]) == 7 and not (_ADDRESS_NEAR.search(before) or text[stop : stop + 1] in ("/", ":")):
            continue
        yield "ip", begin, stop


_ADDRESS_V6 = re.compile(r"(?<![0-9A-Za-z:.])[0-9a-f:.]{4,45}(?:%[0-9A-Za-z]{1,15})?(?![0-9A-Za-z:])", re.I)
_V6_SEED = re.compile(r":[0-9a-fA-F]{0,4}:")
_V6_CHARACTERS = "0123456789abcdefABCDEF:."


def find_addresses_v6(text: str, start: int, end: int) -> Iterator[Found]:
    """IPv6 addresses; not what also looks like one in source code, such as [1::2] or a::b."""
    done = start
    for seed in _V6_SEED.finditer(text, start, end):
        if seed.start() < done:
            continue
        before = text[max(0, seed.start() - 45) : seed.start()]
        begin = seed.start() - len(before) + len(before.rstrip(_V6_CHARACTERS))
        match = _ADDRESS_V6.match(text, begin)
        done = seed.end()
        if match is None:
            continue
        address = match[0].rstrip(".")
        if not _is_address(address):
            continue
        parts = [part for part in address.split("%")[0].split(":") if part]
        digits = any(character.isdigit() for character in address)
        if digits and (len(parts) >= 4 or any(len(part) >= 3 for part in parts)):
            done = begin + len(address)
            yield "ip", begin, done


def _is_address(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


_IBAN_START = re.compile(r"(?<![0-9A-Za-z])[A-Za-z]{2}[0-9]{2}(?=[ -]?[0-9A-Za-z]{4})")
_IBAN_LABELLED = re.compile(r"(?<=iban)[A-Za-z]{2}[0-9]{2}(?=[ -]?[0-9A-Za-z]{4})", re.I)


def find_ibans(text: str, start: int, end: int) -> Iterator[Found]:
    """International bank account numbers (ISO 13616) around one run of digits, by structure and MOD 97-10."""
    region = max(0, start - 14), min(len(text), end + 1)
    for pattern in (_IBAN_START, _IBAN_LABELLED):
        for match in pattern.finditer(text, *region):
            length = _iban_length(match[0][:2].upper())
            if length and (stop := _take(text, match.start(), length)) is not None:
                number = re.sub("[ -]", "", text[match.start() : stop])
                if iban.is_valid(number.upper(), check_country=False):
                    yield "iban", match.start(), stop


@lru_cache(maxsize=512)
def _iban_length(country: str) -> int:
    """How many characters a country's numbers have; 0 where it has none."""
    structure = numdb.get("iban").info(country + "00")[0][1].get("bban", "")
    return 4 + sum(map(int, re.findall(r"([0-9]+)!", structure))) if structure else 0


def _take(text: str, start: int, count: int) -> int | None:
    """The end of `count` letters and digits, single spaces or hyphens between them left out of the count."""
    at, taken = start, 0
    while taken < count:
        character = text[at : at + 1]
        if character.isascii() and character.isalnum():
            taken += 1
        elif character not in (" ", "-") or text[at - 1] in " -":
            return None
        at += 1
    after = text[at : at + 1]
    return None if after.isascii() and after.isalnum() else at


_LEAD = re.compile(r"(?:\+ ?\(?|\(\+?)$")
_EXTENSION = re.compile(r" ?(?:x|ext\.?|extension|转|轉|分机) ?[0-9]{1,6}(?![0-9A-Za-z])", re.I)
_WRITTEN = re.compile(
    r"(?:\+?1[ .-]?)?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[.-])[0-9]{3}[. -]?[0-9]{4}"  # North America
    r"|[2-9][0-9]{2} [0-9]{3}-[0-9]{4}"
    r"|\(?(?:010|02[0-9])(?:\) ?|[ -])[0-9]{8}"  # China's fixed lines
    r"|\(?0[3-9][0-9]{2}(?:\) ?|[ -])[0-9]{7,8}"
)
_PHONE_BEFORE = re.compile(
    r"(?:(?<![A-Za-z])(?:phone|telephone|tel|mobile|cell|fax|desk|call|dial|ring|whatsapp|answering"
    r"|(?:call|reach) (?:me|us|him|her))(?![A-Za-z])"
    r"|电话|電話|手机|座机|传真|热线|联系方式|联系人|致电|拨打)[^0-9]{0,16}$",
    re.I,
)
_PHONE_AFTER = re.compile(r"^[ ,-]{0,2}(?:fax|office|mobile|phone)(?![A-Za-z])", re.I)
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}[./ -][0-9]{1,2}[./ -][0-9]{1,2}|[0-9]{1,2}[./ -][0-9]{1,2}[./ -](?:19|20)[0-9]{2}"
    r"|(?:19|20)[0-9]{2} ?[/-] ?(?:19|20)[0-9]{2}|(?:19|20)[0-9]{6}"
)


def find_phones(text: str, start: int, end: int) -> Iterator[Found]:
    """Telephone numbers in one run of digit groups.

    With + or 00 and a country code; as North America and mainland China's fixed lines are written; or of any other form
    where a word such as phone, call or 电话 stands before, or fax or office behind.
    """
    parts = groups(text, start, end)
    after = _PHONE_AFTER.search(context_after(text, end, 12)) is not None
    first = 0
    while first < len(parts):
        begin, group_end = parts[first]
        last = None
        if group_end - begin <= 15 and free_before(text, begin):
            lead = _LEAD.search(text, max(0, begin - 3), begin)
            whole = lead.start() if lead and free_before(text, lead.start()) else begin
            last = _last_group(text, parts, first, whole, after)
        if last is None:
            first += 1
            continue
        stop = parts[last][1]
        extension = _EXTENSION.match(text, stop)
        closed = text[whole] != "(" or ")" in text[whole:stop]
        yield "phone", whole if closed else whole + 1, extension.end() if extension else stop
        first = last + 1


def _last_group(text: str, parts: list[Group], first: int, whole: int, after: bool) -> int | None:
    """The last group of the longest telephone number that begins with group `first`.

    Args:
        after: a word such as fax stands behind the last group of all.
    """
    begin, group_end = parts[first]
    plus = "+" in text[whole:begin]
    if plus or text.startswith("00", begin, group_end):
        for last, digits in _longest_first(text, parts, first):
            # Without a plus and without groups it may as well be a number that is padded with zeros.
            if len(digits) >= 8 and _is_international(digits, plus or last > first):
                return last
    if (written := _WRITTEN.match(text, whole)) and _ends(text, written.end()):
        return next((last for last in range(first, len(parts)) if parts[last][1] == written.end()), None)
    # The word stands close to a number, so it can only stand before the first group of a run, or after the last.
    near = first == 0 and _PHONE_BEFORE.search(context_before(text, whole, 40)) is not None
    if not near and not after:
        return None
    for last, digits in _longest_first(text, parts, first):
        if (near or last == len(parts) - 1) and _is_local(text[begin : parts[last][1]], digits):
            return last
    return None


def _longest_first(text: str, parts: list[Group], first: int) -> Iterator[tuple[int, str]]:
    """Groups that may end a number of at most 15 digits, and its digits."""
    total, beyond = 0, first
    while beyond < len(parts) and beyond - first < 8 and total + parts[beyond][1] - parts[beyond][0] <= 15:
        total += parts[beyond][1] - parts[beyond][0]
        beyond += 1
    for last in range(beyond - 1, first - 1, -1):
        if _ends(text, parts[last][1]):
            yield last, "".join(text[start:end] for start, end in parts[first : last + 1])


def _ends(text: str, stop: int) -> bool:
    return free_after(text, stop) or _EXTENSION.match(text, stop) is not None


def _is_local(written: str, digits: str) -> bool:
    """Whether digits near such a word are a telephone number, rather than a date, a fraction or a sum."""
    if not 7 <= len(digits) <= 13 or _DATE.fullmatch(written) or " /" in written or "/ " in written:
        return False
    if written == digits:
        return len(digits) in (7, 8) or _is_national(digits)
    return re.fullmatch(r"[0-9]+\.[0-9]+", written) is None


_REGIONS = ("CN", "US", "GB", "DE", "FR", "IT", "ES", "AU", "IN", "JP", "KR", "BR")


@lru_cache(maxsize=4096)
def _is_international(digits: str, sure: bool) -> bool:
    """Whether the digits after + or 00 are a possible number (or else, where one is less sure, an assigned one)."""
    number = _parse(f"+{digits.removeprefix('00')}", None)
    if number is None:
        return False
    return phonenumbers.is_possible_number(number) if sure else phonenumbers.is_valid_number(number)


@lru_cache(maxsize=4096)
def _is_national(digits: str) -> bool:
    """Whether a number without country code, grouping or separators is in use somewhere large."""
    if len(digits) == 10 and "2" <= digits[0] <= "9" and "2" <= digits[3] <= "9":
        return True
    numbers = (_parse(digits, region) for region in _REGIONS)
    return any(number is not None and phonenumbers.is_valid_number(number) for number in numbers)


def _parse(digits: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(digits, region)
    except phonenumbers.NumberParseException:
        return None
