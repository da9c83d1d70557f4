"""Grouped-query attention (arXiv:2305.13245): softmax(QK^T / sqrt(D)) V, with rotary positions (arXiv:2104.09864).

Axes: B batch, T new tokens, S cached and new tokens, H query heads, K key-value heads, D head width.
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guiju.model.cache import LayerCache
from guiju.model.config import ModelConfig
from guiju.model.hooks import Hooks, tap

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of each position's angles, (T, D / 2) or (B, 1, T, D / 2) each."""

SMALL = 8192
"""Keys x head width up to which a CPU attends in float32 under autocast: torch's bfloat16 kernel, which takes blocks of
fixed size, needs 1.5 to 5 times as long for the gradients of such short rows (docs/experiments.md)."""


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.name = f"layers.{layer}.attention"
        self.head_width = config.head_width
        self.dropout = config.dropout
        self.to_query = nn.Linear(config.width, config.heads * config.head_width, bias=config.bias)
        self.to_key = nn.Linear(config.width, config.kv_heads * config.head_width, bias=config.bias)
        self.to_value = nn.Linear(config.width, config.kv_heads * config.head_width, bias=config.bias)
        self.to_output = nn.Linear(config.heads * config.head_width, config.width, bias=config.bias)

    def forward(
        self, x: Tensor, rotation: Rotation | None, mask: Tensor | None, cache: LayerCache | None, hooks: Hooks | None
    ) -> Tensor:
        query = self._split_heads(self.to_query(x))  # (B, H, T, D)
        key = self._split_heads(self.to_key(x))  # (B, K, T, D)
        value = self._split_heads(self.to_value(x))  # (B, K, T, D)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        attend = partial(self._attend, mask=mask, hooks=hooks)
        mixed = attend(query, key, value) if cache is None else cache.attend(query, key, value, attend)  # (B, H, T, D)
        output: Tensor = self.to_output(mixed.transpose(1, 2).flatten(2))
        return output  # (B, T, width)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, hooks: Hooks | None) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        if hooks is None or f"{self.name}.pattern" not in hooks:
            return fused_attention(query, key, value, mask, dropout)
        pattern = tap(hooks, f"{self.name}.pattern", attention_pattern(query, key, mask))  # (B, H, T, S)
        return mix_values(F.dropout(pattern, dropout), value)

    def _split_heads(self, x: Tensor) -> Tensor:  # (B, T, n * D) -> (B, n, T, D)
        return x.view(x.size(0), x.size(1), -1, self.head_width).transpose(1, 2)


def fused_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float = 0.0) -> Tensor:
    """Attention by torch's kernel, which never holds the (T, S) pattern. `plain_attention` says what it computes.

    Args:
        query: (B, H, T, D). key, value: (B, K, S, D), where K divides H.
        mask: (T, S) or (B, 1, T, S), True where a query may look; None where each token sees all before it and itself.
    Returns:
        (B, H, T, D)
    """
    # The kernel's is_causal lines the first query up with the first key, but queries are the last T of S.
    if mask is None and 1 < query.size(2) < key.size(2):
        mask = causal_mask(query.size(2), key.size(2), query.device)
    causal = mask is None and query.size(2) > 1
    grouped = query.size(1) != key.size(1)
    attend = partial(
        F.scaled_dot_product_attention, attn_mask=mask, dropout_p=dropout, is_causal=causal, enable_gqa=grouped
    )
    if query.device.type == "cpu" and key.size(2) * key.size(3) <= SMALL and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return attend(query.float(), key.float(), value.float())
    return attend(query, key, value)


def plain_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(QK^T / sqrt(D)) V, step by step: the oracle of `fused_attention`, and the way that shows its pattern."""
    return mix_values(attention_pattern(query, key, mask), value)


def attention_pattern(query: Tensor, key: Tensor, mask: Tensor | None) -> Tensor:
    """How much each query looks at each key: (B, H, T, S), each row a distribution."""
    key = key.repeat_interleave(query.size(1) // key.size(1), dim=1)  # (B, H, S, D)
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is None:
        mask = causal_mask(query.size(2), key.size(2), query.device)
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1)


def mix_values(pattern: Tensor, value: Tensor) -> Tensor:
    """(B, H, T, S) and (B, K, S, D) -> (B, H, T, D)."""
    return pattern @ value.repeat_interleave(pattern.size(1) // value.size(1), dim=1)


def causal_mask(new: int, total: int, device: torch.device) -> Tensor:
    """(T, S), True where a query may look: queries are the last T of S tokens, and none sees what comes after it."""
    return torch.ones(new, total, dtype=torch.bool, device=device).tril(total - new)


def document_mask(documents: Tensor) -> Tensor:
    """(B, T) segment numbers -> (B, 1, T, T), True where a query may look: back to the start of its own document."""
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return same & causal_mask(documents.size(1), documents.size(1), documents.device)


def rotation_angles(positions: Tensor, config: ModelConfig, dtype: torch.dtype) -> Rotation:
    """Cosine and sine of the angle by which each pair of a head's values is turned, for (T,) or (B, T) positions.

    Computed in float32 and made anew in each pass, not kept as weights: rounded to bfloat16, far positions would blur.
    """
    pairs = torch.arange(0, config.head_width, 2, device=positions.device, dtype=torch.float32)
    frequencies = 1.0 / config.rotary_base ** (pairs / config.head_width)  # (D / 2,)
    angles = positions.float()[..., None] * frequencies  # (T, D / 2) or (B, T, D / 2)
    if angles.dim() == 3:
        angles = angles[:, None]  # alike for all heads
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the pairs (x[i], x[i + D/2]) of (B, n, T, D) by their positions' angles."""
    cosine, sine = rotation
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
