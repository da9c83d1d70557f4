"""Full pages by their content, so that a beginning that several requests share is computed once.

A page's keys and values depend on its tokens and on all before them. Its name is therefore a digest over its tokens and
the name of the page before it (arXiv:2309.06180 shares by such names), so that equal names mean equal content, also
where someone chooses prompts to make two collide.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b

FIRST = b""
"""Stands for what comes before a sequence's first page."""


def page_name(before: bytes, ids: Sequence[int]) -> bytes:
    """Name of a full page that holds `ids` and follows the page of name `before`."""
    return blake2b(before + array("q", ids).tobytes(), digest_size=20).digest()


class Prefixes:
    """Which page holds what."""

    def __init__(self) -> None:
        self._pages: dict[bytes, int] = {}
        self._names: dict[int, bytes] = {}

    def find(self, name: bytes) -> int | None:
        """The page of this name."""
        return self._pages.get(name)

    def add(self, name: bytes, page: int) -> None:
        """Note a full page's name, unless another page has the same content already."""
        if name not in self._pages and page not in self._names:
            self._pages[name] = page
            self._names[page] = name

    def holds(self, page: int) -> bool:
        return page in self._names

    def forget(self, page: int) -> None:
        """The page is given to someone else."""
        name = self._names.pop(page, None)
        if name is not None:
            del self._pages[name]
