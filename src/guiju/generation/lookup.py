"""Guesses of the next tokens out of the text itself: what followed when the last few tokens came before.

Texts that copy or edit repeat their prompt; several guessed tokens are then checked in one step. As transformers'
`prompt_lookup_num_tokens`, but the latest place counts, and the number of guesses follows how many were right.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 3, 2
"""Tokens that must have come before in the same order, tried from long to short."""

GRACE = 16
"""Guessing ends when so many more tokens had to be computed again than were guessed right."""


class Lookup:
    """An index over one sequence's tokens."""

    def __init__(self, ids: Sequence[int], most: int) -> None:
        """`most` is the greatest number of tokens to guess at once."""
        self.drafted = 0
        self.accepted = 0
        self._repeated = 0
        self._most = self._length = most
        self._ids: list[int] = []
        self._after: dict[tuple[int, ...], int] = {}  # a run of tokens -> the place after its latest but last coming
        self._latest: dict[tuple[int, ...], int] = {}
        self.extend(ids)

    def extend(self, ids: Sequence[int]) -> None:
        """Take up tokens that are certain."""
        for token in ids:
            self._ids.append(token)
            for size in range(SHORTEST, LONGEST + 1):
                if len(self._ids) >= size:
                    run = tuple(self._ids[-size:])
                    if run in self._latest:
                        self._after[run] = self._latest[run]
                    self._latest[run] = len(self._ids)

    def draft(self, most: int) -> tuple[int, ...]:
        """Up to `most` tokens that may come next; none where the last tokens are new, or guesses did not pay."""
        if self._repeated > self.accepted + GRACE:
            return ()
        for size in range(LONGEST, SHORTEST - 1, -1):
            place = self._after.get(tuple(self._ids[-size:]))
            if place is not None:
                period = len(self._ids) - place  # what runs beyond the end repeats: "na na na" goes on as it is
                return tuple(self._ids[place + step % period] for step in range(min(most, self._length)))
        return ()

    def learn(self, drafted: int, accepted: int) -> None:
        """So many were guessed, so many were right: guess more, or fewer, from now on."""
        self.drafted += drafted
        self.accepted += accepted
        if accepted == drafted:
            self._length = min(self._most, 2 * max(drafted, self._length))
        else:
            self._length = max(1, accepted + 1)

    def repeat(self, tokens: int) -> None:
        """So many tokens are computed again, because a choice after guesses was too close to call."""
        self._repeated += tokens
