"""Ways to learn tokens: which of a model's vectors are to say which token.

next-token      a decoder says the token that follows each (maximum likelihood)
answers         the same, for the tokens of a text that are learned: the answer, and not its question
masked-tokens   an encoder says the tokens that were hidden from it (arXiv:1810.04805)
spans, pairs    a decoder says a target token by token, and its encoder reads the source: runs cut out of plain text
                (arXiv:1910.10683), or pairs such as a sentence and its translation, with label smoothing
                (arXiv:1706.03762, section 5.4)

The loss is the sum over targets in nats, whatever the objective, so that each token weighs the same in an update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from guiju.errors import TrainingError
from guiju.tokens import IGNORED, Batch
from guiju.training.loss import cross_entropy_in_chunks

MOST_MASKED = 0.9
"""Share of a row's tokens that may be targets: with more there is next to nothing to guess them from."""
ENOUGH = 32
"""Targets from which on it is no accident that each of them could be read off the input."""
ENOUGH_ROWS = 256
"""Rows from which on it is no accident that every token of each is learned; a few without a question are."""
ROUND = 64
"""Numbers of targets are rounded up to a multiple of this."""

Hidden = Callable[..., Tensor]
"""The model's own `hidden`, perhaps compiled."""


@dataclass(frozen=True)
class Tokens:
    """What all of them have in common."""

    label_smoothing: float = 0.0
    widths_vary: bool = True
    unit: str = "targets"
    rows_together: int = 1

    def states(self, model: Any, hidden: Hidden, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the head's matrix reads, and the targets: (..., width) and (...)."""
        raise NotImplementedError

    def loss(self, model: Any, hidden: Hidden, batch: Batch) -> Tensor:
        """Sum over the batch's targets, in nats."""
        states, targets = self.states(model, hidden, batch)
        return cross_entropy_in_chunks(model, states, targets, label_smoothing=self.label_smoothing)

    def weigh(self, batch: Batch) -> float:
        """Each target weighs 1."""
        return batch.target_count

    def check(self, batches: Sequence[Batch]) -> None:
        """Any part of a row's tokens may be targets."""


@dataclass(frozen=True)
class NextToken(Tokens):
    """A decoder's: the token that follows each."""

    widths_vary: bool = False
    unit: str = "tokens"

    def states(self, model: Any, hidden: Hidden, batch: Batch) -> tuple[Tensor, Tensor]:
        return hidden(batch.ids, documents=batch.documents), batch.targets


@dataclass(frozen=True)
class Answers(Tokens):
    """A decoder's: the learned tokens of each text, and the head is computed for them alone."""

    _seen: list[int] = field(default_factory=lambda: [0, 0], compare=False, repr=False)
    """Rows so far, and tokens among them that are not learned."""

    def states(self, model: Any, hidden: Hidden, batch: Batch) -> tuple[Tensor, Tensor]:
        # Padding stands after a text, where nothing that counts looks: a decoder needs no mask for it.
        return at_targets(hidden(batch.ids, documents=batch.documents), batch.targets)

    def check(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            learned = batch.targets != IGNORED
            real = torch.ones_like(learned) if batch.padding is None else batch.padding
            # The last token's target stands beyond the row.
            differs = (batch.targets[:, :-1] != batch.ids[:, 1:]) & learned[:, :-1] & real[:, 1:]
            if differs.any():
                raise TrainingError(
                    "a target is not the token that follows its place in the text: learned tokens must be shifted by "
                    "one place, once. Check how the rows are made"
                )
            self._seen[0] += len(batch.ids)
            self._seen[1] += int((real & ~learned).sum())
        rows, passed_over = self._seen
        if rows >= ENOUGH_ROWS and not passed_over:
            raise TrainingError(
                f"every token of {rows} rows is learned: the mask is all ones, so questions are learned like answers. "
                "Check the mask; to learn whole texts, take the objective next-token"
            )


@dataclass(frozen=True)
class MaskedTokens(Tokens):
    """An encoder's: the tokens that were masked, and no others: the head is computed for them alone."""

    def states(self, model: Any, hidden: Hidden, batch: Batch) -> tuple[Tensor, Tensor]:
        vectors = hidden(batch.ids, padding=batch.padding, documents=batch.documents)
        states, targets = at_targets(vectors, batch.targets)
        return model.transformed(states), targets

    def check(self, batches: Sequence[Batch]) -> None:
        targets = sum(batch.target_count for batch in batches)
        real = sum(batch.ids.numel() if batch.padding is None else int(batch.padding.sum()) for batch in batches)
        if real == 0:
            raise TrainingError("every token of the batch is padding, so there is no text; check the padding mask")
        if targets > MOST_MASKED * real:
            raise TrainingError(
                f"{targets} of {real} tokens are masked, so nothing is left to guess them from; mask fewer (BERT: 15 %)"
            )
        shown = sum(int((batch.ids == batch.targets).sum()) for batch in batches)
        if targets >= ENOUGH and shown == targets:
            raise TrainingError(
                f"all {targets} tokens that are to be guessed stand in the input as they are: the mask hides nothing. "
                "Check how the batches are masked"
            )


@dataclass(frozen=True)
class SequenceToSequence(Tokens):
    """An encoder-decoder's: each token of the target, from the source and the tokens before it."""

    def states(self, model: Any, hidden: Hidden, batch: Batch) -> tuple[Tensor, Tensor]:
        # Padding stands after a target, where nothing that counts looks: the decoder needs no mask for it.
        vectors = hidden(batch.ids, source=batch.source, source_padding=batch.source_padding)
        return at_targets(vectors, batch.targets)

    def check(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            if batch.source is None:
                raise TrainingError("the batch has no source, which an encoder-decoder reads; give it pairs or spans")
            if batch.source_padding is not None and not batch.source_padding.any(dim=1).all():
                raise TrainingError(
                    "a source of the batch is padding alone; check the padding mask (True: a real token)"
                )
        targets = sum(batch.target_count for batch in batches)
        shown = sum(int((batch.ids == batch.targets).sum()) for batch in batches)
        if targets >= ENOUGH and shown == targets:
            raise TrainingError(
                f"the decoder reads each of the {targets} tokens that it is to predict at the very place where it is "
                "to predict it: the target must stand one place later in its input"
            )


def at_targets(vectors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors (B, T, width) where there is a target, and the targets: (n, width) and (n,).

    Beyond `ROUND` they are filled up to a multiple of it with targets that count nothing: were there another number in
    each step, memory would be cut into ever more pieces that fit none (docs/experiments.md).
    """
    flat = targets.flatten()
    places = (flat != IGNORED).nonzero().squeeze(1)
    wanted = flat[places]
    more = -len(places) % ROUND if len(places) > ROUND else 0
    if more:
        places = torch.cat((places, places.new_zeros(more)))
        wanted = torch.cat((wanted, wanted.new_full((more,), IGNORED)))
    return vectors.flatten(0, 1).index_select(0, places), wanted
