"""Devices that a plan can name: peak speed, memory and power, as their makers state them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from guiju.errors import ConfigError


@dataclass(frozen=True)
class Device:
    """One accelerator, or one CPU core."""

    name: str
    peak_flops: float
    """Dense matrix products in bfloat16 (else as noted), FLOP/s: without sparsity, which data sheets like to add."""
    memory_bytes: int
    watts: float
    """The board's highest sustained power."""
    source: str


GB = 10**9
GIB = 2**30

DEVICES = (
    Device("h200", 989.4e12, 141 * GB, 700, "NVIDIA H200 data sheet, SXM"),
    Device("h100", 989.4e12, 80 * GB, 700, "NVIDIA H100 data sheet, SXM"),
    Device("h100-pcie", 756e12, 80 * GB, 350, "NVIDIA H100 data sheet, PCIe"),
    Device("h20", 148e12, 96 * GB, 400, "as reported by resellers; NVIDIA publishes no data sheet"),
    Device("b200", 2250e12, 180 * GB, 1000, "NVIDIA HGX B200 data sheet, an eighth of the board"),
    Device("a100", 312e12, 80 * GB, 400, "NVIDIA A100 data sheet, SXM 80 GB"),
    Device("a100-40gb", 312e12, 40 * GB, 400, "NVIDIA A100 data sheet, SXM 40 GB"),
    Device("a800", 312e12, 80 * GB, 400, "NVIDIA A800 data sheet, SXM 80 GB"),
    Device("l40s", 362.05e12, 48 * GB, 350, "NVIDIA L40S data sheet"),
    Device("l4", 121e12, 24 * GB, 72, "NVIDIA L4 data sheet"),
    Device("a10", 125e12, 24 * GB, 150, "NVIDIA A10 data sheet"),
    Device("v100", 125e12, 32 * GB, 300, "NVIDIA V100 data sheet, SXM2 32 GB; float16, as it has no bfloat16"),
    Device("t4", 65e12, 16 * GB, 70, "NVIDIA T4 data sheet; float16, as it has no bfloat16"),
    Device("rtx4090", 165.2e12, 24 * GB, 450, "NVIDIA Ada architecture white paper; float32 sums"),
    Device("rtx3090", 71e12, 24 * GB, 350, "NVIDIA Ampere GA102 white paper; float32 sums"),
    Device("mi300x", 1307.4e12, 192 * GB, 750, "AMD Instinct MI300X data sheet"),
    Device("ascend910", 256e12, 32 * GB, 310, "Huawei Ascend 910 announcement, 2019; float16"),
    Device("cpu", 192e9, 4 * GIB, 10, "arithmetic for one core: 2 x 16 float32 lanes, 2 FLOPs each, at 3 GHz"),
)


_IGNORED = str.maketrans("", "", " -_")


def find_device(name: str) -> Device:
    """The device of a name; upper and lower case, blanks and dashes do not matter.

    Raises:
        ConfigError: the table has none.
    """
    wanted = name.lower().translate(_IGNORED)
    for device in DEVICES:
        if wanted == device.name.translate(_IGNORED):
            return device
    names = [device.name for device in DEVICES]
    near = difflib.get_close_matches(wanted, names, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise ConfigError(f"device is {name!r}, which the table does not hold. {hint}It holds {', '.join(names)}")
