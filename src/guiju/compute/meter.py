"""What a piece of work really took: wall and CPU time, memory, energy; of this process and all that it starts."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from guiju.compute.carbon import find_grid
from guiju.compute.energy import JOULES_PER_KWH, POWERCAP, WATTS_PER_CORE, estimated_kwh, find_gpu_power, find_rapl
from guiju.compute.processes import HighWater, tree_cpu_seconds, tree_memory_bytes
from guiju.errors import ConfigError

GPU_INTERVAL_S = 1.0
"""How often the GPUs' power is asked for; each time starts a small program."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What was used since the meter started."""

    wall_s: float
    cpu_s: float
    """Summed over cores and processes."""
    peak_memory_bytes: int
    """Highest resident memory of all processes together."""
    energy_kwh: float
    energy_method: str
    """"rapl": processor counters, which count the whole machine. "estimate": CPU time x watts per core. With
    "+nvidia-smi": and the GPUs' power."""
    energy_coverage: float
    """Share of the time in which energy was measured; 0 where all of it is estimated."""
    co2_kg: float
    """Always an estimate: energy x the grid's yearly mean."""
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Plain values, with `estimate`: whether the energy was not measured."""
        return {**asdict(self), "assumptions": list(self.assumptions), "estimate": self.energy_coverage < 1}


class Meter:
    """Measures from `with` on; `read` says what was used so far, and `result` what was used in all."""

    def __init__(
        self,
        *,
        watts_per_core: float = WATTS_PER_CORE,
        grid: str = "CN",
        pue: float = 1.0,
        gpu: bool = False,
        interval_s: float = 0.25,
        powercap: Path = POWERCAP,
    ) -> None:
        """
        Args:
            watts_per_core: for the estimate, where no counter can be read.
            grid: whose electricity; see guiju.compute.carbon.
            pue: the building's energy per energy of the machine, 1 or more.
            gpu: whether to add the GPUs' energy.
            interval_s: how often memory and counters are read.
        Raises:
            ConfigError: an unknown grid, or a figure that cannot be.
        """
        estimated_kwh(0, watts_per_core)
        if not pue >= 1:
            raise ConfigError(f"pue is {pue}; the building takes at least what the machine takes, so 1 or more")
        if not interval_s > 0:
            raise ConfigError(f"interval_s is {interval_s}; it must be more than 0")
        self._watts_per_core, self._grid, self._pue = watts_per_core, find_grid(grid), pue
        self._gpu_wanted, self._interval, self._powercap = gpu, interval_s, powercap
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._result: Reading | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Meter:
        self._stop.clear()
        self._result = None
        self._rapl = find_rapl(self._powercap)
        self._gpu = find_gpu_power() if self._gpu_wanted else None
        self._start_wall, self._start_cpu = time.perf_counter(), tree_cpu_seconds()
        self._gpu_joules, self._gpu_read = 0.0, self._start_wall
        self.reset_peak()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        self._thread = None
        self._result = self.read()

    @property
    def result(self) -> Reading:
        """What was used from beginning to end; the meter must have stopped."""
        assert self._result is not None, "the meter still runs: use read()"
        return self._result

    def read(self) -> Reading:
        """What was used so far; after the end, what was used in all."""
        if self._result is not None:
            return self._result
        self._sample(gpu=self._thread is None)
        wall, cpu = time.perf_counter() - self._start_wall, max(0.0, tree_cpu_seconds() - self._start_cpu)
        assumptions = []
        if self._rapl is not None:
            method, covered, kwh = "rapl", 1.0, self._joules / JOULES_PER_KWH
            assumptions.append("the processor's counters count the whole machine, other programs included")
        else:
            method, covered, kwh = "estimate", 0.0, estimated_kwh(cpu, self._watts_per_core)
            assumptions.append(f"a busy core draws {self._watts_per_core:g} W")
        if self._gpu is not None:
            method += "+nvidia-smi"
            covered *= min(1.0, self._gpu.covered_seconds / wall) if wall > 0 else 0.0
            kwh += self._gpu_joules / JOULES_PER_KWH
            assumptions.append("the power of all GPUs of the machine, read once a second")
        if self._pue != 1:
            assumptions.append(f"the building takes {self._pue:g} times what the machine takes (PUE)")
        grid = self._grid
        assumptions.append(f"{grid.kg_per_kwh:g} kg CO2 a kWh ({grid.code}, {grid.year}: {grid.source})")
        return Reading(
            wall_s=wall,
            cpu_s=cpu,
            peak_memory_bytes=self._peak_memory(),
            energy_kwh=kwh * self._pue,
            energy_method=method,
            energy_coverage=covered,
            co2_kg=kwh * self._pue * grid.kg_per_kwh,
            assumptions=tuple(assumptions),
        )

    def energy_kwh(self) -> float:
        """Energy so far."""
        return self.read().energy_kwh

    def reset_peak(self) -> None:
        """Forget how high memory was; from now on it is measured anew."""
        with self._lock:
            self._high_water = HighWater()
            self._joules = 0.0 if self._rapl is None else self._rapl.joules()
            self._peak = tree_memory_bytes()

    def _peak_memory(self) -> int:
        return max(self._peak, self._high_water.bytes() or 0)

    def _sample(self, gpu: bool) -> None:
        with self._lock:
            self._peak = max(self._peak, tree_memory_bytes())
            if self._rapl is not None:
                self._joules = self._rapl.joules()
            now = time.perf_counter()
            if self._gpu is not None and (gpu or now - self._gpu_read >= GPU_INTERVAL_S):
                self._gpu_joules, self._gpu_read = self._gpu.joules(), now

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self._sample(gpu=False)
