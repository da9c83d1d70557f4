"""Beam searches on a runner: all beams of several prompts in one step, their beginnings shared page by page.

A beam that two others go on from is forked: both hold its pages, and whoever writes into the last, half-filled one
first copies that page alone. No cache is ever copied as a whole or put into another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from guiju.errors import ModelError
from guiju.generation.beam import BeamSearch
from guiju.generation.runner import Chunk, Runner
from guiju.generation.tables import PageKeeper, PageTable

if TYPE_CHECKING:
    from guiju.generation.sequence_to_sequence import Source

STEP_TOKENS = 256
"""Of a prompt, so many tokens are read in one step."""

MOST_BEAMS = 64
"""So many grow at the same time, but at least those of one search."""


@dataclass(eq=False)
class Job:
    """One prompt's search."""

    search: BeamSearch
    finish: Callable[[Job], None]
    """Is called when the search is over."""

    source: Source | None = None
    """Beside an encoder: the source text."""

    tables: list[PageTable] = field(default_factory=list)
    """One for each beam."""

    read: int = 0
    """Tokens that each table holds."""


class BeamEngine:
    """Runs searches to their end."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.keeper = PageKeeper(runner.pages, runner.page_tokens, runner.copy_page)
        self.steps = 0
        self.tokens = 0
        """Tokens that the runner computed."""

    def run(self, jobs: Sequence[Job]) -> None:
        """Run all searches; which ones go side by side touches no result.

        Raises:
            ModelError: there are not enough pages for a single search.
        """
        for job in jobs:
            self._require_room(job)
        waiting, running = list(jobs), list[Job]()
        while waiting or running:
            while waiting and self._fits(waiting[0], running):
                job = waiting.pop(0)
                job.tables = [PageTable(self.keeper)]
                running.append(job)
            self._step(running)
            for job in [job for job in running if job.search.done]:
                running.remove(job)
                self._release(job.tables)
                if job.source is not None:
                    job.source.forget()
                job.finish(job)

    def _step(self, running: Sequence[Job]) -> None:
        """Bring every search on: the next part of its prompt, or one token of each of its beams."""
        plans = [self._chunks(job) for job in running]
        found = iter(self.runner.step([chunk for chunks in plans for chunk in chunks]))
        self.steps += 1
        for job, chunks in zip(running, plans, strict=True):
            logits = [next(found) for _ in chunks]
            job.read += len(chunks[0].ids)
            self.tokens += sum(len(chunk.ids) for chunk in chunks)
            if chunks[0].wanted:
                self._advance(job, logits)

    def _chunks(self, job: Job) -> list[Chunk]:
        prompt, size = job.search.prompt, self.runner.record_chunk or STEP_TOKENS
        if job.read < len(prompt):
            rows = [prompt[job.read : job.read + size]]
        else:
            rows = [(beam.ids[-1],) for beam in job.search.beams]
        end = job.read + len(rows[0])
        for table in job.tables:
            ready = table.prepare(job.read, end)
            assert ready, "room was set aside for every beam"
        return [
            Chunk(ids, job.read, tuple(table.pages), int(end >= len(prompt)), job.source)
            for ids, table in zip(rows, job.tables, strict=True)
        ]

    def _advance(self, job: Job, logits: Sequence[Tensor]) -> None:
        job.search.advance(torch.cat(list(logits)))  # (N, vocab)
        before = job.tables
        job.tables = [before[beam.parent].fork() for beam in job.search.beams]
        self._release(before)

    def _release(self, tables: Sequence[PageTable]) -> None:
        for table in tables:
            table.release()

    def _fits(self, job: Job, running: Sequence[Job]) -> bool:
        """Whether a search may begin: with room for all that it and the others can ever hold."""
        if not running:
            return True
        beams = sum(one.search.settings.num_beams for one in (*running, job))
        return beams <= MOST_BEAMS and sum(map(self._most_pages, (*running, job))) <= self.runner.pages

    def _most_pages(self, job: Job) -> int:
        """Pages that a search needs at most: the prompt's once, and of each beam what comes after it; and while a beam
        is forked, its last page twice."""
        prompt, total = len(job.search.prompt), len(job.search.prompt) + job.search.limit - 1
        shared = prompt // self.runner.page_tokens
        return shared + job.search.settings.num_beams * (self.keeper.pages_for(total) - shared + 1)

    def _require_room(self, job: Job) -> None:
        needed = self._most_pages(job)
        if needed > self.runner.pages:
            beams, limit = job.search.settings.num_beams, job.search.limit
            raise ModelError(
                f"a search with {beams} beams of {limit} tokens after a prompt of {len(job.search.prompt)} may need "
                f"{needed} pages of keys and values, but there are {self.runner.pages}. Ask for fewer beams or "
                f"tokens, or open the runner with more pages"
            )
