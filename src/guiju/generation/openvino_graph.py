"""Our Transformer as a graph of OpenVINO's: traced through the model's own code, its cache in pages.

The model asks its cache to attend (guiju.model.cache), so a cache that stands for OpenVINO's paged attention turns the
model, as it is, into a graph over a ragged step: all sequences' new tokens in one row, each with its page table.
Axes: N new tokens of a step, B sequences, P pages, H query heads, K key-value heads, D head width.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from guiju.errors import ModelError
from guiju.generation.openvino_library import load_openvino, openvino_core
from guiju.model import Attend, AttendMemory, LayerCache, ModelConfig, Transformer

PAGE_TOKENS = 32
"""Tokens of a page, as OpenVINO's CPU kernels want them."""

INPUTS = ("ids", "positions", "wanted", "past", "begins", "pages", "page_begins", "longest")
"""(1, N) ids; (N,) their positions; the rows whose logits are wanted; (B,) tokens held already; (B + 1,) where each
sequence's tokens begin; all page tables in one row; (B + 1,) where each table begins; () the longest sequence."""

_SHAPES = {"ids": [1, -1], "longest": []}
_OPERATION = "guiju::paged_attention"


def cache_name(kind: str, layer: int) -> str:
    """The graph's input that holds a layer's "keys" or "values", (P, K, PAGE_TOKENS, D)."""
    return f"{kind}.{layer}"


def trace(model: Transformer, cache_type: str, places: int) -> tuple[Any, Transformer]:
    """The graph of a model, and the stand-in that was traced: its matrices hold nothing yet.

    The graph's constants lie in the stand-in's memory, by which each is known again when its weights are put in. Where
    no number is written, that memory takes no room, however large the model.

    Args:
        cache_type: OpenVINO's name of the keys' and values' type: "f32" or "bf16".
        places: positions run from 0 to places - 1.
    """
    openvino = load_openvino()
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch import ConversionExtension, ModuleExtension
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    config = model.config
    twin = _stand_in(model)
    step = _Step(twin)
    replaced = ModuleExtension(_PagedAttention, _OPERATION, evaluate=lambda module, query, *rest: query.clone())
    frontend = FrontEndManager().load_by_framework("pytorch")
    frontend.add_extension(ConversionExtension(_OPERATION, lambda context: _paged_attention(context, config)))
    with _tracing(), torch.no_grad():
        decoder = TorchScriptPythonDecoder(
            step,
            example_input=_example(config),
            module_extensions={_PagedAttention: replaced},
            trace_kwargs={"check_trace": False},
        )
        graph = frontend.convert(frontend.load(decoder))
    names = [*INPUTS, *(cache_name(kind, layer) for layer in range(config.layers) for kind in ("keys", "values"))]
    for port, name in zip(graph.inputs, names, strict=True):
        held = [-1, config.kv_heads, PAGE_TOKENS, config.head_width]
        port.get_tensor().set_names({name})
        port.get_node().set_partial_shape(openvino.PartialShape(_SHAPES.get(name, [-1]) if name in INPUTS else held))
        if name not in INPUTS:
            port.get_node().set_element_type(getattr(openvino.Type, cache_type))
    _tabulate_waves(graph, places)
    graph.validate_nodes_and_infer_types()
    return graph, twin


