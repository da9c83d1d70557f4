"""Texts of one set that stand in another as well: word for word, or nearly so.

Two texts are nearly the same where their sets of shingles overlap by at least `threshold` (Jaccard); case and
punctuation do not count. Every text is compared with every other that shares a shingle with it, so none is missed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from guiju.corpus.shingles import shingles_of

THRESHOLD = 0.8
SHINGLE = 3
"""Words, or Chinese characters, a shingle; a text of fewer is one shingle, and is found where all of it is equal."""


@dataclass(frozen=True)
class Likeness:
    """A text that was found again."""

    name: str
    similarity: float
    """Jaccard similarity of the sets of shingles; 1 where they are equal."""


class TextIndex:
    """Texts that are looked for in others."""

    def __init__(self, texts: Iterable[tuple[str, str]], threshold: float = THRESHOLD, shingle: int = SHINGLE) -> None:
        """
        Args:
            texts: name and text of each.
        """
        assert 0 < threshold <= 1
        self._threshold, self._shingle = threshold, shingle
        self._names: list[str] = []
        sets = []
        for name, text in texts:
            self._names.append(name)
            sets.append(shingles_of(text, shingle))
        self._sizes = np.array([len(found) for found in sets], dtype=np.int64)
        owners = np.repeat(np.arange(len(sets)), self._sizes)
        hashes = np.concatenate([np.zeros(0, np.uint64), *sets])
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._owners = hashes[order], owners[order]

    def __len__(self) -> int:
        return len(self._names)

    def find(self, text: str) -> Likeness | None:
        """The text of the index that this one is most like, where it is alike enough."""
        own = shingles_of(text, self._shingle)
        low, high = (np.searchsorted(self._hashes, own, side) for side in ("left", "right"))
        found = [self._owners[start:stop] for start, stop in zip(low, high, strict=True) if stop > start]
        if not found:
            return None
        others, shared = np.unique(np.concatenate(found), return_counts=True)
        alike = shared / (len(own) + self._sizes[others] - shared)
        best = int(alike.argmax())
        if alike[best] < self._threshold:
            return None
        return Likeness(self._names[int(others[best])], float(alike[best]))
