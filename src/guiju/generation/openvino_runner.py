"""The fast runner: our own model on a CPU through OpenVINO, whose paged attention takes a whole ragged step at once.

Weights are float32, or rounded to bfloat16, to 8 bits with a scale a row, or to 4 bits with a scale a group. With
rounded ones it is computed in bfloat16 where the chip multiplies that, else in float32; keys and values are kept so
too. OpenVINO would choose by itself, and keep keys and values in 8 bits; here it is chosen, and `arithmetic` names it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from guiju.device import give_memory_back, memory_available, threads
from guiju.errors import ConfigError, ModelError
from guiju.generation.openvino_graph import INPUTS, PAGE_TOKENS, cache_name, trace
from guiju.generation.openvino_library import load_openvino, openvino_core
from guiju.generation.openvino_weights import put_weights, split_gelu
from guiju.model import ModelConfig, Transformer

if TYPE_CHECKING:
    from guiju.generation.runner import Chunk

PRECISIONS = ("float32", "bfloat16", "int8", "int4")
_CONTEXTS = 16
"""So many full contexts have room by default, if a quarter of the memory holds them."""

_LONG_S = 2.0
"""From this on, a line on stderr says what takes its time."""

_ROUNDING = {"float32": 5e-5, "bfloat16": 0.1, "int8": 0.1, "int4": 0.1}
"""See Runner.rounding: above what was measured (docs/experiments.md). With 8 and 4 bits, several rows' inputs are
rounded to 8 bits as well, in groups, and a single row's may not be."""


def suits(model: Transformer) -> bool:
    """Whether this runner computes what the model does: a decoder whose scores have no bias by distance."""
    config = model.config
    return isinstance(model, Transformer) and config.positions != "relative"


