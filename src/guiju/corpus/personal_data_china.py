"""Mainland China's personal numbers: identity, mobile, bank card, social credit code, plate, passport.

Sources: GB 11643-1999 (identity number), GB 32100-2015 (social credit code), GA 36-2018 (plates), ISO/IEC 7812 (cards),
the E.164 numbering plan of China; region codes GB/T 2260 through python-stdnum.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from functools import lru_cache

from stdnum import luhn, numdb
from stdnum.cn import ric, uscc

from guiju.corpus.personal_data_text import (
    FILLER,
    Found,
    context_after,
    context_before,
    free_after,
    free_before,
    groups,
    joined,
)

_PROVINCES = frozenset(
    f"{code:02d}"
    for codes in (
        range(11, 16),
        range(21, 24),
        range(31, 38),
        range(41, 47),
        range(50, 55),
        range(61, 66),
        (71, 81, 82, 83),
    )
    for code in codes
)
# Fixed, not today: the same text must give the same finds next year.
_BIRTHS = datetime.date(1880, 1, 1), datetime.date(2039, 12, 31)


def find_in_numbers(text: str, start: int, end: int) -> Iterator[Found]:
    """Identity numbers, mobile numbers and cards in one run of digit groups."""
    parts = groups(text, start, end)
    for first, (begin, group_end) in enumerate(parts):
        if group_end - begin > 19 or not free_before(text, begin):
            continue
        for stop, digits, sizes in joined(text, parts, first, " -.", most=19):
            count = len(digits)
            if count < 11:
                continue
            # The check letter X of an identity number belongs to no digit group.
            if count == 17 and (letter := _check_letter(text, stop)) and _is_identity(digits + "X", sizes):
                yield "cn-identity", begin, letter
            if not free_after(text, stop):
                continue
            if count in (15, 18) and _is_identity(digits, sizes):
                yield "cn-identity", begin, stop
            elif count in (11, 13, 15) and (mobile := _mobile(text, begin, digits, sizes)) is not None:
                yield "cn-mobile", mobile, stop
            if count >= 12 and (kind := _card(text, begin, digits, sizes)):
                yield kind, begin, stop


def _check_letter(text: str, stop: int) -> int | None:
    """The end of an X that follows 17 digits, touching them or after one separator."""
    at = stop + 1 if text[stop : stop + 1] in (" ", "-") else stop
    return at + 1 if text[at : at + 1] in ("X", "x") and free_after(text, at + 1) else None


# As people write it; 17 digits and 3 at the end stand before the letter X.
_IDENTITY_GROUPS = {
    *(
        (18,),
        (17,),
        (17, 1),
        (15,),
        (6, 8, 4),
        (6, 8, 3),
        (6, 4, 4, 4),
        (6, 4, 4, 3),
        (14, 4),
        (14, 3),
        (6, 12),
        (6, 11),
    ),
    *((4, 4, 4, 4, 2), (4, 4, 4, 4, 1), (3, 3, 4, 4, 4), (3, 3, 4, 4, 3), (6, 6, 3), (6, 6, 6), (6, 6, 5)),
}


def _is_identity(number: str, sizes: tuple[int, ...]) -> bool:
    """18 characters: province, possible date, check character of ISO 7064 MOD 11-2. 15 digits: county and date."""
    if sizes not in _IDENTITY_GROUPS:
        return False
    if len(number) == 18:
        # The county alone is not asked for: new ones are founded, and the checksum carries the weight.
        return (
            number[:2] in _PROVINCES
            and _is_birthday(number[6:10], number[10:12], number[12:14])
            and ric.calc_check_digit(number) == number[-1]
        )
    # The old form has no checksum, so here the county must be known.
    return _is_birthday("19" + number[6:8], number[8:10], number[10:12]) and _is_county(number[:6])


def _is_birthday(year: str, month: str, day: str) -> bool:
    try:
        birthday = datetime.date(int(year), int(month), int(day))
    except ValueError:
        return False
    return _BIRTHS[0] <= birthday <= _BIRTHS[1]


@lru_cache(maxsize=4096)
def _is_county(code: str) -> bool:
    return any("county" in properties for _, properties in numdb.get("cn/loc").info(code))


_MOBILE_GROUPS = {(11,), (3, 4, 4), (3, 8), (7, 4), (3, 3, 5)}
_COUNTRY_CODE = re.compile(r"(?:(?<![0-9A-Za-z+])(?:\+|00)?86[ -]?|\((?:\+|00)?86\)[ -]?|\+[ ]?86[ -]?)$")


def _mobile(text: str, begin: int, digits: str, sizes: tuple[int, ...]) -> int | None:
    """Where a mainland mobile number begins, its country code included; none where the digits are no such number."""
    country = {11: "", 13: "86", 15: "0086"}[len(digits)]
    if not digits.startswith(country):
        return None
    number = digits[len(country) :]
    if number[0] != "1" or number[1] not in "3456789":
        return None
    if country:
        sizes = sizes[1:] if sizes[0] == len(country) else (sizes[0] - len(country), *sizes[1:])
    if sizes not in _MOBILE_GROUPS:
        return None
    if country:
        return begin - 1 if text[begin - 1 : begin] == "+" else begin
    prefix = _COUNTRY_CODE.search(text, max(0, begin - 9), begin)
    return prefix.start() if prefix else begin


_CARD_GROUPS = re.compile(r"(?:4,){3,4}[1-4]|4,6,[45]|6,(?:7|8|9|10|13)|4,(?:9|1[0-5])")
_CARD_BEFORE = re.compile(r"(?<![a-z])(?:card|cc|visa|mastercard)(?![a-z])|卡号|信用卡|银行卡|储蓄卡|账号|帳號", re.I)


def _card(text: str, begin: int, digits: str, sizes: tuple[int, ...]) -> str | None:
    """Which kind of payment card: Luhn check digit, and a known issuer (ISO/IEC 7812) or a word such as card before."""
    if len(sizes) > 1 and not _CARD_GROUPS.fullmatch(",".join(map(str, sizes))):
        return None
    if not luhn.is_valid(digits):
        return None
    return _issuer(digits) or ("card" if _CARD_BEFORE.search(context_before(text, begin, 40)) else None)


def _issuer(digits: str) -> str | None:
    count, two, four = len(digits), int(digits[:2]), int(digits[:4])
    # UnionPay, and cards of Chinese banks older than UnionPay's prefix 62.
    if digits.startswith(("62", "81")) and 16 <= count <= 19:
        return "cn-bank-card"
    if (digits.startswith(("9558", "95599", "6013", "6014", "6015", "6016")) and count in (16, 18, 19)) or (
        digits.startswith("103") and count == 19
    ):
        return "cn-bank-card"
    brands = (
        digits[0] == "4" and count in (13, 16, 19),  # Visa
        (51 <= two <= 55 or 2221 <= four <= 2720) and count == 16,  # Mastercard
        two in (34, 37) and count == 15,  # American Express
        (four == 6011 or 644 <= int(digits[:3]) <= 649 or two == 65) and 16 <= count <= 19,  # Discover
        (300 <= int(digits[:3]) <= 305 or two in (36, 38, 39)) and 14 <= count <= 19,  # Diners Club
        3528 <= four <= 3589 and 16 <= count <= 19,  # JCB
        four in (1800, 2131) and count == 15,  # JCB, older
        four in (5018, 5020, 5038, 5893, 6304, 6759, 6761, 6762, 6763),  # Maestro
    )
    return "card" if any(brands) else None


_CODE = re.compile(
    # Registering authority and class of GB 32100-2015, region, body, check character.
    r"(?<![0-9A-Za-z])(?:1[1-39]|2[19]|3[1-59]|4[19]|5[1-39]|6[129]|7[129]|8[19]|9[1-3]|A[19]|N[1-39]|Y1)"
    r"(?:[ -]?[0-9]){6}(?:[ -]?[0-9A-HJ-NPQRTUWXY]){10}(?![0-9A-Za-z])",
    re.I,
)


def find_social_credit_codes(text: str, start: int, end: int) -> Iterator[Found]:
    """Unified social credit codes (GB 32100-2015) around one run of digits, by their check character."""
    for match in _CODE.finditer(text, max(0, start - 3), end + 22):
        code = re.sub("[ -]", "", match[0]).upper()
        known_region = code[2:4] in _PROVINCES or code[2:4] == "10"  # 100000: registered with the state itself
        free = free_before(text, match.start()) and free_after(text, match.end())
        if known_region and free and uscc.calc_check_digit(code[:-1]) == code[-1]:
            yield "cn-credit-code", *match.span()


_PASSPORT = re.compile(
    r"(?<![0-9A-Za-z])(?:E[A-HJ-NP-Z][0-9]{7}|[EG][0-9]{8}|[DSP]E[0-9]{7}|[DSP][0-9]{7,8}|1[45][0-9]{7}"
    r"|[HM][0-9]{8}(?:[0-9]{2})?|K[0-9]{8}|KJ[0-9]{7}|M[AB][0-9]{7}|[CW][0-9]{8}|C[A-HJ-NP-Z][0-9]{7})(?![0-9A-Za-z])",
    re.I,
)
_PASSPORT_BEFORE = re.compile(r"护照|護照|通行证|通行證|旅行证|证件|證件|passport|travel (?:document|permit)", re.I)
_PASSPORT_AFTER = re.compile(r"护照|護照|通行证|passport", re.I)


def find_passports(text: str, start: int, end: int) -> Iterator[Found]:
    """Passports and travel permits: their numbers carry no checksum, so a word such as 护照 must be near."""
    for match in _PASSPORT.finditer(text, max(0, start - 2), min(len(text), end + 1)):
        if _PASSPORT_BEFORE.search(context_before(text, match.start(), 40)) or _PASSPORT_AFTER.search(
            context_after(text, match.end(), 20)
        ):
            yield "cn-passport", *match.span()


_PROVINCE_SIGNS = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
_GAP = "[·•・∙. -]?"
_PLATE = re.compile(
    # It begins with a set of characters, so that the search skips to these at once.
    rf"[{_PROVINCE_SIGNS}使](?:"
    rf"(?<!使)[A-HJ-NP-Z]{_GAP}(?:"
    r"[DF][A-HJ-NP-Z0-9][0-9]{4}|[0-9]{5}[DF]"  # new energy: small, large
    r"|[A-HJ-NP-Z0-9]{5}|[A-HJ-NP-Z0-9]{4}[警学挂港澳领试超])"
    rf"|(?:(?<=WJ.)|(?<=WJ .)){_GAP}[0-9]{{4}}[0-9XBTSHJD]"  # armed police
    rf"|(?<=使) ?[0-9]{{3}}{_GAP}[0-9]{{3}}"  # embassies
    r")(?![0-9A-Za-z])",
    re.I,
)
_ARMED_POLICE = re.compile(r"(?:^|[^0-9A-Za-z])(WJ ?)$", re.I)
_MILITARY = re.compile(
    rf"[车号牌军](?:牌照?|照|车)[^0-9A-Za-z\n{FILLER}]{{0,10}}([VKHBSLJNGC][A-Z]{_GAP}[0-9]{{5}})(?![0-9A-Za-z])"
)


def find_plates(text: str, start: int, end: int) -> Iterator[Found]:
    """Number plates: civil, new energy, police, armed police, embassy; military ones after a word such as 车牌."""
    for match in _PLATE.finditer(text, start, end):
        # Where a search ends at `end`, the pattern did not see what follows there.
        if sum(character.isdigit() for character in match[0]) < 2 or not _ends(text, match.end()):
            continue
        police = _ARMED_POLICE.search(text, max(0, match.start() - 4), match.start())
        yield "cn-plate", police.start(1) if police else match.start(), match.end()
    for match in _MILITARY.finditer(text, start, end):
        if _ends(text, match.end()):
            yield "cn-plate", *match.span(1)


def _ends(text: str, at: int) -> bool:
    after = text[at : at + 1]
    return not (after.isascii() and after.isalnum())
