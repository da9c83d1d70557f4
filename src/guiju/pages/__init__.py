"""What every report is made of: markup that data cannot break out of, charts, badges, and texts in two languages."""

from __future__ import annotations

from guiju.pages.badges import MEANINGS, VERDICTS, verdict_badge, verdict_mark
from guiju.pages.charts import Bar, Series, bar_chart, interval_bar, line_chart
from guiju.pages.languages import Text, Texts, both
from guiju.pages.markup import Html, escape, join, tag
from guiju.pages.page import page, section, table

__all__ = [
    "MEANINGS",
    "VERDICTS",
    "Bar",
    "Html",
    "Series",
    "Text",
    "Texts",
    "bar_chart",
    "both",
    "escape",
    "interval_bar",
    "join",
    "line_chart",
    "page",
    "section",
    "table",
    "tag",
    "verdict_badge",
    "verdict_mark",
]
