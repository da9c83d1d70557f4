"""Attention (注意力, arXiv:1706.03762): softmax(QK^T / sqrt(D)) V, in several heads, of which a group may share keys
and values (arXiv:2305.13245). A query looks at its own text (self-attention, 自注意力) or at another one
(cross-attention, 交叉注意力).

Axes: B batch, T new tokens, S cached and new tokens, M source tokens, H query heads, K key-value heads, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guiju.model.cache import LayerCache, LayerMemory
from guiju.model.config import ModelConfig
from guiju.model.hooks import Hooks, tap
from guiju.model.masks import causal_mask, window_mask
from guiju.model.positions import Rotation, rotate

SMALL = 8192
"""Keys x head width up to which a CPU attends in float32 under autocast: torch's bfloat16 kernel, which takes blocks of
fixed size, needs 1.5 to 5 times as long for the gradients of such short rows (docs/experiments.md)."""


class Sight:
    """Who may look at whom in one pass through a stack of layers; each asks for its T new tokens and the S it holds.

    The answer is a mask (True where a query may look), or scores to be added, or None where the attention's own rule,
    causal or not, says it all. It is made once a pass for all layers.
    """

    def __init__(
        self,
        causal: bool,
        device: torch.device,
        window: int | None = None,
        mask: Tensor | None = None,
        bias: Callable[[int, int], Tensor] | None = None,
    ) -> None:
        self.causal, self.device, self.window, self.bias = causal, device, window, bias
        self.mask = mask
        """A whole pass's (T, T) or (B, 1, T, T), with the causal rule and the window in it; None with a cache."""
        self._made: dict[tuple[int, int], Tensor | None] = {}

    def __call__(self, new: int, total: int) -> Tensor | None:
        """(T, S), (B, 1, T, S) or, of scores, (1 or B, H, T, S)."""
        if torch.compiler.is_exporting():  # sizes are symbols then, and as a key one would become a fixed number
            return self._make(new, total)
        if (new, total) not in self._made:
            self._made[new, total] = self._make(new, total)
        return self._made[new, total]

    def _make(self, new: int, total: int) -> Tensor | None:
        mask = self.mask
        if mask is None and self.window is not None and total > self.window:
            mask = window_mask(new, total, self.window, self.device)
        elif mask is None and self.causal and (1 < new < total or (self.bias is not None and new > 1)):
            mask = causal_mask(new, total, self.device)  # the kernel's own would line up the first query and key
        if self.bias is None:
            return mask
        bias = self.bias(new, total)  # (1, H, T, S)
        return bias if mask is None else bias.masked_fill(~mask, -math.inf)


class Attention(nn.Module):
    """Self-attention over new tokens and those that a cache holds."""

    def __init__(self, config: ModelConfig, name: str, causal: bool = True) -> None:
        super().__init__()
        self.name, self.causal = name, causal
        self.head_width = config.head_width
        self.scale = config.attention_scale
        self.dropout = config.dropout
        inner, bias = config.kv_heads * config.head_width, config.bias or config.qkv_bias
        self.to_query = nn.Linear(config.width, config.heads * config.head_width, bias=bias)
        self.to_key = nn.Linear(config.width, inner, bias=bias)
        self.to_value = nn.Linear(config.width, inner, bias=bias)
        self.to_output = nn.Linear(config.heads * config.head_width, config.width, bias=config.bias)
        self.query_norm = self.key_norm = None
        if config.query_key_norm:
            self.query_norm = nn.RMSNorm(config.head_width, eps=config.norm_epsilon)
            self.key_norm = nn.RMSNorm(config.head_width, eps=config.norm_epsilon)

    def forward(
        self, x: Tensor, rotation: Rotation | None, sight: Sight, cache: LayerCache | None, hooks: Hooks | None
    ) -> Tensor:
        query = self._split_heads(self.to_query(x))  # (B, H, T, D)
        key = self._split_heads(self.to_key(x))  # (B, K, T, D)
        value = self._split_heads(self.to_value(x))  # (B, K, T, D)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        attend = partial(self._look, sight=sight, hooks=hooks)
        mixed = attend(query, key, value) if cache is None else cache.attend(query, key, value, attend)  # (B, H, T, D)
        return self._merge_heads(mixed)

    def _look(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight, hooks: Hooks | None) -> Tensor:
        window = sight.window
        if window is not None and query.size(2) == 1 and not self._watched(hooks):
            key, value = key[:, :, -window:], value[:, :, -window:]  # what is outside need not be masked
        return self.attend(query, key, value, sight(query.size(2), key.size(2)), hooks)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, hooks: Hooks | None) -> Tensor:
        """(B, H, T, D) and twice (B, K, S, D) -> (B, H, T, D); no mask is this attention's own rule, causal or not."""
        dropout = self.dropout if self.training else 0.0
        if not self._watched(hooks):
            return fused_attention(query, key, value, mask, dropout, causal=self.causal, scale=self.scale)
        pattern = attention_pattern(query, key, mask, causal=self.causal, scale=self.scale)
        pattern = tap(hooks, f"{self.name}.pattern", pattern)  # (B, H, T, S)
        return mix_values(F.dropout(pattern, dropout), value)

    def _watched(self, hooks: Hooks | None) -> bool:
        return hooks is not None and f"{self.name}.pattern" in hooks

    def _split_heads(self, x: Tensor) -> Tensor:  # (B, T, n * D) -> (B, n, T, D)
        return x.view(x.size(0), x.size(1), -1, self.head_width).transpose(1, 2)

    def _merge_heads(self, mixed: Tensor) -> Tensor:  # (B, H, T, D) -> (B, T, width)
        output: Tensor = self.to_output(mixed.transpose(1, 2).flatten(2))
        return output


