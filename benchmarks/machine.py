"""What this machine can do: matrix products by dtype and library, and how fast it reads memory.

Everything is measured through torch, with as many threads as it takes by default, and best of several: the limits
beside which other figures are held. Writes benchmarks/results/machine.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch

from guiju.device import (
    fastest_dtype,
    float32_libraries,
    float32_library,
    float32_products,
    has_cpp_compiler,
    matrix_peak_flops,
    memory_available,
    pick_device,
    threads,
)
from guiju.evidence import environment

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "machine.json")
    arguments = parser.parse_args()
    device = pick_device()
    facts = {
        "environment": environment(),
        "load": os.getloadavg(),
        "device": str(device),
        "threads": threads(),
        "memory_available_gb": memory_available(device) / 1e9,
        "matrix_peak_gflops": {
            str(dtype).removeprefix("torch."): matrix_peak_flops(device, dtype, 2.0) / 1e9
            for dtype in (torch.float32, torch.bfloat16)
        },
        "float32_gflops_by_library": {library: product_gflops(library) for library in float32_libraries(device)},
        "float32_library": float32_library(device),
        "fastest_dtype": str(fastest_dtype(device)).removeprefix("torch."),
        "read_gb_per_s": {f"{size} MB": read_speed(size) for size in (4, 64, 1024)},
        "cpp_compiler": has_cpp_compiler(),
    }
    for name, value in facts.items():
        if name != "environment":
            print(f"{name:<28}{value}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


def product_gflops(library: str, size: int = 1024) -> float:
    left = torch.rand(size, size)
    with float32_products("onednn" if library == "onednn" else "torch"):
        return 2 * size**3 / best_of(lambda: torch.mm(left, left)) / 1e9


def read_speed(megabytes: int) -> float:
    """GB/s of summing up float32 numbers: one read of each, nothing written."""
    numbers = torch.ones(megabytes * 250_000)
    return megabytes / 1000 / best_of(lambda: numbers.sum())


def best_of(work: object, seconds: float = 0.7) -> float:
    assert callable(work)
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main()
