"""docs/howto/providers.md does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "howto" / "providers.md").read_text("utf-8"), re.DOTALL)


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)


def test_the_page_has_three_programs():
    assert len(BLOCKS) == 3


def test_a_model_of_this_machine(here, capsys):
    exec(compile(BLOCKS[0], "providers.md", "exec"), {})
    assert "there was a little girl" in capsys.readouterr().out


def test_a_server(here, serve, capsys):
    serve()
    exec(compile(BLOCKS[1], "providers.md", "exec"), {})
    assert "/v1/completions" in capsys.readouterr().out


def test_tensorflow(here, tensorflow, capsys):
    exec(compile(BLOCKS[2], "providers.md", "exec"), {})
    losses = [float(line) for line in capsys.readouterr().out.splitlines()[:3]]
    assert losses[0] > losses[2]
