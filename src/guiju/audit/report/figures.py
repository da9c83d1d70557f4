"""How numbers and moments read in a report."""

from __future__ import annotations

from guiju.audit.report.story import number
from guiju.pages import Text

_LARGE = ((1e24, " Y"), (1e21, " Z"), (1e18, " E"), (1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"))


def whole(value: object) -> str:
    """A count with separators, or a dash where there is none."""
    found = number(value)
    return "–" if found is None else f"{found:,.0f}"


def brief(value: object) -> str:
    """A number in four digits or so, whatever its size."""
    found = number(value)
    if found is None:
        return str(value) if isinstance(value, str) and value else "–"
    if found == round(found) and abs(found) < 1e7:
        return f"{found:,.0f}"
    if abs(found) >= 1e6:
        return large(found)
    if found != 0 and abs(found) < 1e-3:
        return f"{found:.3g}"
    return f"{found:,.4g}" if abs(found) < 1000 else f"{found:,.0f}"


def large(value: float) -> str:
    """A large number with its SI prefix: 1.23 T."""
    for size, prefix in _LARGE:
        if abs(value) >= size:
            return f"{value / size:.3g}{prefix}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"


def in_unit(value: object, unit: str) -> str:
    """A quantity in the unit that fits its size: seconds as minutes, bytes as MB."""
    found = number(value)
    if found is None:
        return "–"
    if unit in ("s", "seconds"):
        return duration(found)
    if unit in ("bytes", "B"):
        for size, prefix in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
            if found >= size:
                return f"{found / size:.3g} {prefix}"
        return f"{found:,.0f} B"
    if unit in ("FLOP", "FLOPs", "flops"):
        return f"{large(found)}FLOP" if found >= 1e6 else f"{found:,.0f} FLOP"
    if unit == "kWh" and 0 < found < 0.1:
        return f"{found * 1000:.3g} Wh"
    if unit.startswith("kg") and 0 < found < 0.1:
        return f"{found * 1000:.3g} {unit[1:]}"
    return f"{brief(found)} {unit}".strip()


def duration(seconds: float) -> str:
    """As clocks tell it: 42 s, 2 min 05 s, 1 h 12 min."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min"


def moment(time: str) -> str:
    """A ledger time to the second: 2026-11-23 19:54:48 UTC."""
    return time[:19].replace("T", " ") + " UTC" if len(time) >= 19 else time


def words(table: dict[str, tuple[str, str]], key: str) -> Text:
    """A word of ours in both languages; a foreign one stays as it is."""
    return Text(*table[key]) if key in table else Text(key, key)
