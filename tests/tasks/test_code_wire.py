from __future__ import annotations

import json
import math
import os
from collections import Counter, OrderedDict, namedtuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guiju.tasks.code_wire import TYPES, Line, WireError, decode, encode

TAGS = ["int", "float", "complex", "tuple", "dict", "set", "frozenset", "bytes", "bytearray", "range", "type"]
hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**60, max_value=2**200)
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters())
    | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    hashable | st.binary().map(bytearray) | st.sampled_from(list(TYPES.values())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hashable, inner, max_size=4) | st.sets(hashable),
    max_leaves=12,
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(TAGS),
            inner,
            max_size=2,
        )
    ),
    max_leaves=12,
)


def refuse(*given):
    raise WireError("unknown")


def over(value):
    return decode(json.loads(json.dumps(encode(value, refuse))), refuse)


def same(one, other):
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same([*one.items()], [*other.items()])
    return one == other


@settings(max_examples=150, deadline=None)
@given(values)
def test_a_value_arrives_as_it_was(value):
    assert same(over(value), value)


@settings(max_examples=200, deadline=None)
@given(anything)
def test_whatever_is_sent_becomes_plain_data_or_an_error(data):
    try:
        value = decode(data, refuse)
    except WireError:
        return
    over(value)  # raises where it holds anything but plain data


def test_numbers_at_the_edges_arrive():
    assert math.isnan(over(math.nan))
    assert [over(value) for value in (math.inf, -math.inf, 10**5000)] == [math.inf, -math.inf, 10**5000]
    assert math.copysign(1, over(-0.0)) == -1


def test_of_a_subclass_its_data_arrives_and_nothing_of_its_ways():
    class Equal(int):
        def __eq__(self, other):
            return True

        __hash__ = int.__hash__

        def __index__(self):
            return 99

    class Liar(list):
        def __iter__(self):
            return iter([99])

    class Words(str):
        def __str__(self):
            return "99"

    point = namedtuple("point", "x y")
    given = [Equal(7), Liar([1, 2]), Words("ab"), Counter("aab"), OrderedDict(a=1), point(1, 2)]
    wanted = [7, [1, 2], "ab", {"a": 2, "b": 1}, {"a": 1}, (1, 2)]
    assert same(over(given), wanted)


@pytest.mark.parametrize("value", [object(), len, iter([]), Exception(), {1: object()}, [Counter]])
def test_what_is_no_data_does_not_go(value):
    with pytest.raises(WireError):
        over(value)


@pytest.mark.parametrize("data", [b"\xff\n", b"{\n", b"1 2\n", b"[" * 200_000 + b"\n", b"9" * 5000 + b"\n"])
def test_a_line_that_is_no_json_is_an_error(data):
    read, write = os.pipe()
    with os.fdopen(read, "rb"), os.fdopen(write, "wb") as file:
        if len(data) > 60_000:
            import fcntl

            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
        file.write(data)
        file.flush()
        with pytest.raises(WireError):
            Line(read, -1).receive()


def test_lines_arrive_in_order_and_the_end_is_told():
    read, write = os.pipe()
    line = Line(read, write)
    with os.fdopen(read, "rb"):
        with os.fdopen(write, "wb"):
            for number in range(100):
                line.send({"value": number})
            assert [line.receive()["value"] for _ in range(100)] == list(range(100))
        with pytest.raises(EOFError):
            line.receive()
