"""From logits to a token in numpy, for models of other programs: the filters mean what guiju.generation's do.

The greatest logit, and with it greedy text, is the same everywhere. What is drawn is not: numpy's chance is another
one than torch's, so a seed repeats its text here, but gives another text than it gives there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from guiju.errors import ModelError
from guiju.generation import SamplingSettings, TokenLogprob

if TYPE_CHECKING:
    from guiju.generation import Restriction

Floats = NDArray[np.floating[Any]]


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Natural logarithms of the probabilities, over the last axis."""
    moved = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return moved - np.log(np.exp(moved).sum(axis=-1, keepdims=True))  # type: ignore[no-any-return]


def penalise_repetition(logits: Floats, seen: NDArray[np.bool_], penalty: float) -> Floats:
    """Make ids less likely that came already: `seen` is (vocab,), True for those."""
    return np.where(seen, np.where(logits < 0, logits * penalty, logits / penalty), logits)


def keep_top_k(logits: Floats, count: int) -> Floats:
    """Only the `count` likeliest, and what ties with the last of them; the others become -inf."""
    least = np.partition(logits, -min(count, logits.size))[-min(count, logits.size)]
    return np.where(logits < least, -np.inf, logits)


def keep_top_p(logits: Floats, share: float) -> Floats:
    """Only the likeliest whose probabilities reach `share` together, at least one; the others become -inf."""
    order = np.argsort(logits, kind="stable")
    unlikely = np.exp(log_softmax(logits))[order].cumsum() <= 1 - share
    unlikely[-1] = False
    kept = logits.copy()
    kept[order[unlikely]] = -np.inf
    return kept


def keep_min_p(logits: Floats, share: float) -> Floats:
    """Only those of at least `share` of the likeliest one's probability; the others become -inf."""
    chances = np.exp(log_softmax(logits))
    return np.where(chances < share * chances.max(), -np.inf, logits)


def token_logprob(logits: Floats, token: int, count: int) -> TokenLogprob:
    """Of a chosen token and the `count` likeliest, out of (vocab,) logits."""
    logs = log_softmax(logits)
    best = [int(place) for place in np.argsort(-logs, kind="stable")[:count] if logs[place] > -np.inf]
    return TokenLogprob(float(logs[token]), tuple((place, float(logs[place])) for place in best))


class NumpyChooser:
    """Chooses the tokens of one sequence."""

    def __init__(
        self,
        settings: SamplingSettings,
        prompt: Sequence[int],
        vocab_size: int,
        seed: int,
        index: int,
        *,
        text_size: int,
        restriction: Restriction | None = None,
    ) -> None:
        """
        Args:
            index: the sequence's place among those of its prompt: each has a stream of chance of its own.
            text_size: ids from here on stand for no text and are never chosen.
            restriction: what may come next at all.
        """
        self.settings, self.text_size, self.restriction = settings, text_size, restriction
        self.seen = np.zeros(vocab_size, dtype=np.bool_)
        self.seen[list(prompt)] = True
        stream = hashlib.sha256(f"guiju generation in numpy {seed} {index}".encode()).digest()
        self.generator = np.random.Generator(np.random.PCG64(int.from_bytes(stream)))

    def choose(self, logits: Floats) -> int:
        """The next token out of (vocab,) logits; from now on it counts as seen.

        Raises:
            ModelError: the logits are no numbers.
            ConfigError: the form that the text is held to allows nothing.
        """
        if not np.isfinite(logits.max()):  # which is NaN where one of them is
            raise ModelError("the model's logits are not numbers, so there is no next token: its weights are damaged")
        logits = logits.astype(np.float32)  # a copy
        logits[self.text_size :] = -np.inf
        allowed = None if self.restriction is None else self.restriction.allowed(logits.size)
        if self.restriction is not None and allowed is not None:
            logits[~allowed] = -np.inf
            if not np.isfinite(logits.max()):
                self.restriction.refuse()
        token = self._choose(logits)
        self.seen[token] = True
        if self.restriction is not None:
            self.restriction.accept(token)
        return token

    def _choose(self, logits: Floats) -> int:
        settings = self.settings
        if settings.repetition_penalty != 1:
            logits = penalise_repetition(logits, self.seen, settings.repetition_penalty)
        if settings.is_greedy:
            return int(logits.argmax())
        with np.errstate(over="ignore"):  # a tiny temperature makes -inf of the unlikely ones
            logits = (logits - logits.max()) / np.float32(settings.temperature)
        if settings.top_k is not None:
            logits = keep_top_k(logits, settings.top_k)
        if settings.top_p is not None:
            logits = keep_top_p(logits, settings.top_p)
        if settings.min_p is not None:
            logits = keep_min_p(logits, settings.min_p)
        return self._draw(logits)

    def _draw(self, logits: Floats) -> int:
        """One id by its probability: where a number drawn evenly from 0 to 1 falls among the summed probabilities."""
        sums = np.exp(log_softmax(logits)).cumsum()
        place = self.generator.random() * sums[-1]
        last = int(np.flatnonzero(logits > -np.inf)[-1])  # rounding must not lead behind the last possible one
        return min(int(np.searchsorted(sums, place, side="right")), last)
