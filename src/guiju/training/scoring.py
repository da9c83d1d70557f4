"""How well an encoder guesses masked tokens, and an encoder-decoder its targets, on held-out text: beside counting, and
beside the same model with another text's source.

The rows, their order and what is hidden in them are the same each time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from guiju.errors import ConfigError, DataError
from guiju.model import AnyModel
from guiju.tokens import IGNORED, Batch, Examples, fixed_batches
from guiju.training.objectives import Objective
from guiju.training.token_objectives import Tokens

SEED = 20251201
"""What is hidden from a model in evaluations hangs on this, never on the seed of its training."""
CHUNK_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class TargetScores:
    """Sums over all targets that stand for text; marks, such as the end of a text, are left out."""

    nats: float
    """Of -log p(target)."""
    tokens: int
    bytes: float
    """UTF-8 bytes that the targets stand for."""
    right: int
    """Targets that the model held for likelier than any other token."""

    @property
    def nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    @property
    def accuracy(self) -> float:
        return self.right / self.tokens


def evaluation_batches(examples: Examples, batch: int, max_rows: int | None = None) -> list[Batch]:
    """Held-out rows in batches of like lengths; with `max_rows` so many of them, evenly spread over the data.

    Rows of one length stand in no order of the data's, so that a row's neighbour in its batch is another text.
    """
    return fixed_batches(examples, batch=batch, seed=SEED, max_rows=max_rows)


def with_other_sources(batches: Iterable[Batch]) -> tuple[list[Batch], list[Batch]]:
    """The same targets twice: with their own sources, and each with the source of the row before it in its batch.

    A model that heeds its source must do worse on the second: the control of every claim about what it reads. Batches
    of one row have no other source, and rows whose source is the same text anyway say nothing: both are left out.
    """
    own, others = [], []
    for batch in batches:
        assert batch.source is not None, "only pairs have sources"
        other = batch.source.roll(1, dims=0)
        changed = (other != batch.source).any(dim=1)
        if not changed.any():
            continue
        padding = None if batch.source_padding is None else batch.source_padding.roll(1, dims=0)
        targets = batch.targets.where(changed[:, None], IGNORED)
        own.append(replace(batch, targets=targets))
        others.append(replace(batch, source=other, source_padding=padding, targets=targets))
    return own, others


@torch.no_grad()
def score_targets(
    model: AnyModel, objective: Objective, batches: Iterable[Batch], bytes_per_token: Sequence[float]
) -> TargetScores:
    """What the model makes of the batches' targets. Never smoothed.

    Args:
        bytes_per_token: by id, UTF-8 bytes; a target of 0 bytes is left out.
    Raises:
        DataError: no target stands for text.
        ConfigError: the objective learns no tokens.
    """
    if not isinstance(objective, Tokens):
        raise ConfigError("what is learned here are no tokens, so they cannot be scored; take the task's own measures")
    device = model.embedding.weight.device
    sizes = torch.tensor(bytes_per_token, device=device)
    chunk = max(1, CHUNK_BYTES // (4 * model.config.vocab_size))
    weight, bias = model.head_weights()
    nats, tokens, size, right = 0.0, 0, 0.0, 0
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            made = batch.to(device).without_idle_masks()
            made = replace(made, targets=_text_alone(made, sizes))
            states, targets = objective.states(model, model.hidden, made)
            kept = targets != IGNORED
            states, targets = states[kept], targets[kept]  # (n, width), (n,)
            for start in range(0, len(targets), chunk):
                wanted = targets[start : start + chunk]
                logits = torch.nn.functional.linear(states[start : start + chunk], weight, bias).float()
                nats -= float(logits.log_softmax(dim=-1).gather(1, wanted[:, None]).double().sum())
                right += int((logits.argmax(dim=-1) == wanted).sum())
            tokens += len(targets)
            size += float(sizes[targets].sum(dtype=torch.float64))
    finally:
        model.train(was_training)
    return _checked(TargetScores(nats=nats, tokens=tokens, bytes=size, right=right))


def score_unigram(
    chances: npt.NDArray[np.float64], batches: Iterable[Batch], bytes_per_token: Sequence[float]
) -> TargetScores:
    """The same of a model that knows each token's frequency and nothing else; see `unigram_chances`."""
    sizes = torch.tensor(bytes_per_token)
    wanted = torch.cat([batch.targets[_text_alone(batch, sizes) != IGNORED] for batch in batches]).numpy()
    nats = -float(np.log(chances[wanted]).sum())
    right = int((wanted == int(chances.argmax())).sum())
    return _checked(TargetScores(nats=nats, tokens=len(wanted), bytes=float(sizes.numpy()[wanted].sum()), right=right))


def _text_alone(batch: Batch, sizes: torch.Tensor) -> torch.Tensor:
    """Targets with those that stand for no byte of text left out."""
    kept = (batch.targets != IGNORED) & (sizes[batch.targets.clamp(min=0)] > 0)
    return batch.targets.where(kept, IGNORED)


def _checked(scores: TargetScores) -> TargetScores:
    if not scores.tokens:
        raise DataError("no held-out target stands for a byte of text: each is special; hold out more text")
    return scores
