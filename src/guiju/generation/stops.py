"""Many stop texts, looked for all at once: one step a character, however many there are (Aho and Corasick 1975)."""

from __future__ import annotations

from collections import deque
from functools import lru_cache


class StopTexts:
    """An automaton whose states are the beginnings of the stop texts; state 0 is the empty one."""

    def __init__(self, texts: tuple[str, ...]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._shorter = [0]
        """By state: the longest beginning of a stop text with which this one ends."""
        self.held = [0]
        """By state: its length, so many characters may yet become a stop text."""
        self.found = [0]
        """By state: length of the longest stop text that is complete with it; 0 for none."""
        for text in texts:
            self._add(text)
        self._link()

    def step(self, state: int, character: str) -> int:
        """The state after one more character."""
        while state and character not in self._next[state]:
            state = self._shorter[state]
        return self._next[state].get(character, 0)

    def _add(self, text: str) -> None:
        state = 0
        for character in text:
            following = self._next[state].get(character)
            if following is None:
                following = len(self._next)
                self._next[state][character] = following
                self._next.append({})
                self._shorter.append(0)
                self.held.append(self.held[state] + 1)
                self.found.append(0)
            state = following
        self.found[state] = len(text)

    def _link(self) -> None:
        waiting = deque(self._next[0].values())
        while waiting:  # short ones first
            state = waiting.popleft()
            for character, following in self._next[state].items():
                self._shorter[following] = self.step(self._shorter[state], character)
                self.found[following] = self.found[following] or self.found[self._shorter[following]]
                waiting.append(following)


@lru_cache(maxsize=16)
def stop_texts(texts: tuple[str, ...]) -> StopTexts:
    """The automaton of these texts, which all continuations share."""
    return StopTexts(texts)