class OpenVinoRunner:
    """See guiju.generation.runner.Runner."""

    name = "openvino"
    page_tokens = PAGE_TOKENS
    record_chunk: int | None = None

    def __init__(
        self, model: Transformer, *, precision: str = "auto", pages: int | None = None, consume: bool = False
    ) -> None:
        """
        Args:
            precision: of the weights; "auto" is the model's own.
            pages: by default room for 16 contexts, if a quarter of the memory that is left holds them. What no token
                was written to takes no memory.
            consume: see guiju.generation.open_runner.
        Raises:
            ConfigError: no such precision.
            ModelError: the extra is not installed, or the model computes what this runner does not.
        """
        if not suits(model):
            raise ModelError(
                "the fast runner computes decoders without a bias by distance, which this model is not; take runner "
                "torch"
            )
        self.precision = _precision(model, precision)
        self.arithmetic = "float32" if self.precision == "float32" or not multiplies_bfloat16() else "bfloat16"
        """What is computed in, and what keys and values are kept in."""
        self.config = config = model.config
        self.vocab_size, self.context = config.vocab_size, config.context
        self.rounding = _ROUNDING[self.precision]
        self.pages = _default_pages(config, self._value_bytes) if pages is None else pages
        started = time.perf_counter()
        self._request = self._compiled(model, consume).create_infer_request()
        self._inputs: dict[str, np.ndarray[Any, Any]] = {}
        self._held = self._take_pages()
        self._warm_up()
        took = time.perf_counter() - started
        if took > _LONG_S:
            print(f"fast runner: {self.precision} weights made ready in {took:.0f} s", file=sys.stderr)

    def step(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """See Runner.step."""
        wanted = [chunk.wanted for chunk in chunks]
        logits = self._run(chunks)  # (sum of wanted, vocab)
        if not any(wanted):
            return [torch.empty(0, self.vocab_size) for _ in chunks]
        return list(torch.split(logits, wanted))

    def copy_page(self, source: int, target: int) -> None:
        """See Runner.copy_page."""
        for array in self._held:
            array[target] = array[source]

    @property
    def _value_bytes(self) -> int:
        return 4 if self.arithmetic == "float32" else 2

    def _compiled(self, model: Transformer, consume: bool) -> Any:
        short = "f32" if self.arithmetic == "float32" else "bf16"
        graph, twin = trace(model, short, min(self.context, self.pages * PAGE_TOKENS))
        weights = put_weights(graph, twin, model, self.precision, consume)
        if self.arithmetic == "float32":
            split_gelu(graph)
        settings = {
            "INFERENCE_PRECISION_HINT": short,
            "KV_CACHE_PRECISION": short,
            "INFERENCE_NUM_THREADS": threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # two programs would be pinned to the same first processors
        }
        self._weights = weights
        with weights.kept_small():
            return openvino_core().compile_model(graph, "CPU", settings)

    def _take_pages(self) -> list[np.ndarray[Any, Any]]:
        """The pages of each layer's keys and values; zeros that are not written yet take no memory."""
        openvino = load_openvino()
        config = self.config
        shape = (self.pages, config.kv_heads, PAGE_TOKENS, config.head_width)
        kind = openvino.Type.f32 if self.arithmetic == "float32" else openvino.Type.bf16
        held = []
        for layer in range(config.layers):
            for name in ("keys", "values"):
                array = np.zeros(shape, dtype=np.float32 if self.arithmetic == "float32" else np.uint16)
                self._request.set_tensor(
                    cache_name(name, layer), openvino.Tensor(array, openvino.Shape(list(shape)), kind)
                )
                held.append(array)
        return held

    def _warm_up(self) -> None:
        """Matrices are brought into the kernels' order when they are first used; that is not to be a user's wait."""
        from guiju.generation.runner import Chunk

        with self._weights.kept_small():
            for count in (1, min(4, self.context)):
                self._run([Chunk((0,) * count, 0, (0,), 1)])
        give_memory_back()

    def _run(self, chunks: Sequence[Chunk]) -> Tensor:
        """(sum of wanted, vocab) logits; a step in which none are wanted gives one row, which means nothing."""
        ends = list(accumulate(len(chunk.ids) for chunk in chunks))
        tables = [chunk.pages[: -(-(chunk.start + len(chunk.ids)) // PAGE_TOKENS)] for chunk in chunks]
        rows = [row for chunk, end in zip(chunks, ends, strict=True) for row in range(end - chunk.wanted, end)]
        positions = [range(chunk.start, chunk.start + len(chunk.ids)) for chunk in chunks]
        whole, short = np.int64, np.int32
        arrays: dict[str, np.ndarray[Any, Any]] = {
            "ids": np.array([[token for chunk in chunks for token in chunk.ids]], whole),
            "positions": np.array([place for places in positions for place in places], whole),
            "wanted": np.array(rows or [0], whole),
            "past": np.array([chunk.start for chunk in chunks], short),
            "begins": np.array([0, *ends], short),
            "pages": np.array([page for table in tables for page in table], short),
            "page_begins": np.array([0, *accumulate(map(len, tables))], short),
            "longest": np.array(max(chunk.start + len(chunk.ids) for chunk in chunks), short),
        }
        for name in INPUTS:
            self._give(name, arrays[name])
        self._request.infer(share_outputs=True)  # the usual way copies all outputs into a dictionary
        return torch.from_numpy(self._request.get_output_tensor(0).data.copy())

    def _give(self, name: str, array: np.ndarray[Any, Any]) -> None:
        """Set an input; one of the same shape as before is written where that lies, which costs a tenth."""
        held = self._inputs.get(name)
        if held is not None and held.shape == array.shape:
            held[...] = array
            return
        self._inputs[name] = array
        self._request.set_tensor(name, load_openvino().Tensor(array, shared_memory=True))


@cache
def multiplies_bfloat16() -> bool:
    """Whether the chip multiplies bfloat16 numbers itself; elsewhere float32 is faster."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _precision(model: Transformer, wanted: str) -> str:
    if wanted == "auto":
        return "bfloat16" if model.embedding.weight.dtype == torch.bfloat16 else "float32"
    if wanted not in PRECISIONS:
        raise ConfigError(f"precision is {wanted!r}; the fast runner has auto, {', '.join(PRECISIONS)}")
    return wanted


def _default_pages(config: ModelConfig, value_bytes: int) -> int:
    size = 2 * config.layers * config.kv_heads * PAGE_TOKENS * config.head_width * value_bytes
    held = memory_available() // 4 // size
    if held < 1:
        raise ModelError(
            f"a page of {PAGE_TOKENS} tokens takes {size / 2**20:.1f} MiB, and the machine has no quarter of its "
            f"memory left for one. End other programs, or take a smaller model"
        )
    return min(held, _CONTEXTS * -(-config.context // PAGE_TOKENS))
