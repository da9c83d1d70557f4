"""CI names the extras whose tests may not be skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_an_extra_that_is_named_but_not_installed_stops_the_tests():
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/test_settings.py", "--collect-only"],
        cwd=ROOT, env={**os.environ, "GUIJU_EXTRAS": "cpu,no_such_extra"}, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 4, ended.stdout + ended.stderr
    assert "no_such_extra is not installed" in ended.stderr


def test_ci_names_every_extra_that_has_a_runtime():
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for extra in ("cpu", "gguf", "grammar", "onnx", "tensorflow"):
        assert extra in text.partition("GUIJU_EXTRAS=")[2].splitlines()[0]
