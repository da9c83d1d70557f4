"""Where tensors live, and what the machine under them can do: measured, for a data sheet says little about a share of
a machine."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from guiju.errors import ConfigError

_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
"""glibc's; other C libraries have none."""

SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192), "mps": (1024, 2048, 4096)}
"""Edges of the square matrices that are multiplied, by kind of device: one is in the caches, the last one is not."""

WORTHWHILE = 1.25
"""How many times as fast bfloat16 products must be before they are taken: around them stand casts, which cost too."""

ALTERNATIONS = 6
"""How often the two dtypes take turns while they are measured."""


def pick_device(name: str = "auto") -> torch.device:
    """The device of a name: "auto" is a CUDA GPU where there is one, else the CPU.

    Raises:
        ConfigError: no such kind of device, or this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in SIZES or (index and not (index.isascii() and index.isdigit())):
        raise ConfigError(f"device is {name!r}; it can be auto, cpu, cuda, cuda:N or mps")
    count = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= count:
        here = f"this machine has {count} of that kind" if count else "this machine, or this build of torch, has none"
        raise ConfigError(f"device is {name!r}, but {here}; take device: cpu, or auto for the best there is")
    return torch.device(name)


def threads() -> int:
    """Threads that torch computes with on the CPU."""
    return torch.get_num_threads()


Library = Literal["torch", "onednn"]
"""Which library multiplies float32 matrices on the CPU: "torch" leaves the choice to torch, which takes MKL."""

EXACT = 1e-5
"""Largest error of a float32 product, relative to its largest value: float32 sums stay near 1e-6, bfloat16 near
1e-3."""


@cache
def matrix_peak_flops(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """FLOP/s of the fastest matrix product on this device, measured once a process.

    Args:
        seconds: how long to measure in all; at least two products of each size are timed.
    Returns:
        2 n^3 / the shortest time, best of a few n and, for float32 on a CPU, of both libraries: what the machine gives
        torch, beside which training is held.
    """
    libraries = [library for library in float32_libraries(device) if library == "torch" or dtype == torch.float32]
    each = seconds / len(SIZES[device.type]) / len(libraries)
    best = 0.0
    for library in libraries:
        with float32_products(library):
            best = max(best, *(_product_flops(device, dtype, size, each) for size in SIZES[device.type]))
    return best


@cache
def float32_library(device: torch.device) -> Library:
    """Which library is to multiply float32 matrices here: the same answer in every process of a machine, so that the
    same run ends in the same bits.

    MKL, torch's own choice, takes half-length vectors on AMD's processors with AVX-512, where oneDNN is twice as fast
    (docs/experiments.md); elsewhere the two are alike. oneDNN is reached by a setting that allows it bfloat16 inside;
    where it makes use of that, the choice stays torch's.
    """
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return "onednn" if wide and _is_amd() and "onednn" in float32_libraries(device) else "torch"


@contextmanager
def float32_products(library: Library) -> Iterator[None]:
    """Within it, this process multiplies float32 matrices with `library`, eager or compiled."""
    setting: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    try:
        setting.fp32_precision = "bf16" if library == "onednn" else "ieee"
        yield
    finally:
        setting.fp32_precision = before


@cache
def float32_libraries(device: torch.device) -> tuple[Library, ...]:
    """Those that compute float32 products in float32."""
    if device.type != "cpu" or not torch._C._has_mkldnn:
        return ("torch",)
    with torch.no_grad(), float32_products("onednn"):
        exact = all(_product_error(*shape) < EXACT for shape in ((256, 256, 256), (64, 1024, 256), (512, 256, 768)))
    return ("torch", "onednn") if exact else ("torch",)


def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "AuthenticAMD" in platform.processor()


def _product_error(rows: int, inner: int, columns: int) -> float:
    """Largest error of a product and of a transposed one, beside float64, relative to the largest value."""
    left, right = _scattered(rows, inner), _scattered(inner, columns)
    exact = left.double() @ right.double()
    found = left @ right, (right.t() @ left.t()).t()
    return max(float((product - exact).abs().max() / exact.abs().max()) for product in found)


@cache
def fastest_dtype(device: torch.device) -> torch.dtype:
    """float32 or bfloat16, whichever multiplies matrices faster here, measured once a process.

    CPUs without bfloat16 matrix units (AMX, AVX512-BF16) are slower in it than in float32.
    """
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float32
    size = SIZES[device.type][1]
    best = dict.fromkeys((torch.float32, torch.bfloat16), 0.0)
    with float32_products(float32_library(device)):
        for _ in range(ALTERNATIONS):  # in turns: what else the machine does must meet both
            for dtype in best:
                try:
                    best[dtype] = max(best[dtype], _product_flops(device, dtype, size, 0.02))
                except RuntimeError:  # a device whose library has no such product
                    return torch.float32
    return torch.bfloat16 if best[torch.bfloat16] > WORTHWHILE * best[torch.float32] else torch.float32


def has_cpp_compiler() -> bool:
    """Whether torch.compile finds a C++ compiler, which it needs to make code for the CPU."""
    named = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    found = shutil.which(named.split()[0])
    if found is None:
        return False
    try:
        return subprocess.run([found, "--version"], capture_output=True, timeout=20).returncode == 0  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return False


def memory_available(device: torch.device | None = None) -> int:
    """Bytes that can still be taken: of the GPU, or of the machine within its control group's limit."""
    if device is not None and device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    available = int(psutil.virtual_memory().available)
    left = _left_in_control_group(Path("/sys/fs/cgroup"))
    return available if left is None else min(available, left)


def give_memory_back() -> None:
    """Hand memory that was freed back to the system, which the C library keeps in its heap otherwise: holes of large
    tensors that were read, turned and dropped."""
    if _TRIM is not None:
        _TRIM(0)


def _scattered(rows: int, columns: int) -> torch.Tensor:
    """Numbers between -0.5 and 0.5 that fill float32's digits; not drawn, so the caller's generator stays as it is."""
    return ((torch.arange(rows * columns) * 2654435761 % 2**32).double() / 2**32 - 0.5).float().view(rows, columns)


def _product_flops(device: torch.device, dtype: torch.dtype, size: int, seconds: float) -> float:
    left = torch.ones(size, size, device=device, dtype=dtype)  # no random draw: the caller's generator stays as it is
    right = torch.ones(size, size, device=device, dtype=dtype)
    product = torch.empty_like(left)
    best = float("inf")
    with torch.no_grad():
        torch.mm(left, right, out=product)  # the first one also prepares the library
        _wait_for(device)
        end = time.perf_counter() + seconds
        for attempt in range(1000):
            start = time.perf_counter()
            torch.mm(left, right, out=product)
            _wait_for(device)
            done = time.perf_counter()
            best = min(best, done - start)
            if done > end and attempt:
                break
    return 2 * size**3 / best


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _left_in_control_group(folder: Path) -> int | None:
    """Bytes left under the limit of the container (cgroup v2, then v1); None where there is none.

    What the kernel holds of files counts as used there, but goes when memory is wanted.
    """
    for limit, used, statistics, name in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
    ):
        try:
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
            lines = (line.split() for line in (folder / statistics).read_text().splitlines())
            return max(0, left + sum(int(value) for key, value in lines if key == name))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return None
