"""Who may look at whom (掩码): pure functions, each a tensor that is True where a query may look at a key.

A mask has the shape (T, S), or (B, 1, T, S) where rows differ, 1 standing for all heads and, in place of T, for all
queries; `both` puts two together.
Axes: B batch, T queries, which are the last T of S tokens where both are of one text, S keys.
"""

from __future__ import annotations

import torch
from torch import Tensor


def causal_mask(new: int, total: int, device: torch.device | str = "cpu") -> Tensor:
    """因果掩码. (T, S): none sees what comes after it."""
    return torch.ones(new, total, dtype=torch.bool, device=device).tril(total - new)


def window_mask(new: int, total: int, window: int, device: torch.device | str = "cpu") -> Tensor:
    """滑动窗口掩码. (T, S): each sees itself and the `window` - 1 tokens before it (arXiv:2310.06825)."""
    return causal_mask(new, total, device).triu(total - new - window + 1)


def prefix_mask(prefix: Tensor, new: int) -> Tensor:
    """前缀掩码. (B,) lengths -> (B, 1, T, T): the first `prefix` tokens of a row see each other, the rest is causal
    (arXiv:1910.10683, section 3.2.1)."""
    places = torch.arange(new, device=prefix.device)
    inside = places < prefix[:, None]  # (B, T)
    return (inside[:, None, None, :]) | causal_mask(new, new, prefix.device)


def padding_mask(real: Tensor) -> Tensor:
    """填充掩码. (B, S), True where a token is real -> (B, 1, 1, S): none sees what only fills a row up.

    The same mask keeps a decoder's cross-attention (交叉注意力) from the padding of its source.
    """
    return real.bool()[:, None, None, :]


def same_document_mask(documents: Tensor, others: Tensor | None = None) -> Tensor:
    """文档掩码. (B, T) and (B, S) segment numbers -> (B, 1, T, S): each sees its own document alone.

    Args:
        others: of the keys, where those are of another text (a packed source in cross-attention).
    """
    others = documents if others is None else others
    return documents[:, None, :, None] == others[:, None, None, :]


def document_mask(documents: Tensor) -> Tensor:
    """(B, T) segment numbers -> (B, 1, T, T): each looks back to the start of its own document."""
    return same_document_mask(documents) & causal_mask(documents.size(1), documents.size(1), documents.device)


def both(*masks: Tensor | None) -> Tensor | None:
    """What all of them allow; None allows everything."""
    given = [mask for mask in masks if mask is not None]
    if not given:
        return None
    seen = given[0]
    for mask in given[1:]:
        seen = seen & mask
    return seen


def never_blind(mask: Tensor) -> Tensor:
    """Queries that may look at nothing look at everything: a softmax over nothing is not a number, and would spread.

    Only padding is ever blind; what it gets to see concerns nobody, as none sees padding.
    """
    return mask | ~mask.any(dim=-1, keepdim=True)


def positions_among(documents: Tensor) -> Tensor:
    """(B, T) segment numbers -> (B, T): how many tokens of its own document stand before each."""
    return document_mask(documents).sum(dim=-1)[:, 0] - 1


def positions_without_padding(real: Tensor) -> Tensor:
    """(B, T), True where a token is real -> (B, T): how many real tokens stand before each, so that a text has the
    same positions wherever its padding stands."""
    return (real.cumsum(dim=-1) - 1).clamp(min=0)
