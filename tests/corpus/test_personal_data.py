"""Personal data is found where it stands, and what only looks like it is left alone."""

from __future__ import annotations

import gzip
import json
import os
import random
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guiju.corpus.personal_data import KINDS, MARKERS, Span, find_personal_data, mask_personal_data
from guiju.errors import ConfigError

POSITIVE = {
    "email": [
        "write to ada.lovelace+notes@example.co.uk.",
        "邮箱：zhang_san@qq.com，谢谢",
        "ＺＨＡＮＧ＠ＱＱ．ＣＯＭ",
        "mailto:o'brien@sub.example.museum?subject=x",
    ],
    "cn-identity": [
        "身份证号110101199003071233。",
        "11010519491231002X",
        "11010519491231002x,",
        "id11010519491231002X",
        "110105 19491231 002X",
        "１１０１０５１９４９１２３１００２Ｘ",
        "旧证130503670401001",
    ],
    "cn-mobile": [
        "13812345678",
        "手机138-1234-5678。",
        "+86 199 1234 5678",
        "(+86)16612345678",
        "008613812345678",
        "tel13812345678",
        "１３８１２３４５６７８",
        "138 1234 5678/",
    ],
    "cn-bank-card": ["6222020000000000000", "卡号 6222 0200 0000 0000 000", "6225880000000001"],
    "card": [
        "4111111111111111",
        "4111 1111 1111 1111 123",
        "3782-822463-10005",
        "5555-5555-5555-4444",
        "my card 675984103431",
    ],
    "cn-credit-code": [
        "91110000600037341L",
        "税号91110000600037341L开票",
        "9111 0000 6000 3734 1L",
        "91110000600037341l",
    ],
    "cn-plate": [
        "京A12345",
        "粤B·D12345",
        "沪AF12345",
        "京A12345D",
        "沪A1234警",
        "川A1234学",
        "粤Z1234港",
        "WJ京1234X",
        "使224001",
        "车牌号：VA·12345",
    ],
    "cn-passport": ["护照号码：E12345678", "passport no. EA1234567", "护照 G12345678", "港澳通行证C12345678"],
    "ip": [
        "192.168.1.10",
        "from 8.8.8.8:53",
        "地址：2001:0db8:85a3::8a2e:0370:7334",
        "fe80::1ff:fe23:4567:890a%eth0",
        "http://10.0.0.1/x",
        "ＩＰ：１０．２．３．４０",
    ],
    "iban": [
        "GB82 WEST 1234 5698 7654 32",
        "IBAN: DE89370400440532013000.",
        "mt84malt011000012345mtlcast001s",
        "NO93 8601 1117 947 und",
    ],
    "phone": [
        "+44 20 7946 0958",
        "+46 (0)8 928 571 38",
        "001-518-640-0854",
        "(212) 555-0123",
        "212-555-0123 x45",
        "电话：021-61234567",
        "0755-26012345转8001",
        "Call me on 01.84.17.61.18",
        "座机 61234567",
    ],
}

NEGATIVE = {
    "email": ["a@b", "@user", "icon@2x.png", "user at example.com", "a@.com", "价格@100"],
    "cn-identity": [
        "110101199003071234",  # check digit
        "110101199013071233",  # month 13
        "110101199002301231",  # 30 February
        "990101199003071233",  # no such province
        "1101011990030712331",  # 19 digits
        "0.110101199003071233",
        "A110101199003071233B",
        "130503671301001",  # old form, month 13
        "000000670401001",  # old form, no such county
    ],
    "cn-mobile": [
        "12812345678",
        "10012345678",
        "1381234567",
        "138123456789",
        "213812345678",
        "0.13812345678",
        "13812345678.55",
        "f13812345678e",
        "9138 1234 5678",
    ],
    "cn-bank-card": ["6222020000000000001", "6225880000000002", "16222020000000000000", "x6222020000000000000x"],
    "card": ["4111111111111112", "1234567812345670", "41111111111111111111", "978-7-02-000220-7", "9787020002207"],
    "cn-credit-code": ["91110000600037341M", "91110000600037341", "00110000600037341L", "X91110000600037341L"],
    "cn-plate": ["京AIO345", "京A1234", "京A123456789", "苏ABCDEF", "北京12345", "云A股12345", "VA12345"],
    "cn-passport": ["part E12345678", "护照E1234567890", "型号G12345678", "护照办理须知"],
    "ip": [
        "256.1.1.1",
        "v1.2.3.4",
        "version 10.0.190.11",
        "clause 3.1.2.4",
        "1.2.3.4.5",
        "10.20.30",
        "12:30:45",
        "00:1A:2B:3C:4D:5E",
        "x[1::2]",
        "std::cafe",
        "Chrome/96.0.46.11",
    ],
    "iban": ["GB82WEST12345698765433", "XX82WEST12345698765432", "GB82WEST1234569876543", "AGB82WEST12345698765432"],
    "phone": [
        "2018-10-11",
        "1990-2003",
        "call 3.14159265",
        "order 5551234",
        "0.0736842113",
        "2+2",
        "1234567",
        "ring 1000 / 200000",
        "电话 2018-10-11",
    ],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in POSITIVE.items() for text in texts])
