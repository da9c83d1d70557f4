"""A plan as text, for a person."""

from __future__ import annotations

from guiju.compute.plan import Comparison, Plan

_SCALES = ((1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def describe_plan(plan: Plan) -> str:
    """The forecast, a line a figure, with what it assumes."""
    memory = f"{_scaled(plan.memory_bytes)}B"
    if plan.devices_needed is not None:
        memory += f" (at least {plan.devices_needed} x {plan.device}; {'fits' if plan.fits else 'does not fit'})"
    elif plan.fits is not None:
        memory += " (fits)" if plan.fits else " (more than is free here)"
    reached = "" if plan.utilization is None else f", {plan.utilization:.0%} of the peak"
    lines = [
        ("parameters", f"{plan.parameters:,}"),
        ("tokens", f"{plan.tokens:,}"),
        ("FLOPs", f"{plan.flops:.3g}"),
        ("device", f"{plan.count} x {plan.device}{reached}"),
        ("time", _duration(plan.seconds)),
        ("device hours", _number(plan.gpu_hours)),
        ("memory", memory),
        ("energy", f"{_energy(plan.energy_kwh)} (estimate)"),
        ("CO2", f"{_mass(plan.co2_kg)} (estimate)"),
        ("cost", "no price given" if plan.cost is None else f"{plan.cost:,.2f} {plan.currency}"),
    ]
    text = [f"{name:<14}{value}" for name, value in lines]
    return "\n".join([*text, "", "This is a forecast. It assumes that", *(f"- {line}" for line in plan.assumptions)])


def describe_comparison(rows: list[Comparison]) -> str:
    """Forecast against actual as a small table."""
    text = [f"{'':<10}{'forecast':>14}{'actual':>14}{'ratio':>8}"]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        text.append(f"{row.what:<10}{_value(row.forecast, row.unit):>14}{_value(row.actual, row.unit):>14}{ratio:>8}")
    return "\n".join(text)


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "s":
        return _duration(value)
    if unit in ("FLOP", "bytes"):
        return _scaled(value) + (unit if unit == "FLOP" else "B")
    if unit == "kWh":
        return _energy(value)
    return _mass(value) if unit == "kg" else f"{value:,.2f} {unit}"


def _scaled(value: float) -> str:
    for size, letter in _SCALES:
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g} "


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _energy(kwh: float) -> str:
    return f"{_number(kwh)} kWh" if kwh >= 1 else f"{kwh * 1000:.3g} Wh"


def _mass(kilograms: float) -> str:
    if kilograms >= 1000:
        return f"{_number(kilograms / 1000)} t"
    return f"{kilograms:.3g} kg" if kilograms >= 1 else f"{kilograms * 1000:.3g} g"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:,.1f} days"
