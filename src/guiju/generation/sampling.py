"""From logits to a token: filters that are pure functions, and a draw that depends on its own seed alone.

All take the logits of one position, (vocab,) in float32, and the filters mean what transformers' of the same names do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from guiju.errors import ModelError
from guiju.generation import certainty
from guiju.generation.settings import SamplingSettings

_LIKELIEST = (256, 4096)


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
    for count in _LIKELIEST:  # a whole vocabulary takes milliseconds to sort, and few of it are likely
        if 4 * count > logits.numel():
            break
        best = logits.topk(count)
        sums = (best.values.double() - logits.double().logsumexp(dim=-1)).exp().cumsum(dim=-1)
        if sums[-1] > share:
            kept = torch.cat((sums.new_zeros(1), sums[:-1])) < share  # what comes before it does not reach it
            return torch.full_like(logits, -math.inf).scatter(0, best.indices[kept], best.values[kept])
    ascending, order = logits.sort()
    unlikely = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - share
    unlikely[-1] = False
    return logits.masked_fill(torch.empty_like(unlikely).scatter(0, order, unlikely), -math.inf)


def keep_min_p(logits: Tensor, share: float) -> Tensor:
    """Only those of at least `share` of the likeliest one's probability; the others become -inf."""
    chances = logits.softmax(dim=-1)
    return logits.masked_fill(chances < share * chances.max(), -math.inf)


class LogitFilter(Protocol):
    """Restricts what may come next, such as to what a grammar allows; has a state of its own, one for a sequence."""

    def __call__(self, logits: Tensor) -> Tensor:
        """(vocab,) logits, with -inf for what may not come; those that are given are left as they are."""
        ...

    def accept(self, token: int) -> None:
        """This token was chosen."""
        ...


class Chooser:
    """Chooses the tokens of one sequence."""

    def __init__(
        self,
        settings: SamplingSettings,
        prompt: Sequence[int],
        vocab_size: int,
        seed: int,
        index: int,
        *,
        text_size: int | None = None,
        filters: Sequence[LogitFilter] = (),
    ) -> None:
        """
        Args:
            index: the sequence's place among those of its prompt: each has a stream of chance of its own.
            text_size: ids from here on stand for no text and are never chosen (published models may have more rows
                than their tokenizer has ids).
            filters: apply before all others.
        """
        self.settings = settings
        self.text_size = vocab_size if text_size is None else text_size
        self.filters = filters
        self.generator = torch.Generator().manual_seed(_stream(seed, index))
        self._place: Tensor | None = None  # a number drawn for the next token, which is used once
        self._prompt = prompt
        self._seen: Tensor | None = None  # what came already; kept only where it matters, and from the first token on

    def choose(self, logits: Tensor, slack: float | None = None) -> int | None:
        """The next token's id, which from now on counts as seen.

        Args:
            slack: how far each of the logits may be off. Where that could lead to another token, nothing is chosen and
                nothing changes; the number drawn for it is kept.
        """
        if self._seen is None and self.settings.repetition_penalty != 1:
            self._seen = torch.zeros(logits.numel(), dtype=torch.bool)
            self._seen[list(self._prompt)] = True
        if not math.isfinite(logits[likeliest(logits)]):  # which is NaN where one of them is
            raise ModelError("the model's logits are not numbers, so there is no next token: its weights are damaged")
        if self.text_size < logits.numel():
            logits = logits.clone()
            logits[self.text_size :] = -math.inf
        for restrict in self.filters:
            logits = restrict(logits)
        if slack is not None and not self._is_certain(logits, slack):
            return None
        token = self._choose(logits)
        self._place = None
        if self._seen is not None:
            self._seen[token] = True
        for restrict in self.filters:
            restrict.accept(token)
        return token

    def _choose(self, logits: Tensor) -> int:
        if self._seen is not None:
            logits = penalise_repetition(logits, self._seen, self.settings.repetition_penalty)
        if self.settings.is_greedy:
            return likeliest(logits)
        logits = apply_temperature(logits, self.settings.temperature)
        for keep, _, value in self._filters():
            logits = keep(logits, value)
        return take(logits, self._drawn())

    def _is_certain(self, logits: Tensor, slack: float) -> bool:
        """Whether `_choose` would choose the same with each logit moved by up to `slack`."""
        if self._seen is not None:
            penalty = self.settings.repetition_penalty
            logits = penalise_repetition(logits, self._seen, penalty)
            slack *= max(penalty, 1 / penalty)
        if self.settings.is_greedy:
            return certainty.is_clear_best(logits, slack)
        logits = apply_temperature(logits, self.settings.temperature)
        slack /= self.settings.temperature
        doubt = 0.0
        for keep, doubt_of, value in self._filters():
            before, logits = logits, keep(logits, value)
            doubt = doubt_of(before, logits, value, slack, doubt)
        return certainty.is_clear_draw(logits, self._drawn(), slack, doubt)

    def _filters(self) -> Iterator[tuple[Any, Any, Any]]:
        """What is kept after the temperature, in the settings' order: how, what that leaves in doubt, which value."""
        settings = self.settings
        if settings.top_k is not None:
            yield keep_top_k, certainty.doubt_of_top_k, settings.top_k
        if settings.top_p is not None:
            yield keep_top_p, certainty.doubt_of_top_p, settings.top_p
        if settings.min_p is not None:
            yield keep_min_p, certainty.doubt_of_min_p, settings.min_p

    def _drawn(self) -> Tensor:
        if self._place is None:
            self._place = torch.rand((), generator=self.generator, dtype=torch.float64)
        return self._place


def likeliest(logits: Tensor) -> int:
    """The id of the greatest of (vocab,) logits in main memory; of the first that is NaN, where one is.

    By NumPy, which takes a tenth of torch's time: it wakes no other threads, which a runner has just used.
    """
    return int(logits.numpy().argmax())


def draw(logits: Tensor, generator: torch.Generator) -> int:
    """One id by its probability."""
    return take(logits, torch.rand((), generator=generator, dtype=torch.float64))


def take(logits: Tensor, place: Tensor) -> int:
    """The id among whose share of the summed probabilities a number between 0 and 1 falls."""
    ids = (logits > -math.inf).nonzero()[:, 0]
    sums = logits[ids].double().softmax(dim=-1).cumsum(dim=-1)
    found = int(torch.searchsorted(sums, place * sums[-1], right=True))
    return int(ids[min(found, len(ids) - 1)])  # rounding must not lead behind the last one


def _stream(seed: int, index: int) -> int:
    """A generator's seed out of the user's and the sequence's place, without relation between neighbours."""
    return int.from_bytes(hashlib.sha256(f"guiju generation {seed} {index}".encode()).digest()[:7])
