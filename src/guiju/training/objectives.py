"""What training asks of a model: which of its vectors are to say which token. The loop knows no more of a shape.

next-token      a decoder says the token that follows each (maximum likelihood)
masked-tokens   an encoder says the tokens that were hidden from it (arXiv:1810.04805)
spans, pairs    a decoder says a target token by token, and its encoder reads the source: runs cut out of plain text
                (arXiv:1910.10683), or pairs such as a sentence and its translation, with label smoothing
                (arXiv:1706.03762, section 5.4)

The loss is the sum over targets in nats, whatever the objective, so that each token weighs the same in an update.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from guiju.errors import ConfigError, TrainingError
from guiju.model import ModelConfig
from guiju.tokens import IGNORED, Batch
from guiju.training.loss import cross_entropy_in_chunks
from guiju.training.settings import TrainingSettings

FOR_KIND = {
    "decoder": ("next-token",),
    "encoder": ("masked-tokens",),
    "encoder-decoder": ("spans", "pairs"),
}
"""Objectives of each kind of model; the first is what "auto" means."""

USUAL_SMOOTHING = {"spans": 0.1, "pairs": 0.1}
"""What label_smoothing is where nothing else is asked for; 0 for the other objectives."""

MOST_MASKED = 0.9
"""Share of a row's tokens that may be targets: with more there is next to nothing to guess them from."""
ENOUGH = 32
"""Targets from which on it is no accident that each of them could be read off the input."""
ROUND = 64
"""Numbers of targets are rounded up to a multiple of this."""

Hidden = Callable[..., Tensor]
"""The model's own `hidden`, perhaps compiled."""


class Objective(Protocol):
    """A way to learn."""

    @property
    def label_smoothing(self) -> float: ...

    @property
    def widths_vary(self) -> bool:
        """Whether batches come in many sizes."""

    @property
    def unit(self) -> str:
        """What is counted: every token that is read is a target, or only some are."""

    def states(self, model: Any, hidden: Hidden, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the head's matrix reads, and the targets: (..., width) and (...)."""

    def check(self, batches: Sequence[Batch]) -> None:
        """Whether the masks of a step's batches do what they are for.

        Raises:
            TrainingError: a mask is empty or all ones, or the model can read off what it is to guess.
        """


def loss_of(objective: Objective, model: Any, hidden: Hidden, batch: Batch) -> Tensor:
    """Sum over the batch's targets, in nats."""
    states, targets = objective.states(model, hidden, batch)
    return cross_entropy_in_chunks(model, states, targets, label_smoothing=objective.label_smoothing)


def objective_name(settings: TrainingSettings, config: ModelConfig) -> str:
    """What `training.objective` comes to for a model of this kind.

    Raises:
        ConfigError: a model of this kind cannot learn so.
    """
    if config.head != "vocabulary":
        raise ConfigError(
            f"model.head is {config.head}, but what is learned here are tokens, which only a head of the vocabulary "
            "says; train the model with head vocabulary first"
        )
    able = FOR_KIND[config.kind]
    if settings.objective == "auto":
        return able[0]
    if settings.objective not in able:
        others = ", ".join(f"{kind} {' or '.join(names)}" for kind, names in FOR_KIND.items())
        raise ConfigError(
            f"training.objective is {settings.objective}, but the model is of the kind {config.kind}, which learns by "
            f"{' or '.join(able)} ({others}). Leave it out, or take another model.shape"
        )
    return settings.objective


def make_objective(settings: TrainingSettings, config: ModelConfig) -> Objective:
    """The objective of a run; see `objective_name`."""
    name = objective_name(settings, config)
    asked = settings.label_smoothing
    smoothing = USUAL_SMOOTHING.get(name, 0.0) if asked is None else asked
    if name == "next-token":
        return NextToken(smoothing)
    return MaskedTokens(smoothing) if name == "masked-tokens" else SequenceToSequence(smoothing)


@dataclass(frozen=True)
class NextToken:
    """A decoder's: the token that follows each."""

    label_smoothing: float = 0.0
    widths_vary: bool = False
    unit: str = "tokens"

    def states(self, model: Any, hidden: Hidden, batch: Batch) -> tuple[Tensor, Tensor]:
        return hidden(batch.ids, documents=batch.documents), batch.targets

    def check(self, batches: Sequence[Batch]) -> None:
        """Any part of a row's tokens may be targets."""


@dataclass(frozen=True)
class MaskedTokens:
    """An encoder's: the tokens that were masked, and no others: the head is computed for them alone."""

    label_smoothing: float = 0.0
    widths_vary: bool = True
    unit: str = "targets"

    def states(self, model: Any, hidden: Hidden, batch: Batch) -> tuple[Tensor, Tensor]:
        vectors = hidden(batch.ids, padding=batch.padding, documents=batch.documents)
        states, targets = _at_targets(vectors, batch.targets)
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
class SequenceToSequence:
    """An encoder-decoder's: each token of the target, from the source and the tokens before it."""

    label_smoothing: float = 0.0
    widths_vary: bool = True
    unit: str = "targets"

    def states(self, model: Any, hidden: Hidden, batch: Batch) -> tuple[Tensor, Tensor]:
        # Padding stands after a target, where nothing that counts looks: the decoder needs no mask for it.
        vectors = hidden(batch.ids, source=batch.source, source_padding=batch.source_padding)
        return _at_targets(vectors, batch.targets)

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


def _at_targets(vectors: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
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
