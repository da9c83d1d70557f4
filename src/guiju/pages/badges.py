"""The five verdicts as a reader meets them: a word and a shape each, and only then a colour."""

from __future__ import annotations

from guiju.pages.languages import Text, both
from guiju.pages.markup import Html, join, tag
from guiju.statistics import Verdict

VERDICTS: dict[Verdict, Text] = {
    Verdict.PASS: Text("pass", "符合"),
    Verdict.FAIL: Text("fail", "不符合"),
    Verdict.INCONCLUSIVE: Text("inconclusive", "未定"),
    Verdict.NEEDS_PERSON: Text("needs a person", "待人确认"),
    Verdict.NOT_ASSESSED: Text("not assessed", "未评估"),
}

MEANINGS: dict[Verdict, Text] = {
    Verdict.PASS: Text("the records support it", "记录支持符合"),
    Verdict.FAIL: Text("the records contradict it", "记录表明不符合"),
    Verdict.INCONCLUSIVE: Text("too few figures to tell", "样本不足，无法判断"),
    Verdict.NEEDS_PERSON: Text("a signed statement is owed", "须由责任人签字说明"),
    Verdict.NOT_ASSESSED: Text("nothing measured settles it", "尚无足以判断的测量"),
}


def verdict_mark(verdict: Verdict) -> Html:
    """The shape alone: a circle, a square, a half, a person, an empty ring."""
    return tag(
        "svg",
        _SHAPES[verdict],
        class_=f"mark mark-{verdict}",
        viewBox="0 0 20 20",
        width=16,
        height=16,
        aria_hidden="true",
    )


def verdict_badge(verdict: Verdict) -> Html:
    """Shape and word; the colour only repeats them."""
    return tag("span", verdict_mark(verdict), both(VERDICTS[verdict]), class_=f"badge badge-{verdict}")


def _line(points: str) -> Html:
    return tag("polyline", points=points, class_="mark-line")


_SHAPES: dict[Verdict, Html] = {
    Verdict.PASS: join(tag("circle", cx=10, cy=10, r=9, class_="mark-fill"), _line("5.8,10.4 8.8,13.4 14.4,6.8")),
    Verdict.FAIL: join(
        tag("rect", x=1.5, y=1.5, width=17, height=17, class_="mark-fill"),
        _line("6.2,6.2 13.8,13.8"),
        _line("13.8,6.2 6.2,13.8"),
    ),
    Verdict.INCONCLUSIVE: join(
        tag("circle", cx=10, cy=10, r=8.2, class_="mark-ring"),
        tag("path", d="M10 1.8 A8.2 8.2 0 0 1 10 18.2 Z", class_="mark-fill"),
    ),
    Verdict.NEEDS_PERSON: join(
        tag("circle", cx=10, cy=6, r=4.2, class_="mark-fill"),
        tag("path", d="M2 19 A8 8 0 0 1 18 19 Z", class_="mark-fill"),
    ),
    Verdict.NOT_ASSESSED: tag("circle", cx=10, cy=10, r=8, class_="mark-ring mark-dashed"),
}
