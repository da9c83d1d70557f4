"""Weights in few bits: whole numbers that share a scale in groups along a row, so that a step reads less memory.

Only weights are rounded, and scales are such that bfloat16 holds them: all runners compute with the same weights.
Axes: R rows (outputs), C columns (inputs), G groups of a row, N vectors.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from guiju.errors import ConfigError
from guiju.model.blocks import Layer

Model = TypeVar("Model", bound=nn.Module)

GROUPS = (32, 16, 64)
"""Columns that share a scale where weights have 4 bits: the first that divides a row. With 8 bits a row shares one."""

_SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8)
"""With 4 bits, an outlier's full range costs all others their detail: of these shares of it, the one of least error."""

_BLOCK = 1 << 18
"""Weights that are rounded at once: what is computed on the way stays in the caches, and takes no memory."""


def quantize(model: Model, precision: str, group: int | None = None) -> Model:
    """The model with fewer bits a weight; the given one is left as it is, and shares what is not rounded.

    Args:
        precision: "bfloat16" (all of the model, its arithmetic too), or "int8" or "int4" (the matrices of its layers;
            embeddings and head stay).
        group: columns that share a scale with 4 bits; by default 32, or what divides a row. Rows that no group divides
            have 8 bits.
    Raises:
        ConfigError: no such precision, or a group that divides no row of the layers.
    """
    if precision == "bfloat16":
        return copy.deepcopy(model).bfloat16()
    if precision not in ("int8", "int4"):
        raise ConfigError(f"precision is {precision!r}; weights can be rounded to bfloat16, int8 or int4")
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin = copy.deepcopy(model, shared)
    rounded = [
        RoundedLinear.replace(part, name, precision, group)
        for layer in twin.modules()
        if isinstance(layer, Layer)
        for part in list(layer.modules())
        for name, child in list(part.named_children())
        if isinstance(child, nn.Linear)
    ]
    if precision == "int4" and group is not None and not any(linear.bits == 4 for linear in rounded):
        raise ConfigError(f"group is {group}, which divides no row of the layers' matrices; take 16, 32 or 64")
    return twin.eval()


