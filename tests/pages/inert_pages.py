"""A page as a browser would take it apart, and texts that try to become more than text."""

from __future__ import annotations

from html.parser import HTMLParser

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style><svg/onload=alert(1)>",
    "<!--<script>-->",
    "javascript:alert(1)",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\u202e\u2066<b onclick=x>\u2069",
    "{{7*7}}${7*7}{0}{name}",
    "\x00\x1b[31m\x7f\ufeff\ud800",
)


class Reader(HTMLParser):
    """What a browser would make of a page: tags with their attributes, and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.stack: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        self.tags.append((name, dict(attributes)))
        if name not in ("meta", "input", "br"):
            self.stack.append(name)

    def handle_endtag(self, name):
        assert self.stack.pop() == name

    def handle_data(self, data):
        self.text.append(data)


def assert_inert(markup: str) -> Reader:
    reader = Reader(markup)
    assert not reader.stack, "every element is closed"
    for name, attributes in reader.tags:
        assert name not in ("script", "iframe", "object", "embed", "img", "base", "form", "link")
        for key, value in attributes.items():
            assert not key.startswith("on")
            assert key not in ("src", "srcdoc", "action", "formaction", "xlink:href")
            if key == "href":
                assert value.startswith(("#", "https://"))
    return reader
