"""Where energy is read: the processor's own counters, the GPU's power, and, where there is neither, CPU time."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from guiju.errors import ConfigError

POWERCAP = Path("/sys/class/powercap")
WATTS_PER_CORE = 10.0
"""A busy server core with its share of caches and memory: 200 W to 300 W for 24 to 32 cores. An assumption."""

JOULES_PER_KWH = 3.6e6


class Rapl:
    """Energy counters of processor packages and their memory (Linux powercap). They count the whole machine.

    The counters wrap around after minutes to hours of load: read them more often than that.
    """

    def __init__(self, zones: list[Path]) -> None:
        self._zones = [(zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())) for zone in zones]
        self._last = [int(file.read_text()) for file, _ in self._zones]
        self._microjoules = 0

    def joules(self) -> float:
        """Energy since this object was made."""
        for index, (file, span) in enumerate(self._zones):
            now = int(file.read_text())
            used = now - self._last[index]
            self._microjoules += used if used >= 0 else used + span + 1
            self._last[index] = now
        return self._microjoules / 1e6


def find_rapl(root: Path = POWERCAP) -> Rapl | None:
    """The counters of this machine; None where there are none, or where this user may not read them."""
    zones = []
    for zone in sorted(root.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
            (zone / "energy_uj").read_text()
        except OSError:  # a virtual machine, or a kernel that keeps them for root (CVE-2020-8694)
            continue
        if name.startswith("package") or name == "dram":  # cores and graphics are part of their package
            zones.append(zone)
    try:
        return Rapl(zones) if zones else None
    except (OSError, ValueError):
        return None


class GpuPower:
    """Energy of all NVIDIA GPUs of the machine: power read at intervals, joined by straight lines."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._joules = 0.0
        self._covered = 0.0
        self._last = self._read()

    @property
    def answers(self) -> bool:
        """Whether power was known when last asked for."""
        return self._last is not None

    @property
    def covered_seconds(self) -> float:
        """How long power was known."""
        return self._covered

    def joules(self) -> float:
        """Energy since this object was made."""
        now = self._read()
        if now is not None and self._last is not None:
            seconds = now[0] - self._last[0]
            self._joules += seconds * (now[1] + self._last[1]) / 2
            self._covered += seconds
        self._last = now
        return self._joules

    def _read(self) -> tuple[float, float] | None:
        query = [self._command, "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
        try:
            answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
            return time.perf_counter(), sum(float(line) for line in answer.stdout.split())
        except (OSError, ValueError, subprocess.SubprocessError):
            return None


def find_gpu_power() -> GpuPower | None:
    """The GPUs' power meter; None where nvidia-smi is missing or tells nothing."""
    command = shutil.which("nvidia-smi")
    found = None if command is None else GpuPower(command)
    return found if found is not None and found.answers else None


def estimated_kwh(cpu_seconds: float, watts_per_core: float = WATTS_PER_CORE) -> float:
    """Energy of so much CPU time, summed over cores.

    Raises:
        ConfigError: watts that are not positive.
    """
    if not watts_per_core > 0:
        raise ConfigError(f"watts_per_core is {watts_per_core}; a busy core draws power, so more than 0")
    return cpu_seconds * watts_per_core / JOULES_PER_KWH
