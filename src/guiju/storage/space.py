"""Whether the disk has room for what a stage is about to write."""

from __future__ import annotations

import shutil
from pathlib import Path

from guiju.errors import StorageError

RESERVE_BYTES = 64 << 20
"""Kept free beyond what is asked for, so that a ledger can always take its last entries."""


def require_free_space(path: Path, size_bytes: int, purpose: str) -> None:
    """Stop before the work where the disk cannot hold its result.

    Raises:
        StorageError: less than `size_bytes` and the reserve are free where `path` is or will be.
    """
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < size_bytes + RESERVE_BYTES:
        raise StorageError(
            f"{purpose} needs about {_megabytes(size_bytes)} in {path}, beside a reserve of "
            f"{_megabytes(RESERVE_BYTES)}, but only {_megabytes(free)} are free; "
            "make room, or choose another folder with --out"
        )


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"
