"""Beam search (束搜索): several texts grow side by side, and the best of all ways to go on with any of them are kept.

The meaning is that of transformers' `generate(num_beams=...)`: which ways are looked at, how a finished text's score is
made of its tokens' log-probabilities, and when nothing better is to be expected. This module knows logits and token ids
alone; guiju.generation.beam_engine steps a model along.
Axes: N beams, C candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from guiju.errors import ModelError
from guiju.generation.restriction import Forced, Restriction
from guiju.generation.sampling import penalise_repetition
from guiju.generation.settings import SamplingSettings


@dataclass(frozen=True)
class Found:
    """A text that the search came to."""

    ids: tuple[int, ...]
    """Without the prompt, with the token that ended it."""

    score: float
    """Sum of the log-probabilities over the length to the power of length_penalty."""

    ended: bool
    """Whether it came to its end, not to the limit."""


@dataclass(frozen=True)
class Beam:
    """A text under way."""

    ids: tuple[int, ...]
    parent: int
    """Place, before the last step, of the beam that it goes on from."""

    score: float
    """Sum of the log-probabilities."""

    restriction: Restriction


class BeamSearch:
    """The search for the continuations of one prompt."""

    def __init__(
        self,
        settings: SamplingSettings,
        prompt: Sequence[int],
        limit: int,
        ends: frozenset[int],
        restriction: Restriction | None = None,
        *,
        text_size: int | None = None,
        stops: Callable[[tuple[int, ...]], bool] = lambda ids: False,
    ) -> None:
        """
        Args:
            limit: tokens of a continuation at most.
            ends: ids that end a text.
            restriction: what may come next, at the beginning.
            text_size: ids from here on are never chosen.
            stops: whether a continuation ends with these ids, because of its text.
        """
        self.settings, self.prompt, self.limit, self.ends = settings, tuple(prompt), limit, ends
        self._text_size, self._stops = text_size, stops
        self.beams = [Beam((), 0, 0.0, restriction or Restriction(Forced(limit)))]
        """Those to step next, the likeliest first; none where the search is over."""
        self._found: list[Found] = []  # best first, at most num_beams
        self._hopeful = True  # whether something better than what was found may come

    @property
    def done(self) -> bool:
        return not self.beams

    def advance(self, logits: Tensor) -> None:
        """Go on by one token: (N, vocab) logits in float32 of what may follow each of `beams`.

        Raises:
            ModelError: the logits are no numbers.
        """
        settings, place = self.settings, len(self.beams[0].ids) + 1
        chances = torch.stack([self._chances(beam, row) for beam, row in zip(self.beams, logits, strict=True)])
        summed = (chances + torch.tensor([beam.score for beam in self.beams])[:, None]).flatten()  # (N * vocab,)
        # So many that as many go on as there are beams, even where each of them may end.
        wanted = max(2, 1 + len(self.ends)) * settings.num_beams
        scores, order = summed.topk(min(wanted, summed.numel()))  # (C,)
        final = (scores / place**settings.length_penalty).tolist()
        going, found = [], list(self._found)
        closed = not self._hopeful or self._is_full
        for rank, (index, score) in enumerate(zip(order.tolist(), scores.tolist(), strict=True)):
            if score == -math.inf:
                break
            parent, token = divmod(index, chances.size(1))
            beam = self._grow(parent, token, score)
            if not self._is_over(beam):
                going.append(beam)
            elif rank < settings.num_beams and not closed:
                found.append(Found(beam.ids, final[rank], self._is_ended(beam)))
        self._found = sorted(found, key=lambda one: -one.score)[: settings.num_beams]
        self.beams = going[: settings.num_beams]
        self._hopeful = self._hopeful and self._can_improve(place)
        if not self._hopeful or self._is_full:
            self.beams = []

    def results(self) -> list[Found]:
        """The texts that were found, best first: as many as the settings want, unless the form has fewer."""
        return self._found[: self.settings.num_return_sequences]

    @property
    def _is_full(self) -> bool:
        """Whether no more texts are wanted."""
        return self.settings.early_stopping is True and len(self._found) == self.settings.num_beams

    def _chances(self, beam: Beam, logits: Tensor) -> Tensor:
        """(vocab,) log-probabilities of what may follow."""
        if not math.isfinite(logits.max().item()):
            raise ModelError("the model's logits are not numbers, so there is no next token: its weights are damaged")
        chances = logits.log_softmax(dim=-1)
        if self.settings.repetition_penalty != 1:
            seen = torch.zeros(chances.numel(), dtype=torch.bool)
            seen[[*self.prompt, *beam.ids]] = True
            chances = penalise_repetition(chances, seen, self.settings.repetition_penalty)
        if self._text_size is not None:
            chances[self._text_size :] = -math.inf
        return beam.restriction(chances)

    def _grow(self, parent: int, token: int, score: float) -> Beam:
        """A beam with one token more."""
        before = self.beams[parent]
        restriction = before.restriction.copy()
        restriction.accept(token)
        return Beam((*before.ids, token), parent, score, restriction)

    def _is_over(self, beam: Beam) -> bool:
        return len(beam.ids) == self.limit or self._is_ended(beam)

    def _is_ended(self, beam: Beam) -> bool:
        """Whether the text came to its end by itself."""
        if beam.ids[-1] in self.ends:
            return not beam.restriction.cut
        return beam.restriction.finished or self._stops(beam.ids)

    def _can_improve(self, place: int) -> bool:
        """Whether a text under way may yet come to a better score than the worst that was found."""
        settings = self.settings
        if len(self._found) < settings.num_beams or not self.beams:
            return True
        never = settings.early_stopping == "never" and settings.length_penalty > 0
        length = self.limit if never else place
        return self.beams[0].score > self._found[-1].score * float(length**settings.length_penalty)
