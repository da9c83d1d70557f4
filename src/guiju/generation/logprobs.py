"""How likely the model found the token that was chosen, and which others it found likely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TokenLogprob:
    """Log-probabilities in nats, by log-softmax of the model's logits as they are: before temperature, penalties and
    filters, over its whole vocabulary."""

    logprob: float
    """Of the token that was chosen."""

    top: tuple[tuple[int | str, float], ...]
    """The likeliest tokens with theirs, likeliest first; as text where a remote model names them so."""


def token_logprob(logits: Tensor, token: int, count: int) -> TokenLogprob:
    """Of a chosen token and the `count` likeliest, out of (vocab,) logits in float32."""
    logs = logits.log_softmax(dim=-1)
    best = logs.topk(min(count, int((logs > -math.inf).sum())))  # what cannot come has none
    return TokenLogprob(float(logs[token]), tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)))