def test_every_golden_example_is_found_as_its_kind(kind, text):
    assert kind in {span.kind for span in find_personal_data(text)}
    assert find_personal_data(text, [kind])


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in NEGATIVE.items() for text in texts])
def test_every_near_miss_is_left_alone(kind, text):
    assert find_personal_data(text, [kind]) == []


def test_golden_examples_cover_every_kind():
    assert set(POSITIVE) == set(NEGATIVE) == set(KINDS)


def test_masking_leaves_the_rest_of_the_text_and_counts_in_characters_of_the_original():
    text = "张三，身份证１１０１０５１９４９１２３１００２Ｘ，手机 138-1234-5678；a@b.com"
    masked, spans = mask_personal_data(text)
    assert masked == "张三，身份证[CN-IDENTITY]，手机 [CN-MOBILE]；[EMAIL]"
    assert [text[span.start : span.end] for span in spans] == [
        "１１０１０５１９４９１２３１００２Ｘ",
        "138-1234-5678",
        "a@b.com",
    ]


def test_a_longer_find_wins_over_what_lies_within_it():
    assert find_personal_data("13812345678@qq.com") == [Span(0, 18, "email")]
    assert find_personal_data("::ffff:192.168.1.10") == [Span(0, 19, "ip")]
    assert [span.kind for span in find_personal_data("GB82 WEST 1234 5698 7654 32")] == ["iban"]


def test_only_the_kinds_that_are_asked_for_are_masked():
    text = "a@b.com 13812345678"
    assert mask_personal_data(text, ["email"])[0] == "[EMAIL] 13812345678"
    assert mask_personal_data(text, [])[0] == text


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ConfigError, match="'e-mail'"):
        find_personal_data("x", ["e-mail"])


def test_two_numbers_on_one_line_are_both_found():
    assert mask_personal_data("13812345678 13912345678")[0] == "[CN-MOBILE] [CN-MOBILE]"
    assert mask_personal_data("12 110105 19491231 002X 13912345678")[0] == "12 [CN-IDENTITY] [CN-MOBILE]"


# Generated numbers. The checksums here are written out anew from the standards, apart from the library's.


def identity_check(body: str) -> str:  # GB 11643-1999
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return "10X98765432"[sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True)) % 11]


def credit_code_check(body: str) -> str:  # GB 32100-2015
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    total = sum(alphabet.index(sign) * pow(3, place, 31) for place, sign in enumerate(body))
    return alphabet[-total % 31]


def luhn_check(body: str) -> str:
    total = sum(sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(reversed(body)))
    return str(-total % 10)


REGIONS = ("110101", "310115", "440305", "510107", "622301", "650102", "330106", "420111")


def make_identity(chance: random.Random) -> tuple[str, str]:
    born = date(1930, 1, 1) + timedelta(days=chance.randrange(33_000))
    body = f"{chance.choice(REGIONS)}{born:%Y%m%d}{chance.randrange(1000):03d}"
    return body, identity_check(body)


def make_credit_code(chance: random.Random) -> tuple[str, str]:
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    head = chance.choice(["91", "92", "93", "51", "12", "11", "52", "A1", "N2", "Y1"])
    body = head + chance.choice(REGIONS) + "".join(chance.choice(alphabet) for _ in range(9))
    return body, credit_code_check(body)


def make_bank_card(chance: random.Random) -> tuple[str, str]:
    body = "62" + "".join(chance.choice("0123456789") for _ in range(chance.choice([13, 16])))
    return body, luhn_check(body)


@pytest.mark.parametrize(
    ("kind", "make", "signs"),
    [
        ("cn-identity", make_identity, "0123456789X"),
        ("cn-credit-code", make_credit_code, "0123456789ABCDEFGHJKLMNPQRTUWXY"),
        ("cn-bank-card", make_bank_card, "0123456789"),
    ],
)
def test_a_thousand_valid_numbers_are_all_found_and_a_thousand_with_a_broken_checksum_never(kind, make, signs):
    chance = random.Random(kind)
    for _ in range(1000):
        body, check = make(chance)
        text = f"登记号{body}{check}，完"
        assert find_personal_data(text) == [Span(3, 3 + len(body) + 1, kind)], text
        wrong = chance.choice([sign for sign in signs if sign != check])
        assert find_personal_data(f"登记号{body}{wrong}，完", [kind]) == []