def _tabulate_waves(graph: Any, places: int) -> None:
    """Sines and cosines of positions, computed in float32 once for all places, instead of in each step.

    In a step they would be computed in the graph's precision, and bfloat16 cannot tell one far position's angle from
    the next: stories260K's loss rises by 14 % so, and by 0.02 % with tables.
    """
    openvino = load_openvino()
    operations = openvino.opset13
    positions = next(port.get_node() for port in graph.inputs if "positions" in port.get_names())
    known = {positions.get_name(): True}

    def depends_on_positions_alone(node: Any) -> bool:
        name = node.get_name()
        if name not in known:
            sources = [port.get_node() for port in node.input_values()]
            known[name] = node.get_type_name() != "Parameter" and all(map(depends_on_positions_alone, sources))
        return known[name]

    ordered = graph.get_ordered_ops()
    for node in ordered:  # from the inputs on, so that no chain of calls is long
        depends_on_positions_alone(node)
    waves = [node for node in ordered if node.get_type_name() in ("Sin", "Cos") and known[node.get_name()]]
    if not waves:
        return
    part = openvino.Model([node.output(0) for node in waves], [positions], "waves").clone()
    compiled = openvino_core().compile_model(part, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    tables = compiled([np.arange(places)])
    for node, port in zip(waves, compiled.outputs, strict=True):
        table = operations.constant(tables[port].copy())  # (places, ...)
        row = operations.gather(table, positions, operations.constant(0))
        for target in list(node.output(0).get_target_inputs()):
            target.replace_source_output(row.output(0))


class _Step(nn.Module):
    """One step of the model over pages, as it is traced."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model
        config = model.config
        self.attention = _PagedAttention()
        scale = config.head_width**-0.5 if config.attention_scale is None else config.attention_scale
        self.scale = torch.tensor(scale, dtype=torch.float32)
        windows = [
            0 if config.window is None or layer < config.window_from else config.window
            for layer in range(config.layers)
        ]
        self.windows = [torch.tensor(window, dtype=torch.int32) for window in windows]

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        wanted: Tensor,
        past: Tensor,
        begins: Tensor,
        pages: Tensor,
        page_begins: Tensor,
        longest: Tensor,
        *held: Tensor,
    ) -> Tensor:
        """(wanted, vocab) logits."""
        cache = _TracedCache(self, positions, (past, begins, pages, page_begins, longest), held)
        hidden = self.model.hidden(ids, cache)  # (1, N, width)
        logits: Tensor = self.model.head(hidden.squeeze(0).index_select(0, wanted))
        return logits


class _PagedAttention(nn.Module):
    """Stands for OpenVINO's operation in the trace."""

    def forward(self, query: Tensor, *rest: Tensor) -> Tensor:
        raise AssertionError("is replaced while it is traced")


class _TracedCache:
    """A cache whose pages are the graph's inputs."""

    def __init__(self, step: _Step, positions: Tensor, tables: tuple[Tensor, ...], held: tuple[Tensor, ...]) -> None:
        self._step, self._positions, self._tables, self._held = step, positions, tables, held

    def require_room(self, tokens: int) -> None:
        """The engine has seen to it."""

    def positions(self, tokens: int) -> Tensor:
        return self._positions

    def layer(self, index: int) -> LayerCache:
        return _TracedLayer(self._step, index, self._tables, self._held[2 * index : 2 * index + 2])

    def advance(self, tokens: int) -> None:
        """Its pages are written by the operation itself."""


class _TracedLayer:
    def __init__(self, step: _Step, index: int, tables: tuple[Tensor, ...], held: tuple[Tensor, ...]) -> None:
        self._step, self._index, self._tables, self._held = step, index, tables, held

    def attend(self, query: Tensor, key: Tensor, value: Tensor, attend: Attend) -> Tensor:
        """(1, n, N, D) each -> (1, H, N, D). `attend` says what torch would compute; scale and window say the same."""
        step = self._step
        rows = [heads.transpose(1, 2).reshape(-1, heads.size(1) * heads.size(3)) for heads in (query, key, value)]
        mixed = step.attention(*rows, *self._held, *self._tables, step.scale, step.windows[self._index])  # (N, H * D)
        return mixed.view(1, -1, query.size(1), query.size(3)).transpose(1, 2)  # type: ignore[no-any-return]

    def attend_memory(self, query: Tensor, attend: AttendMemory) -> Tensor:
        raise AssertionError("a decoder alone has no source text")


def _paged_attention(context: Any, config: ModelConfig) -> list[Any]:
    """The traced placeholder as OpenVINO's operation, whose other inputs, for features that are not used, are empty."""
    openvino = load_openvino()
    from openvino.op import _PagedAttentionExtension

    def empty(kind: str) -> Any:
        return openvino.opset13.constant(np.zeros(0, dtype=kind)).output(0)

    def zero() -> Any:
        return openvino.opset13.constant(np.int32(0)).output(0)

    query, key, value, keys, values, past, begins, pages, page_begins, longest, scale, window = (
        context.get_input(index) for index in range(12)
    )
    slopes, aggregation = empty("float32"), empty("int32")
    rotation = [empty("int32"), empty("int32"), empty("float32")]
    sparse = [empty("float32"), zero(), zero()]
    sinks = empty("float32")
    eviction = [zero(), empty("int32"), empty("int32"), empty("int32")]
    kinds, tree = empty("int32"), [empty("uint8"), empty("int32")]
    inputs = [query, key, value, keys, values, past, begins, pages, page_begins, scale, window, slopes, longest]
    inputs += [aggregation, *rotation, *sparse, sinks, *eviction, kinds, *tree]
    try:
        operation = _PagedAttentionExtension(inputs)
    except RuntimeError as problem:
        raise ModelError(
            f"this OpenVINO ({openvino.get_version()}) has another paged attention than guiju knows: "
            f"{str(problem).splitlines()[-1]}. Install openvino 2026.4, or take runner torch"
        ) from None
    facts = operation.get_rt_info()
    for kind in "kv":
        facts[f"num_{kind}_heads"], facts[f"{kind}_head_size"] = config.kv_heads, config.head_width
    return [operation.output(0)]


def _stand_in(model: Transformer) -> Transformer:
    """A model of the same shape whose matrices are unwritten memory, and whose vectors are the model's."""
    with torch.device("meta"):
        twin = type(model)(model.config)
    twin.to_empty(device="cpu")
    sources = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        for name, tensor in (*twin.named_parameters(), *twin.named_buffers()):
            if tensor.dim() < 2:
                tensor.copy_(sources[name])
    return twin.requires_grad_(False).eval()


def _example(config: ModelConfig) -> tuple[Tensor, ...]:
    """Three tokens of one sequence, to trace with."""

    def whole(*values: int) -> Tensor:
        return torch.tensor(values, dtype=torch.int32)

    place = torch.tensor(3, dtype=torch.int32)
    held = [torch.zeros(1, config.kv_heads, PAGE_TOKENS, config.head_width) for _ in range(2 * config.layers)]
    ids = torch.zeros(1, 3, dtype=torch.long)
    return ids, torch.arange(3), torch.tensor([2]), whole(0), whole(0, 3), whole(0), whole(0, 1), place, *held


@contextmanager
def _tracing() -> Iterator[None]:
    """Without warnings of the tracer: that the model's branches on shapes are taken once is what is wanted here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        yield
