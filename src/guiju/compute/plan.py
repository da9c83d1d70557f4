"""Forecasts: what training will take, before it costs anything; and, afterwards, the forecast beside what it took."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from guiju.compute.calibration import Calibration
from guiju.compute.carbon import find_grid
from guiju.compute.devices import find_device
from guiju.compute.energy import JOULES_PER_KWH, WATTS_PER_CORE
from guiju.compute.flops import training_flops
from guiju.compute.memory import training_memory
from guiju.compute.shape import Shape, parameters
from guiju.errors import ConfigError

BYTES_PER_PARAMETER = 16
"""Mixed precision with AdamW: 2 weights + 2 gradients + 4 float32 weights + 8 moments (ZeRO, arXiv:1910.02054)."""

USABLE_MEMORY = 0.8
"""Share of a device's memory that weights, gradients and moments may fill; the rest is for activations."""

DATA_CENTRE_PUE = 1.25
"""Energy of the building per energy of the machines: what China allows new large data centres (action plan, 2024)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A forecast. All of it is an estimate, but parameters and, for a recipe, FLOPs."""

    parameters: int
    tokens: int
    """Trained on, repeated ones counted again."""
    flops: float
    device: str
    count: int
    utilization: float | None
    """Share of the devices' peak that is reached; None where the peak is not known."""
    seconds: float
    """From start to end, on all devices together."""
    gpu_hours: float
    """Device hours: seconds x devices / 3600, be the device a GPU or not."""
    memory_bytes: int
    """Of training in all, over all devices."""
    memory: dict[str, int]
    """The same by part."""
    devices_needed: int | None
    """How many devices the memory takes; None for this very machine."""
    fits: bool | None
    """Whether the memory is there; None where that is not known."""
    energy_kwh: float
    co2_kg: float
    cost: float | None
    """Money; None without a price."""
    currency: str
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Plain values, marked as an estimate."""
        return {**asdict(self), "assumptions": list(self.assumptions), "estimate": True}


@dataclass(frozen=True, kw_only=True)
class Actual:
    """What a run took, for the comparison with its plan; None where it was not measured."""

    seconds: float | None = None
    flops: float | None = None
    memory_bytes: int | None = None
    energy_kwh: float | None = None
    co2_kg: float | None = None
    cost: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One line of the forecast against what happened."""

    what: str
    unit: str
    forecast: float | None
    actual: float | None
    ratio: float | None
    """Actual / forecast: more than 1 where it took more than was said. None where either is missing, or 0."""


def plan_from_counts(
    params: float,
    tokens: float,
    device: str,
    count: int = 1,
    utilization: float = 0.4,
    *,
    pue: float = DATA_CENTRE_PUE,
    grid: str = "CN",
    price_per_hour: float | None = None,
    currency: str = "CNY",
) -> Plan:
    """The forecast for a model of so many parameters on devices of the table: 6 FLOPs a parameter and token.

    Args:
        utilization: share of the peak that training reaches; 0.3 to 0.5 is usual on many GPUs.
        price_per_hour: of one device.
    Raises:
        ConfigError: an unknown device or grid, or a figure that cannot be.
    Source: 6 N D leaves attention's products out (arXiv:2001.08361, section 2.1).
    """
    _require_positive(params=params, tokens=tokens)
    _require_count(count)
    _require_settings(utilization, pue, price_per_hour)
    chosen = find_device(device)
    flops = 6.0 * params * tokens
    device_seconds = flops / (chosen.peak_flops * utilization)
    hours = device_seconds / 3600
    memory = BYTES_PER_PARAMETER * math.ceil(params)
    needed = max(1, math.ceil(memory / (chosen.memory_bytes * USABLE_MEMORY)))
    region = find_grid(grid)
    kwh = hours * chosen.watts / 1000 * pue
    finite = (flops, hours, kwh)
    if not all(math.isfinite(value) for value in finite):
        raise ConfigError(f"params {params:g} x tokens {tokens:g} is beyond what can be computed; check the figures")
    parts = {"weights": 2, "gradients": 2, "float32_weights": 4, "optimizer": 8}
    return Plan(
        parameters=math.ceil(params),
        tokens=math.ceil(tokens),
        flops=flops,
        device=chosen.name,
        count=count,
        utilization=utilization,
        seconds=device_seconds / count,
        gpu_hours=hours,
        memory_bytes=memory,
        memory={name: size * math.ceil(params) for name, size in parts.items()},
        devices_needed=needed,
        fits=count >= needed,
        energy_kwh=kwh,
        co2_kg=kwh * region.kg_per_kwh,
        cost=None if price_per_hour is None else hours * price_per_hour,
        currency=currency,
        assumptions=(
            "6 FLOPs a parameter and token: forward and backward, attention's own products left out",
            f"{chosen.name}: {chosen.peak_flops / 1e12:g} TFLOP/s at its peak, {chosen.memory_bytes / 1e9:.3g} GB, "
            f"{chosen.watts:g} W all along ({chosen.source})",
            f"{utilization:.0%} of the peak is reached, on {count} device(s), without failures or waiting",
            f"{BYTES_PER_PARAMETER} bytes a parameter (mixed precision, AdamW), spread evenly over the devices; "
            f"{1 - USABLE_MEMORY:.0%} of their memory is left for activations",
            f"the building takes {pue:g} times what the devices take (PUE); hosts and network are not counted",
            f"{region.kg_per_kwh:g} kg CO2 a kWh ({region.code}, {region.year}: {region.source})",
        ),
    )