def test_a_thousand_mobile_numbers_plates_and_passports_are_all_found():
    chance = random.Random(7)

    def digits(count: int) -> str:
        return "".join(chance.choice("0123456789") for _ in range(count))

    letters = "ABCDEFGHJKLMNPQRSTUVWXYZ"
    for _ in range(1000):
        mobile = f"1{chance.choice('3456789')}{digits(9)}"
        assert find_personal_data(f"号{mobile}。") == [Span(1, 12, "cn-mobile")]
        plate = f"{chance.choice('京津沪渝粤苏浙川藏琼')}{chance.choice(letters)}"
        plate += chance.choice(
            [digits(5), f"{digits(1)}{chance.choice(letters)}{digits(3)}", f"D{digits(5)}", f"{digits(5)}F"]
        )
        assert find_personal_data(f"停着{plate}。") == [Span(2, 2 + len(plate), "cn-plate")]
        passport = chance.choice(["E", "G", "EB", "PE", "SE", "DE"])
        passport += digits(9 - len(passport))
        assert find_personal_data(f"护照{passport}。") == [Span(2, 11, "cn-passport")]


PIECES = [text for texts in (*POSITIVE.values(), *NEGATIVE.values()) for text in texts]
GLUE = [
    "",
    " ",
    "-",
    ".",
    "，",
    "\n",
    "1",
    "x",
    "+",
    "(",
    ")",
    "/",
    ":",
    "@",
    "[",
    "]",
    "[EMAIL]",
    "护照",
    "电话",
    "v",
    "\x00",
    "０",
]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(PIECES), st.sampled_from(GLUE), st.text(max_size=8)), max_size=8).map("".join)
)
def test_nothing_is_left_after_masking_and_masking_again_changes_nothing(text):
    masked, spans = mask_personal_data(text)
    assert find_personal_data(masked) == []
    assert mask_personal_data(masked) == (masked, [])
    assert all(before.end <= after.start for before, after in pairwise(spans))
    assert all(0 <= span.start < span.end <= len(text) and span.kind in MARKERS for span in spans)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789 .-+()/@:abEGx京·", max_size=80), st.lists(st.sampled_from(KINDS), unique=True))
def test_nothing_is_left_of_the_wanted_kinds_in_random_numbers(text, kinds):
    masked, _ = mask_personal_data(text, kinds)
    assert find_personal_data(masked, kinds) == []


def test_any_row_of_digits_after_a_word_such_as_phone_is_judged_without_an_error():
    chance = random.Random(3)
    for _ in range(3000):
        digits = "".join(chance.choice("0019") for _ in range(chance.randrange(6, 16)))
        find_personal_data(f"电话{digits}")
        find_personal_data(f"+{digits}")


def test_a_find_far_into_a_long_text_is_the_same_as_in_a_short_one():
    for kind, texts in POSITIVE.items():
        for text in texts:
            long = "字" * 5000 + "\n" + text + "\n" + "a" * 5000
            moved = [(span.start - 5001, span.end - 5001, span.kind) for span in find_personal_data(long, [kind])]
            assert moved == [(span.start, span.end, span.kind) for span in find_personal_data(text, [kind])], text


def test_recall_and_precision_on_the_presidio_set_do_not_fall():
    root = os.environ.get("GUIJU_DATA")
    path = Path(root or "", "presidio-pii", "synth_dataset_v2.even.json.gz")
    if not root or not path.is_file():
        pytest.skip("needs presidio-pii/synth_dataset_v2.even.json.gz in the folder that GUIJU_DATA names")
    names = {
        "PHONE_NUMBER": "phone",
        "CREDIT_CARD": "card",
        "IBAN_CODE": "iban",
        "EMAIL_ADDRESS": "email",
        "IP_ADDRESS": "ip",
    }
    least = {"phone": (62, 64), "card": (66, 66), "iban": (12, 12), "email": (27, 27), "ip": (6, 6)}
    found = dict.fromkeys(least, 0)
    wrong = 0
    for item in json.loads(gzip.decompress(path.read_bytes())):
        spans = find_personal_data(item["full_text"])
        gold = [
            (names[s["entity_type"]], s["start_position"], s["end_position"])
            for s in item["spans"]
            if s["entity_type"] in names
        ]
        for kind, start, end in gold:
            found[kind] += any(s.kind == kind and s.start <= start and end <= s.end for s in spans)
        wrong += sum(not any(s.start < end and start < s.end for _, start, end in gold) for s in spans)
    assert {kind: (found[kind], least[kind][1]) for kind in least} == least
    assert wrong == 0
