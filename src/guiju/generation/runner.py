"""What the engine needs of a machine that runs a model: one step over a ragged batch of chunks, the cache in pages.

The engine (who joins, who waits, what is shared, what is drawn) knows this interface alone. Two stand behind it: the
reference runner in plain PyTorch, for any device and with record mode, and OpenVINO's for fast work on a CPU.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from guiju.errors import ConfigError, ModelError
from guiju.generation.settings import Precision, RunnerName, require_known

if TYPE_CHECKING:  # a runner that needs no torch is reached without it
    import torch
    from torch import Tensor

    from guiju.generation.sequence_to_sequence import Source
    from guiju.model import AnyModel, EncoderDecoder, Memory, Transformer

_OPENVINO = "guiju.generation.openvino_runner"
"""Holds `OpenVinoRunner(model, *, precision, pages)` and `suits(model) -> bool`: whether "auto" is to take it."""


@dataclass(frozen=True)
class Chunk:
    """One sequence's part of a step."""

    ids: tuple[int, ...]
    """New tokens, at least one."""

    start: int
    """Tokens of the sequence that its pages hold already."""

    pages: tuple[int, ...]
    """Its page table: token t lies in pages[t // page_tokens], at place t % page_tokens; covers start + len(ids)."""

    wanted: int
    """Logits of how many of the last ids: 0 for a prompt's inner chunk."""

    memory: Memory | Source | None = None
    """Beside an encoder: the source text, as the sequence's decoder reads it."""


class Runner(Protocol):
    """A model on a machine, with room for so many pages of keys and values.

    Pages may be shared between sequences for reading; none is written by two chunks of a step, or read by one chunk
    while another of the same step writes it.
    """

    name: str
    """"torch" or "openvino"; stands in every result."""

    precision: str
    """The weights': "float32", "bfloat16", "int8" or "int4"; stands in every result."""

    arithmetic: str
    """What they are multiplied in: "float32" or "bfloat16"; stands in every result."""

    vocab_size: int
    context: int
    page_tokens: int
    """Tokens that a page holds."""

    pages: int
    """Page numbers run from 0 to pages - 1."""

    rounding: float
    """How far two ways to compute the same logits (several rows at once, or row by row) may lie apart, as a share of
    their greatest magnitude. Speculation decides what lies closer together than this by plain steps."""

    record_chunk: int | None
    """In record mode, logits do not depend on what else is in a step as long as a prompt's chunks end at multiples of
    this or at its end, and later tokens come one by one. None: no such promise."""

    def step(self, chunks: Sequence[Chunk]) -> list[Tensor]:
        """Store the chunks' keys and values in their pages; (wanted, vocab) logits in float32 on the CPU for each."""
        ...

    def copy_page(self, source: int, target: int) -> None:
        """Copy a page, in all layers: before a shared, half-filled one is written."""
        ...


def open_runner(
    model: AnyModel,
    *,
    runner: RunnerName = "auto",
    precision: Precision = "auto",
    record: bool = False,
    pages: int | None = None,
    device: torch.device | str | None = None,
    consume: bool = False,
) -> Runner:
    """A runner for a model.

    Args:
        runner: "auto" takes OpenVINO where the extra is installed, the model is on the CPU, OpenVINO's side says that
            the model suits it, and record mode is off; else torch.
        precision: of the weights; "auto" leaves them as the model has them, in float32 where it may be chosen.
        record: answers are bit for bit the same alone and in any batch.
        pages: how many pages of keys and values; by default as many as a share of the memory holds.
        device: where to compute; by default where the model lies.
        consume: whether a runner that keeps the weights in an order of its own may let the model's go as it takes them
            over: the two never lie in memory together, and nothing else can be done with the model.
    Raises:
        ConfigError: an unknown runner or precision, or two wishes that exclude each other.
        ModelError: the extra is not installed, the memory holds no page, or the model is an encoder alone.
    """
    require_known(runner, precision)
    if model.config.kind == "encoder":
        raise ModelError("the model is an encoder alone: it has no next token, so no runner steps it along")
    kind = str(model.embedding.weight.device if device is None else device)
    if runner == "openvino":
        _require_openvino(kind, record)
    if runner == "openvino" or (runner == "auto" and not record and kind == "cpu" and _suits_openvino(model)):
        fast: Runner = _openvino().OpenVinoRunner(model, precision=precision, pages=pages, consume=consume)
        return fast
    from guiju.generation.torch_runner import TorchRunner

    return TorchRunner(
        cast("Transformer | EncoderDecoder", model), precision=precision, record=record, pages=pages, device=device
    )


def _require_openvino(device: str, record: bool) -> None:
    if record:
        raise ConfigError(
            "runner is openvino with record mode, but only the torch runner gives the same bits alone and in any "
            "batch. Leave out one of them"
        )
    if device != "cpu":
        raise ConfigError(
            f"runner is openvino, but the model is on {device}; it computes on the CPU. Take runner torch"
        )
    if importlib.util.find_spec("openvino") is None:
        raise ModelError("runner is openvino, which is not installed here: pip install 'guiju[cpu]', or take torch")


def _suits_openvino(model: AnyModel) -> bool:
    installed = all(importlib.util.find_spec(name) is not None for name in ("openvino", _OPENVINO))
    return installed and bool(_openvino().suits(model))


def _openvino() -> Any:
    return importlib.import_module(_OPENVINO)  # of an extra, so not at the top
