"""Keys and values in pages, as the model's attention reads and writes them in one step over several sequences.

The step's tokens stand in one row, sequence after sequence: products of matrices see them all at once, attention each
sequence alone. A sequence whose pages lie beside each other is read where it lies, without copying.
Axes: K key-value heads, H query heads, N new tokens of all sequences, S tokens of one sequence, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from guiju.errors import ModelError
from guiju.generation.runner import Chunk
from guiju.model import Attend, AttendMemory, LayerCache, ModelConfig


class PageStore:
    """Room for `pages` pages, taken once."""

    def __init__(
        self, config: ModelConfig, pages: int, page_tokens: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (config.layers, 1, config.kv_heads, (pages + 1) * page_tokens, config.head_width)
        self.config = config
        self.pages = pages
        self.page_tokens = page_tokens
        self.device = device
        try:
            keys, values = (torch.empty(shape, device=device, dtype=dtype) for _ in range(2))
        except RuntimeError as problem:  # torch's allocators say so, of whatever kind the device is
            size = pages * page_bytes(config, page_tokens, dtype)
            raise ModelError(
                f"{pages} pages of keys and values take {size / 2**30:.1f} GiB, which {device} does not have "
                f"({problem}). Ask for fewer pages"
            ) from None
        self.keys = list(keys.unbind())
        """A (1, K, slots, D) for each layer."""
        self.values = list(values.unbind())
        self.spare = pages * page_tokens
        """A slot that no page has, where what means nothing can go. It holds numbers: 0 x NaN would spoil a sum."""
        for tensor in (*self.keys, *self.values):
            tensor[:, :, self.spare :].zero_()

    def copy_page(self, source: int, target: int) -> None:
        """Copy a page in all layers."""
        size = self.page_tokens
        for tensor in (*self.keys, *self.values):
            tensor.narrow(2, target * size, size).copy_(tensor.narrow(2, source * size, size))


def page_bytes(config: ModelConfig, page_tokens: int, dtype: torch.dtype) -> int:
    """What one page takes."""
    return 2 * config.layers * config.kv_heads * page_tokens * config.head_width * dtype.itemsize


@dataclass(frozen=True)
class _Span:
    """Where one sequence of a step lies: its tokens in the row, and its slots in the store."""

    first: int
    tokens: int
    runs: tuple[tuple[int, int], ...]
    """(first slot, slots) of stretches that lie beside each other, for all of the sequence's tokens."""


class PagedCache:
    """One step's view of a store: `Transformer.hidden` takes it for ids of shape (1, N)."""

    def __init__(self, store: PageStore, chunks: Sequence[Chunk], compact: bool) -> None:
        """`compact`: always attend to a copy without gaps, so that where pages lie cannot touch a bit."""
        self.store = store
        self.chunks = chunks
        self.compact = compact
        self.spans: list[_Span] = []
        slots: list[int] = []
        first, size = 0, store.page_tokens
        for chunk in chunks:
            end = chunk.start + len(chunk.ids)
            self.spans.append(_Span(first, len(chunk.ids), _runs(chunk.pages, end, size)))
            slots += [chunk.pages[place // size] * size + place % size for place in range(chunk.start, end)]
            first += len(chunk.ids)
        consecutive = slots[-1] - slots[0] == len(slots) - 1 and len(chunks) == 1
        self.first_slot = slots[0]
        self.slots = None if consecutive else torch.tensor(slots, device=store.device)
        """Where the new tokens go; None where they lie beside each other from `first_slot` on."""

    def require_room(self, tokens: int) -> None:
        assert tokens == sum(span.tokens for span in self.spans)

    def positions(self, tokens: int) -> Tensor:
        """(N,) for one sequence, (1, N) for several."""
        if len(self.chunks) == 1:
            start = self.chunks[0].start
            return torch.arange(start, start + tokens, device=self.store.device)
        places = [place for chunk in self.chunks for place in range(chunk.start, chunk.start + len(chunk.ids))]
        return torch.tensor([places], device=self.store.device)

    def layer(self, index: int) -> LayerCache:
        return _PagedLayer(self, index)

    def advance(self, tokens: int) -> None:
        """The engine counts."""


@dataclass(frozen=True)
class _PagedLayer:
    cache: PagedCache
    index: int

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attend: Attend) -> Tensor:
        cache = self.cache
        keys, values = cache.store.keys[self.index], cache.store.values[self.index]
        if cache.slots is None:
            keys.narrow(2, cache.first_slot, key.size(2)).copy_(key)
            values.narrow(2, cache.first_slot, key.size(2)).copy_(value)
        else:
            keys.index_copy_(2, cache.slots, key)
            values.index_copy_(2, cache.slots, value)
        if len(cache.spans) == 1:
            runs = cache.spans[0].runs
            return attend(query, self._read(keys, runs), self._read(values, runs))
        mixed = [
            attend(query.narrow(2, span.first, span.tokens), self._read(keys, span.runs), self._read(values, span.runs))
            for span in cache.spans
        ]
        return torch.cat(mixed, dim=2)  # (1, H, N, D)

    def attend_memory(self, query: Tensor, attend: AttendMemory) -> Tensor:
        mixed = []
        for chunk, span in zip(self.cache.chunks, self.cache.spans, strict=True):
            if chunk.memory is None:
                raise ModelError("a sequence came without the memory of its source text, which this model reads")
            source = chunk.memory.layer(self.index)
            mixed.append(source.attend_memory(query.narrow(2, span.first, span.tokens), attend))
        return torch.cat(mixed, dim=2)  # (1, H, N, D)

    def _read(self, tensor: Tensor, runs: tuple[tuple[int, int], ...]) -> Tensor:
        """(1, K, S, D) of one sequence."""
        if len(runs) == 1:
            view = tensor.narrow(2, *runs[0])
            return view.contiguous() if self.cache.compact else view
        return torch.cat([tensor.narrow(2, *run) for run in runs], dim=2)


def _runs(pages: Sequence[int], end: int, size: int) -> tuple[tuple[int, int], ...]:
    """The slots of a sequence's first `end` tokens, as stretches that lie beside each other."""
    runs: list[tuple[int, int]] = []
    for place in range(-(-end // size)):
        first, held = pages[place] * size, min(size, end - place * size)
        if runs and sum(runs[-1]) == first:
            runs[-1] = (runs[-1][0], runs[-1][1] + held)
        else:
            runs.append((first, held))
    return tuple(runs)
