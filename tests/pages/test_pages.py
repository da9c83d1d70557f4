from __future__ import annotations

import html
import math
import re
from itertools import pairwise

import pytest
from inert_pages import PAYLOADS, Reader, assert_inert

from guiju.pages import (
    VERDICTS,
    Bar,
    Series,
    Text,
    Texts,
    bar_chart,
    both,
    escape,
    interval_bar,
    join,
    line_chart,
    page,
    section,
    table,
    tag,
    verdict_badge,
)
from guiju.pages.charts import linear_ticks, log_ticks, thin, tick_text
from guiju.statistics import Verdict


def whole_page(text: str) -> str:
    words = Text(text, text + "z")
    body = section(
        "part",
        words,
        words,
        table([words, Text("a", "b")], [[text, words]], numbers=(1,)),
        tag("p", text, title=text, id=text, data_note=text, class_=text, style=text),
        tag("a", text, href=text),
        both(words),
        line_chart([Series(words, [(1, 1), (2, 3)])], title=words, x_label=words, y_label=words),
        line_chart([Series(words, [(1, 2)]), Series(words, [(1, 3)])], title=words, x_label=words, y_label=words),
        bar_chart([Bar(words, 1.0, text, strong=True)], title=words),
        interval_bar(0.9, 0.95, 0.92, comparator=">=", bound=0.9, title=words),
        text,
    )
    return page(words, body, language="zh")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_can_become_markup_wherever_it_stands(payload):
    calm, hostile = whole_page("calm"), whole_page(payload)
    reader = assert_inert(hostile)
    assert [name for name, _ in reader.tags] == [name for name, _ in assert_inert(calm).tags]
    hostile.encode("utf-8")


@pytest.mark.parametrize("payload", [payload for payload in PAYLOADS if payload.isprintable()])
def test_what_was_given_is_what_is_read(payload):
    assert payload in "".join(Reader(tag("p", payload)).text)
    assert html.unescape(escape(payload)) == payload


def test_escaping_agrees_with_the_standard_library_on_printable_text():
    text = "a < b & \"c\" > 'd' 规矩 é 🙂"
    assert html.unescape(escape(text)) == html.unescape(html.escape(text)) == text


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("\x00", "␀"),
        ("\x1b", "␛"),
        ("\x7f", "␡"),
        ("\u202e", "⟦U+202E⟧"),
        ("\u2066", "⟦U+2066⟧"),
        ("\u200b", "⟦U+200B⟧"),
        ("\ufeff", "⟦U+FEFF⟧"),
        ("\ud800", "⟦U+D800⟧"),
        ("\x85", "⟦U+0085⟧"),
        ("\U000e0041", "⟦U+E0041⟧"),
        ("\n\t", "\n\t"),
    ],
)
def test_what_would_act_unseen_is_shown(hidden, shown):
    assert escape(f"a{hidden}b") == f"a{shown}b"


def test_an_event_handler_or_a_fetched_source_cannot_be_written():
    with pytest.raises(AssertionError, match="run code"):
        tag("p", onclick="x")
    with pytest.raises(AssertionError, match="fetches nothing"):
        tag("img", src="https://example.org/x.png")
    assert tag("a", "x", href="javascript:alert(1)") == "<a>x</a>"
    assert tag("a", "x", href="#there") == '<a href="#there">x</a>'


def test_a_page_fetches_nothing_and_runs_nothing():
    text = page("title", tag("p", "body"))
    assert "default-src &#39;none&#39;" in text
    assert "script-src" not in text
    assert "<script" not in text
    assert not re.search(r"url\(|@import|https?://", text)
    assert len(re.findall(r"<meta[^>]*Content-Security-Policy", text)) == 1


def test_each_language_hides_the_other_and_the_chosen_one_is_checked():
    text = page(Text("report", "报告"), both(Text("one", "一")), language="zh")
    checked = [a["id"] for name, a in Reader(text).tags if name == "input" and "checked" in a]
    assert checked == ["language-zh"]
    assert "#language-zh:checked ~ .sheet .en, #language-en:checked ~ .sheet .zh { display: none; }" in text
    assert '<span class="en" lang="en">one</span><span class="zh" lang="zh-CN">一</span>' in text


def test_what_is_the_same_in_both_languages_stands_once():
    assert both(Text("MIT", "MIT")) == "MIT"
    assert both("<b>") == "&lt;b&gt;"


def test_a_table_of_texts_fills_in_values_and_escapes_them():
    texts = Texts({"kept": ("{count} kept of <{what}>", "保留 {count} 份")})
    assert texts.html("kept", count=3, what=Text("a", "b")) == both(Text("3 kept of <a>", "保留 3 份"))
    assert texts.get("other") == Text("other", "other")
    with pytest.raises(KeyError):
        texts["other"]


def test_values_are_not_read_as_templates_again():
    assert Text("{x}", "{x}").format(x="{y}{0.__class__}") == Text("{y}{0.__class__}", "{y}{0.__class__}")


