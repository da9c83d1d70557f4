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
        self._previous = task.ids[-1]

    def take(self, token: int) -> bool:
        """Take a token; whether the text ends with it: an end of text, a stop text, or the last of its form."""
        restriction = self._restriction
        if token in self._task.ends:
            return restriction is None or not restriction.cut
        previous, self._previous = self._previous, token
        stopped = self.stream.push(_bytes_after(self._tokenizer, previous, token))
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


def _bytes_after(tokenizer: Tokenizer, previous: int, token: int) -> bytes:
    """A token's bytes where it stands: some tokenizers drop the space of a text's first token."""
    return tokenizer.decode_bytes([previous, token])[len(tokenizer.decode_bytes([previous])) :]
