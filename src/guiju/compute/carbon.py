"""How much CO2 a kilowatt-hour stands for, by grid. Always an estimate: a yearly mean of a whole country."""

from __future__ import annotations

from dataclasses import dataclass

from guiju.errors import ConfigError


@dataclass(frozen=True)
class Grid:
    """A country's electricity."""

    code: str
    kg_per_kwh: float
    year: int
    source: str


_EMBER = "Ember, yearly electricity data (CC BY 4.0), life cycle, by way of Our World in Data"
_MEE = "Ministry of Ecology and Environment of China, announced January 2026; direct emissions, national mean"

GRIDS = (
    Grid("CN", 0.5306, 2023, _MEE),
    Grid("WORLD", 0.481, 2023, _EMBER),
    Grid("AT", 0.111, 2023, _EMBER),
    Grid("AU", 0.549, 2023, _EMBER),
    Grid("BE", 0.138, 2023, _EMBER),
    Grid("BR", 0.098, 2023, _EMBER),
    Grid("CA", 0.170, 2023, _EMBER),
    Grid("CL", 0.291, 2023, _EMBER),
    Grid("DE", 0.381, 2023, _EMBER),
    Grid("DK", 0.152, 2023, _EMBER),
    Grid("FI", 0.079, 2023, _EMBER),
    Grid("FR", 0.056, 2023, _EMBER),
    Grid("GB", 0.238, 2023, _EMBER),
    Grid("IE", 0.291, 2023, _EMBER),
    Grid("IN", 0.713, 2023, _EMBER),
    Grid("JP", 0.485, 2023, _EMBER),
    Grid("KR", 0.431, 2023, _EMBER),
    Grid("NO", 0.030, 2023, _EMBER),
    Grid("SE", 0.041, 2023, _EMBER),
    Grid("SG", 0.471, 2023, _EMBER),
    Grid("US", 0.369, 2023, _EMBER),
)


def find_grid(code: str) -> Grid:
    """The grid of a country's two-letter code (ISO 3166), or of WORLD.

    Raises:
        ConfigError: the table has none.
    """
    for grid in GRIDS:
        if grid.code == code.strip().upper():
            return grid
    codes = ", ".join(grid.code for grid in GRIDS)
    raise ConfigError(f"grid is {code!r}, whose CO2 per kilowatt-hour is not in the table; it holds {codes}")
