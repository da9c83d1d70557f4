"""Rows of different lengths in batches of nearly equal ones, so that little of a batch is padding.

An epoch's order: all rows are shuffled, cut into pools of many batches, sorted by length within each pool, cut into
batches, and the batches shuffled. All of it follows from (seed, epoch) and the lengths, so the state is two integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from guiju.errors import CheckpointError, ConfigError, DataError
from guiju.tokens.batches import Batch
from guiju.tokens.draws import Numbers, draw_words

POOL_BATCHES = 64
"""Batches a pool: lengths within a batch differ the less, the larger a pool is; and the order is the freer, the
smaller it is."""
PURPOSE_ROWS, PURPOSE_BATCHES = 1, 2


@dataclass(frozen=True)
class BatchSize:
    """How much a batch is, padding included."""

    rows: int
    width: int
    """Tokens of a row that the decoder reads, or the encoder where there is no decoder."""
    source: int
    """Tokens of its source; 0 without one."""
    targets: int
    """In all rows together."""


class Examples(Protocol):
    """Numbered rows, and how they become a batch."""

    lengths: Numbers
    """(n,) what rows are sorted by."""

    def read(self, rows: Numbers, seed: int, epoch: int) -> Batch:
        """The rows as a batch; what is random in it follows from seed, epoch and the row alone."""

    def size(self, rows: Numbers) -> BatchSize:
        """How much the batch is that `read` would give."""

    def identity(self) -> Mapping[str, str | int]:
        """What must be equal for the same row to be the same example."""


class BucketedBatches:
    """Batches of examples without end; every row comes once an epoch, in an order that is new each epoch.

    An epoch's last batch of a pool may be smaller than the others.
    """

    def __init__(self, examples: Examples, *, batch: int, seed: int) -> None:
        """`batch` rows a batch.

        Raises:
            ConfigError: batch is not positive.
            DataError: there is no row.
        """
        if batch < 1:
            raise ConfigError(f"batch is {batch}; it counts rows, so 1 or more")
        if not len(examples.lengths):
            raise DataError("there is no example to learn from; bring more text")
        self.examples, self.batch, self.seed = examples, batch, seed
        self._epoch = self._position = 0
        self._order: tuple[int, list[Numbers]] | None = None

    @property
    def count(self) -> int:
        """Batches an epoch."""
        return len(self._batches(self._epoch))

    def next(self) -> Batch:
        """The batch that follows; one in which nothing is to be predicted is passed over.

        Raises:
            DataError: there is no target in a whole epoch.
        """
        for _ in range(self.count + 1):
            rows, epoch = self._batches(self._epoch)[self._position], self._epoch
            self._position += 1
            if self._position == len(self._batches(self._epoch)):
                self._epoch, self._position = self._epoch + 1, 0
            batch = self.examples.read(rows, self.seed, epoch)
            if batch.target_count:
                return batch
        raise DataError("no row of the data has anything to predict: each token is special or left out")

    def state(self) -> dict[str, int]:
        """Where the order stands; give it to `restore` to go on from here."""
        return {"epoch": self._epoch, "position": self._position}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken.

        Raises:
            CheckpointError: no such place exists in this data.
        """
        epoch, position = state.get("epoch", -1), state.get("position", -1)
        if epoch < 0 or not 0 <= position < len(self._batches(max(epoch, 0))):
            raise CheckpointError(
                f"the data position (epoch {epoch}, batch {position}) does not exist in data of {self.count} batches; "
                "the checkpoint belongs to other data"
            )
        self._epoch, self._position = epoch, position

    def identity(self) -> dict[str, str | int]:
        """What must be equal for the same state to mean the same batches."""
        return {**self.examples.identity(), "batch": self.batch, "seed": self.seed}

    def sizes(self, batches: int) -> list[BatchSize]:
        """How much each of the first `batches` is, from the very beginning."""
        found: list[BatchSize] = []
        epoch = 0
        while len(found) < batches:
            taken = _order(self.examples.lengths, self.batch, self.seed, epoch)[: batches - len(found)]
            found += [self.examples.size(rows) for rows in taken]
            epoch += 1
        return found

    def _batches(self, epoch: int) -> list[Numbers]:
        """The rows of each batch of an epoch."""
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, _order(self.examples.lengths, self.batch, self.seed, epoch)
        return self._order[1]


def fixed_batches(examples: Examples, *, batch: int, seed: int, max_rows: int | None = None) -> list[Batch]:
    """All rows, or `max_rows` of them evenly spread over the data, in batches of like lengths: the same each time.

    Rows of one length stand in an order that has nothing to do with the data's.
    """
    total = len(examples.lengths)
    taken = total if max_rows is None else min(max_rows, total)
    rows = _shuffled(taken, seed, 0, PURPOSE_ROWS) * total // max(taken, 1)
    rows = rows[np.argsort(examples.lengths[rows], kind="stable")]
    return [examples.read(rows[start : start + batch], seed, 0) for start in range(0, taken, batch)]


def _order(lengths: Numbers, batch: int, seed: int, epoch: int) -> list[Numbers]:
    shuffled = _shuffled(len(lengths), seed, epoch, PURPOSE_ROWS)
    made: list[Numbers] = []
    for start in range(0, len(lengths), batch * POOL_BATCHES):
        pool = shuffled[start : start + batch * POOL_BATCHES]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        made += [pool[first : first + batch] for first in range(0, len(pool), batch)]
    return [made[place] for place in _shuffled(len(made), seed, epoch, PURPOSE_BATCHES)]


def _shuffled(count: int, seed: int, epoch: int, purpose: int) -> Numbers:
    words = draw_words(seed, epoch, np.arange(count, dtype=np.int64), 1, purpose)[:, 0]
    return np.argsort(words, kind="stable").astype(np.int64)
