"""Who holds which page of keys and values: taken once, given out one by one, shared by count.

A page is a number; what lies in it is the runner's affair. Neighbouring numbers are neighbouring memory, which a runner
can read without copying, so a sequence is given its pages in a row where there is room.
"""

from __future__ import annotations

from collections import OrderedDict

_TAKEN, _FREE, _PROMISED, _KEPT = range(4)


class Pages:
    """Counts the holders of each page.

    A page is taken, free, promised (free, but in the row that a sequence will want next), or kept: no one holds it, but
    its content may be wanted again, so that it is given out last, longest unused first.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._states = bytearray([_FREE]) * count
        self._holders = [0] * count
        self._kept: OrderedDict[int, None] = OrderedDict()
        self.available = count
        """Pages that `take` can give."""

    def take(self, wanted: int | None = None) -> tuple[int, bool] | None:
        """A page with one holder, `wanted` if it is free; None where all are held. And whether it had been kept, so
        that what is known of its content no longer holds."""
        if wanted is not None and 0 <= wanted < self.count and self._states[wanted] in (_FREE, _PROMISED):
            return self._give(wanted), False
        page = self._states.find(_FREE)
        if page >= 0:
            return self._give(page), False
        if self._kept:
            page, _ = self._kept.popitem(last=False)
            return self._give(page), True
        page = self._states.find(_PROMISED)
        return (self._give(page), False) if page >= 0 else None

    def share(self, page: int) -> None:
        """One holder more, of a page that is held or kept."""
        if self._states[page] == _KEPT:
            del self._kept[page]
            self._give(page)
            return
        assert self._holders[page] > 0
        self._holders[page] += 1

    def release(self, page: int, keep: bool) -> None:
        """One holder less. The last one decides whether the content is kept."""
        assert self._holders[page] > 0
        self._holders[page] -= 1
        if self._holders[page]:
            return
        self.available += 1
        self._states[page] = _KEPT if keep else _FREE
        if keep:
            self._kept[page] = None

    def holders(self, page: int) -> int:
        return self._holders[page]

    def promise(self, length: int) -> range:
        """Set a row of free pages aside, of this length where there is one; others take them last."""
        first = self._states.find(bytes([_FREE]) * length)
        if first < 0:
            return range(0)
        self._states[first : first + length] = bytes([_PROMISED]) * length
        return range(first, first + length)

    def release_promise(self, row: range) -> None:
        """What is left of a promised row is free again."""
        for page in row:
            if self._states[page] == _PROMISED:
                self._states[page] = _FREE

    def _give(self, page: int) -> int:
        self._states[page] = _TAKEN
        self._holders[page] = 1
        self.available -= 1
        return page