def test_every_verdict_has_a_word_in_both_languages_and_a_shape_of_its_own():
    badges = {verdict: verdict_badge(verdict) for verdict in Verdict}
    shapes = {re.sub(r'class="[^"]*"', "", re.search(r"<svg.*</svg>", badge).group()) for badge in badges.values()}
    assert len(shapes) == len(Verdict), "told apart without colour"
    for verdict, badge in badges.items():
        assert VERDICTS[verdict].en in badge
        assert VERDICTS[verdict].zh in badge


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.31, 0.92), (3, 8100), (-2, 2), (5, 5), (0, 0), (1e-9, 3e-9), (1e6, 1e6 + 1)]
)
def test_ticks_enclose_what_they_measure_and_stand_at_even_distances(low, high):
    ticks = linear_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert 3 <= len(ticks) <= 12
    steps = {round((b - a) / (ticks[1] - ticks[0]), 6) for a, b in pairwise(ticks)}
    assert steps == {1.0}


@pytest.mark.parametrize(("low", "high"), [(0.3, 8), (1, 1), (2e-5, 0.9), (100, 1000)])
def test_logarithmic_ticks_enclose_what_they_measure(low, high):
    ticks = log_ticks(low, high)
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert ticks == sorted(ticks)


def points_of(chart: str, style: str = "1") -> list[tuple[float, float]]:
    [path] = re.findall(rf'<path d="([^"]*)" class="line line-{style}"', chart)
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]


def test_a_line_stands_where_its_axis_says():
    chart = line_chart([Series(NAME, [(0, 0), (5, 50), (10, 100)])], title=NAME, x_label=NAME, y_label=NAME)
    drawn = points_of(chart)
    labels = {
        text: (float(x), float(y))
        for x, y, text in re.findall(r'<text x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)</text>', chart)
    }
    assert drawn[0][1] > drawn[1][1] > drawn[2][1], "more is higher"
    assert drawn[2][1] == pytest.approx(labels["100"][1], abs=0.11)
    assert drawn[2][0] == pytest.approx(labels["10"][0], abs=0.11)


def test_a_logarithmic_axis_gives_each_factor_the_same_height():
    chart = line_chart([Series(NAME, [(0, 1), (1, 10), (2, 100)])], title=NAME, x_label=NAME, y_label=NAME, log_y=True)
    (_, a), (_, b), (_, c) = points_of(chart)
    assert a - b == pytest.approx(b - c, abs=0.11)


def test_what_is_not_finite_breaks_the_line_and_draws_nothing_else():
    chart = line_chart(
        [Series(NAME, [(0, 1), (1, math.nan), (2, 2), (3, math.inf), (4, 3)])], title=NAME, x_label=NAME, y_label=NAME
    )
    [path] = re.findall(r'<path d="([^"]*)"', chart)
    assert path.count("M") == 3, "three pieces"
    assert "nan" not in chart
    assert "inf" not in chart
    assert len(points_of(chart)) == 3


def test_a_chart_without_figures_is_a_sentence():
    assert "<svg" not in line_chart([Series(NAME, [])], title=NAME, x_label=NAME, y_label=NAME)
    assert "<svg" not in line_chart([Series(NAME, [(0, 0)])], title=NAME, x_label=NAME, y_label=NAME, log_y=True)


def test_a_single_point_can_be_seen():
    assert "<circle" in line_chart([Series(NAME, [(3, 4)])], title=NAME, x_label=NAME, y_label=NAME)


def test_thinning_keeps_every_spike():
    points = [(float(i), 1.0) for i in range(20_000)]
    points[7_777] = (7_777.0, 99.0)
    points[12_345] = (12_345.0, -99.0)
    kept = thin(points)
    assert len(kept) < 700
    assert points[7_777] in kept
    assert points[12_345] in kept
    assert kept[-1] == points[-1]
    assert kept == sorted(kept)


def test_bars_are_as_long_as_their_quantities():
    chart = bar_chart([Bar(NAME, 4.0, "4"), Bar(NAME, 1.0, "1", strong=True), Bar(NAME, math.nan, "?")], title=NAME)
    assert re.findall(r'width="([\d.]+)%"', chart) == ["100.00", "25.00", "0.00"]


@pytest.mark.parametrize(("comparator", "bound"), [(">=", 0.96), ("<=", 0.05), ("==", 1.0)])
def test_an_interval_bar_shades_the_side_that_keeps_the_bound(comparator, bound):
    low, high = (0.9, 0.99) if comparator != "<=" else (0.02, 0.09)
    bar = interval_bar(low, high, (low + high) / 2, comparator=comparator, bound=bound, title=NAME)
    x, width = map(float, re.search(r'<rect x="([\d.]+)"[^>]*width="([\d.]+)"', bar).groups())
    at = float(re.search(r'<line x1="([\d.]+)"[^>]*class="bound"', bar).group(1))
    if comparator == ">=":
        assert x == at
    elif comparator == "<=":
        assert x + width == pytest.approx(at, abs=0.11)
    else:
        assert width == 0
    assert "nan" not in bar


def test_numbers_on_axes_read_as_people_write_them():
    assert [tick_text(value) for value in (0, 0.05, 1200, 3_200_000, 2.5e9)] == ["0", "0.05", "1,200", "3.2M", "2.5B"]


def test_children_may_nest_and_nothing_else_is_pasted():
    assert join(["a", [tag("b", 1), None]], 2.5) == "a<b>1</b>2.5"
    with pytest.raises(AssertionError, match="neither text nor markup"):
        join(object())


def test_the_style_sheet_holds_no_address_and_no_data():
    text = page("x")
    style = re.search(r"<style>(.*)</style>", text, re.S).group(1)
    assert "</" not in style
    assert "data:" not in style


NAME = Text("name", "名")
