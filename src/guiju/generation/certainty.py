"""Whether a choice stands although each logit may be a little off.

Several rows multiplied at once round otherwise than row by row. Where the difference could make another token of it,
the engine computes the token the plain way; these functions say where. `slack` is how far each logit may lie from the
true one, up or down; moving all by the same amount changes nothing.

A filter may keep or drop a token that lies near its limit. That matters as much as the token is likely: what filters
leave in doubt is counted as a share of the probability that they keep, and handed on.
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


def doubt_of_top_k(before: Tensor, after: Tensor, count: int, slack: float, doubt: float) -> float:
    """What is in doubt after keep_top_k.

    Args:
        before, after: (vocab,) logits before and after the filter.
        doubt: what was in doubt before.
    """
    if count >= before.numel():
        return doubt
    ranked = before.topk(count + 1).values
    least, following = ranked[count - 1 :].tolist()
    if least == -math.inf or least - following > 2 * slack:  # the same ones stay ahead of all others
        return doubt
    return _share((before - least).abs() <= 2 * slack, before, after, doubt)


def doubt_of_top_p(before: Tensor, after: Tensor, share: float, slack: float, doubt: float) -> float:
    """What is in doubt after keep_top_p, which drops the least likely ones up to a sum of 1 - share."""
    ascending, order = before.sort()
    chances = before.double().softmax(dim=-1)[order]
    sums = torch.cat((torch.zeros(1, dtype=torch.double), chances.cumsum(dim=-1)))
    # Whoever lies within 2 slack may stand on the other side, and be counted or not.
    above = sums[torch.searchsorted(ascending, ascending + 2 * slack, right=True)]
    below = sums[torch.searchsorted(ascending, ascending - 2 * slack)]
    neighbours = above - below - chances
    near = math.expm1(2 * slack) + _SUMS + _moved(doubt) + neighbours
    doubtful = (sums[1:] - (1 - share)).abs() <= near
    doubtful[-1] &= neighbours[-1] > 0  # the likeliest is always kept
    return _share(torch.zeros_like(doubtful).scatter(0, order, doubtful), before, after, doubt)


def doubt_of_min_p(before: Tensor, after: Tensor, share: float, slack: float, doubt: float) -> float:
    """What is in doubt after keep_min_p."""
    if share == 0:
        return doubt
    distance = (before - before.max() - math.log(share)).abs()
    return _share(distance <= 2 * slack + _SUMS, before, after, doubt)


def is_clear_draw(logits: Tensor, place: Tensor, slack: float, doubt: float) -> bool:
    """Whether a drawn number falls among the same token's share of the summed probabilities."""
    sums = logits.double().softmax(dim=-1).cumsum(dim=-1)
    sums = sums / sums[-1]
    # With p' = p exp(d) / sum(p exp(d)) and |d| <= slack, a sum c moves by at most (exp(2 slack) - 1) c (1 - c).
    moved = math.expm1(2 * slack) * sums * (1 - sums) + _moved(doubt)
    token = min(int(torch.searchsorted(sums, place, right=True)), sums.numel() - 1)
    above_it = bool(sums[token] - place > moved[token])
    return above_it and (token == 0 or bool(place - sums[token - 1] > moved[token - 1]))


def _share(doubtful: Tensor, before: Tensor, after: Tensor, doubt: float) -> float:
    """What is in doubt after a filter, as a share of what it certainly keeps."""
    chances = before.double().softmax(dim=-1)
    held = float(chances[doubtful].sum())
    certain = float(chances[(after > -math.inf) & ~doubtful].sum()) - doubt
    return (doubt + held) / certain if certain > 0 else math.inf


def _moved(doubt: float) -> float:
    """How far a sum c of the probabilities moves at most when this share of them is kept or not: (a - c b) / (1 + b)
    for |a|, |b| <= doubt."""
    return 2 * doubt / (1 - doubt) if doubt < 1 else math.inf
