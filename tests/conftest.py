"""What tests of several rooms share: a run small enough for seconds, over real text, and the command line."""

from __future__ import annotations

import copy
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# Two workers share two cores; a test that wants more threads says so.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import yaml

EXTRAS = {
    "cpu": ("openvino", "nncf"),
    "eval": ("rouge_score", "sacrebleu", "sklearn"),
    "gguf": ("gguf",),
    "grammar": ("llguidance",),
    "harness": ("inspect_ai", "lm_eval"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openai": ("openai",),
    "tensorflow": ("tensorflow",),
}


def pytest_configure() -> None:
    """Where GUIJU_EXTRAS names extras, as in CI, their tests may not skip: what they need must be there."""
    for extra in filter(None, os.environ.get("GUIJU_EXTRAS", "").split(",")):
        for module in EXTRAS.get(extra, (extra,)):
            if importlib.util.find_spec(module) is None:
                raise pytest.UsageError(
                    f"GUIJU_EXTRAS names {extra}, whose tests may not be skipped here, but {module} is not installed: "
                    f"pip install 'guiju[{extra}]'"
                )


ROOT = Path(__file__).parents[1]
DATA = ROOT / "examples" / "data"


class Steps:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, str, str]] = []
        self.notes: list[str] = []

    def stage(self, name: str, status: str, why: str) -> None:
        self.stages.append((name, status, why))

    def progress(self, done: int, total: int, label: str) -> None: ...

    def finished(self, name: str, seconds: float, line: str) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


TINY: dict[str, Any] = {
    "corpus": {
        "sources": [
            {
                "name": "stories",
                "path": str(DATA / "tinystories" / "tinystories_sample.train.txt.gz"),
                "split_on": "<|endoftext|>",
                "max_documents": 120,
                "language": "en",
                "licence": "CDLA-Sharing-1.0",
                "origin": "TinyStories",
                "date": "2023",
            },
            {
                "name": "poems",
                "path": str(DATA / "chinese-poetry" / "ci.song.0.json.gz"),
                "text_fields": "paragraphs",
                "max_documents": 120,
                "language": "zh",
                "licence": "MIT",
                "origin": "chinese-poetry",
                "date": "2019",
            },
        ],
    },
    "tokenizer": {"vocab_size": 400},
    "model": {"shape": "llama", "width": 32, "layers": 2, "heads": 2, "context": 64},
    "training": {
        "steps": 12,
        "batch": 2,
        "warmup_steps": 2,
        "evaluate_every": 6,
        "checkpoint_every": 4,
        "dtype": "float32",
    },
    "generation": {
        "prompts": [{"text": "Once upon a time", "language": "en"}, {"text": "春风", "language": "zh"}],
        "sampling": {"max_new_tokens": 8, "num_return_sequences": 2, "seed": 1},
    },
}


@pytest.fixture
def tiny() -> dict[str, Any]:
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session", autouse=True)
def _own_keys(tmp_path_factory):
    """Signing keys of the tests stay among the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUIJU_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def write(recipe: dict[str, Any], path: Path) -> Path:
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def write_recipe(tmp_path) -> Callable[[dict[str, Any]], Path]:
    return lambda recipe: write(recipe, tmp_path / "recipe.yaml")


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def copied_run(tiny_run, tmp_path, monkeypatch) -> tuple[Path, Path]:
    """The same as `tiny_run`, to be changed: a copy of the run, and of the home that remembers what it signed."""
    recipe, run = tiny_run
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(os.environ["GUIJU_HOME"], tmp_path / "home")
    monkeypatch.setenv("GUIJU_HOME", str(tmp_path / "home"))
    return recipe, tmp_path / "run"


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def guiju(capsys, monkeypatch) -> Callable[..., Answer]:
    """The command line, in this process: exit code, stdout and stderr of a verb."""
    from guiju.cli import main

    def call(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["guiju", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return call


@pytest.fixture(scope="session")
def tensorflow() -> Any:
    """TensorFlow, imported once: that takes seconds."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs pip install 'guiju[tensorflow]'")
    from guiju.providers.tensorflow_library import import_tensorflow

    return import_tensorflow()


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> tuple[Path, Path]:
    """(recipe file, run folder) of a finished run; whoever changes it takes a copy."""
    from guiju.pipeline import run_recipe

    place = tmp_path_factory.mktemp("tiny")
    recipe = write(TINY, place / "tiny.yaml")
    run_recipe(recipe, reporter=Steps(), out=place / "run")
    return recipe, place / "run"
