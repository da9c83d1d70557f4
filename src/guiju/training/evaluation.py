"""How well a model predicts held-out text, in bits per byte: a loss that compares across tokenizers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from guiju.errors import DataError
from guiju.model import Transformer
from guiju.tokens import IGNORED, Batch, TokenData, read_rows, row_count

CHUNK_BYTES = 64 << 20


@torch.no_grad()
def evaluate_bits_per_byte(
    model: Transformer,
    data: TokenData,
    bytes_per_token: Sequence[float],
    *,
    context: int,
    batch: int = 8,
    max_rows: int | None = None,
) -> float:
    """Bits the model spends on a byte of the data's text, each token predicted once from what its row holds before it.

    Args:
        bytes_per_token: by id, UTF-8 bytes; a target of 0 bytes (end-of-text) is left out. Of a vocabulary that changes
            texts, the sizes that `TokenData.byte_sizes` gives.
        max_rows: evaluate this many rows only, evenly spread; the same ones each time.
    Returns:
        Bits per byte, 0 or more; less is better.
    Raises:
        DataError: no target stands for a byte, so there is no mean to take.
    Source: Gao et al. 2020, The Pile (arXiv:2101.00027).
    """
    device = model.embedding.weight.device
    sizes = torch.tensor(bytes_per_token, device=device)
    nats, count = 0.0, 0.0
    was_training = model.training
    model.eval()
    try:
        for rows in _batches(data, context, batch, max_rows):
            made = rows.to(device)
            hidden = model.hidden(made.ids, documents=made.documents)
            wanted = (made.targets != IGNORED) & (sizes[made.targets.clamp(min=0)] > 0)  # (B, T)
            targets = made.targets[wanted]
            nats += _sum_nats(model, hidden[wanted], targets)
            count += float(sizes[targets].sum(dtype=torch.float64))
    finally:
        model.train(was_training)
    if count == 0:
        raise DataError("no held-out target stands for a byte of text: each is special; hold out more text")
    return nats / count / math.log(2)


def _batches(data: TokenData, context: int, batch: int, max_rows: int | None) -> Iterator[Batch]:
    total = row_count(data, context)
    taken = total if max_rows is None else min(max_rows, total)
    rows = [number * total // taken for number in range(taken)]
    for start in range(0, taken, batch):
        yield read_rows(data, rows[start : start + batch], context)


def _sum_nats(model: Transformer, hidden: Tensor, targets: Tensor) -> float:
    """Sum of -log p over (n, D) hidden states and (n,) targets, a chunk of the vocabulary's logits at a time."""
    chunk = max(1, CHUNK_BYTES // (4 * model.config.vocab_size))
    total = 0.0
    for start in range(0, len(targets), chunk):
        logs = model.head(hidden[start : start + chunk]).float().log_softmax(dim=-1)
        total -= float(logs.gather(1, targets[start : start + chunk, None]).double().sum())
    return total
