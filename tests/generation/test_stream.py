from __future__ import annotations

import itertools
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from guiju.generation.stops import StopTexts
from guiju.generation.stream import TextStream

TEXT = "春眠不觉晓，\U0001f600 처처 é end"


def _stream(chunks, stops=()):
    pieces = []
    stream = TextStream(stops, pieces.append)
    stopped = any(stream.push(chunk) for chunk in chunks)
    stopped = stream.finish() or stopped
    return stream.text, pieces, stopped


def test_bytes_that_come_one_by_one_leave_as_whole_characters():
    text, pieces, stopped = _stream([bytes([byte]) for byte in TEXT.encode()])
    assert pieces == list(TEXT)
    assert (text, stopped) == (TEXT, False)


def test_a_character_that_is_cut_off_for_good_comes_as_a_replacement():
    assert _stream(["好".encode(), "好".encode()[:2]]) == ("好\ufffd", ["好", "\ufffd"], False)


def test_what_may_begin_a_stop_text_is_held_back_until_it_is_certain():
    pieces = []
    stream = TextStream(["STOP"], pieces.append)
    for chunk in (b"a S", b"T", b"O"):
        assert not stream.push(chunk)
    assert pieces == ["a "]
    assert not stream.push(b"X ")
    assert pieces == ["a ", "STOX "]
    assert not stream.push(b"ST")
    assert stream.push(b"OP and more")
    stream.finish()
    assert "".join(pieces) == stream.text == "a STOX "


def test_the_stop_text_that_begins_first_counts():
    assert _stream([b"one END two STOP"], ["STOP", "END"])[0] == "one "


@settings(deadline=None)  # a busy machine is no fault
@given(
    st.text(alphabet="ab好", max_size=30),
    st.lists(st.text(alphabet="ab好", min_size=1, max_size=4), max_size=4),
    st.lists(st.integers(1, 4), min_size=1, max_size=40),
)
def test_streaming_in_any_pieces_equals_looking_for_the_stop_text_in_the_whole(text, stops, sizes):
    data, chunks = text.encode(), []
    for size in itertools.cycle(sizes):
        if not data:
            break
        chunks.append(data[:size])
        data = data[size:]
    # Whichever stop text is complete first, as tokens come, ends the text, at the place where it begins.
    whole, position = text.encode(), 0
    expected, expect_stop = text, False
    for chunk in chunks:
        position += len(chunk)
        known = whole[:position].decode(errors="ignore")
        ends = [known.find(stop) for stop in stops if stop in known]
        if ends:
            expected, expect_stop = text[: min(ends)], True
            break
    result, pieces, stopped = _stream(chunks, stops)
    assert result == "".join(pieces)
    assert (result, stopped) == (expected, expect_stop)


@settings(deadline=None)
@given(st.text(alphabet="ab", max_size=40), st.lists(st.text(alphabet="ab", min_size=1, max_size=6), max_size=6))
def test_the_automaton_finds_what_looking_for_each_text_finds(text, stops):
    automaton = StopTexts(tuple(stops))
    state = 0
    for end in range(1, len(text) + 1):
        state = automaton.step(state, text[end - 1])
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        assert automaton.found[state] == max(map(len, complete), default=0)
        begun = [size for size in range(end + 1) if any(stop.startswith(text[end - size : end]) for stop in stops)]
        assert automaton.held[state] == max(begun, default=0)


def test_a_thousand_long_stop_texts_cost_no_more_than_one():
    def seconds(stops):
        stream = TextStream(stops)
        started = time.process_time()
        for _ in range(2000):
            stream.push(b"0123 ")
        assert stream.finish() is False
        return time.process_time() - started

    many = [f"{number:04d}{'-' * 60}" for number in range(1000)]
    seconds(many)  # the automaton is made once
    assert seconds(many) < 10 * seconds(many[:1]) + 0.05
