"""One page in one file: it fetches nothing, runs nothing that was not allowed by name, speaks two languages, prints."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from typing import Literal

from guiju.pages.languages import LANGUAGES, Text, both
from guiju.pages.markup import Html, join, tag

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser may do with the page: show it. No script, no connection, no form."""


def page(title: Text | str, *body: object, language: Literal["zh", "en"] = "en", script: str = "") -> Html:
    """A whole HTML document around a body.

    The switch between Chinese and English is two radio buttons and a style sheet, so that the page needs no script.

    Args:
        title: the document's name; both languages stand in the window's title.
        body: markup, or text, which is escaped.
        language: which one shows first.
        script: a program of ours that the page may run, and no other; it holds no data, and can fetch none.
    """
    assert "</script" not in script, "a script that ends itself would let text behind it run free"
    plain = title if isinstance(title, str) else title.en if title.en == title.zh else f"{title.en} · {title.zh}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY + _allowance(script)),
        tag("meta", name="referrer", content="no-referrer"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", plain),
        # The style sheet is ours and holds no data; escaping would break its selectors.
        tag("style", Html(style_sheet())),
    )
    switches = [
        tag("input", type="radio", name="language", id=f"language-{code}", class_="switch", checked=code == language)
        for code in LANGUAGES
    ]
    labels = [
        tag("label", name, for_=f"language-{code}", lang="zh-CN" if code == "zh" else "en", class_=f"choose-{code}")
        for code, name in LANGUAGES.items()
    ]
    chooser = tag("nav", labels, class_="languages")
    sheet = tag("div", chooser, *body, class_="sheet")
    lang = "zh-CN" if language == "zh" else "en"
    return join(
        Html("<!DOCTYPE html>\n"),
        tag("html", head, tag("body", switches, sheet, tag("script", Html(script)) if script else None), lang=lang),
        Html("\n"),
    )


def _allowance(script: str) -> str:
    """What is added to the policy for one script: its digest, so that a browser runs it and nothing else."""
    if not script:
        return ""
    return f"; script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@functools.cache
def style_sheet() -> str:
    return (resources.files(__package__) / "style.css").read_text(encoding="utf-8")


def section(name: str, heading: Text, lead: Text | None, *body: object) -> Html:
    """A part of the page with its heading and one plain sentence that says what stands in it."""
    return tag(
        "section",
        tag("h2", both(heading)),
        tag("p", both(lead), class_="lead") if lead else None,
        *body,
        id=name,
    )


def table(head: list[Text], rows: list[list[object]], *, numbers: tuple[int, ...] = ()) -> Html:
    """Rows under headings; the columns in `numbers` are set right and in figures of one width.

    A cell is markup, text, which is escaped, or a Text in both languages.
    """

    def cell(name: str, column: int, content: object) -> Html:
        inner = both(content) if isinstance(content, Text) else content
        return tag(name, inner, class_="number" if column in numbers else None)

    header = tag("tr", [cell("th", column, content) for column, content in enumerate(head)])
    lines = [tag("tr", [cell("td", column, content) for column, content in enumerate(row)]) for row in rows]
    return tag("div", tag("table", tag("thead", header), tag("tbody", lines)), class_="table")
