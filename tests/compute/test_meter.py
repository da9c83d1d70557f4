from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from guiju.compute import Meter
from guiju.compute.energy import GpuPower, Rapl, find_gpu_power, find_rapl
from guiju.compute.processes import descendants, tree_cpu_seconds, tree_memory_bytes
from guiju.errors import ConfigError

MB = 10**6
BUSY = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_time_and_energy_are_those_of_the_work(tmp_path):
    with Meter(watts_per_core=36, grid="FR", pue=1.5, powercap=tmp_path) as meter:
        burn(0.5)
        time.sleep(0.3)
    reading = meter.result
    assert 0.8 <= reading.wall_s < 20
    assert reading.cpu_s == pytest.approx(0.5, abs=0.2)
    assert reading.energy_kwh == pytest.approx(reading.cpu_s * 36 * 1.5 / 3.6e6)
    assert reading.co2_kg == pytest.approx(reading.energy_kwh * 0.056)
    assert (reading.energy_method, reading.energy_coverage) == ("estimate", 0)
    written = json.loads(json.dumps(reading.to_json()))
    assert written["estimate"] is True
    assert any("36 W" in line for line in written["assumptions"])


def test_cpu_time_of_children_counts_while_they_run_and_after():
    before = tree_cpu_seconds()
    with Meter() as meter:
        subprocess.run([sys.executable, "-c", BUSY.format(seconds=0.4)], check=True)
        running = subprocess.Popen(
            [sys.executable, "-c", BUSY.format(seconds=0.4) + "\ninput()"], stdin=subprocess.PIPE
        )
        while tree_cpu_seconds() - before < 0.8:
            time.sleep(0.05)
        assert running.pid in descendants()
        assert 0.75 < meter.read().cpu_s < 4
        running.communicate(b"\n")
    assert 0.75 < meter.result.cpu_s < 4


def holder(size):
    """A process that holds so many bytes until it is told to go."""
    code = f"held = bytearray({size}); held[::4096] = b'1' * len(held[::4096]); print('ready', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def test_memory_of_children_counts():
    with Meter(interval_s=0.05) as meter:
        workers = [holder(MB)]  # with a child from the start, shared pages are counted alike before and during
        before = tree_memory_bytes()
        workers += [holder(300 * MB), holder(300 * MB)]
        during = tree_memory_bytes()
        peak = meter.read().peak_memory_bytes
        for worker in workers:
            worker.communicate("\n", timeout=60)
    assert 400 * MB < during - before < 750 * MB
    assert peak > 0.95 * during
    assert meter.result.peak_memory_bytes >= peak


def test_a_short_peak_between_two_samples_is_seen_and_a_reset_forgets_it():
    with Meter(interval_s=60) as meter:
        before = meter.read().peak_memory_bytes
        held = np.ones(400 * MB, dtype=np.uint8)
        del held
        assert meter.read().peak_memory_bytes - before > 350 * MB
        meter.reset_peak()
        assert meter.read().peak_memory_bytes - before < 200 * MB


@pytest.fixture
def powercap(tmp_path):
    """Two packages, a part of one of them, and memory, as Linux shows them."""
    for zone, name, start in (
        ("intel-rapl:0", "package-0", 100),
        ("intel-rapl:0:0", "core", 50),
        ("intel-rapl:0:1", "dram", 10),
        ("intel-rapl:1", "package-1", 950),
        ("intel-rapl:2", "psys", 5),
        ("intel-rapl-mmio:0", "package-0", 100),
    ):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "name").write_text(f"{name}\n")
        (tmp_path / zone / "energy_uj").write_text(f"{start * 10**6}\n")
        (tmp_path / zone / "max_energy_range_uj").write_text(f"{1000 * 10**6 - 1}\n")
    return tmp_path


def count_to(powercap, zone, joules):
    (powercap / zone / "energy_uj").write_text(f"{joules * 10**6}\n")


def test_processor_counters_add_up_packages_and_memory_and_survive_a_wrap(powercap):
    rapl = find_rapl(powercap)
    assert rapl.joules() == 0
    count_to(powercap, "intel-rapl:0", 130)  # 30 J
    count_to(powercap, "intel-rapl:0:0", 75)  # within the package
    count_to(powercap, "intel-rapl:0:1", 12)  # 2 J
    count_to(powercap, "intel-rapl:1", 40)  # past 1000: 90 J
    assert rapl.joules() == pytest.approx(122)
    assert rapl.joules() == pytest.approx(122)
    count_to(powercap, "intel-rapl:1", 41)
    assert rapl.joules() == pytest.approx(123)


def test_the_meter_takes_counters_where_they_can_be_read(powercap):
    with Meter(powercap=powercap, grid="WORLD") as meter:
        count_to(powercap, "intel-rapl:0", 136)
        assert meter.energy_kwh() == pytest.approx(1e-5)
    assert (meter.result.energy_method, meter.result.energy_coverage) == ("rapl", 1)
    assert meter.result.to_json()["estimate"] is False


def test_counters_that_cannot_be_read_are_no_counters(tmp_path):
    assert find_rapl(tmp_path) is None
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "name").write_text("package-0")
    assert find_rapl(tmp_path) is None
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("1")
    (tmp_path / "intel-rapl:0" / "max_energy_range_uj").write_text("many")
    assert find_rapl(tmp_path) is None
    with pytest.raises(ValueError, match="many"):
        Rapl([tmp_path / "intel-rapl:0"])


def test_gpu_power_is_joined_over_time_and_gaps_are_no_energy(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/power\n")
    program.chmod(0o755)
    (tmp_path / "power").write_text("100.5\n99.5\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    power = find_gpu_power()
    start = time.perf_counter()
    time.sleep(0.3)
    joules, seconds = power.joules(), time.perf_counter() - start
    assert joules == pytest.approx(200 * seconds, rel=0.5)
    assert power.covered_seconds == pytest.approx(joules / 200)
    (tmp_path / "power").write_text("[N/A]\n")
    assert power.joules() == joules
    assert not power.answers
    (tmp_path / "power").write_text("100\n100\n")
    with Meter(gpu=True, powercap=tmp_path) as meter:
        time.sleep(0.1)
    assert meter.result.energy_method == "estimate+nvidia-smi"
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_gpu_power() is None
    assert not GpuPower(str(tmp_path / "missing")).answers


@pytest.mark.parametrize(
    "wrong",
    [{"watts_per_core": 0}, {"pue": 0.5}, {"grid": "Mars"}, {"interval_s": 0}, {"watts_per_core": float("nan")}],
)
def test_a_meter_that_cannot_be_right_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Meter(**wrong)
