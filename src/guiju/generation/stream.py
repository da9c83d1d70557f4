"""A continuation's text as its bytes come in: whole characters only, and nothing that a stop text may yet take back."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

from guiju.generation.stops import stop_texts


class TextStream:
    """Collects bytes, gives out text."""

    def __init__(self, stops: Sequence[str], emit: Callable[[str], None] | None = None) -> None:
        self.text = ""
        """What came so far; after `push` or `finish` returned True, what came before the stop text."""
        self._stopped = False
        self._stops = stop_texts(tuple(stops))
        self._state = 0
        self._emit = emit
        self._emitted = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, data: bytes) -> bool:
        """Take a token's bytes; whether a stop text is complete."""
        return self._take(self._decoder.decode(data))

    def finish(self, drop_cut: bool = False) -> bool:
        """There is no more: give out what was held back. Whether it stopped.

        Args:
            drop_cut: leave out a character that was cut off, in place of giving it out as U+FFFD.
        """
        if not self._stopped:
            self._take("" if drop_cut else self._decoder.decode(b"", final=True))
            self._give_out(len(self.text))
        return self._stopped

    def _take(self, more: str) -> bool:
        begins = []
        for end, character in enumerate(more, start=len(self.text) + 1):
            self._state = self._stops.step(self._state, character)
            if self._stops.found[self._state]:
                begins.append(end - self._stops.found[self._state])
        self.text += more
        if begins:
            self.text = self.text[: min(begins)]
            self._stopped = True
        self._give_out(len(self.text) - (0 if begins else self._stops.held[self._state]))
        return self._stopped

    def _give_out(self, end: int) -> None:
        if end > self._emitted:
            if self._emit is not None:
                self._emit(self.text[self._emitted : end])
            self._emitted = end
