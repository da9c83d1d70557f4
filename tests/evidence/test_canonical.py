from __future__ import annotations

import json
import math
import os
import random
import struct

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from guiju.errors import EvidenceError
from guiju.evidence import CanonicalReader, canonical_json, parse_strict

EXAMPLES = 20 * int(os.environ.get("GUIJU_SOAK", "20"))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
KEYS = TEXT | st.sampled_from(["\U00010000", "\uffff", "\ue000", "é", "e\u0301", "\u20ac", "\r", "", "1", "\x7f"])
DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS, DATA, max_size=5)


def read_alone(standalone, line: bytes):
    """The second verifier's answer: data, or ValueError."""
    return standalone.read(line + b"\n")


@settings(max_examples=EXAMPLES, deadline=None)
@given(OBJECTS)
def test_both_readers_take_what_rfc8785_writes_and_give_the_data_back(standalone, data):
    line = rfc8785.dumps(data)
    assert canonical_json(data) == line
    assert CanonicalReader().read(line) == data
    assert read_alone(standalone, line) == data
    assert rfc8785.dumps(parse_strict(line)) == line


@settings(max_examples=EXAMPLES, deadline=None)
@given(OBJECTS, st.booleans(), st.booleans(), st.sampled_from([None, 1]), st.randoms(use_true_random=False))
def test_both_readers_refuse_any_other_spelling(standalone, data, escape, shuffle, indent, draw):
    if shuffle:
        items = list(data.items())
        draw.shuffle(items)
        data = dict(items)
    line = json.dumps(data, ensure_ascii=escape, indent=indent).encode()
    refused = line != rfc8785.dumps(data)
    for read in (CanonicalReader().read, lambda line: read_alone(standalone, line)):
        if refused:
            with pytest.raises(ValueError):
                read(line)
        else:
            assert read(line) == data
    assert rfc8785.dumps(parse_strict(line)) == rfc8785.dumps(data)  # 1.0 and 1 mean the same


@settings(max_examples=EXAMPLES, deadline=None)
@given(OBJECTS, st.integers(0, 10**6), st.integers(1, 255))
def test_both_readers_agree_on_a_line_with_a_changed_byte(standalone, data, place, change):
    line = bytearray(rfc8785.dumps(data))
    line[place % len(line)] ^= change
    answers = []
    for read in (CanonicalReader().read, lambda line: read_alone(standalone, line)):
        try:
            answers.append(rfc8785.dumps(read(bytes(line))))
        except ValueError:
            answers.append(b"refused")
    assert answers[0] == answers[1]
    assert answers[0] in (b"refused", bytes(line))


def test_numbers_are_written_as_ecmascript_writes_them(standalone):
    """RFC 8785, appendix B."""
    published = {
        "0000000000000000": "0", "8000000000000000": "0", "0000000000000001": "5e-324", "8000000000000001": "-5e-324",
        "7fefffffffffffff": "1.7976931348623157e+308", "4340000000000000": "9007199254740992",
        "c340000000000000": "-9007199254740992", "4430000000000000": "295147905179352830000",
        "44b52d02c7e14af5": "9.999999999999997e+22", "44b52d02c7e14af6": "1e+23",
        "44b52d02c7e14af7": "1.0000000000000001e+23",
        "444b1ae4d6e2ef4e": "999999999999999700000", "444b1ae4d6e2ef4f": "999999999999999900000",
        "444b1ae4d6e2ef50": "1e+21", "3eb0c6f7a0b5ed8c": "9.999999999999997e-7", "3eb0c6f7a0b5ed8d": "0.000001",
        "41b3de4355555553": "333333333.3333332", "41b3de4355555557": "333333333.33333343",
        "becbf647612f3696": "-0.0000033333333333333333", "43143ff3c1cb0959": "1424953923781206.2",
    }  # fmt: skip
    for bits, text in published.items():
        value = struct.unpack(">d", bytes.fromhex(bits))[0]
        assert standalone.number(value) == text
        assert canonical_json(value) == text.encode()


def test_numbers_of_every_size_are_written_alike_by_both(standalone):
    draw = random.Random(0)
    for _ in range(20_000):
        value = struct.unpack(">d", draw.randbytes(8))[0]
        if math.isfinite(value):
            assert standalone.number(value).encode() == rfc8785.dumps(value)


def test_keys_beyond_the_basic_plane_are_ordered_by_utf_16(standalone):
    data = {"\U0001f600": 1, "\uffff": 2, "a": 3}
    line = canonical_json(data)
    assert line.index("\U0001f600".encode()) < line.index("\uffff".encode())  # by code point it would be behind
    assert CanonicalReader().read(line) == read_alone(standalone, line) == data


@pytest.mark.parametrize(
    "line",
    [
        b'{"a":1,"a":1}', b'{"a":{"b":1,"b":2}}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":1e999}',
        b'{"a":"\\ud800"}', b'{"\\udc00":1}', b'{"a":"\xed\xa0\x80"}', b'{"a":"\xff"}', b'\xef\xbb\xbf{"a":1}',
        b'{"a":9007199254740993}', b'{"a":1}x', b'{"a":1}{"a":1}', b"", b"{", b'{"a":01}', b'{"a":+1}', b'{"a":.5}',
        b"{'a':1}", b'{"a":1,}', b'{"a":"\n"}', b'{"a":1' + b"0" * 400 + b"}", b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_has_no_one_meaning_is_refused_by_all(standalone, line):
    for read in (parse_strict, CanonicalReader().read, lambda line: read_alone(standalone, line)):
        with pytest.raises((ValueError, EvidenceError, RecursionError)):
            read(line)


@pytest.mark.parametrize(
    "line", [b'{"a":1.0}', b'{"a":1e2}', b'{"a":-0}', b'{ "a":1}', b'{"b":1,"a":1}', b'{"a":"\\u0041"}']
)
def test_what_has_one_meaning_but_another_spelling_is_refused_in_a_ledger(standalone, line):
    parse_strict(line)
    for read in (CanonicalReader().read, lambda line: read_alone(standalone, line)):
        with pytest.raises(ValueError):
            read(line)


@pytest.mark.parametrize(
    "data", [float("nan"), float("inf"), 2**53, -(2**53), "\ud800", {"\ud800": 1}, {1: 2}, {"a": b"x"}, {"a": {1, 2}}]
)
def test_what_cannot_go_on_record_is_refused_when_it_is_written(data):
    with pytest.raises(EvidenceError, match="cannot"):
        canonical_json(data)


def test_a_quantity_beyond_2_to_the_53_goes_on_record_as_a_double(standalone):
    line = canonical_json({"flops": 3.5e18, "bytes": float(2**60)})
    assert CanonicalReader().read(line) == read_alone(standalone, line) == {"flops": 3.5e18, "bytes": float(2**60)}


def test_different_bytes_of_one_meaning_get_one_form():
    draw = random.Random(1)
    for _ in range(10_000):
        data = {draw.choice("abcdefé规"): draw.choice([1, 2.5, "x\u2028", None, [1, {"k": "v"}]]) for _ in range(3)}
        items = list(data.items())
        draw.shuffle(items)
        other = json.dumps(dict(items), ensure_ascii=draw.random() < 0.5, indent=draw.choice([None, 1, 4])).encode()
        assert canonical_json(parse_strict(other)) == canonical_json(data)
