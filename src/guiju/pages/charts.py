"""Charts as inline SVG: told apart by dash and shape as well as by colour, in light, dark and on paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from guiju.pages.languages import Text, both
from guiju.pages.markup import Html, join, tag

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 26, 40
MOST_POINTS = 500
SERIES = 5
"""How many series can be told apart; the style sheet has as many strokes."""


@dataclass(frozen=True)
class Series:
    """A named line; points are (x, y). What is not finite breaks the line."""

    name: Text
    points: Sequence[tuple[float, float]]
    faint: bool = False
    """Drawn thin and behind the others, which say what it means."""


def line_chart(
    series: Sequence[Series], *, title: Text, x_label: Text, y_label: Text, log_y: bool = False, from_zero: bool = False
) -> Html:
    """Lines over one pair of axes, with a legend where there are several.

    Args:
        title: what the chart shows, for whoever cannot see it.
        log_y: a logarithmic scale; values of 0 or less are left out.
    Returns:
        A figure; a sentence in its place where no point can be drawn.
    """
    assert len(series) <= SERIES, f"{len(series)} lines cannot be told apart; {SERIES} can"
    lines = [[_drawable(point, log_y) for point in one.points] for one in series]
    points = [point for line in lines for point in line if point is not None]
    if not points:
        return tag("p", both(Text("There are no figures to draw.", "没有可绘制的数据。")), class_="empty")
    x_ticks = linear_ticks(min(x for x, _ in points), max(x for x, _ in points))
    low, high = min(y for _, y in points), max(y for _, y in points)
    y_ticks = log_ticks(low, high) if log_y else linear_ticks(0 if from_zero else low, high)
    scale = _Scale(min(x for x, _ in points), max(x for x, _ in points), y_ticks[0], y_ticks[-1], log_y)
    styles = ["faint" if one.faint else str(number) for number, one in enumerate(series, start=1)]
    back_to_front = sorted(range(len(series)), key=lambda place: not series[place].faint)
    drawing = tag(
        "svg",
        _title(title),
        _axes(scale, [x for x in x_ticks if scale.x_low <= x <= scale.x_high], y_ticks, x_label, y_label),
        [_line(lines[place], scale, styles[place]) for place in back_to_front],
        class_="chart",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )
    legend = [tag("li", _swatch(style), both(one.name)) for style, one in zip(styles, series, strict=True)]
    return tag("figure", drawing, tag("ul", legend, class_="legend") if len(series) > 1 else None)


@dataclass(frozen=True)
class Bar:
    """A labelled quantity; `strong` is the one that the chart is about."""

    label: Text
    value: float
    shown: str
    strong: bool = False


def bar_chart(bars: Sequence[Bar], *, title: Text) -> Html:
    """Quantities side by side as horizontal bars from zero, each with its figure written out."""
    finite = [bar.value for bar in bars if math.isfinite(bar.value)]
    longest = max(finite, default=0.0)
    rows = []
    for bar in bars:
        share = 100 * bar.value / longest if longest > 0 and math.isfinite(bar.value) else 0.0
        drawing = tag(
            "svg",
            tag(
                "rect",
                x=0,
                y=0,
                width=f"{max(share, 0):.2f}%",
                height="100%",
                class_="bar-strong" if bar.strong else "bar",
            ),
            class_="bar-track",
            aria_hidden="true",
        )
        rows.append(
            tag(
                "div",
                tag("span", both(bar.label), class_="bar-label"),
                drawing,
                tag("span", bar.shown, class_="bar-value"),
                class_="bar-row strong" if bar.strong else "bar-row",
            )
        )
    # The title is for whoever hears the page; the rows themselves are text.
    return tag("figure", tag("figcaption", both(title), class_="unseen"), rows, class_="bars")


def interval_bar(
    low: float, high: float, estimate: float, *, comparator: str, bound: float, title: Text, percent: bool = True
) -> Html:
    """A measured rate with its interval against the bound that was asked for; the side that keeps it is shaded.

    Args:
        low, high, estimate, bound: fractions from 0 to 1 where `percent`, plain quantities otherwise.
    """
    left, right = _window(min(low, bound), max(high, bound), percent)
    width, height, top, middle, bottom = 340.0, 62.0, 16.0, 30.0, 44.0

    def place(value: float) -> float:
        return 12 + (width - 24) * (value - left) / (right - left)

    def at(value: float) -> str:
        return f"{place(value):.1f}"

    def label(value: float) -> str:
        return tick_text(value * 100 if percent else value) + (" %" if percent else "")

    good = {">=": (bound, right), "<=": (left, bound)}.get(comparator, (bound, bound))
    span = f"{place(good[1]) - place(good[0]):.1f}"
    shape = [
        tag("rect", x=at(good[0]), y=top, width=span, height=bottom - top, class_="good"),
        tag("line", x1=at(left), x2=at(right), y1=middle, y2=middle, class_="rail"),
        tag("line", x1=at(bound), x2=at(bound), y1=top - 3, y2=bottom + 3, class_="bound"),
    ]
    if high > low:
        shape.append(tag("line", x1=at(low), x2=at(high), y1=middle, y2=middle, class_="interval"))
        for end in (low, high):
            shape.append(tag("line", x1=at(end), x2=at(end), y1=middle - 5, y2=middle + 5, class_="interval"))
    shape.append(tag("circle", cx=at(estimate), cy=middle, r=4.5, class_="estimate"))
    sign = {">=": "≥", "<=": "≤", "==": "="}.get(comparator, comparator)
    anchor = "start" if place(bound) < 60 else "end" if place(bound) > width - 60 else "middle"
    texts = [
        tag("text", f"{sign} {label(bound)}", x=at(bound), y=9, text_anchor=anchor),
        tag("text", label(left), x=at(left), y=height - 2, text_anchor="start"),
        tag("text", label(right), x=at(right), y=height - 2, text_anchor="end"),
    ]
    box = f"0 0 {width:g} {height:g}"
    return tag("svg", _title(title), shape, texts, class_="interval-bar", viewBox=box, role="img")


@dataclass(frozen=True)
class _Scale:
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    log: bool

    def x(self, value: float) -> float:
        span = (self.x_high - self.x_low) or 1.0
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.x_low) / span

    def y(self, value: float) -> float:
        low, high, here = self.y_low, self.y_high, value
        if self.log:
            low, high, here = math.log10(low), math.log10(high), math.log10(value)
        span = (high - low) or 1.0
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (here - low) / span


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) that enclose low and high."""
    if not high > low:
        low, high = (low - 0.5, low + 0.5) if low == 0 else (low - abs(low) / 2, low + abs(low) / 2)
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(number * step, digits) for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that enclose low and high, with 2 and 5 between them where there is room."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if first == last:
        last += 1
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    ticks = [factor * 10.0**power for power in range(first, last) for factor in factors] + [10.0**last]
    inner_low = max((tick for tick in ticks if tick <= low), default=ticks[0])
    inner_high = min((tick for tick in ticks if tick >= high), default=ticks[-1])
    return [tick for tick in ticks if inner_low <= tick <= inner_high]


