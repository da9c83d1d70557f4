"""ONNX: one graph of a decoder, an encoder, or an encoder with decoder, which onnxruntime computes with equal logits.

The exporter is torch's own (torch.onnx.export on torch.export, with onnxscript): transformers 5 has none any more, and
optimum, which took it over, knows published models by their names, not ours.

Inputs are called as in transformers, all whole numbers (int64): input_ids and attention_mask (1 where a token is real),
(batch, time); token_type_ids for an encoder with segments; decoder_input_ids (batch, target) beside an encoder. The
output is `logits`, or `last_hidden_state` of an encoder without a head. Batch and times are open.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guiju.errors import ModelError
from guiju.model import AnyModel, Encoder, EncoderDecoder
from guiju.providers.local import LocalModel

FILE = "model.onnx"
_LARGEST_IN_ONE = 1_500_000_000  # bytes; a protobuf message ends at 2 GiB, so larger weights get a file of their own


def write(language_model: LocalModel, folder: Path) -> dict[str, Any]:
    """Fill the folder with model.onnx and the tokenizer.

    Returns:
        inputs and outputs: the graph's, by name.
    """
    inputs, outputs = save_graph(language_model.model, folder / FILE)
    language_model.tokenizer.save(folder)
    return {"inputs": inputs, "outputs": outputs}


def save_graph(model: AnyModel, path: Path) -> tuple[list[str], list[str]]:
    """The graph alone; names of its inputs and outputs.

    Raises:
        ModelError: torch's exporter cannot record the model.
    """
    plan = _plan(model)
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    try:
        with _evaluating(model), _quiet():
            # Recorded apart: torch.onnx.export alone fixes the examples' sizes where it cannot keep them open.
            program = torch.export.export(
                plan.module, tuple(plan.inputs.values()), dynamic_shapes=tuple(plan.axes), strict=False
            )
            torch.onnx.export(
                program,
                f=path,
                input_names=list(plan.inputs),
                output_names=plan.outputs,
                external_data=size > _LARGEST_IN_ONE,
                dynamo=True,
                verbose=False,
            )
    except (torch._dynamo.exc.UserError, torch.onnx.OnnxExporterError) as problem:
        raise ModelError(
            f"torch cannot make an ONNX graph of this model: {str(problem).strip()[:500]}. Take --to huggingface, and "
            f"please report this"
        ) from problem
    return list(plan.inputs), plan.outputs


@dataclass(frozen=True)
class _Plan:
    module: nn.Module
    inputs: dict[str, Tensor]
    """Examples, with which the graph is recorded."""
    axes: list[dict[int, Any]]
    """The open axes of each input."""
    outputs: list[str]


def _plan(model: AnyModel) -> _Plan:
    config = model.config
    limit = None if config.positions == "relative" else config.context
    batch, time, target = (torch.export.Dim(name, max=most) for name, most in _axes(limit))

    def example(length: int) -> Tensor:
        """A tensor of its own: one given twice would become one input."""
        return torch.ones((2, min(length, config.context)), dtype=torch.int64)

    inputs = {"input_ids": example(5), "attention_mask": example(5)}
    axes = [{0: batch, 1: time}, {0: batch, 1: time}]
    if isinstance(model, EncoderDecoder):
        inputs["decoder_input_ids"] = example(3)
        return _Plan(_WithSource(model), inputs, [*axes, {0: batch, 1: target}], ["logits"])
    if not isinstance(model, Encoder):
        return _Plan(_Alone(model), inputs, axes, ["logits"])
    if config.segments > 1:
        inputs["token_type_ids"] = torch.zeros_like(example(5))
        axes.append({0: batch, 1: time})
    return _Plan(_WithSegments(model), inputs, axes, ["last_hidden_state" if config.head == "none" else "logits"])


def _axes(limit: int | None) -> tuple[tuple[str, int | None], ...]:
    return ("batch", None), ("time", limit), ("target", limit)


class _Alone(nn.Module):
    """A decoder, as the graph calls it. The mask is always given: what it says of each place stays open."""

    def __init__(self, model: AnyModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        logits: Tensor = self.model(ids, padding=real.bool())
        return logits


class _WithSegments(nn.Module):
    """An encoder."""

    def __init__(self, model: AnyModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, real: Tensor, segments: Tensor | None = None) -> Tensor:
        result: Tensor = self.model(ids, padding=real.bool(), segments=segments)
        return result


class _WithSource(nn.Module):
    """An encoder with decoder."""

    def __init__(self, model: AnyModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: Tensor, real: Tensor, ids: Tensor) -> Tensor:
        every = torch.ones_like(ids, dtype=torch.bool)
        logits: Tensor = self.model(ids, source=source, source_padding=real.bool(), padding=every)
        return logits


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of itself, and nothing else."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")  # torchvision is not installed
    before = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        registration.setLevel(before)
