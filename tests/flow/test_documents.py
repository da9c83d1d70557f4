"""Every command in the README and the tutorial does what the page says, in either language."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "README.zh.md", "docs/tutorial.md", "docs/tutorial.zh.md"]
TUNED_SHORT = ("training.steps=6", "training.warmup_steps=2", "data.limit=200", "training.batch=4")
LINK = re.compile(r"\]\(([^)#][^)]*)\)")


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    """A folder that looks like the project, with a shortened quickstart in runs/quickstart."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("examples", "recipes", "verify.py", "Makefile", "pyproject.toml"):
        (folder / name).symlink_to(ROOT / name)
    short = ["training.steps=6", "training.warmup_steps=2", "training.batch=2", "model.layers=1", "model.width=32"]
    command = [sys.executable, "-m", "guiju", "run", "recipes/quickstart.yaml"]
    ended = subprocess.run(
        [*command, *(word for setting in short for word in ("--set", setting))],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "Warning" not in ended.stderr
    assert "guiju verify runs/quickstart" in ended.stdout
    return folder


def execute(line: str, place: Path) -> None:
    words = shlex.split(line)
    match words:
        case ["make", *targets]:
            command = ["make", "-n", *targets]
            assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0, line
            return
        case ["source", ".venv/bin/activate"]:
            return
        case ["guiju", "finetune", *arguments]:
            short = [word for setting in TUNED_SHORT for word in ("--set", setting)]
            command = [sys.executable, "-m", "guiju", "finetune", *arguments, *short]
        case ["guiju", *arguments]:
            command = [sys.executable, "-m", "guiju", *arguments]
        case ["python3", *arguments]:
            command = [sys.executable, "-S", *arguments]
        case ["cp", *_]:
            command = words
        case _:
            raise AssertionError(f"the page names a command that no test knows: {line}")
    ended = subprocess.run(command, cwd=place, capture_output=True, text=True)
    # An audit that finds a failure ends with 1, and says so; a model of six steps may have no answer, and says so.
    said = {"audit": True, "translate": "no answer" in ended.stderr}.get(words[1], False)
    assert ended.returncode == 0 or (said and ended.returncode == 1), (line, ended.stderr[-2000:])
    assert "Traceback" not in ended.stderr
    assert ended.stdout.strip() or words[0] == "cp" or ended.returncode


def test_the_commands_of_both_readmes_work(place):
    done: set[str] = set()
    for page in ("README.md", "README.zh.md"):
        lines = [line for block in blocks(page, "sh") for line in block.splitlines() if line.strip()]
        assert {"make quickstart", "make test", "guiju verify runs/quickstart"} <= set(lines)
        for line in lines:
            if line not in done:
                execute(line, place)
            done.add(line)


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_readmes_python_works(place, page):
    for code in blocks(page, "python"):
        ended = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.strip()


def test_the_tutorial_can_be_followed_to_its_end(place):
    [recipe] = blocks("docs/tutorial.md", "yaml")
    (place / "diary").mkdir()
    (place / "diary" / "recipe.yaml").write_text(recipe, encoding="utf-8")
    english, chinese = ([b.splitlines() for b in blocks(f"docs/tutorial{end}.md", "sh")] for end in ("", ".zh"))
    assert english == chinese  # the same way, told in two languages
    for block in english:
        for line in block:
            execute(line, place)
    codes = blocks("docs/tutorial.md", "python")
    assert codes == blocks("docs/tutorial.zh.md", "python")
    for code in codes:
        ended = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith("Once upon a time")
    assert "GPT2LMHeadModel" in codes[-1] and ended.stdout.count("Once upon a time") >= 5


@pytest.mark.slow
def test_the_howtos_of_finetuning_and_of_trl_can_be_followed(place, guiju, monkeypatch):
    """Each recipe is one, and each command and program of the two pages does what they say, at toy size."""
    from guiju.pipeline import read_finetune_recipe

    monkeypatch.chdir(place)
    for number, recipe in enumerate(blocks("docs/howto/finetune.md", "yaml")):
        Path(f"tuning-{number}.yaml").write_text(recipe, encoding="utf-8")
        read_finetune_recipe(Path(f"tuning-{number}.yaml"))
    pages = [(ROOT / f"docs/howto/{page}.md").read_text(encoding="utf-8") for page in ("finetune", "trl")]
    steps = re.findall(r"^```(sh|python)\n(.*?)^```", "\n".join(pages), flags=re.MULTILINE | re.DOTALL)
    for language, found in itertools.groupby(steps, key=lambda step: step[0]):
        code = "\n".join(part for _, part in found)
        if language == "sh":
            for line in filter(None, code.splitlines()):
                name, verb, *rest = shlex.split(line)
                short = [word for setting in TUNED_SHORT for word in ("--set", setting)] if verb == "finetune" else []
                answer = guiju(verb, *rest, *short)
                assert (name, answer.code) == ("guiju", 0), (line, answer.err)
        elif "trl" in code:
            ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            assert ended.returncode == 0, ended.stderr[-3000:]
        else:
            exec(compile(code, "docs/howto/trl.md", "exec"), {})
    assert Path("merged/model.safetensors").is_file()


def test_five_greedy_sequences_are_refused_with_the_reason(place):
    line = "generate --model runs/quickstart --prompt x --greedy --num-return-sequences 5"
    ended = subprocess.run([sys.executable, "-m", "guiju", *line.split()], cwd=place, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "greedy" in ended.stderr and "Traceback" not in ended.stderr


HOWTOS = [f"docs/howto/{name}.md" for name in ("finetune", "trl")]


@pytest.mark.parametrize("page", [*PAGES, *HOWTOS, "docs/flow.md", "docs/decisions/README.md"])
def test_every_link_leads_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if "://" not in target:
            assert ((ROOT / page).parent / target.partition("#")[0]).exists(), target


def test_the_reference_is_what_the_code_says():
    ended = subprocess.run(
        [sys.executable, "docs/make_reference.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


def test_nothing_names_this_machine_or_a_registry():
    """A project that speaks of itself alone: no path of a machine, no mirror, no shared folder but in CI."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout, so there is no list of files")
    words = ("/wor" + "k/main", "../sha" + "red", "pypi" + ".org", "index" + "-url https://pypi")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if name == ".ci/run" or not path.is_file() or path.suffix in {".gz", ".bin", ".png"}:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not [word for word in words if word in text], name
