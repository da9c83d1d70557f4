"""Chinese and English side by side: a page holds both, and a switch without any script shows one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from guiju.pages.markup import Html, join, tag

LANGUAGES = {"zh": "中文", "en": "English"}


@dataclass(frozen=True)
class Text:
    """The same text in both languages. Values are put in by `format`, and are escaped like all text."""

    en: str
    zh: str

    def format(self, **values: object) -> Text:
        """With each {name} filled in; a value that is a Text goes in by language."""
        return Text(
            self.en.format(**{key: value.en if isinstance(value, Text) else value for key, value in values.items()}),
            self.zh.format(**{key: value.zh if isinstance(value, Text) else value for key, value in values.items()}),
        )


def both(text: Text | str, name: str = "span") -> Html:
    """An element for each language, of which the page shows one. What is the same in both stands once."""
    if isinstance(text, str):
        return join(text)
    if text.en == text.zh:
        return join(text.en)
    return join(tag(name, text.en, class_="en", lang="en"), tag(name, text.zh, class_="zh", lang="zh-CN"))


class Texts:
    """A table of texts by key, so that a page's words stand together and a missing one is found at once."""

    def __init__(self, table: Mapping[str, tuple[str, str]]) -> None:
        self._table = {key: Text(*pair) for key, pair in table.items()}

    def __getitem__(self, key: str) -> Text:
        return self._table[key]

    def get(self, key: str) -> Text:
        """The text, or the key itself where the table has none: a foreign word is better than a gap."""
        return self._table.get(key, Text(key, key))

    def __contains__(self, key: object) -> bool:
        return key in self._table

    def html(self, key: str, **values: object) -> Html:
        """The text in both languages, with its values, ready to stand in a page."""
        text = self[key]
        return both(text.format(**values) if values else text)
