"""From logits to a token: filters that are pure functions, and a draw that depends on its own seed alone.

All take the logits of one position, (vocab,) in float32, and the filters mean what transformers' of the same names do.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from guiju.errors import ModelError
from guiju.generation.settings import SamplingSettings


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make ids less likely that came already: `seen` is (vocab,), True for those."""
    penalised = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, penalised, logits)


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Logits divided by the temperature, the greatest moved to 0, so that a tiny temperature does not overflow."""
    return (logits - logits.max()) / temperature


def keep_top_k(logits: Tensor, count: int) -> Tensor:
    """Only the `count` likeliest, and what ties with the last of them; the others become -inf."""
    least = logits.topk(min(count, logits.numel())).values[-1]
    return logits.masked_fill(logits < least, -math.inf)


def keep_top_p(logits: Tensor, share: float) -> Tensor:
    """Only the likeliest whose probabilities reach `share` together, at least one; the others become -inf."""
    ascending, order = logits.sort()
    unlikely = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - share
    unlikely[-1] = False
    return logits.masked_fill(torch.empty_like(unlikely).scatter(0, order, unlikely), -math.inf)


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Only those of at least `share` of the likeliest one's probability; the others become -inf."""
    chances = logits.softmax(dim=-1)
    return logits.masked_fill(chances < share * chances.max(), -math.inf)


class Chooser:
    """Chooses the tokens of one sequence."""

    def __init__(self, settings: SamplingSettings, prompt: list[int], vocab_size: int, seed: int, index: int) -> None:
        """`index` is the sequence's place among those of its prompt: each has a stream of chance of its own."""
        self.settings = settings
        self.seen = torch.zeros(vocab_size, dtype=torch.bool)
        self.seen[prompt] = True
        self.generator = torch.Generator().manual_seed(_stream(seed, index))

    def choose(self, logits: Tensor) -> int:
        """The next token's id, which from now on counts as seen."""
        if not torch.isfinite(logits.max()):  # which is NaN where one of them is
            raise ModelError("the model's logits are not numbers, so there is no next token: its weights are damaged")
        token = self._choose(logits)
        self.seen[token] = True
        return token

    def _choose(self, logits: Tensor) -> int:
        settings = self.settings
        if settings.repetition_penalty != 1:
            logits = penalise_repetition(logits, self.seen, settings.repetition_penalty)
        if settings.is_greedy:
            return int(logits.argmax())
        logits = apply_temperature(logits, settings.temperature)
        if settings.top_k is not None:
            logits = keep_top_k(logits, settings.top_k)
        if settings.top_p is not None:
            logits = keep_top_p(logits, settings.top_p)
        if settings.min_p is not None:
            logits = keep_min_p(logits, settings.min_p)
        return draw(logits, self.generator)


def draw(logits: Tensor, generator: torch.Generator) -> int:
    """One id by its probability: where a number drawn evenly from 0 to 1 falls among the summed probabilities."""
    sums = logits.double().softmax(dim=-1).cumsum(dim=-1)
    place = torch.rand((), generator=generator, dtype=torch.float64) * sums[-1]
    last = int((logits > -math.inf).nonzero()[-1])  # rounding must not lead behind the last possible one
    return min(int(torch.searchsorted(sums, place, right=True)), last)


def _stream(seed: int, index: int) -> int:
    """A generator's seed out of the user's and the sequence's place, without relation between neighbours."""
    return int.from_bytes(hashlib.sha256(f"guiju generation {seed} {index}".encode()).digest()[:7])
