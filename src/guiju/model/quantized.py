"""Weights in few bits: whole numbers that share a scale in groups along a row, so that a step reads less memory.

Only weights are rounded; what is computed with them stays in the precision around them.
Axes: R rows (outputs), C columns (inputs), G groups of a row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from guiju.errors import ConfigError

BITS = {"int8": 8, "int4": 4}
GROUPS = (32, 64, 16)
"""Columns that share a scale where weights have 4 bits: the first that divides a row. With 8 bits a row shares one."""

_SHRUNK = (1.0, 0.95, 0.9, 0.85, 0.8)
"""With 4 bits, an outlier's full range costs all others their detail: of these shares of it, the one of least error."""


def quantise(weight: Tensor, bits: int, group: int | None = None) -> tuple[Tensor, Tensor]:
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
    parts = weight.detach().float().reshape(rows, columns // group, group)  # (R, G, group)
    if bits == 8:
        scales = parts.abs().amax(dim=2, keepdim=True) / 127
        codes = _codes(parts, scales, -127, 127)
    else:
        codes, scales = _four_bits(parts)
    return codes.to(torch.int8).reshape(rows, columns), scales[:, :, 0].contiguous()


def dequantise(codes: Tensor, scales: Tensor) -> Tensor:
    """(R, C) codes and (R, G) scales -> (R, C) weights in the scales' dtype."""
    parts = codes.reshape(len(codes), scales.size(1), -1)
    return (parts * scales[:, :, None]).reshape(codes.shape)


def group_for(columns: int) -> int | None:
    """How many columns share a scale with 4 bits; None where no usual size divides a row."""
    return next((size for size in GROUPS if columns % size == 0), None)


def _four_bits(parts: Tensor) -> tuple[Tensor, Tensor]:
    """(R, G, group) -> codes alike, (R, G, 1) scales. The value farthest from 0 has code -8, the one that 7 lacks."""
    farthest = parts.gather(2, parts.abs().argmax(dim=2, keepdim=True))
    best, scales, least = torch.zeros_like(parts), torch.zeros_like(farthest), torch.full_like(farthest, torch.inf)
    for share in _SHRUNK:
        tried = farthest * share / -8
        codes = _codes(parts, tried, -8, 7)
        error = (codes * tried - parts).square().sum(dim=2, keepdim=True)
        better = error < least
        best, scales = torch.where(better, codes, best), torch.where(better, tried, scales)
        least = torch.where(better, error, least)
    return best, scales


def _codes(parts: Tensor, scales: Tensor, low: int, high: int) -> Tensor:
    return (parts / torch.where(scales == 0, 1, scales)).round().clamp(low, high)
