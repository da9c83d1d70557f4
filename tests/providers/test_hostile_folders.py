from __future__ import annotations

import importlib.util
import json
import os
import queue
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

HERE = Path(__file__).parent
_spec = importlib.util.spec_from_file_location("hostile_folders", HERE / "hostile_folders.py")
assert _spec is not None and _spec.loader is not None
hostile = importlib.util.module_from_spec(_spec)
sys.modules["hostile_folders"] = hostile  # dataclasses look their module up
_spec.loader.exec_module(hostile)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the worker measures itself by /proc")
SECONDS, WALL_SECONDS = 5.0, 30.0
LONGEST_MESSAGE = 10_000


class Worker:
    """A process that loads one folder after the other, and is started anew where it hangs or dies."""

    def __init__(self, bases: dict[str, Path]) -> None:
        self.bases = bases
        self.start()

    def start(self) -> None:
        command = [sys.executable, str(HERE / "hostile_worker.py"), *map(str, self.bases.values())]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.bases["gpt2"].parent,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
        self.lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(self.process.stdout, self.lines), daemon=True).start()
        assert self.lines.get(timeout=120) == "ready\n"

    @staticmethod
    def _read(stream, lines) -> None:
        for line in stream:
            lines.put(line)
        lines.put("")

    def load(self, folder: Path, action: str = "load") -> dict:
        self.process.stdin.write(json.dumps({"folder": str(folder), "action": action}) + "\n")
        self.process.stdin.flush()
        try:
            line = self.lines.get(timeout=WALL_SECONDS)
        except queue.Empty:
            line = ""
        if not line:
            code = self.process.poll()
            self.stop()
            self.start()
            return {"outcome": "hung" if code is None else f"died with {code}", "message": "", "seen": []}
        return json.loads(line)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    return hostile.make_bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="module")
def worker(bases):
    worker = Worker(bases)
    yield worker
    worker.stop()


def _problems(case, place, said: dict) -> list[str]:
    """What a case did that it may not, in words."""
    found = [f"saw {event}" for event in said["seen"]]
    if place.canary.exists():
        found.append("the canary was written")
    if case.message is hostile.UNHARMED:
        if said["outcome"] != "loaded":
            found.append(f"{said['outcome']}: {said['message']}")
    elif said["outcome"] != "refused":
        found.append(f"{said['outcome']}: {said['message']}")
    elif not re.search(case.message, said["message"], re.DOTALL):
        found.append(f"the message does not say {case.message!r}: {said['message'][:500]}")
    if len(said["message"]) > LONGEST_MESSAGE:
        found.append(f"the message has {len(said['message'])} characters")
    if not all(character.isprintable() or character in "\n\u3000" for character in said["message"]):
        found.append(f"the message holds controls: {said['message'][:500]!r}")
    if said.get("seconds", 0) > SECONDS:
        found.append(f"took {said['seconds']:.1f} s")
    if said.get("grown_bytes", 0) > case.most_bytes:
        found.append(f"grew by {said['grown_bytes'] / 1e6:.0f} MB")
    return found


def _run(cases: dict, bases, worker, tmp_path) -> dict[str, list[str]]:
    """Problems by case; a good one has none."""
    problems = {}
    for number, (name, case) in enumerate(cases.items()):
        place = hostile.make(name, case, bases, tmp_path / str(number))
        before = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / str(number)).rglob("*"))
        found = _problems(case, place, worker.load(place.folder))
        after = sorted(path.relative_to(tmp_path).as_posix() for path in (tmp_path / str(number)).rglob("*"))
        if before != after:
            found.append(f"files were made or removed: {sorted(set(before) ^ set(after))[:5]}")
        if found:
            problems[name] = found
    return problems


def test_the_good_folders_load(bases, worker):
    for name, folder in bases.items():
        said = worker.load(folder)
        assert (said["outcome"], said["seen"]) == ("loaded", []), (name, said)


def test_more_than_sixty_hostile_folders_run_nothing_write_nothing_and_are_refused_by_name(bases, worker, tmp_path):
    assert len(hostile.CASES) >= 60
    assert _run(hostile.CASES, bases, worker, tmp_path) == {}


@pytest.mark.soak
def test_three_hundred_hostile_folders(bases, worker, tmp_path):
    cases = {**hostile.CASES, **dict(hostile.more_cases())}
    assert len(cases) >= 300
    problems = _run(cases, bases, worker, tmp_path)
    print(f"{len(cases)} hostile folders, {len(problems)} with problems; 0 executions in {len(cases)}")
    assert problems == {}


@pytest.mark.parametrize(("action", "planted", "event"), [
    ("planted pickle", None, "pickle.find_class"),
    ("planted code", "import os\nopen('{canary}', 'w').close()", "exec of '<string>'"),
    ("planted template", "{{{{ cycler.__init__.__globals__.os.popen('touch {canary}').read() }}}}", "subprocess.Popen"),
])  # fmt: skip
def test_an_execution_that_is_planted_is_noticed(action, planted, event, bases, worker, tmp_path):
    place = hostile.make("planted", hostile.CASES["code beside a good model"], bases, tmp_path / "case")
    data = hostile._pickle(place) if planted is None else planted.format(canary=place.canary).encode()
    (place.folder / "planted").write_bytes(data)
    said = worker.load(place.folder, action)
    assert place.canary.exists()
    assert any(seen.startswith(event) for seen in said["seen"]), said
    assert "the canary was written" in _problems(hostile.CASES["code beside a good model"], place, said)


def test_a_hang_is_noticed_and_the_next_folder_is_still_tried(bases, worker, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "WALL_SECONDS", 1.0)
    (tmp_path / "planted").write_text("import time; time.sleep(30)")
    assert worker.load(tmp_path, "planted code")["outcome"] == "hung"
    monkeypatch.undo()
    assert worker.load(bases["llama"])["outcome"] == "loaded"
