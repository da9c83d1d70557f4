"""Whether a choice stands although each logit may be a little off.

Several rows multiplied at once round otherwise than row by row. Where the difference could make another token of it,
the engine computes the token the plain way; these functions say where. `slack` is how far each logit may lie from the
true one, up or down; moving all by the same amount changes nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SUMS = 1e-5
"""Rounding of the summed probabilities of a large vocabulary in float32."""


def is_clear_best(logits: Tensor, slack: float) -> bool:
    """Whether the greatest stays the greatest."""
    if logits.numel() < 2:
        return True
    first, second = logits.topk(2).values.tolist()
    return bool(first - second > 2 * slack)


def is_clear_top_k(before: Tensor, after: Tensor, count: int, slack: float) -> bool:
    """Whether keep_top_k keeps the same."""
    kept = after > -math.inf
    return int(kept.sum()) <= count and _gap(before, kept) > 2 * slack


def is_clear_top_p(before: Tensor, after: Tensor, share: float, slack: float) -> bool:
    """Whether keep_top_p keeps the same: in the same order, and with the limit away from the sums on both sides."""
    kept = after > -math.inf
    chances = before.double().softmax(dim=-1)
    dropped = float(chances[~kept].sum())
    least = float(chances[kept].min())
    near = math.expm1(2 * slack) + _SUMS
    if _gap(before, kept) <= 2 * slack or 1 - share - dropped <= near * bool(dropped):
        return False
    return int(kept.sum()) == 1 or dropped + least - (1 - share) > near


def is_clear_min_p(before: Tensor, after: Tensor, share: float, slack: float) -> bool:
    """Whether keep_min_p keeps the same."""
    if share == 0:
        return True
    distance = (before - before.max() - math.log(share)).abs()
    return bool(distance.min() > 2 * slack + _SUMS)


def is_clear_draw(logits: Tensor, place: Tensor, slack: float) -> bool:
    """Whether a drawn number falls among the same token's share of the summed probabilities."""
    sums = logits.double().softmax(dim=-1).cumsum(dim=-1)
    sums = sums / sums[-1]
    # With p' = p exp(d) / sum(p exp(d)) and |d| <= slack, a sum c moves by at most (exp(2 slack) - 1) c (1 - c).
    moved = math.expm1(2 * slack) * sums * (1 - sums)
    token = int(torch.searchsorted(sums, place, right=True))
    below = token > 0 and bool(place - sums[token - 1] <= moved[token - 1])
    return not below and bool(sums[min(token, sums.numel() - 1)] - place > moved[min(token, sums.numel() - 1)])


def _gap(before: Tensor, kept: Tensor) -> float:
    """From the least that is kept down to the greatest that is not."""
    dropped = before[~kept]
    return math.inf if not dropped.numel() else float(before[kept].min() - dropped.max())
