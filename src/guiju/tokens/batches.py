"""Rows of tokens for training: every token of the data is a target exactly once an epoch.

Axes: B rows, T tokens a row (the model's context).

The stream is the data with one end-of-text token in front: e d1 e d2 e ... dn e. Row r reads T + 1 tokens from r * T
on: the first T are the input, the last T the targets, so neighbouring rows share one token, which is the target of
the one and the first input of the other. Each token of the data, end-of-text included, is thereby predicted once an
epoch; the last row's rest is IGNORED.

An end-of-text token that is an input begins the next document: from it the document's first token is predicted, as it
is from the first token when text is generated. A document's number therefore rises at each end-of-text input, and
attention that stays within equal numbers never sees another document. Positions are the model's affair: learned ones
count from each document's start in the row, and rotary ones know distances only.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from guiju.errors import CheckpointError, ConfigError
from guiju.tokens.order import permuted
from guiju.tokens.shards import TokenData

IGNORED = -100
"""A target that counts for nothing: F.cross_entropy's own default."""


@dataclass(frozen=True)
class Batch:
    """What one forward and backward pass takes."""

    ids: Tensor
    """(B, T) int64: what the model reads; beside a source, what the decoder reads."""
    targets: Tensor
    """What is to be said, int64, or IGNORED: (B, T) the token of each place (for a decoder the one that follows) or its
    label, (B,) the label of each row, or (B, 2) the places where its answer begins and ends."""
    documents: Tensor | None = None
    """(B, T) int64: which of the row's documents each position belongs to, from 0; None where each row is one
    document."""
    padding: Tensor | None = None
    """(B, T) bool, as models take it: True where a token is real, False where it only fills the row up; None where all
    are real."""
    source: Tensor | None = None
    """(B, S) int64: what an encoder beside the decoder reads."""
    source_padding: Tensor | None = None
    """(B, S) bool, as `padding`, of the source."""
    segments: Tensor | None = None
    """(B, T) int64: kinds of segments, such as 0 for a question and 1 for a text; None where all are 0."""
    weights: Tensor | None = None
    """(B,) float32: how much each row's label counts; None where all count 1."""
    reference: Tensor | None = None
    """(B,) float32: log p in nats that another model gives to each row's targets together."""

    @property
    def target_count(self) -> int:
        """How many targets there are."""
        return int((self.targets != IGNORED).sum())

    def to(self, device: torch.device | str) -> Batch:
        """The same batch where the model is."""
        here = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: tensor.to(device) for name, tensor in here.items() if tensor is not None})

    def rows(self, start: int, stop: int) -> Batch:
        """The same batch's rows from `start` to before `stop`."""
        here = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: tensor[start:stop] for name, tensor in here.items() if tensor is not None})

    def with_padding(self) -> Batch:
        """The same batch, with a mask also where nothing is padding: compiled code is made for masks or for none."""
        made: dict[str, Any] = {}
        if self.padding is None:
            made["padding"] = torch.ones_like(self.ids, dtype=torch.bool)
        if self.source is not None and self.source_padding is None:
            made["source_padding"] = torch.ones_like(self.source, dtype=torch.bool)
        return replace(self, **made)

    def without_idle_masks(self) -> Batch:
        """The same batch, without numbers of documents where each row is one, and without padding where there is none:
        attention without a mask is faster, and says the same."""
        idle: dict[str, Any] = {}
        if self.documents is not None and not self.documents.any():
            idle["documents"] = None
        if self.padding is not None and self.padding.all():
            idle["padding"] = None
        if self.source_padding is not None and self.source_padding.all():
            idle["source_padding"] = None
        return replace(self, **idle) if idle else self


def row_count(data: TokenData, context: int) -> int:
    """Rows an epoch: each holds `context` targets, the last one what is left."""
    return -(-data.tokens // context)


def read_rows(data: TokenData, rows: list[int], context: int) -> Batch:
    """The named rows of the stream as a batch (B, T)."""
    end = data.index.end_of_text
    tokens = np.full((len(rows), context + 1), end, dtype=np.int64)
    targets = np.full((len(rows), context), IGNORED, dtype=np.int64)
    for place, row in enumerate(rows):
        # Position p of the stream holds token p - 1 of the data; position 0 is the end-of-text put in front.
        start = row * context
        part = data.read(max(start - 1, 0), min(start + context, data.tokens))
        lead = 1 if start == 0 else 0
        tokens[place, lead : lead + len(part)] = part
        targets[place, : lead + len(part) - 1] = tokens[place, 1 : lead + len(part)]
    ids = tokens[:, :-1]
    documents = np.cumsum(ids == end, axis=1)
    documents -= documents[:, :1]
    return Batch(torch.from_numpy(ids.copy()), torch.from_numpy(targets), torch.from_numpy(documents))


class PackedBatches:
    """Batches without end, in a seeded order of rows that is new each epoch.

    A batch that an epoch cannot fill goes on with the next epoch's first rows, so that every batch has the same shape
    and every row comes exactly once an epoch. The state is two integers.
    """

    def __init__(self, data: TokenData, *, context: int, batch: int, seed: int) -> None:
        """`context` tokens a row, `batch` rows a batch.

        Raises:
            ConfigError: a size is not positive.
        """
        if context < 1 or batch < 1:
            raise ConfigError(f"context is {context} and batch is {batch}; both count something, so 1 or more")
        self.data, self.context, self.batch, self.seed = data, context, batch, seed
        self.rows = row_count(data, context)
        self._epoch = 0
        self._position = 0

    def next(self) -> Batch:
        """The batch that follows."""
        rows = []
        for _ in range(self.batch):
            rows.append(permuted(self._position, self.rows, self.seed, self._epoch))
            self._position += 1
            if self._position == self.rows:
                self._epoch, self._position = self._epoch + 1, 0
        return read_rows(self.data, rows, self.context)

    def state(self) -> dict[str, int]:
        """Where the order stands; give it to `restore` to go on from here."""
        return {"epoch": self._epoch, "position": self._position}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken.

        Raises:
            CheckpointError: no such place exists in this data.
        """
        epoch, position = state.get("epoch", -1), state.get("position", -1)
        if epoch < 0 or not 0 <= position < self.rows:
            raise CheckpointError(
                f"the data position (epoch {epoch}, row {position}) does not exist in data of {self.rows} rows; "
                "the checkpoint belongs to other data"
            )
        self._epoch, self._position = epoch, position

    def identity(self) -> dict[str, str | int]:
        """What must be equal for the same state to mean the same batches."""
        return {
            "data": self.data.index.digest,
            "tokenizer": self.data.index.tokenizer,
            "vocab_size": self.data.index.vocab_size,
            "context": self.context,
            "batch": self.batch,
            "seed": self.seed,
        }