def tick_text(value: float) -> str:
    """A number as an axis shows it: 1,200, 0.05, 3.2M."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{suffix}"
    return f"{value:,.0f}" if abs(value) >= 1000 and value == round(value) else f"{value:.4g}"


def _window(low: float, high: float, percent: bool) -> tuple[float, float]:
    """The stretch of the scale that is worth drawing: the interval, the bound, and some air."""
    air = max((high - low) * 0.35, 0.02 if percent else abs(high) * 0.2 or 1.0)
    ticks = linear_ticks(low - air, high + air, about=4)
    left, right = ticks[0], ticks[-1]
    return (max(left, 0.0), min(right, 1.0)) if percent else (left if low < 0 else max(left, 0.0), right)


def _drawable(point: tuple[float, float], log_y: bool) -> tuple[float, float] | None:
    x, y = point
    return point if math.isfinite(x) and math.isfinite(y) and (y > 0 or not log_y) else None


def _axes(scale: _Scale, x_ticks: Sequence[float], y_ticks: Sequence[float], x_label: Text, y_label: Text) -> Html:
    floor = HEIGHT - BOTTOM
    parts: list[Html] = []
    for value in y_ticks:
        y = f"{scale.y(value):.1f}"
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", tick_text(value), x=LEFT - 8, y=y, dy="0.35em", text_anchor="end"))
    for value in x_ticks:
        x = f"{scale.x(value):.1f}"
        parts.append(tag("line", x1=x, x2=x, y1=floor, y2=floor + 5, class_="axis"))
        parts.append(tag("text", tick_text(value), x=x, y=floor + 18, text_anchor="middle"))
    parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor, class_="axis"))
    parts.append(_label(x_label, x=WIDTH - RIGHT, y=HEIGHT - 4, text_anchor="end"))
    parts.append(_label(y_label, x=4, y=12, text_anchor="start"))
    return join(parts)


def _label(text: Text, **place: object) -> Html:
    if text.en == text.zh:
        return tag("text", text.en, class_="label", **place)
    return join(
        tag("text", text.en, class_="label en", lang="en", **place),
        tag("text", text.zh, class_="label zh", lang="zh-CN", **place),
    )


def _title(text: Text) -> Html:
    same = text.en == text.zh
    return tag("title", text.en if same else f"{text.en} · {text.zh}")


def _line(points: Sequence[tuple[float, float] | None], scale: _Scale, style: str) -> Html:
    pieces: list[str] = []
    drawing = False
    for point in thin(points):
        if point is None:
            drawing = False
            continue
        pieces.append(f"{'L' if drawing else 'M'}{scale.x(point[0]):.1f} {scale.y(point[1]):.1f}")
        drawing = True
    only = [point for point in points if point is not None]
    dot = tag(
        "circle", cx=f"{scale.x(only[0][0]):.1f}", cy=f"{scale.y(only[0][1]):.1f}", r=3, class_=f"dot dot-{style}"
    )
    return join(tag("path", d=" ".join(pieces), class_=f"line line-{style}"), dot if len(only) == 1 else None)


def thin(points: Sequence[tuple[float, float] | None]) -> list[tuple[float, float] | None]:
    """At most MOST_POINTS or so: of each stretch its lowest and highest point stay, so that no spike is lost."""
    if len(points) <= MOST_POINTS:
        return list(points)
    size = math.ceil(2 * len(points) / MOST_POINTS)
    kept: list[tuple[float, float] | None] = []
    for start in range(0, len(points), size):
        stretch = points[start : start + size]
        finite = [point for point in stretch if point is not None]
        if len(finite) < len(stretch):
            kept.append(None)
        if finite:
            ends = {min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])}
            kept += sorted(ends)
    if points[-1] is not None:
        kept.append(points[-1])
    return kept


def _swatch(style: str) -> Html:
    line = tag("line", x1=1, x2=29, y1=6, y2=6, class_=f"line line-{style}")
    return tag("svg", line, class_="swatch", viewBox="0 0 30 12", width=30, height=12, aria_hidden="true")
