"""A file of JSON lines that grows while training runs."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guiju.errors import StorageError

BITS_PER_BYTE = "bits_per_byte"
"""What evaluations measure where nothing else is said."""


class Lines:
    """Appends lines; what is lost with a crash is written again by the run that goes on from the last checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("ab")

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line; it may wait in memory until `flush`."""
        try:
            self._file.write((json.dumps(line, sort_keys=True, allow_nan=False) + "\n").encode())
        except OSError as error:
            raise self._explained(error) from error

    def flush(self) -> None:
        """Hand all lines to the operating system."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._explained(error) from error

    def close(self) -> None:
        """Close the file; lines that a full disk does not take are dropped, as the checkpoint does not hold them."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _explained(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.path} could not be written ({error.strerror}); the last checkpoint is untouched. Free space on the "
            "disk, and run again to go on from there."
        )


def plain_number(value: float) -> float | str:
    """A number as JSON can hold it: what is not finite becomes a word."""
    return value if math.isfinite(value) else str(value)


def evaluations(log: Path, measure: str = BITS_PER_BYTE) -> tuple[tuple[int, float], ...]:
    """(step, what was measured) of each evaluation in a training log."""
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    return tuple((line["step"], float(line[measure])) for line in lines if measure in line)
