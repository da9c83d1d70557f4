"""The reference runner: plain PyTorch, on any device, with hooks and record mode.

What depends on the kind of device stands in `guiju.device` and, for a GPU's decoding, in `step_programs`.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from guiju.device import float32_library, float32_products, give_memory_back, memory_available
from guiju.errors import ModelError
from guiju.generation.paged_cache import PagedCache, PageStore, page_bytes
from guiju.generation.runner import Chunk
from guiju.generation.step_programs import StepPrograms, has_programs
from guiju.model import EncoderDecoder, Hooks, Memory, ModelConfig, Transformer, quantize

PAGE_TOKENS = 16
RECORD_CHUNK = 64
"""Tokens of a prompt that are computed at once in record mode: enough for fast products. A part of the promise: another
number gives other bits."""

_CONTEXTS = 16
"""So many full contexts have room by default, if a quarter of the memory holds them."""

_LARGE_BYTES = 1 << 22

_ROUNDING = {"float64": 1e-12, "float32": 1e-5, "float16": 8e-3, "bfloat16": 6e-2, "int8": 6e-2, "int4": 6e-2}
"""See Runner.rounding, by precision. Measured, the greatest over models and numbers of rows: 2e-6 in float32, 2e-2 in
bfloat16, in which products with 8 and 4 bits are computed too."""


class TorchRunner:
    """A Transformer on its device.

    In record mode each sequence is computed alone, its prompt in chunks of RECORD_CHUNK tokens from its beginning on
    and then token by token, over a copy of its keys and values without gaps: whatever else is in the step, and wherever
    its pages lie, every product has the same shape and the same numbers.
    """

    name = "torch"

    def __init__(
        self,
        model: Transformer | EncoderDecoder,
        *,
        precision: str = "auto",
        record: bool = False,
        pages: int | None = None,
        page_tokens: int = PAGE_TOKENS,
        device: torch.device | str | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        """
        Args:
            precision: "auto" leaves the weights as they are; see guiju.model.quantize for those that change them.
            pages: by default room for 16 contexts, if a quarter of the memory that is left holds them.
            hooks: see guiju.model.hooks; tensors have the shape (1, N, ...) with all tokens of a step in one row.
        """
        self.model, self.precision = _prepared(model, precision, device)
        config, weight = self.model.config, self.model.embedding.weight
        self.config = config
        self.vocab_size, self.context = config.vocab_size, config.context
        self.page_tokens = page_tokens
        self.device = weight.device
        self.pages = _default_pages(config, page_tokens, weight.device, weight.dtype) if pages is None else pages
        self.store = PageStore(config, self.pages, page_tokens, weight.device, weight.dtype)
        by_kernel = self.precision in ("int8", "int4") and weight.device.type == "cpu"  # which multiplies in bfloat16
        self.arithmetic = "bfloat16" if by_kernel else str(weight.dtype).removeprefix("torch.")
        self.rounding = _ROUNDING[self.precision]
        self.record_chunk = RECORD_CHUNK if record else None
        self._hooks = hooks
        self._modules = list(self.model.modules())  # asked in each step, and slow to find
        self._library = float32_library(weight.device)
        if self._library == "onednn" and not any(module.training for module in self._modules):
            lay_by_input(self.model)
        self._programs: StepPrograms | None = None
        if self.device.type == "cuda" and not record and hooks is None and has_programs(config):
            assert isinstance(self.model, Transformer)
            self._programs = StepPrograms(self.model, self.store)

    def step(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """See Runner.step."""
        with evaluating(self._modules), float32_products(self._library):
            if self.record_chunk is None:
                return self._together(chunks)
            return [self._alone(chunk, self.record_chunk) for chunk in chunks]

    def remember(self, source: Sequence[int]) -> Memory:
        """What the decoder reads of a source text; for a model that has an encoder."""
        assert isinstance(self.model, EncoderDecoder)
        with evaluating(self._modules), float32_products(self._library):
            return self.model.remember(torch.tensor([list(source)], device=self.device))

    def copy_page(self, source: int, target: int) -> None:
        """See Runner.copy_page."""
        with torch.inference_mode():
            self.store.copy_page(source, target)

    def _together(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """All chunks in one row."""
        if self._programs is not None and self._programs.suits(chunks):
            return list(torch.split(self._programs.run(chunks).float().cpu(), 1))
        ids = torch.tensor([[token for chunk in chunks for token in chunk.ids]], device=self.device)  # (1, N)
        cache = PagedCache(self.store, chunks, compact=self.record_chunk is not None)
        hidden = self.model.hidden(ids, cache=cache, hooks=self._hooks)[0]  # (N, width)
        ends = itertools.accumulate(len(chunk.ids) for chunk in chunks)
        rows = [row for chunk, end in zip(chunks, ends, strict=True) for row in range(end - chunk.wanted, end)]
        if not rows:
            return [torch.empty(0, self.vocab_size) for _ in chunks]
        # A vocabulary's worth of numbers for a position is only computed where it is wanted.
        chosen = hidden if len(rows) == len(hidden) else hidden[rows[0] : rows[-1] + 1]
        if len(rows) < len(chosen):
            chosen = hidden[rows]
        logits = self.model.head(chosen).float().cpu()  # (rows, vocab)
        return list(torch.split(logits, [chunk.wanted for chunk in chunks]))

    def _alone(self, chunk: Chunk, size: int) -> Tensor:
        """One chunk, cut where a sequence is always cut."""
        assert chunk.wanted <= 1
        start, end = chunk.start, chunk.start + len(chunk.ids)
        while end - start > size - start % size:
            border = start + size - start % size
            self._together([Chunk(chunk.ids[start - chunk.start : border - chunk.start], start, chunk.pages, 0)])
            start = border
        last = replace(chunk, ids=chunk.ids[start - chunk.start :], start=start)
        return self._together([last])[0]


def lay_by_input(model: Transformer | EncoderDecoder) -> None:
    """Let each float32 matrix lie in memory input by input, as oneDNN reads it 1.1 to 1.9 times as fast for few rows
    (docs/experiments.md). Its shape and values stay, and so does what is saved of it."""
    matrices = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    for weight in [model.head_weights()[0], *matrices]:
        if weight.dtype == torch.float32 and not weight.t().is_contiguous():
            weight.data = weight.data.t().contiguous().t()
            if weight.nbytes >= _LARGE_BYTES:
                give_memory_back()  # or the heap keeps a hole for each


@contextmanager
def evaluating(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Without dropout and gradients; all of a model's modules are left as they were."""
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def _prepared(
    model: Transformer | EncoderDecoder, precision: str, device: torch.device | str | None
) -> tuple[Transformer | EncoderDecoder, str]:
    """The model in a precision on a device, and the precision's name; the given one is left as it is."""
    weight = model.embedding.weight
    own = str(weight.dtype).removeprefix("torch.")
    if precision not in ("auto", own):
        if precision in ("float32", "bfloat16"):
            model = copy.deepcopy(model).to(getattr(torch, precision))
        else:
            model = quantize(model, precision)
    if device is not None and torch.device(device) != weight.device:
        model = copy.deepcopy(model).to(device)
    return model, own if precision == "auto" else precision


def _default_pages(config: ModelConfig, page_tokens: int, device: torch.device, dtype: torch.dtype) -> int:
    size = page_bytes(config, page_tokens, dtype)
    held = memory_available(device) // 4 // size
    if held < 1:
        raise ModelError(
            f"a page of {page_tokens} tokens takes {size / 2**20:.1f} MiB, and {device} has no quarter of its memory "
            f"left for one. End other programs, or take a smaller model"
        )
    return min(held, _CONTEXTS * -(-config.context // page_tokens))
