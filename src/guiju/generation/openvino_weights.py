"""A model's weights as constants of an OpenVINO graph, in fewer bits where that is wanted, and once in memory.

The CPU plugin keeps a copy of each matrix of its own, in the order that its kernels read. What it was copied from lies
in an unnamed file that is mapped: its pages are given back as soon as they were read, and come again if they are
wanted, so that no weight takes memory twice.
Axes: R rows (outputs), C columns (inputs), G groups of a row.
"""

from __future__ import annotations

import math
import mmap
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from guiju.device import give_memory_back
from guiju.generation.openvino_library import load_openvino
from guiju.model import Transformer, group_for, pack_codes, round_matrix
from guiju.storage import RESERVE_BYTES

_GIVEN_BACK_EVERY_S = 0.02

_ENDS = ("embedding.weight", "to_logits.weight")
"""Have 8 bits where the other matrices have 4: rows that are rare in training do not bear more rounding, and they are
as large as the rest together only in models for which that matters least."""


class WeightFile:
    """Room for arrays in an unnamed, mapped file; in plain memory where the disk has no room for it."""

    def __init__(self, size_bytes: int) -> None:
        self._used = 0
        self._map: mmap.mmap | None = None
        size = -(-size_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        folder = tempfile.gettempdir()
        if hasattr(mmap, "MADV_DONTNEED") and shutil.disk_usage(folder).free > size + RESERVE_BYTES:
            with tempfile.TemporaryFile(dir=folder, prefix="guiju-weights-") as file:
                file.truncate(size)
                self._map = mmap.mmap(file.fileno(), size)

    def put(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The same values, in the file."""
        if self._map is None:
            return np.ascontiguousarray(array)
        end = self._used + array.nbytes
        place = np.frombuffer(self._map, dtype=array.dtype, count=array.size, offset=self._used).reshape(array.shape)
        place[...] = array
        self._used = -(-end // 64) * 64  # kernels like vectors that begin at a cache line
        return place

    def give_back(self) -> None:
        """No page of it stays in memory."""
        if self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED)

    @contextmanager
    def kept_small(self) -> Iterator[None]:
        """Within it, pages are given back again and again while others read them one after the other."""
        done = threading.Event()

        def work() -> None:
            while not done.wait(_GIVEN_BACK_EVERY_S):
                self.give_back()

        helper = threading.Thread(target=work, name="guiju-weights", daemon=True)
        helper.start()
        try:
            yield
        finally:
            done.set()
            helper.join()
            self.give_back()


def put_weights(graph: Any, twin: Transformer, model: Transformer, precision: str, consume: bool = False) -> WeightFile:
    """Put a model's matrices into the graph that `trace` made of it, in place of its stand-in's.

    Args:
        consume: whether the model lets go of each matrix that was put, so that the two never lie in memory together.
    """
    matrices = {parameter.data_ptr(): name for name, parameter in twin.named_parameters() if parameter.dim() > 1}
    file = WeightFile(sum(_bytes_at_most(model.get_parameter(name)) for name in matrices.values()))
    left = set(matrices.values())
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "Constant" or len(node.get_output_shape(0)) < 2:
            continue
        name = matrices.get(node.data.ctypes.data)
        if name is None:
            continue
        weight = model.get_parameter(name).detach()
        assert tuple(weight.shape) == tuple(node.get_output_shape(0)), f"{name} was changed while it was traced"
        targets = list(node.output(0).get_target_inputs())
        multiplied = name in _ENDS or any(port.get_node().get_type_name() == "MatMul" for port in targets)
        held = _held(name, weight, precision if multiplied else "float32", file)
        for port in targets:
            port.replace_source_output(held)
        left.discard(name)
        if consume and name not in _ENDS:  # the ends may be one tensor, which is put twice
            model.get_parameter(name).data = weight.new_empty(0)
            file.give_back()
            give_memory_back()
    assert not left, f"the graph does not hold {sorted(left)}"
    if consume:
        for parameter in model.parameters():
            parameter.data = parameter.data.new_empty(0)
    file.give_back()
    give_memory_back()
    return file


def split_gelu(graph: Any) -> None:
    """Say GELU by its formula: fused into the product before it, as the plugin does with the whole, it makes the plugin
    keep that product's matrix in another order for each kind of step, three times in all."""
    operations = load_openvino().opset13

    def number(value: float) -> Any:
        return operations.constant(np.float32(value))

    for node in graph.get_ordered_ops():
        if node.get_type_name() != "Gelu":
            continue
        x = node.input_value(0)
        if node.get_attributes()["approximation_mode"].lower() == "tanh":
            cubed = operations.multiply(operations.multiply(x, x), number(0.044715))
            inner = operations.multiply(
                operations.multiply(x, number(math.sqrt(2 / math.pi))), operations.add(cubed, number(1))
            )
            bent = operations.tanh(inner)
        else:
            bent = operations.erf(operations.multiply(x, number(math.sqrt(0.5))))
        whole = operations.multiply(operations.multiply(x, number(0.5)), operations.add(bent, number(1)))
        for port in list(node.output(0).get_target_inputs()):
            port.replace_source_output(whole.output(0))


def _held(name: str, weight: Tensor, precision: str, file: WeightFile) -> Any:
    """A matrix as the graph's output that stands for it."""
    openvino = load_openvino()
    operations, kinds = openvino.opset13, openvino.Type
    if precision == "float32":
        return _constant(file.put(weight.float().numpy())).output(0)
    if precision == "bfloat16":
        halves = file.put(weight.bfloat16().view(torch.int16).numpy())
        held = _constant(openvino.Tensor(halves, openvino.Shape(list(weight.shape)), kinds.bf16))
        return operations.convert(held, "f32").output(0)
    group = group_for(weight.size(1)) if precision == "int4" and name not in _ENDS else None
    if group is None:
        codes, scales = round_matrix(weight, 8)
        held = operations.convert(_constant(file.put(codes.numpy())), "f32")
        return operations.multiply(held, operations.constant(scales.numpy())).output(0)
    codes, scales = round_matrix(weight, 4, group)
    rows, groups = scales.shape
    packed = file.put(pack_codes(codes).numpy())
    held = _constant(openvino.Tensor(packed, openvino.Shape([rows, groups, group]), kinds.i4))
    whole = operations.multiply(operations.convert(held, "f32"), operations.constant(scales[:, :, None].numpy()))
    return operations.reshape(whole, operations.constant(np.array(weight.shape)), False).output(0)


def _constant(values: Any) -> Any:
    """A constant that reads where the values lie."""
    return load_openvino().op.Constant(values, shared_memory=True)


def _bytes_at_most(weight: Tensor) -> int:
    return weight.numel() * 4 + 64  # a file's room that nothing is written to takes none on the disk
