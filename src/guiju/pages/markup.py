"""HTML that data cannot break out of: text is escaped where it enters, and only `Html` counts as markup.

Every element is made by `tag`, every piece of text by `escape`; nothing here pastes data into markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

VOID = frozenset({"br", "hr", "img", "input", "meta", "link", "wbr"})
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9:-]*\Z")

_ESCAPES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;", ord("'"): "&#39;"}


class Html(str):
    """Text that is markup already. Only `tag` and `join` make it; whoever calls it on data answers for that."""

    __slots__ = ()


def escape(text: object) -> Html:
    """Any text as HTML shows it: markup is inert, and what would act unseen becomes visible.

    Control characters turn into their pictures (␀); bidirectional overrides, zero-width and other invisible characters,
    lone surrogates and non-characters into ⟦U+202E⟧. Line breaks and tabs stay.
    """
    return Html(_INVISIBLE.sub(_show, str(text)).translate(_ESCAPES))


_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"
)


def _show(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟦U+{code:04X}⟧"


def join(*children: object) -> Html:
    """Pieces one after the other: `Html` as it is, all else escaped, `None` left out, lists flattened."""
    return Html("".join(_pieces(children)))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. Attribute values are escaped; `class_` is class, `for_` is for, and `_` inside a name is `-`.

    An attribute that is None or False is left out, and True stands alone. Event handlers are refused, and links other
    than #place and https are: data can become neither.
    """
    assert _NAME.match(name), name
    opened = "".join([f"<{name}", *(_attribute(key, value) for key, value in attributes.items()), ">"])
    if name in VOID:
        assert not children, f"<{name}> holds nothing"
        return Html(opened)
    return Html(f"{opened}{join(*children)}</{name}>")


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    assert _NAME.match(name), name
    assert not name.lower().startswith("on"), f"{name} would run code"
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    text = str(value)
    if name in ("href", "src"):
        assert name == "href", "a page fetches nothing"
        if not text.startswith(("#", "https://")):
            return ""
    return f' {name}="{escape(text)}"'


def _pieces(children: Iterable[object]) -> Iterable[str]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, Html):
            yield child
        elif isinstance(child, str | int | float):
            yield escape(child)
        elif isinstance(child, Iterable):
            yield from _pieces(child)
        else:
            raise AssertionError(f"{type(child).__name__} is neither text nor markup")
