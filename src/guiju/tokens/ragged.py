"""Rows of different lengths, one after the other in one array, so that a batch of them is one look-up."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from guiju.storage import sha256_bytes
from guiju.tokens.draws import Numbers


class RaggedRows:
    """Whole numbers in rows, such as the ids of texts."""

    def __init__(self, rows: Iterable[Sequence[int] | npt.NDArray[np.int64]] = ()) -> None:
        self._building = array("q")
        self._ends = array("q", [0])
        for row in rows:
            self.append(row)

    def append(self, row: Sequence[int] | npt.NDArray[np.int64]) -> None:
        """Add a row."""
        self._building.extend(row.tolist() if isinstance(row, np.ndarray) else row)
        self._ends.append(len(self._building))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def values(self) -> Numbers:
        """All rows' numbers, one row after the other."""
        return np.frombuffer(self._building, dtype=np.int64) if self._building else np.zeros(0, dtype=np.int64)

    @property
    def lengths(self) -> Numbers:
        """(n,)"""
        ends = np.frombuffer(self._ends, dtype=np.int64)
        return ends[1:] - ends[:-1]

    def row(self, number: int) -> Numbers:
        """One row."""
        return self.values[self._ends[number] : self._ends[number + 1]]

    def fill(self, rows: Numbers, width: int, filling: int, *, skip: int = 0, drop: int = 0) -> Numbers:
        """Rows, each without its first `skip` and its last `drop` numbers, filled up: (B, width)."""
        ends = np.frombuffer(self._ends, dtype=np.int64)
        starts, counts = ends[rows] + skip, ends[rows + 1] - ends[rows] - skip - drop
        places = np.arange(width)
        real = places < counts[:, None]  # (B, width)
        return np.where(real, self.values[np.where(real, starts[:, None] + places, 0)], filling)

    @property
    def digest(self) -> str:
        """SHA-256 of all rows."""
        return sha256_bytes(np.frombuffer(self._ends, dtype=np.int64).tobytes() + self.values.tobytes())
