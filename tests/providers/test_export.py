from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from guiju.errors import ConfigError, StorageError
from guiju.providers import export_model
from guiju.providers.formats import FORMATS, Format

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K"


@pytest.fixture
def checkpoint(tmp_path):
    for name in ("stories260K.bin", "tok512.bin"):
        shutil.copy(STORIES / name, tmp_path / name)
    return tmp_path / "stories260K.bin"


def _stands(checkpoint) -> list[str]:
    return sorted(path.name for path in checkpoint.parent.iterdir())


def test_an_unknown_format_or_option_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match=r"no format 'word'; export can write huggingface, .*openai-gpt2"):
        export_model("nothing", to="word", out=tmp_path / "out")
    with pytest.raises(ConfigError, match=r"huggingface has no option 'type'; it belongs to gguf"):
        export_model("nothing", to="huggingface", out=tmp_path / "out", type="f16")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name, form in FORMATS.items() if form.libraries])
def test_a_library_that_is_missing_is_said_before_anything_is_read(name, tmp_path, monkeypatch):
    for library in FORMATS[name].libraries:
        monkeypatch.setitem(sys.modules, library, None)
        with pytest.raises(ConfigError, match=rf"needs {library}.*pip install 'guiju\[{FORMATS[name].extra}\]'"):
            export_model("nothing", to=name, out=tmp_path / "out")
        monkeypatch.undo()
    assert not list(tmp_path.iterdir())


def test_every_format_has_its_module_and_its_extra_is_declared():
    declared = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for form in FORMATS.values():
        assert importlib.util.find_spec(f"guiju.providers.formats.{form.module}") is not None, form
        assert form.extra is None or f"\n{form.extra} = [" in declared


def test_no_format_loads_the_library_of_another():
    code = (
        "import sys, guiju.providers.export, guiju.providers.formats.huggingface\n"
        "print([name for name in ('gguf', 'onnx', 'onnxscript', 'tensorflow', 'openvino') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "[]\n"


def test_an_export_never_replaces_what_is_there(checkpoint, tmp_path):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is there already"):
        export_model(checkpoint, to="huggingface", out=out)
    assert (out / "thesis.txt").read_text() == "years of work"


def test_an_export_that_fails_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    before = _stands(checkpoint)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("guiju.model.huggingface.write_weights", full)
    with pytest.raises(StorageError, match="disk is full"):
        export_model(checkpoint, to="huggingface", out=tmp_path / "out")
    assert _stands(checkpoint) == before


def test_a_disk_without_room_is_said_before_a_byte_is_written(checkpoint, tmp_path, monkeypatch):
    before = _stands(checkpoint)
    monkeypatch.setitem(FORMATS, "huggingface", Format("huggingface", copies=1e12))
    with pytest.raises(StorageError, match=r"the model exported to .* needs about"):
        export_model(checkpoint, to="huggingface", out=tmp_path / "out")
    assert _stands(checkpoint) == before


def test_the_verb_gives_the_option_to_the_format(checkpoint, tmp_path, guiju):
    answer = guiju("export", checkpoint, "--to", "huggingface", "--type", "f16", "--out", tmp_path / "out")
    assert answer.code == 2 and "has no option 'type'; it belongs to gguf" in answer.err
    assert not (tmp_path / "out").exists()
