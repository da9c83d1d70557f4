"""Keys and values of tokens that were read already, so that a new token costs one step instead of a whole pass.

The model asks a cache for two things alone: where the new tokens stand, and, in each layer, to attend from them to all
that it holds. How that is kept (one block of rows, pages, another program's state) is the cache's own affair. Beside an
encoder, a cache also holds the `Memory` of the source text.
Axes: B batch, H query heads, K key-value heads, T new tokens, S cached and new tokens, M source tokens, D head width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from guiju.errors import ModelError
from guiju.model.config import ModelConfig, require_context

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(B, H, T, D) queries, (B, K, S, D) keys and values -> (B, H, T, D). The queries are the last T of S tokens, and none
sees what comes after it."""

AttendMemory = Callable[[Tensor, Tensor, Tensor, "Tensor | None"], Tensor]
"""(B, H, T, D) queries, (B, K, M, D) keys and values of a source text, (B, 1, 1, M) which of its tokens are real (None:
all) -> (B, H, T, D)."""


class LayerMemory(Protocol):
    """What one layer of a decoder reads of a source text."""

    def attend_memory(self, query: Tensor, attend: AttendMemory) -> Tensor:
        """What `attend` makes of the queries and the source's keys, values and mask; it may be called once for all
        rows, or for each sequence apart. A cache without a source raises ModelError."""
        ...


@dataclass(frozen=True)
class Memory:
    """A source text as a decoder reads it: each layer's cross-attention keys and values, made once."""

    keys: tuple[Tensor, ...]
    """A (B, K, M, D) for each layer of the decoder."""

    values: tuple[Tensor, ...]
    """A (B, K, M, D) for each layer of the decoder."""

    mask: Tensor | None = None
    """Which of its tokens may be looked at: (B, 1, 1, M), or (B, 1, T, M) in training; None is all."""

    def layer(self, index: int) -> LayerMemory:
        return _MemoryLayer(self.keys[index], self.values[index], self.mask)

    def rows(self, indices: Tensor) -> Memory:
        """The memory of these rows, in this order; one may come several times."""
        keys, values = (tuple(tensor[indices] for tensor in tensors) for tensors in (self.keys, self.values))
        return Memory(keys, values, None if self.mask is None else self.mask[indices])


@dataclass(frozen=True)
class _MemoryLayer:
    keys: Tensor  # (B, K, M, D)
    values: Tensor  # (B, K, M, D)
    mask: Tensor | None

    def attend_memory(self, query: Tensor, attend: AttendMemory) -> Tensor:
        return attend(query, self.keys, self.values, self.mask)


class LayerCache(LayerMemory, Protocol):
    """One layer's part of a cache."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attend: Attend) -> Tensor:
        """Store the new tokens' (B, K, T, D), and give what `attend` makes of the queries and all tokens' keys and
        values; it may be called once for all rows, or for each sequence apart."""
        ...


class Cache(Protocol):
    """What `Transformer.hidden` needs to read new tokens after older ones."""

    def require_room(self, tokens: int) -> None:
        """Raise ModelError where `tokens` more a row do not fit the cache or the model's context."""
        ...

    def positions(self, tokens: int) -> Tensor:
        """Positions of the new tokens in their sequences: (T,) where all rows are equally long, else (B, T)."""
        ...

    def layer(self, index: int) -> LayerCache: ...

    def advance(self, tokens: int) -> None:
        """Every layer has stored the new tokens: from now on they are old ones."""
        ...


class DenseCache:
    """Room for `capacity` tokens of `batch` rows, taken once.

    All rows are equally long: prompts of different lengths have a cache each, so that no row is padded and nothing
    that a row holds can touch another's answer.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        device: torch.device,
        dtype: torch.dtype,
        memory: Memory | None = None,
    ) -> None:
        shape = (config.layers, batch, config.kv_heads, capacity, config.head_width)
        self.config = config
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.memory = memory
        self.capacity = capacity
        self.length = 0
        """Tokens of each row that are held."""

    def require_room(self, tokens: int) -> None:
        """Raise ModelError where `tokens` more do not fit."""
        require_context(self.config, self.length + tokens)
        if self.length + tokens > self.capacity:
            raise ModelError(
                f"the cache holds {self.length} of {self.capacity} tokens, so {tokens} more do not fit. "
                f"Make it with a larger capacity"
            )

    def positions(self, tokens: int) -> Tensor:
        return torch.arange(self.length, self.length + tokens, device=self.keys.device)

    def layer(self, index: int) -> LayerCache:
        source = None if self.memory is None else self.memory.layer(index)
        return _DenseLayer(self.keys[index], self.values[index], self.length, source)

    def advance(self, tokens: int) -> None:
        self.length += tokens

    def copy(self) -> DenseCache:
        """A second cache that goes on from the same tokens on its own."""
        twin = object.__new__(DenseCache)
        twin.config, twin.keys, twin.values = self.config, self.keys.clone(), self.values.clone()
        twin.capacity, twin.length, twin.memory = self.capacity, self.length, self.memory
        return twin


@dataclass(frozen=True)
class _DenseLayer:
    keys: Tensor  # (B, K, capacity, D)
    values: Tensor  # (B, K, capacity, D)
    length: int
    source: LayerMemory | None

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attend: Attend) -> Tensor:
        end = self.length + key.size(2)
        self.keys[:, :, self.length : end] = key
        self.values[:, :, self.length : end] = value
        return attend(query, self.keys[:, :, :end], self.values[:, :, :end])

    def attend_memory(self, query: Tensor, attend: AttendMemory) -> Tensor:
        if self.source is None:
            raise ModelError("the cache has no memory of a source text. Make it with model.new_cache(memory=...)")
        return self.source.attend_memory(query, attend)