def plan_training(
    shape: Shape,
    *,
    steps: int,
    batch: int,
    length: int,
    source: int = 0,
    predicted: int | None = None,
    accumulate: int = 1,
    flops: float | None = None,
    tokens: int | None = None,
    calibration: Calibration | None = None,
    peak_flops: float | None = None,
    utilization: float = 0.4,
    dtype: str = "float32",
    activation_checkpointing: bool = False,
    cores: int = 1,
    watts_per_core: float = WATTS_PER_CORE,
    pue: float = 1.0,
    grid: str = "CN",
    memory_available: int | None = None,
    price_per_hour: float | None = None,
    currency: str = "CNY",
    device: str = "this machine",
) -> Plan:
    """The forecast for training a model of a known shape on this machine.

    Args:
        length: tokens a row; where rows differ, of the longest.
        source: tokens of a row's source, beside an encoder.
        predicted: tokens of a batch that have logits; every token by default.
        flops, tokens: in all, where batches differ in size, counted by the caller.
        calibration: time of a whole update of `accumulate` passes, measured here; the best base for a forecast.
        peak_flops: matrix peak of this machine; with `utilization` it stands in for a calibration.
        cores: that compute all along.
        memory_available: bytes that can be had, to say whether it fits.
    Raises:
        ConfigError: a figure that cannot be, or neither a calibration nor a peak.
    """
    _require_positive(steps=steps, batch=batch, length=length, accumulate=accumulate, cores=cores)
    _require_positive(watts_per_core=watts_per_core)
    _require_settings(utilization, pue, price_per_hour)
    if flops is None:
        counted = training_flops(
            shape,
            batch,
            length,
            source=source,
            predicted=predicted,
            activation_checkpointing=activation_checkpointing,
        )
        flops = float(counted.total * accumulate * steps)
    if calibration is not None:
        seconds = calibration.seconds(steps)
        reached = None if not peak_flops or not seconds else flops / seconds / peak_flops
        basis = f"a step takes {calibration.step_s:.3g} s: the median of {calibration.steps} that were timed here"
    elif peak_flops is not None:
        _require_positive(peak_flops=peak_flops)
        seconds, reached = flops / (peak_flops * utilization), utilization
        basis = f"{utilization:.0%} of the matrix peak measured here ({peak_flops / 1e9:.3g} GFLOP/s) is reached"
    else:
        raise ConfigError("there is nothing to tell the time by: give a calibration, or the machine's peak_flops")
    memory = training_memory(
        shape,
        batch,
        length,
        source=source,
        predicted=predicted,
        dtype=dtype,
        activation_checkpointing=activation_checkpointing,
    )
    region = find_grid(grid)
    kwh = seconds * cores * watts_per_core / JOULES_PER_KWH * pue
    hours = seconds / 3600
    assumptions = [
        "training alone: evaluations, checkpoints and the other stages come on top",
        basis,
        f"{cores} core(s) draw {watts_per_core:g} W each, all along",
        f"{region.kg_per_kwh:g} kg CO2 a kWh ({region.code}, {region.year}: {region.source})",
    ]
    if pue != 1:
        assumptions.insert(3, f"the building takes {pue:g} times what the machine takes (PUE)")
    return Plan(
        parameters=parameters(shape).total,
        tokens=steps * accumulate * batch * (length + source) if tokens is None else tokens,
        flops=flops,
        device=device,
        count=1,
        utilization=reached,
        seconds=seconds,
        gpu_hours=hours,
        memory_bytes=memory.total,
        memory=memory.to_json(),
        devices_needed=None,
        fits=None if memory_available is None else memory.total <= memory_available,
        energy_kwh=kwh,
        co2_kg=kwh * region.kg_per_kwh,
        cost=None if price_per_hour is None else hours * price_per_hour,
        currency=currency,
        assumptions=tuple(assumptions),
    )


def forecast_against_actual(plan: Plan, actual: Actual) -> list[Comparison]:
    """What was forecast beside what it took, line by line; unmeasured lines stay, without a ratio."""
    lines: list[tuple[str, str, float | None, float | None]] = [
        ("time", "s", plan.seconds, actual.seconds),
        ("flops", "FLOP", plan.flops, actual.flops),
        ("memory", "bytes", plan.memory_bytes, actual.memory_bytes),
        ("energy", "kWh", plan.energy_kwh, actual.energy_kwh),
        ("co2", "kg", plan.co2_kg, actual.co2_kg),
        ("cost", plan.currency, plan.cost, actual.cost),
    ]
    return [
        Comparison(
            what=what,
            unit=unit,
            forecast=forecast,
            actual=took,
            ratio=took / forecast if forecast and took is not None else None,
        )
        for what, unit, forecast, took in lines
    ]


def _require_positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} is {value}; it must be more than 0, and finite")


def _require_count(count: int) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ConfigError(f"count is {count}; it counts devices, so a whole number of 1 or more")


def _require_settings(utilization: float, pue: float, price_per_hour: float | None) -> None:
    if not 0 < utilization <= 1:
        raise ConfigError(f"utilization is {utilization}; it is a share of the peak, more than 0 and at most 1")
    if not (math.isfinite(pue) and pue >= 1):
        raise ConfigError(f"pue is {pue}; the building takes at least what the machines take, so 1 or more")
    if price_per_hour is not None and not (math.isfinite(price_per_hour) and price_per_hour >= 0):
        raise ConfigError(f"price_per_hour is {price_per_hour}; it must be 0 or more")
