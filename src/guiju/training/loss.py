"""Cross entropy over a large vocabulary, a chunk of tokens at a time.

The logits of all tokens at once are the largest thing in training: B * T * vocab numbers, several times over. Here a
chunk's logits become its gradients in place and are dropped before the next chunk's are made, so no more than one
chunk exists, and, unlike with recomputation, each product is computed once.
With label smoothing (Szegedy et al. 2016, arXiv:1512.00567; Vaswani et al. 2017, arXiv:1706.03762) the model is to
give a target 1 - epsilon of its belief, and every token an equal part of the rest.
Axes: N tokens (B * T), D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from guiju.model import AnyModel
from guiju.tokens import IGNORED

CHUNK_BYTES = 32 << 20
"""Size of one chunk's logits in float32: large enough for a full-speed product, small beside the model."""


def cross_entropy_in_chunks(
    model: AnyModel,
    hidden: Tensor,
    targets: Tensor,
    chunk_tokens: int | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Sum over targets of -log p(target), in nats: the gradient is that of F.cross_entropy(reduction="sum").

    Args:
        hidden: (..., D), what the head's matrix reads.
        targets: (...) token ids; IGNORED ones count nothing.
        chunk_tokens: tokens a chunk; by default as many as `CHUNK_BYTES` hold.
        label_smoothing: share of the belief that is to be spread over all tokens.
    Returns:
        A float32 scalar. Divide it by the number of targets of the whole update for a token-weighted mean.
    """
    weight, bias = model.head_weights()
    return linear_cross_entropy(
        hidden, weight, bias, targets, label_smoothing=label_smoothing, chunk_tokens=chunk_tokens
    )


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    chunk_tokens: int | None = None,
) -> Tensor:
    """Sum of the cross entropy of softmax(hidden weight^T + bias), in nats, without ever holding all logits.

    Args:
        hidden: (..., D).
        weight: (V, D). bias: (V,) or None.
        targets: (...) token ids; IGNORED ones count nothing.
        label_smoothing: share of the belief that is spread evenly over all V tokens, as in F.cross_entropy.
        chunk_tokens: tokens a chunk; by default as many as `CHUNK_BYTES` hold.
    Returns:
        A float32 scalar, whose value and gradients are those of F.cross_entropy(reduction="sum").
    """
    if chunk_tokens is None:
        chunk_tokens = max(1, CHUNK_BYTES // (4 * weight.size(0)))
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    apply: Any = _ChunkedCrossEntropy.apply  # torch has no types for it
    flat = hidden.flatten(0, -2)
    loss: Tensor = apply(flat, weight, bias, targets.flatten(), label_smoothing, chunk_tokens, dtype)
    return loss


def _even_rows(tokens: int, most: int) -> int:
    """Tokens a chunk, at most `most`: chunks of equal size, and of a size that products like, where both can be."""
    if tokens == 0:
        return 1
    chunks = -(-tokens // most)
    even = -(-tokens // chunks)
    return min(most, -(-even // 32) * 32, tokens)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        label_smoothing: float,
        chunk_tokens: int,
        dtype: torch.dtype,
    ) -> Tensor:
        of_hidden, of_weight, of_bias = ctx.needs_input_grad[:3]
        needs_gradient = of_hidden or of_weight or of_bias
        with torch.autocast(hidden.device.type, enabled=False):
            head = weight.to(dtype)  # (V, D)
            even_share = label_smoothing / head.size(0)
            loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
            to_hidden = torch.empty_like(hidden) if of_hidden else None
            to_weight = torch.zeros_like(weight) if of_weight else None  # none for a frozen head
            to_bias = torch.zeros_like(bias) if of_bias and bias is not None else None
            rows = _even_rows(hidden.size(0), chunk_tokens)
            room = torch.empty(rows, head.size(0), dtype=dtype, device=hidden.device)  # for each chunk's products
            room_for_logs = room if dtype == torch.float32 else torch.empty_like(room, dtype=torch.float32)
            for start in range(0, hidden.size(0), rows):
                part = hidden[start : start + rows].to(dtype)
                wanted = targets[start : start + rows]
                logits, logs = room[: len(part)], room_for_logs[: len(part)]  # (n, V); in float32 the same memory
                torch.mm(part, head.t(), out=logits)
                if dtype != torch.float32:
                    logs.copy_(logits)  # five times as fast as a softmax that converts
                if bias is not None:
                    logs += bias
                torch.log_softmax(logs, dim=-1, out=logs)
                counts = wanted != IGNORED
                index = wanted.where(counts, 0)[:, None]
                nats = logs.gather(1, index).squeeze(1)
                if label_smoothing:
                    nats = (1 - label_smoothing) * nats + even_share * logs.sum(dim=-1)
                loss -= nats.where(counts, 0).sum()
                if not needs_gradient:
                    continue
                # The softmax less what was wanted: the gradient of the logits.
                slopes = logs.exp_().scatter_add_(1, index, logs.new_full(index.shape, label_smoothing - 1))
                if label_smoothing:
                    slopes -= even_share
                if not counts.all():
                    slopes[~counts] = 0
                if to_bias is not None:
                    to_bias += slopes.sum(dim=0)
                if dtype != torch.float32:
                    slopes = logits.copy_(slopes)
                if to_hidden is not None:
                    to_hidden[start : start + len(part)] = slopes @ head
                if to_weight is not None and dtype == to_weight.dtype:
                    to_weight.addmm_(slopes.t(), part)
                elif to_weight is not None:
                    to_weight += slopes.t() @ part
        if needs_gradient:
            ctx.save_for_backward(to_hidden, to_weight, to_bias)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        # In place: a second backward through the same graph is refused by autograd, as the tensors are freed after
        # the first.
        made = [None if tensor is None else tensor.mul_(upstream) for tensor in ctx.saved_tensors]
        return *made, None, None, None, None