class CrossAttention(Attention):
    """A decoder's look at what an encoder made of a source text; it knows no positions."""

    def __init__(self, config: ModelConfig, name: str) -> None:
        super().__init__(config, name, causal=False)

    def remember(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of an encoder's (B, M, width), once for all that is decoded: (B, K, M, D) each."""
        key, value = self._split_heads(self.to_key(source)), self._split_heads(self.to_value(source))
        return key if self.key_norm is None else self.key_norm(key), value

    def look_up(self, x: Tensor, memory: LayerMemory, hooks: Hooks | None) -> Tensor:
        """(B, T, width) -> (B, T, width), read out of the memory."""
        query = self._split_heads(self.to_query(x))  # (B, H, T, D)
        if self.query_norm is not None:
            query = self.query_norm(query)
        return self._merge_heads(memory.attend_memory(query, partial(self.attend, hooks=hooks)))


def fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float = 0.0,
    *,
    causal: bool = True,
    scale: float | None = None,
) -> Tensor:
    """Attention by torch's kernel, which never holds the (T, S) pattern. `plain_attention` says what it computes.

    Args:
        query: (B, H, T, D). key, value: (B, K, S, D), where K divides H.
        mask: (T, S) or (B, 1, T, S), True where a query may look; or numbers, (B, H, T, S), that are added to scores.
        causal: what no mask means: each token sees all before it and itself, or all see all.
        scale: of the scores; 1 / sqrt(D) by default.
    Returns:
        (B, H, T, D)
    """
    # The kernel's is_causal lines the first query up with the first key, but queries are the last T of S.
    if mask is None and causal and 1 < query.size(2) < key.size(2):
        mask = causal_mask(query.size(2), key.size(2), query.device)
    attend = partial(
        F.scaled_dot_product_attention,
        dropout_p=dropout,
        is_causal=causal and mask is None and query.size(2) > 1,
        scale=scale,
        enable_gqa=query.size(1) != key.size(1),
    )
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu") and key.size(2) * key.size(3) <= SMALL:
        with torch.autocast("cpu", enabled=False):
            mask = mask.float() if mask is not None and mask.is_floating_point() else mask
            return attend(query.float(), key.float(), value.float(), attn_mask=mask)
    return attend(query, key, value, attn_mask=mask)


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    causal: bool = True,
    scale: float | None = None,
) -> Tensor:
    """softmax(QK^T / sqrt(D)) V, step by step: the oracle of `fused_attention`, and the way that shows its pattern."""
    return mix_values(attention_pattern(query, key, mask, causal=causal, scale=scale), value)


def attention_pattern(
    query: Tensor, key: Tensor, mask: Tensor | None, *, causal: bool = True, scale: float | None = None
) -> Tensor:
    """How much each query looks at each key: (B, H, T, S), each row a distribution."""
    key = key.repeat_interleave(query.size(1) // key.size(1), dim=1)  # (B, H, S, D)
    scores = query @ key.transpose(-2, -1)  # (B, H, T, S)
    scores = scores / math.sqrt(query.size(-1)) if scale is None else scores * scale
    if mask is None and causal:
        mask = causal_mask(query.size(2), key.size(2), query.device)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(dim=-1)


def mix_values(pattern: Tensor, value: Tensor) -> Tensor:
    """(B, H, T, S) and (B, K, S, D) -> (B, H, T, D)."""
    return pattern @ value.repeat_interleave(pattern.size(1) // value.size(1), dim=1)
