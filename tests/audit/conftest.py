from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signing key of these tests, away from the user's own."""
    monkeypatch.setenv("GUIJU_HOME", str(tmp_path / "home"))
