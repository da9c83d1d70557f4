"""A sequence's page table: which pages hold its tokens, shared until one of the holders writes."""

from __future__ import annotations

from collections.abc import Callable

from guiju.generation.pages import Pages
from guiju.generation.prefixes import Prefixes


class PageKeeper:
    """Gives pages out, and forgets the content of those that are given to someone else."""

    def __init__(self, count: int, page_tokens: int, copy_page: Callable[[int, int], None]) -> None:
        self.page_tokens = page_tokens
        self.copy_page = copy_page
        self.pages = Pages(count)
        self.prefixes = Prefixes()

    def take(self, wanted: int | None) -> int | None:
        given = self.pages.take(wanted)
        if given is None:
            return None
        page, was_kept = given
        if was_kept:
            self.prefixes.forget(page)
        return page

    def release(self, page: int) -> None:
        self.pages.release(page, keep=self.prefixes.holds(page))

    def pages_for(self, tokens: int) -> int:
        return -(-tokens // self.page_tokens)


class PageTable:
    """The pages of one sequence, in the order of its tokens."""

    def __init__(self, keeper: PageKeeper) -> None:
        self._keeper = keeper
        self._promised = range(0)
        self.pages: list[int] = []

    def promise(self, tokens: int) -> None:
        """Set aside a row of pages for the tokens that are expected, so that they come to lie beside each other."""
        missing = self._keeper.pages_for(tokens) - len(self.pages)
        if missing > 1:
            self._promised = self._keeper.pages.promise(missing)

    def adopt(self, page: int) -> None:
        """Go on with a page that is there already, as one more holder."""
        self._keeper.pages.share(page)
        self.pages.append(page)

    def prepare(self, start: int, end: int) -> bool:
        """Make tokens start to end writable; False where pages run out (what was gained is kept, for a later try)."""
        first, keeper = start // self._keeper.page_tokens, self._keeper
        for place in range(first, min(len(self.pages), keeper.pages_for(end))):
            if keeper.pages.holders(self.pages[place]) > 1 and not self._copy(place):
                return False
        while len(self.pages) < keeper.pages_for(end):
            page = keeper.take(self._next())
            if page is None:
                return False
            self.pages.append(page)
        return True

    def fork(self) -> PageTable:
        """A second sequence with the same tokens so far; whichever writes into a shared page first copies it."""
        twin = PageTable(self._keeper)
        for page in self.pages:
            twin.adopt(page)
        return twin

    def release(self) -> None:
        """Hold nothing any more. Of a beginning that is kept, the end is given up first."""
        while self.pages:
            self._keeper.release(self.pages.pop())
        self._keeper.pages.release_promise(self._promised)
        self._promised = range(0)

    def _next(self) -> int | None:
        """The page that would lie beside the last one, or begins the promised row."""
        if self.pages and self.pages[-1] + 1 in self._promised:
            return self.pages[-1] + 1
        if self._promised and self._promised[0] not in self.pages:
            return self._promised[0]
        return self.pages[-1] + 1 if self.pages else None

    def _copy(self, place: int) -> bool:
        page = self._keeper.take(None)
        if page is None:
            return False
        self._keeper.copy_page(self.pages[place], page)
        self._keeper.release(self.pages[place])
        self.pages[place] = page
        return True
