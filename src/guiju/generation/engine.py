"""The engine: many requests on one runner, joining and leaving at any step.

It knows token ids alone; what they mean, and what ends a text, is the caller's affair (`guiju.generation.generate` is
one). Pages, who computes what in a step, guesses and their checks, and what is drawn from the logits are decided here;
what the logits are is the runner's affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guiju.errors import ConfigError, ModelError
from guiju.generation.logprobs import token_logprob
from guiju.generation.lookup import Lookup
from guiju.generation.requests import Branch, FinishReason, Handle, Request
from guiju.generation.runner import Chunk, Runner
from guiju.generation.scheduler import Scheduler
from guiju.generation.tables import PageKeeper, PageTable

if TYPE_CHECKING:
    from torch import Tensor

STEP_TOKENS = 256
"""Long enough for fast products, short enough that no one who writes waits long for a prompt to be read."""

MOST_RUNNING = 64


@dataclass
class Counts:
    """What was done so far."""

    steps: int = 0
    tokens: int = 0
    """That the runner computed."""

    chosen: int = 0
    """Tokens that were generated."""

    drafted: int = 0
    """Tokens that were guessed and checked."""

    accepted: int = 0
    """Of those, tokens that were right."""

    rewound: int = 0
    """How often a choice was too close to call and was computed again the plain way."""


class Engine:
    """Requests come in by `add`; each `step` brings all of them on; a token goes to its request as soon as it is
    certain. One thread at a time may use it."""

    def __init__(
        self,
        runner: Runner,
        *,
        step_tokens: int = STEP_TOKENS,
        most_running: int = MOST_RUNNING,
        share_prefixes: bool = True,
    ) -> None:
        """
        Args:
            step_tokens: tokens that a step computes at most; a longer prompt is read in several steps, while others go
                on writing. Twice as many while no one writes, and never less than a chunk of record mode.
            most_running: continuations that are written at the same time; others wait.
            share_prefixes: whether a beginning that requests share is computed once.
        """
        if step_tokens < 1 or most_running < 1:
            raise ConfigError(
                f"step_tokens is {step_tokens} and most_running is {most_running}; both must be at least 1"
            )
        self.runner = runner
        self.keeper = PageKeeper(runner.pages, runner.page_tokens, runner.copy_page)
        self.scheduler = Scheduler(self.keeper, runner.record_chunk, step_tokens, most_running, share_prefixes)
        self.counts = Counts()
        self.failed: list[Handle] = []
        """Requests that an error ended, in order."""
        self._requests = 0

    def add(self, request: Request) -> Handle:
        """Take in a request.

        Raises:
            ModelError: its prompt is empty, knows ids that the model does not, or with the wanted tokens exceeds the
                model's context or all pages there are.
            ConfigError: guesses in record mode.
        """
        self._require_possible(request)
        handle = Handle(request, self._requests)
        self._requests += 1
        for index in range(len(request.choices)):
            lookup = Lookup(request.prompt, request.lookup) if request.lookup else None
            branch = Branch(
                handle, index, (handle.number, index), list(request.prompt), PageTable(self.keeper), lookup=lookup
            )
            handle.branches.append(branch)
        self.scheduler.add(handle.branches[0])  # the others join it when the prompt has been read
        return handle

    def step(self) -> bool:
        """Bring everyone on; False where there is nothing left to do."""
        plan = self.scheduler.plan()
        if not plan:
            assert not self.scheduler.running
            assert not self.scheduler.waiting
            return False
        found = self.runner.step(list(plan.values()))
        self.counts.steps += 1
        self.counts.tokens += sum(len(chunk.ids) for chunk in plan.values())
        for (branch, chunk), logits in zip(plan.items(), found, strict=True):
            if branch.finish_reason is not None:  # cancelled while another's tokens were given out
                continue
            try:
                self._advance(branch, chunk, logits)
            except Exception as error:
                branch.handle.error = error
                self.failed.append(branch.handle)
                self.cancel(branch.handle)
        return True

    def run(self) -> None:
        """Step until nothing is left to do."""
        while self.step():
            pass

    def cancel(self, handle: Handle) -> None:
        """Give a request up: what it holds is free at once."""
        for branch in handle.branches:
            if branch.finish_reason is None:
                self._leave(branch, "cancelled")

    def _advance(self, branch: Branch, chunk: Chunk, logits: Tensor) -> None:
        """Take up what a step found for one branch; `logits` are (wanted, vocab)."""
        end = chunk.start + len(chunk.ids) - len(branch.draft)
        read_alike = end == chunk.start + 1 or end <= branch.prompt_length
        plain = branch.exact == chunk.start and not branch.draft and read_alike
        branch.computed = end
        if plain:
            branch.exact = end
            self.scheduler.computed(branch)
        if not chunk.wanted:
            return
        branch.replay = False
        if end == branch.prompt_length:
            self._fork(branch, logits[0])
        self._choose(branch, logits, plain)

    def _choose(self, branch: Branch, logits: Tensor, plain: bool) -> None:
        """Choose the next token, and the one after it as long as the guesses are right."""
        draft, accepted = branch.draft, 0
        for row, following in zip(logits, [*draft, None], strict=True):
            slack = None if plain else self.runner.rounding * float(np.abs(row.numpy()).max())
            token = branch.request.choices[branch.index].choose(row, slack)
            if token is None:
                self.counts.rewound += 1
                if branch.lookup is not None:
                    branch.lookup.repeat(branch.computed - branch.exact)
                branch.rewind()
                break
            self._append(branch, token, row)
            if branch.finish_reason is not None or token != following:
                break
            accepted += 1
            branch.computed += 1
        if branch.lookup is not None and draft:
            branch.lookup.learn(len(draft), accepted)
            self.counts.drafted += len(draft)
            self.counts.accepted += accepted

    def _append(self, branch: Branch, token: int, logits: Tensor) -> None:
        request = branch.request
        branch.tokens.append(token)
        self.counts.chosen += 1
        if request.logprobs is not None:
            branch.logprobs.append(token_logprob(logits, token, request.logprobs))
        if branch.lookup is not None:
            branch.lookup.extend((token,))
        if request.takes[branch.index](token):
            self._finish(branch, "stop")
        elif len(branch.tokens) == branch.prompt_length + request.limit:
            self._finish(branch, "length")

    def _finish(self, branch: Branch, reason: str) -> None:
        if branch.finish_reason is None:
            self._leave(branch, "stop" if reason == "stop" else "length")

    def _leave(self, branch: Branch, reason: FinishReason) -> None:
        branch.finish_reason = reason
        self.scheduler.remove(branch)
        if branch.handle.done and branch.request.source is not None:
            branch.request.source.forget()

    def _fork(self, leader: Branch, logits: Tensor) -> None:
        """The prompt has been read: its other continuations go on from the same pages."""
        for branch in leader.handle.branches:
            if branch is leader or len(branch.tokens) > branch.prompt_length or branch.finish_reason is not None:
                continue
            branch.table = leader.table.fork()
            branch.computed, branch.exact = leader.computed, leader.exact
            self._choose(branch, logits[None], plain=True)
            if branch.finish_reason is None:
                self.scheduler.add_running(branch)

    def _require_possible(self, request: Request) -> None:
        runner, size = self.runner, len(request.prompt)
        if not size:
            raise ModelError("the prompt has no token; it needs at least one, such as BOS")
        if request.limit < 1 or not request.choices:
            raise ConfigError(
                f"{len(request.choices)} continuations of {request.limit} tokens are asked for; at least 1"
            )
        beyond = [token for token in request.prompt if not 0 <= token < runner.vocab_size]
        if beyond:
            raise ModelError(
                f"the prompt holds the id {beyond[0]}, but the model's run from 0 to {runner.vocab_size - 1}"
            )
        total = size + request.limit - 1  # the last token is never read
        if total > runner.context:
            raise ModelError(
                f"{request.limit} new tokens after a prompt of {size} are longer than the model's context of "
                f"{runner.context}: at most {max(0, runner.context + 1 - size)} fit. Ask for fewer, or shorten the "
                f"prompt"
            )
        if self.keeper.pages_for(total) > runner.pages:
            raise ModelError(
                f"a prompt of {size} tokens and {request.limit} new ones need {self.keeper.pages_for(total)} pages of "
                f"keys and values, but there are {runner.pages}. Ask for fewer tokens, or open the runner with more "
                f"pages"
            )
        if request.lookup and runner.record_chunk is not None:
            raise ConfigError(
                "guesses by prompt lookup are asked for in record mode, which computes token by token: they would gain "
                "nothing. Leave out one of them"
            )
