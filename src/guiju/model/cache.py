"""Keys and values of tokens that were read already, so that a new token costs one step instead of a whole pass.

Axes: B batch, K key-value heads, T new tokens, S cached and new tokens, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from guiju.errors import ModelError
from guiju.model.config import ModelConfig


class Cache:
    """Room for `capacity` tokens of `batch` rows, taken once.

    All rows are equally long: prompts of different lengths have a cache each, so that no row is padded and nothing
    that a row holds can touch another's answer.
    """

    def __init__(
        self, config: ModelConfig, batch: int, capacity: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (config.layers, batch, config.kv_heads, capacity, config.head_width)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.capacity = capacity
        self.length = 0
        """Tokens of each row that are held."""

    def layer(self, index: int) -> LayerCache:
        return LayerCache(self.keys[index], self.values[index], self.length)

    def require_room(self, tokens: int) -> None:
        """Raise ModelError where `tokens` more do not fit."""
        if self.length + tokens > self.capacity:
            raise ModelError(
                f"the cache holds {self.length} of {self.capacity} tokens, so {tokens} more do not fit. "
                f"Make it with a larger capacity"
            )

    def copy(self) -> Cache:
        """A second cache that goes on from the same tokens on its own."""
        twin = object.__new__(Cache)
        twin.keys, twin.values = self.keys.clone(), self.values.clone()
        twin.capacity, twin.length = self.capacity, self.length
        return twin


@dataclass(frozen=True)
class LayerCache:
    """One layer's part of a cache."""

    keys: Tensor  # (B, K, capacity, D)
    values: Tensor  # (B, K, capacity, D)
    length: int

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new tokens' (B, K, T, D) and give all tokens' (B, K, S, D)."""
        end = self.length + key.size(2)
        self.keys[:, :, self.length : end] = key
        self.values[:, :, self.length : end] = value
        return self.keys[:, :, :end], self.values[:, :, :end]
