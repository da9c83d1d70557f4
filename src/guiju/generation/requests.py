"""What is asked of the engine, and how far each continuation has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from guiju.generation.logprobs import TokenLogprob
from guiju.generation.lookup import Lookup
from guiju.generation.tables import PageTable

if TYPE_CHECKING:
    from torch import Tensor

    from guiju.generation.sequence_to_sequence import Source

FinishReason = Literal["stop", "length", "cancelled"]


class Choice(Protocol):
    """Decides one continuation's tokens; guiju.generation.sampling.Chooser is the usual one."""

    def choose(self, logits: Tensor, slack: float | None = None) -> int | None:
        """The next token out of (vocab,) logits, which is then certain.

        Args:
            slack: how far each logit may be off; where that could make another token of it, None, and nothing has
                happened. None for logits that count as they are.
        """
        ...


@dataclass(frozen=True)
class Request:
    """A prompt and what to do after it."""

    prompt: tuple[int, ...]
    limit: int
    """New tokens of each continuation at most. The last one is never read."""

    choices: Sequence[Choice]
    """One for each continuation; all go on from the same prompt, which is read once."""

    takes: Sequence[Callable[[int], bool]]
    """For each continuation: is called with every token that is certain, and says whether the text ends with it."""

    logprobs: int | None = None
    """How many alternatives to give beside each token's log-probability; None for no log-probabilities."""

    lookup: int = 0
    """Most tokens to guess out of the text itself and check in one step; 0 for plain steps."""

    source: Source | None = None
    """Beside an encoder: the text that the continuations are written of."""


@dataclass(eq=False)
class Branch:
    """One continuation of a request."""

    handle: Handle
    index: int
    """Its place among those of its request."""

    arrival: tuple[int, int]
    """Number of the request and `index`: who came first goes first."""

    tokens: list[int]
    """Prompt and continuation."""

    table: PageTable
    computed: int = 0
    """Tokens whose keys and values are in the pages; at least the last token's are not."""

    exact: int = 0
    """As many of those were computed the plain way: a prompt chunk by chunk, then token by token."""

    replay: bool = False
    """Whether what is missing must be computed the plain way."""

    draft: tuple[int, ...] = ()
    """Guessed tokens that the coming step checks."""

    names: list[bytes] = field(default_factory=list)
    """Of the full pages at the beginning, as far as they were asked for."""

    registered: int = 0
    """Full pages whose names are known to all."""

    lookup: Lookup | None = None
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    @property
    def request(self) -> Request:
        return self.handle.request

    @property
    def prompt_length(self) -> int:
        return len(self.handle.request.prompt)

    @property
    def ids(self) -> list[int]:
        """What was generated."""
        return self.tokens[self.prompt_length :]

    @property
    def is_decoding(self) -> bool:
        """Whether only the last token is left to read."""
        return self.computed == len(self.tokens) - 1 and self.computed >= self.prompt_length

    def rewind(self) -> None:
        """Go back to what was computed the plain way, and go on like that up to where the text is now."""
        self.computed, self.replay = self.exact, True


class Handle:
    """A request on its way."""

    def __init__(self, request: Request, number: int) -> None:
        self.request = request
        self.number = number
        self.branches: list[Branch] = []
        self.error: Exception | None = None
        """Why it was given up; the others go on."""

    @property
    def done(self) -> bool:
        return all(branch.finish_reason is not None for branch in self.branches)
