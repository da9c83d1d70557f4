"""Who computes what in the coming step.

Everyone who writes a token goes first, so that a long prompt never stalls them; prompts share what is left of the
step's token budget. Where pages run out, the youngest gives way and is computed again later.
"""

from __future__ import annotations

from bisect import insort
from math import lcm

from guiju.generation.prefixes import FIRST, page_name
from guiju.generation.requests import Branch
from guiju.generation.runner import Chunk
from guiju.generation.tables import PageKeeper, PageTable


class Scheduler:
    """Keeps who waits and who runs, both by arrival."""

    def __init__(
        self, keeper: PageKeeper, record_chunk: int | None, step_tokens: int, most_running: int, share_prefixes: bool
    ) -> None:
        """
        Args:
            record_chunk: see Runner.record_chunk.
            step_tokens: tokens that a step computes at most, unless more branches than that run.
            most_running: branches that have pages at the same time.
            share_prefixes: whether full pages with the same beginning are computed once.
        """
        self._keeper = keeper
        self._record_chunk = record_chunk
        self._step_tokens = step_tokens
        self._most_running = most_running
        self._share_prefixes = share_prefixes
        # In record mode a page's bits depend on how long a chunk it was computed in, so only whole chunks are shared.
        self._unit = lcm(keeper.page_tokens, record_chunk or 1)
        self._reading: dict[bytes, Branch] = {}  # pages that someone is about to compute, and others may wait for
        self.waiting: list[Branch] = []
        self.running: list[Branch] = []
        self.preempted = 0
        """How often someone gave way."""

    def add(self, branch: Branch) -> None:
        """Let a branch wait for its turn."""
        insort(self.waiting, branch, key=lambda one: one.arrival)

    def add_running(self, branch: Branch) -> None:
        """Take in a branch whose pages are there already; where too many run, it gives them back and waits."""
        if len(self.running) < self._most_running:
            insort(self.running, branch, key=lambda one: one.arrival)
        else:
            self._give_back(branch)
            self.add(branch)

    def remove(self, branch: Branch) -> None:
        """A branch that came to its end: its pages are free."""
        if branch in self.running:
            self.running.remove(branch)
        elif branch in self.waiting:
            self.waiting.remove(branch)
        self._give_back(branch)

    def plan(self) -> dict[Branch, Chunk]:
        """The coming step's chunks; empty where there is nothing to do."""
        chunks: dict[Branch, Chunk] = {}
        writing = [one for one in self.running if one.is_decoding]
        left = self._step_tokens if writing else 2 * self._step_tokens
        for branch in writing:
            if branch in self.running:  # it may have given way to an older one
                left -= self._plan_chunk(branch, left, chunks)
        left = max(left, 1)  # who writes cannot keep the others from reading
        for branch in [one for one in self.running if not one.is_decoding]:
            if branch in self.running and left > 0:
                left -= self._plan_chunk(branch, left, chunks)
        for branch in list(self.waiting):
            if left <= 0 or len(self.running) >= self._most_running or not self._has_room(branch):
                break
            if self._adopt_prefix(branch):
                self.waiting.remove(branch)
                insort(self.running, branch, key=lambda one: one.arrival)
                left -= self._plan_chunk(branch, left, chunks)
        return chunks

    def computed(self, branch: Branch) -> None:
        """Let others find the full pages that a branch has computed the plain way."""
        if not self._share_prefixes:
            return
        full = self._shareable(branch, branch.exact) // self._keeper.page_tokens
        if full > branch.registered:
            names = self._names(branch, full)
            for place in range(branch.registered, full):
                self._keeper.prefixes.add(names[place], branch.table.pages[place])
                if self._reading.get(names[place]) is branch:
                    del self._reading[names[place]]
            branch.registered = full

    def _plan_chunk(self, branch: Branch, left: int, chunks: dict[Branch, Chunk]) -> int:
        """Plan one branch's part of the step; the tokens that it takes, 0 where it has none."""
        ids, wanted = self._next_ids(branch, left)
        if not ids:
            return 0
        end = branch.computed + len(ids)
        while not branch.table.prepare(branch.computed, end):
            youngest = self.running[-1]
            self._preempt(youngest)
            chunks.pop(youngest, None)
            if youngest is branch:
                return 0
        chunks[branch] = Chunk(tuple(ids), branch.computed, tuple(branch.table.pages), wanted, branch.request.source)
        return len(ids)

    def _next_ids(self, branch: Branch, left: int) -> tuple[list[int], int]:
        """What a branch computes next, and of how many of these tokens the logits are wanted."""
        start, tokens, prompt, border = branch.computed, branch.tokens, branch.prompt_length, self._record_chunk
        branch.draft = ()
        if start < prompt:
            end = min(prompt, start + max(left, 1))
            if border is not None and end < prompt:
                end = max(end // border, start // border + 1) * border  # at least one chunk, cut where it always is
                end = min(end, prompt)
        elif border is not None or branch.replay:
            end = start + 1
        else:
            end = min(len(tokens), start + max(left, 1))
        if end < len(tokens):
            return tokens[start:end], 0
        if branch.lookup is not None and branch.is_decoding and not branch.replay:
            room = prompt + branch.request.limit - len(tokens) - 1  # one more token follows the last that is right
            branch.draft = branch.lookup.draft(min(room, left - 1)) if min(room, left - 1) > 0 else ()
        return [*tokens[start:end], *branch.draft], 1 + len(branch.draft)

    def _has_room(self, branch: Branch) -> bool:
        """Whether a waiting branch may come in: with a page left for each that runs, so that none gives way at once."""
        needed = self._keeper.pages_for(len(branch.tokens) + 1)
        return not self.running or self._keeper.pages.available - needed >= len(self.running)

    def _adopt_prefix(self, branch: Branch) -> bool:
        """Give a branch the pages of its beginning that are there. False where someone is about to compute more."""
        page_tokens, found = self._keeper.page_tokens, []
        if self._share_prefixes:
            names = self._names(branch, self._shareable(branch, len(branch.tokens) - 1) // page_tokens)
            for name in names:
                page = self._keeper.prefixes.find(name)
                if page is None:
                    if name in self._reading:
                        return False
                    break
                found.append(page)
            self._reading.update((name, branch) for name in names[len(found) : branch.prompt_length // page_tokens])
            found = found[: len(found) * page_tokens // self._unit * self._unit // page_tokens]
        for page in found:
            branch.table.adopt(page)
        branch.computed = branch.exact = len(found) * page_tokens
        branch.registered = len(found)
        branch.table.promise(branch.prompt_length + branch.request.limit - 1)
        return True

    def _shareable(self, branch: Branch, tokens: int) -> int:
        """How many of a branch's first tokens lie in pages that can be shared."""
        if self._record_chunk is not None:
            tokens = min(tokens, branch.prompt_length)
        return tokens // self._unit * self._unit

    def _names(self, branch: Branch, full: int) -> list[bytes]:
        """Names of a branch's first full pages."""
        page_tokens, source = self._keeper.page_tokens, branch.request.source
        first = FIRST if source is None else source.digest
        for place in range(len(branch.names), full):
            ids = branch.tokens[place * page_tokens : (place + 1) * page_tokens]
            branch.names.append(page_name(branch.names[-1] if branch.names else first, ids))
        return branch.names[:full]

    def _preempt(self, branch: Branch) -> None:
        self.running.remove(branch)
        self._give_back(branch)
        self.add(branch)
        self.preempted += 1

    def _give_back(self, branch: Branch) -> None:
        branch.table.release()
        branch.table = PageTable(self._keeper)
        branch.computed = branch.exact = branch.registered = 0
        branch.replay = False
        for name in [name for name in branch.names if self._reading.get(name) is branch]:
            del self._reading[name]
