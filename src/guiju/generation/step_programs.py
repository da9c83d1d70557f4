"""The step in which each of many sequences reads one token, with shapes that come from a short list.

On a GPU, Python starts small kernels more slowly than they run. Here all sequences are attended to at once, over their
slots gathered and filled up to a common length, so that the whole step can be recorded as a CUDA graph when its shape
first comes, and played back from then on. The step itself runs on any device, which is how it is tested.
Axes: B sequences, S slots, K key-value heads, H query heads, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from guiju.errors import ModelError
from guiju.generation.paged_cache import PageStore
from guiju.generation.runner import Chunk
from guiju.model import Attend, AttendMemory, LayerCache, ModelConfig, Transformer

LENGTHS = 256
"""Lengths are filled up to a multiple of this, and numbers of sequences to a power of two."""


def has_programs(config: ModelConfig) -> bool:
    """Whether all that a query sees is the tokens before it, alike in all layers."""
    return config.kind == "decoder" and config.window is None and config.positions != "relative"


class StepPrograms:
    """A program for each shape, made when it first comes."""

    def __init__(self, model: Transformer, store: PageStore) -> None:
        self._model, self._store = model, store
        self._programs: dict[tuple[int, int], _Program] = {}

    def suits(self, chunks: Sequence[Chunk]) -> bool:
        """Whether each sequence reads one token and wants its logits."""
        return all(len(chunk.ids) == chunk.wanted == 1 for chunk in chunks)

    def run(self, chunks: Sequence[Chunk]) -> Tensor:
        """(sequences, vocab) logits."""
        longest = max(chunk.start + 1 for chunk in chunks)
        shape = (1 << (len(chunks) - 1).bit_length(), -(-longest // LENGTHS) * LENGTHS)
        if shape not in self._programs:
            self._programs[shape] = _Program(self._model, self._store, *shape)
        return self._programs[shape].run(chunks)[: len(chunks)]


class _Program:
    """The step for up to `batch` sequences of up to `length` tokens. What it reads lies at fixed places."""

    def __init__(self, model: Transformer, store: PageStore, batch: int, length: int) -> None:
        self.model, self.batch, self.length = model, batch, length
        device = store.device
        self.ids = torch.zeros(1, batch, dtype=torch.long, device=device)
        self.cache = _GatheredCache(
            store,
            places=torch.zeros(1, batch, dtype=torch.long, device=device),
            targets=torch.full((batch,), store.spare, device=device),
            sources=torch.full((batch * length,), store.spare, device=device),
            mask=torch.zeros(batch, 1, 1, length, dtype=torch.bool, device=device),
        )
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits: Tensor | None = None
        if device.type == "cuda":
            self._record(device)

    def run(self, chunks: Sequence[Chunk]) -> Tensor:
        """(batch, vocab) logits; those of rows without a sequence mean nothing."""
        self._fill(chunks)
        if self._graph is None or self._logits is None:
            return self._step()
        self._graph.replay()
        return self._logits

    def _step(self) -> Tensor:
        return self.model.head(self.model.hidden(self.ids, cache=self.cache)[0])

    def _fill(self, chunks: Sequence[Chunk]) -> None:
        cache, size, spare = self.cache, self.cache.store.page_tokens, self.cache.store.spare
        missing = self.batch - len(chunks)
        sources = torch.full((self.batch, self.length), spare)
        mask = torch.zeros(self.batch, 1, 1, self.length, dtype=torch.bool)
        targets = [spare] * self.batch
        for row, chunk in enumerate(chunks):
            end = chunk.start + 1
            pages = torch.tensor(chunk.pages[: -(-end // size)])
            slots = (pages[:, None] * size + torch.arange(size)).flatten()[:end]
            sources[row, :end] = slots
            mask[row, ..., :end] = True
            targets[row] = int(slots[-1])
        mask[len(chunks) :, ..., 0] = True  # a row that sees nothing would divide by nothing
        self.ids.copy_(torch.tensor([[chunk.ids[0] for chunk in chunks] + [0] * missing]))
        cache.places.copy_(torch.tensor([[chunk.start for chunk in chunks] + [0] * missing]))
        cache.targets.copy_(torch.tensor(targets))
        cache.sources.copy_(sources.flatten())
        cache.mask.copy_(mask)

    def _record(self, device: torch.device) -> None:
        """Record the step. What cannot be recorded is run as it is, each time."""
        self.cache.mask[..., 0] = True
        try:
            beside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            beside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(beside):
                for _ in range(2):  # libraries prepare themselves in the first runs
                    self._step()
            torch.cuda.current_stream(device).wait_stream(beside)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._logits = self._step()
            self._graph = graph
        except RuntimeError:
            self._graph = self._logits = None


@dataclass(frozen=True)
class _GatheredCache:
    """See guiju.model.Cache; for ids of shape (1, B)."""

    store: PageStore
    places: Tensor
    """(1, B) positions."""

    targets: Tensor
    """(B,) slots that the new tokens go to."""

    sources: Tensor
    """(B x S,) slots that are read."""

    mask: Tensor
    """(B, 1, 1, S), True where a slot holds one of the sequence's tokens."""

    def require_room(self, tokens: int) -> None:
        assert tokens == self.targets.numel()

    def positions(self, tokens: int) -> Tensor:
        return self.places

    def layer(self, index: int) -> LayerCache:
        return _GatheredLayer(self, self.store.keys[index], self.store.values[index])

    def advance(self, tokens: int) -> None:
        """The engine counts."""


@dataclass(frozen=True)
class _GatheredLayer:
    cache: _GatheredCache
    keys: Tensor  # (1, K, all slots, D)
    values: Tensor  # (1, K, all slots, D)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attend: Attend) -> Tensor:
        cache = self.cache
        self.keys.index_copy_(2, cache.targets, key)
        self.values.index_copy_(2, cache.targets, value)
        mixed = F.scaled_dot_product_attention(
            query[0].transpose(0, 1)[:, :, None],  # (B, H, 1, D)
            self._gather(self.keys),
            self._gather(self.values),
            attn_mask=cache.mask,
            scale=cache.store.config.attention_scale,
            enable_gqa=query.size(1) != key.size(1),
        )
        return mixed[:, :, 0].transpose(0, 1)[None]  # (1, H, B, D)

    def attend_memory(self, query: Tensor, attend: AttendMemory) -> Tensor:
        raise ModelError("a decoder without an encoder has no source text to look at")

    def _gather(self, tensor: Tensor) -> Tensor:
        """(B, K, S, D)"""
        gathered = tensor[0].index_select(1, self.cache.sources)  # (K, B x S, D)
        return gathered.view(gathered.size(0), self.cache.targets.numel(), -1, gathered.size(-1)).transpose(0, 1)
