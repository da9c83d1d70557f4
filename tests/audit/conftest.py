from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "pages")]


@pytest.fixture(autouse=True)
def own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signing key of these tests, away from the user's own."""
    monkeypatch.setenv("GUIJU_HOME", str(tmp_path / "home"))
