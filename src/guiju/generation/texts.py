"""One continuation's tokens as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from guiju.generation import result
from guiju.generation.logprobs import TokenLogprob
from guiju.generation.restriction import Restriction
from guiju.generation.settings import SamplingSettings
from guiju.generation.stream import TextStream
from guiju.generation.tasks import Task

if TYPE_CHECKING:
    from guiju.tokens import Tokenizer


class Text:
    """Takes tokens, gives out their characters as soon as they are certain."""

    def __init__(
        self,
        task: Task,
        tokenizer: Tokenizer,
        settings: SamplingSettings,
        restriction: Restriction | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        self.stream = TextStream(settings.stop, on_text)
        self._task, self._tokenizer, self._restriction = task, tokenizer, restriction
        self._begins = task.is_blank  # whether no token that stands for text has come yet

    def take(self, token: int) -> bool:
        """Take a token; whether the text ends with it: an end of text, a stop text, or the last of its form."""
        restriction = self._restriction
        if token in self._task.ends:
            return restriction is None or not restriction.cut
        stopped = self.stream.push(self._tokenizer.added_bytes(token, first=self._begins))
        self._begins = self._begins and self._tokenizer.keeps_beginning(token)
        return stopped or (restriction is not None and restriction.finished)

    def sequence(
        self,
        ids: Sequence[int],
        stopped: bool,
        seed: int | None = None,
        logprobs: tuple[TokenLogprob, ...] | None = None,
        score: float | None = None,
    ) -> result.Sequence:
        """The whole of it, when no more comes."""
        grammar = self._task.grammar
        stopped = self.stream.finish(drop_cut=grammar is not None) or stopped
        if stopped and grammar is not None:
            grammar.require_kept(self.stream.text)
        return result.Sequence(self.stream.text, tuple(ids), "stop" if stopped else "length", seed, logprobs, score)
