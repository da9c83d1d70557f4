from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import ledger_worlds


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, quick: Path) -> Path:
    """Keys of this test alone."""
    monkeypatch.setenv("GUIJU_HOME", str(quick / "home"))
    return quick / "home"


@pytest.fixture
def quick() -> Iterator[Path]:
    """A folder in memory where there is one."""
    with ledger_worlds.in_memory() as place:
        yield place


@pytest.fixture(scope="session")
def standalone():
    """verify.py at the root of the repository, as a module."""
    return ledger_worlds.standalone
