from __future__ import annotations

import stat

import psutil
import pytest
import torch
import torch.utils.benchmark

from guiju import device
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
from guiju.errors import ConfigError

CPU = torch.device("cpu")


def test_auto_is_a_gpu_where_there_is_one_and_the_cpu_elsewhere():
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "", "cpu:x", "cuda:-1", "cpu:1", "xpu", "cuda:999"])
def test_a_device_that_is_not_there_is_refused_with_the_way_out(name):
    with pytest.raises(ConfigError, match=r"auto"):
        pick_device(name)


def test_the_peak_is_measured_once_and_is_as_fast_as_products_timed_by_hand():
    peak = matrix_peak_flops(CPU, torch.float32, 0.1)
    assert matrix_peak_flops(CPU, torch.float32, 0.1) is peak  # not measured anew: the very same number
    matrix = torch.rand(1024, 1024)
    timer = torch.utils.benchmark.Timer("matrix @ matrix", globals={"matrix": matrix}, num_threads=threads())
    by_hand = 2 * 1024**3 / timer.blocked_autorange(min_run_time=0.2).median
    assert 0.3 < peak / by_hand < 30  # other work on the machine slows either; units that are off by 1000 it would see


def test_measuring_leaves_the_random_generator_alone():
    before = torch.get_rng_state()
    device._product_flops(CPU, torch.float32, 64, 0.01)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("ratio", "taken"), [(4.0, torch.bfloat16), (1.1, torch.float32), (0.5, torch.float32)])
def test_bfloat16_is_taken_only_where_it_is_clearly_faster(monkeypatch, ratio, taken):
    fastest_dtype.cache_clear()
    monkeypatch.setattr(
        device, "_product_flops", lambda where, dtype, size, seconds: ratio if dtype == torch.bfloat16 else 1.0
    )
    assert fastest_dtype(CPU) == taken
    fastest_dtype.cache_clear()


def test_the_faster_of_the_two_really_is_the_faster_here():
    fastest_dtype.cache_clear()
    peaks = {dtype: matrix_peak_flops(CPU, dtype, 0.3) for dtype in (torch.float32, torch.bfloat16)}
    ratio = peaks[torch.bfloat16] / peaks[torch.float32]
    if ratio > 2:
        assert fastest_dtype(CPU) == torch.bfloat16
    elif ratio < 0.7:
        assert fastest_dtype(CPU) == torch.float32


def test_a_compiler_is_found_only_where_one_runs(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not has_cpp_compiler()
    for body, works in (("exit 0", True), ("exit 1", False)):
        compiler = tmp_path / "g++"
        compiler.write_text(f"#!/bin/sh\n{body}\n")
        compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("CXX", str(compiler))
        assert has_cpp_compiler() is works


def test_memory_keeps_to_the_limit_of_a_container(tmp_path):
    assert 0 < memory_available() <= psutil.virtual_memory().total
    assert device._left_in_control_group(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 50\n")
    assert device._left_in_control_group(tmp_path) == 650
    (tmp_path / "memory.max").write_text("max\n")
    assert device._left_in_control_group(tmp_path) is None


def test_a_library_is_taken_within_the_block_and_put_back_after_it_whatever_happens():
    setting = torch.backends.mkldnn.matmul
    before = setting.fp32_precision

    def work_and_fail():
        with float32_products("onednn"):
            assert setting.fp32_precision == "bf16"
            with float32_products("torch"):
                assert setting.fp32_precision == "ieee"
            assert setting.fp32_precision == "bf16"
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        work_and_fail()
    assert setting.fp32_precision == before


@pytest.mark.parametrize("shape", [(3, 5, 7), (100, 333, 65), (512, 128, 2048)])
def test_every_library_on_offer_computes_float32_in_float32(shape):
    for library in float32_libraries(CPU):
        with float32_products(library):
            assert device._product_error(*shape) < device.EXACT


def test_a_library_that_rounds_to_bfloat16_is_not_on_offer(monkeypatch):
    left, right = device._scattered(256, 256), device._scattered(256, 256)
    exact = left.double() @ right.double()
    rounded = left.bfloat16().double() @ right.bfloat16().double()
    error = float((rounded - exact).abs().max() / exact.abs().max())
    assert error > 10 * device.EXACT  # what the measurement would see
    monkeypatch.setattr(device, "_product_error", lambda *shape: error)
    float32_libraries.cache_clear()
    float32_library.cache_clear()
    assert float32_libraries(CPU) == ("torch",)
    assert float32_library(CPU) == "torch"
    float32_libraries.cache_clear()
    float32_library.cache_clear()


@pytest.mark.parametrize(
    ("amd", "capability", "library"),
    [(True, "AVX512", "onednn"), (False, "AVX512", "torch"), (True, "AVX2", "torch"), (False, "DEFAULT", "torch")],
)
def test_onednn_is_taken_on_amd_processors_with_long_vectors(monkeypatch, amd, capability, library):
    monkeypatch.setattr(device, "_is_amd", lambda: amd)
    monkeypatch.setattr(device, "float32_libraries", lambda where: ("torch", "onednn"))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    float32_library.cache_clear()
    assert float32_library(CPU) == library
    float32_library.cache_clear()
