"""How likely texts are beside their sources, by a model that has an encoder: padded batches of like lengths.

Axes: B rows, M source tokens, T target tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from guiju.device import float32_library, float32_products
from guiju.errors import DataError
from guiju.generation.scoring import ContinuationScore, require_continuation
from guiju.generation.sequence_to_sequence import first_ids, source_of
from guiju.generation.shared_reading import judge
from guiju.generation.torch_runner import evaluating
from guiju.model import EncoderDecoder
from guiju.tokens import Tokenizer

_BATCH_TOKENS = 2048
_HELD = 8
_LOGITS_BYTES = 64 << 20


@dataclass(frozen=True)
class _Pair:
    source: tuple[int, ...]
    target: tuple[int, ...]
    """With what the decoder begins with in front."""

    first: int
    """Place of the first id that counts."""

    @property
    def tokens(self) -> int:
        return len(self.source) + len(self.target)


def score_beside_sources(
    model: EncoderDecoder, tokenizer: Tokenizer, pairs: Iterable[tuple[str, str]]
) -> Iterator[ContinuationScore]:
    """See guiju.generation.score_continuations."""
    start = first_ids(model, tokenizer)
    waiting: list[_Pair] = []
    for number, (source, target) in enumerate(pairs):
        ids = tokenizer.target.encode(target)
        require_continuation(number, ids)
        if len(start) + len(ids) - 1 > model.config.context:
            raise DataError(
                f"the continuation of pair {number} has {len(ids)} tokens, but the model's context is "
                f"{model.config.context}. Shorten it, or take a model with a longer one"
            )
        waiting.append(_Pair(source_of(model, tokenizer, source).ids, (*start, *ids), len(start)))
        if sum(pair.tokens for pair in waiting) >= _HELD * _BATCH_TOKENS:
            yield from _read(model, waiting)
            waiting = []
    yield from _read(model, waiting)


def _read(model: EncoderDecoder, pairs: Sequence[_Pair]) -> list[ContinuationScore]:
    numbers = sorted(range(len(pairs)), key=lambda number: (len(pairs[number].source), len(pairs[number].target)))
    found: dict[int, ContinuationScore] = {}
    device = model.embedding.weight.device
    with evaluating(list(model.modules())), float32_products(float32_library(device)):
        while numbers:
            count = 1
            while count < len(numbers) and (count + 1) * pairs[numbers[count]].tokens <= _BATCH_TOKENS:
                count += 1
            batch, numbers = numbers[:count], numbers[count:]
            found.update(zip(batch, _read_batch(model, [pairs[number] for number in batch], device), strict=True))
    return [found[number] for number in range(len(pairs))]


def _read_batch(model: EncoderDecoder, pairs: Sequence[_Pair], device: torch.device) -> list[ContinuationScore]:
    source, real = _padded([pair.source for pair in pairs], device)  # (B, M)
    target, _ = _padded([pair.target for pair in pairs], device)  # (B, T); what fills it up stands behind
    hidden = model.hidden(target[:, :-1], source=source, source_padding=real)  # (B, T - 1, width)
    rows = max(1, _LOGITS_BYTES // (4 * model.config.vocab_size))
    scores = []
    for row, pair in enumerate(pairs):
        wanted = target[row, pair.first : len(pair.target)]
        states = hidden[row, pair.first - 1 : len(pair.target) - 1]
        nats, greedy = 0.0, True
        for part in range(0, len(wanted), rows):
            logits = model.head(states[part : part + rows]).float()
            found, hits = judge(logits, wanted[part : part + rows])
            nats += float(found.double().sum())
            greedy = greedy and bool(hits.all())
        scores.append(ContinuationScore(nats, len(wanted), greedy))
    return scores


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """(B, longest) ids, and which of them are real."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
    real = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows], device=device)
    return ids, real