class RoundedLinear(nn.Module):
    """A linear layer whose weights have 8 bits and a scale a row, or 4 bits and a scale a group.

    On a CPU the product is torch's own for such weights, which takes vectors and gives products in bfloat16; elsewhere,
    for sizes that it does not take, and in training, the weights are written out for each product.
    """

    codes: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear, precision: str, group: int | None = None) -> None:
        super().__init__()
        rows, columns = linear.weight.shape
        self.rows, self.columns = rows, columns
        if group is None:
            group = group_for(columns)
        self.bits = 4 if precision == "int4" and group is not None and columns % group == 0 else 8
        codes, scales = round_matrix(linear.weight, self.bits, group if self.bits == 4 else None)
        self.register_buffer("codes", pack_codes(codes) if self.bits == 4 else codes)
        self.register_buffer("scales", scales)
        self.bias = linear.bias
        self.group = columns // scales.size(1)
        self._for_kernel: tuple[Tensor, Tensor] | None = None
        self.eval()  # its kernels are for use; `train` turns to products that have gradients

    @staticmethod
    def replace(parent: nn.Module, name: str, precision: str, group: int | None) -> RoundedLinear:
        """Put a rounded layer in a linear one's place."""
        rounded = RoundedLinear(getattr(parent, name), precision, group)
        setattr(parent, name, rounded)
        return rounded

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., R)"""
        if self.training or (x.requires_grad and torch.is_grad_enabled()):
            apply: Any = _WrittenOut.apply  # torch has no types for it
            products: Tensor = apply(x, self)
        elif x.is_cpu and self._suits_kernel():
            products = self._by_kernel(x.reshape(-1, self.columns)).to(x.dtype).view(*x.shape[:-1], self.rows)
        else:
            products = F.linear(x, self.weight().to(x.dtype))
        return products if self.bias is None else products + self.bias

    def weight(self) -> Tensor:
        """(R, C), as it is computed with, float32."""
        codes = unpack_codes(self.codes, self.columns) if self.bits == 4 else self.codes
        return restore_matrix(codes, self.scales)

    def _suits_kernel(self) -> bool:
        """torch's product of 8 bits reads beyond rows of other lengths (and ends the process), and that of 4 bits takes
        no other sizes."""
        if self.bits == 8:
            return self.columns % 32 == 0
        return self.rows % 16 == 0 and self.group in (32, 64, 128, 256)

    def _by_kernel(self, vectors: Tensor) -> Tensor:
        """(N, C) -> (N, R), bfloat16."""
        vectors = vectors.bfloat16()
        if self._for_kernel is None:
            self._for_kernel = self._in_kernels_order()
        codes, scales = self._for_kernel
        if self.bits == 8:
            return torch._weight_int8pack_mm(vectors, codes, scales)
        return torch.ops.aten._weight_int4pack_mm_for_cpu(vectors, codes, self.group, scales)  # type: ignore[no-any-return]

    def _in_kernels_order(self) -> tuple[Tensor, Tensor]:
        if self.bits == 8:
            return self.codes, self.scales[:, 0].bfloat16()
        codes = unpack_codes(self.codes, self.columns).int() + 8
        scales = self.scales.T.bfloat16()  # (G, R)
        pairs = torch.stack((scales, torch.zeros_like(scales)), dim=-1).contiguous()  # and what is added: nothing
        return torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1), pairs

    def _apply(self, move: Any, recurse: bool = True) -> RoundedLinear:
        self._for_kernel = None  # is made again where it is moved to
        super()._apply(move, recurse)  # type: ignore[no-untyped-call]
        return self


class _WrittenOut(torch.autograd.Function):
    """The product with gradients for what it reads: weights are written out once for it and once for its gradients,
    and not kept in between, so that training, too, holds few bits of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: RoundedLinear) -> Tensor:
        ctx.linear = linear
        return F.linear(x, linear.weight().to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return upstream @ ctx.linear.weight().to(upstream.dtype), None


def round_matrix(weight: Tensor, bits: int, group: int | None = None) -> tuple[Tensor, Tensor]:
    """Round a matrix to whole numbers, symmetric around 0.

    Args:
        weight: (R, C).
        bits: 8 for codes from -127 to 127, 4 for codes from -8 to 7.
        group: columns that share a scale; None is a whole row.
    Returns:
        (R, C) codes, int8, and (R, G) scales, float32: a weight is about its code times its group's scale.
    Raises:
        ConfigError: the group does not divide a row.
    """
    rows, columns = weight.shape
    group = group or columns
    if columns % group:
        raise ConfigError(f"a row of {columns} weights cannot be cut into groups of {group}; take a divisor of it")
    codes = torch.empty(rows, columns, dtype=torch.int8, device=weight.device)
    scales = torch.empty(rows, columns // group, device=weight.device)
    step = max(1, _BLOCK // columns)
    for row in range(0, rows, step):
        block = slice(row, row + step)
        parts = weight[block].detach().float().reshape(-1, columns // group, group)
        found, shared = _eight_bits(parts) if bits == 8 else _four_bits(parts)
        codes[block], scales[block] = found.reshape(-1, columns).to(torch.int8), shared[:, :, 0]
    return codes, scales


def restore_matrix(codes: Tensor, scales: Tensor) -> Tensor:
    """(R, C) codes and (R, G) scales -> (R, C) weights in the scales' dtype."""
    parts = codes.reshape(len(codes), scales.size(1), -1)
    return (parts * scales[:, :, None]).reshape(codes.shape)


def group_for(columns: int) -> int | None:
    """How many columns share a scale with 4 bits; None where no usual size divides a row."""
    return next((size for size in GROUPS if columns % size == 0), None)


def pack_codes(codes: Tensor) -> Tensor:
    """Codes of 4 bits, two to a byte, the first one in its lower half: (R, C) int8 -> (R, C / 2) uint8."""
    pairs = (codes & 15).to(torch.uint8).view(len(codes), -1, 2)
    return pairs[:, :, 0] | pairs[:, :, 1] << 4


def unpack_codes(packed: Tensor, columns: int) -> Tensor:
    """(R, C / 2) uint8 -> (R, C) int8."""
    pairs = torch.stack((packed & 15, packed >> 4), dim=-1).to(torch.int8)
    return torch.where(pairs > 7, pairs - 16, pairs).view(len(packed), columns)


def _eight_bits(parts: Tensor) -> tuple[Tensor, Tensor]:
    """(R, G, group) -> codes alike, (R, G, 1) scales."""
    scales = _representable(parts.abs().amax(dim=2, keepdim=True) / 127)
    return _codes(parts, scales, -127, 127), scales


def _four_bits(parts: Tensor) -> tuple[Tensor, Tensor]:
    """(R, G, group) -> codes alike, (R, G, 1) scales. The value farthest from 0 has code -8, the one that 7 lacks."""
    farthest = parts.gather(2, parts.abs().argmax(dim=2, keepdim=True))
    best, scales, least = torch.zeros_like(parts), torch.zeros_like(farthest), torch.full_like(farthest, torch.inf)
    for share in _SHRUNK:
        tried = _representable(farthest * share / -8)
        codes = _codes(parts, tried, -8, 7)
        error = (codes * tried - parts).square().sum(dim=2, keepdim=True)
        better = error < least
        best, scales = torch.where(better, codes, best), torch.where(better, tried, scales)
        least = torch.where(better, error, least)
    return best, scales


def _representable(scales: Tensor) -> Tensor:
    """Scales that bfloat16 holds: rounded before the codes are found, they cost next to nothing."""
    return scales.bfloat16().float()


def _codes(parts: Tensor, scales: Tensor, low: int, high: int) -> Tensor:
    return (parts / torch.where(scales == 0, 1, scales)).round().clamp(low, high)
