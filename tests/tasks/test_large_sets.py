"""A set may be larger than memory: what an evaluation holds grows by numbers, not by texts; and it stops when told."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from guiju.errors import DataError
from guiju.model import bert_config, build_model, save_model
from guiju.providers import RemoteSettings, load
from guiju.tasks import (
    Labelled,
    Pair,
    Question,
    RecordFile,
    TaskSettings,
    compare,
    evaluate,
    read_predictions,
    read_records,
    rereadable,
)
from guiju.tasks.identity import IdIndex, record_digest, text_digest
from guiju.tasks.store import SAMPLES, read_samples
from guiju.tokens import TokenizerSettings, train_tokenizer

pytest.importorskip("sacrebleu", reason="needs pip install 'guiju[eval]'")

ROOT = Path(__file__).parents[2]
STORIES = ROOT / "examples" / "data" / "stories260K" / "stories260K.bin"
WORDS = ("the", "film", "was", "good", "story", "and", "ann", "came", "home", "no", "end", "of", "joy", "but", "dull")


def write_set(folder: Path, count: int, task: str = "sentiment", size: int = 2000) -> tuple[Path, Path]:
    """Records with texts of so many characters, and predictions for them."""
    chance = random.Random(1)
    folder.mkdir(exist_ok=True)
    data, answers = folder / f"data{count}.jsonl", folder / f"answers{count}.jsonl"
    with data.open("w") as rows, answers.open("w") as said:
        for number in range(count):
            text = f"{number} " + " ".join(chance.choices(WORDS, k=size // 5))
            wanted = str(chance.randrange(2)) if task == "sentiment" else text[: size // 2]
            fields = ("text", "label") if task == "sentiment" else ("source", "target")
            rows.write(json.dumps({"id": f"r{number}", **dict(zip(fields, (text, wanted), strict=True))}) + "\n")
            given = wanted if chance.random() < 0.8 else "1" if task == "sentiment" else text[:99]
            said.write(json.dumps({"id": f"r{number}", "prediction": given}) + "\n")
    return data, answers


# VmHWM: getrusage tells a child of at least what its parent took when it forked.
CHILD = """
import re
from pathlib import Path
import guiju.tasks.evaluation
def taken(what):
    return int(re.search(what + r":\\s*(\\d+) kB", Path("/proc/self/status").read_text()).group(1))
before = 0
{before}
{call}
print(taken("VmHWM") - before)
"""
EVALUATE = """
from guiju.model import bert_config, build_model, save_model
from guiju.tasks import Labelled, Pair, RecordFile, evaluate, read_predictions
kind = {{"sentiment": Labelled, "translation": Pair}}["{task}"]
evaluate("{task}", RecordFile("{data}", kind), predictions=read_predictions(Path("{answers}")), out=Path("{out}"))
"""


def peak(call: str, before: str = "") -> int:
    """Bytes of memory that a process of its own takes at most."""
    code = CHILD.format(call=call, before=before)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    return int(found.stdout.split()[-1]) * 1024


def growth(folder: Path, task: str, counts: tuple[int, int], size: int, before: str = "") -> float:
    """Bytes of memory for a record more."""
    peaks = []
    for count in counts:
        data, answers = write_set(folder, count, task, size)
        call = EVALUATE.format(task=task, data=data, answers=answers, out=folder / f"out{count}")
        peaks.append(peak(call, before))
    return (peaks[1] - peaks[0]) / (counts[1] - counts[0])


@pytest.mark.parametrize(
    ("task", "counts", "size", "most"),
    # The counts of which three scores of a translation are made take 176 bytes.
    [("sentiment", (2000, 14000), 2000, 400), ("translation", (2000, 6000), 120, 800)],
)
def test_memory_grows_by_numbers_and_not_by_texts(task, counts, size, most, tmp_path):
    assert growth(tmp_path, task, counts, size) < most


def test_the_measure_sees_it_when_the_texts_are_held(tmp_path):
    hold = """
import guiju.tasks.survey as survey
asked = survey.Survey.asked
survey.Survey.asked = lambda self: iter(list(asked(self)))
"""
    assert growth(tmp_path, "sentiment", (1500, 5500), 2000, hold) > 2000


ASK = """
from guiju.providers import load
from guiju.tasks import Labelled, RecordFile, TaskSettings, evaluate
def ask(limit):
    settings = TaskSettings(long_sources="refuse", limit=limit)
    found = evaluate("sentiment", RecordFile("{data}", Labelled), model=model, settings=settings)
    assert found.refused == found.n - found.n // 20
model = load("{model}")
ask(200)  # what torch takes once, it has now
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
before = taken("VmRSS")
ask(None)
"""


def test_a_model_is_asked_in_pools_of_which_no_text_stays(tmp_path):
    torch.manual_seed(5)
    tokenizer = train_tokenizer([" ".join(WORDS) * 30], TokenizerSettings(vocab_size=300))
    size = {"vocab_size": 300, "context": 64, "width": 8, "layers": 1, "heads": 1}
    save_model(build_model(bert_config(**size, head="classes", labels=("0", "1"))).eval(), tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    data = tmp_path / "data.jsonl"
    rows = [{"text": "but dull " * (4 if n % 20 == 0 else 1000), "label": str(n % 2)} for n in range(2400)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call = ASK.format(data=data, model=tmp_path / "model")
    found = peak(call, "import guiju.tasks.estimates as estimates; estimates.DRAWS = 10")
    assert found / 2400 < 2000  # each text is of 9,000


# --- records that are read twice


def test_a_set_that_changes_between_its_two_readings_is_noticed(tmp_path):
    data, answers = write_set(tmp_path, 20, size=50)
    given = read_predictions(answers)
    rows = data.read_text().splitlines(keepends=True)

    class Changing:
        """A file into which somebody writes after it was read once."""

        def __init__(self, after: str) -> None:
            self.after = after

        def __iter__(self):
            yield from read_records(data, Labelled)
            data.write_text(self.after)

    for after, message in (
        ("".join(rows[:-1]), "of 20 records only 19 are left"),
        ("".join(rows).replace("dull", "fine"), "holds something else than a moment ago"),
    ):
        data.write_text("".join(rows))
        with pytest.raises(DataError, match=message):
            evaluate("sentiment", Changing(after), predictions=given, out=tmp_path / "out")
    assert not (tmp_path / "out" / SAMPLES).exists()


def test_records_of_an_iterator_and_of_a_pipe_are_measured_like_those_of_a_file(tmp_path):
    data, answers = write_set(tmp_path, 30, size=50)
    given = read_predictions(answers)
    wanted = evaluate("sentiment", RecordFile(data, Labelled), predictions=given).to_json()
    assert evaluate("sentiment", read_records(data, Labelled), predictions=given).to_json() == wanted
    os.mkfifo(tmp_path / "pipe.jsonl")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe.jsonl").write_bytes(data.read_bytes()))
    writer.start()
    found = rereadable(tmp_path / "pipe.jsonl", Labelled)
    writer.join()
    assert evaluate("sentiment", found, predictions=given).to_json() == wanted


def test_of_a_part_the_classes_of_the_whole_are_known_and_the_part_alone_is_measured(tmp_path):
    data, answers = write_set(tmp_path, 30, size=50)
    part = evaluate(
        "sentiment",
        RecordFile(data, Labelled),
        predictions=read_predictions(answers),
        settings=TaskSettings(limit=1),
        out=tmp_path / "out",
    )
    assert part.n == 1
    assert json.loads((tmp_path / "out" / "asked.json").read_text())["labels"] == ["0", "1"]
    with data.open("a") as file:
        file.write('{"id": "r3", "text": "again", "label": "1"}\n')
    with pytest.raises(DataError, match=r"line 31 has the id 'r3', which .*line 4 has, too"):
        evaluate("sentiment", RecordFile(data, Labelled), predictions=read_predictions(answers))


class Steps:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, str]] = []

    def stage(self, name: str, status: str, why: str) -> None: ...

    def note(self, text: str) -> None: ...

    def progress(self, done: int, total: int, label: str) -> None:
        self.told.append((done, total, label))


def test_who_waits_for_a_large_file_is_told_how_far_it_is(tmp_path, monkeypatch):
    data, answers = write_set(tmp_path, 40, size=50)
    given, steps = read_predictions(answers), Steps()
    evaluate("sentiment", RecordFile(data, Labelled), predictions=given, reporter=steps)
    assert steps.told == []  # it took no two seconds
    monkeypatch.setattr("guiju.tasks.survey._PATIENCE_S", 0.0)
    read_predictions(answers, steps)
    evaluate("sentiment", RecordFile(data, Labelled), predictions=given, reporter=steps)
    assert (39, 0, "39 predictions read") in steps.told
    assert (39, 0, "39 records read") in steps.told
    assert (39, 40, "39 of 40 samples") in steps.told
    assert (39, 40, "39 of 40 samples scored") in steps.told


# --- what is kept of records


def test_an_index_finds_each_id_and_no_other_and_knows_what_comes_twice():
    ids = [f"id {n}" for n in range(500)] + ["id 7"]
    index = IdIndex(array("Q", map(text_digest, ids)))
    assert [index.find(f"id {n}") for n in range(500)] == [500 if n == 7 else n for n in range(500)]
    assert index.find("id 500") is None
    assert index.repeated() == {text_digest("id 7")}
    assert IdIndex(array("Q")).find("x") is None


def test_a_records_digest_is_of_all_it_holds_but_its_place():
    one = Question(id="a", place="x", question="Who?", context="Ann\ud800", answers=("Ann",), starts=(0,))
    assert record_digest(one) == record_digest(replace(one, place="y"))
    changes = {"id": "b", "question": "Who", "context": "Ann", "answers": ("An", "n"), "starts": (1,), "title": "t"}
    found = {record_digest(replace(one, **{name: value})) for name, value in changes.items()} | {record_digest(one)}
    assert len(found) == 7
    moved = [Pair(id="a", place="", source=source, targets=("z",)) for source in ("xy", "x")]
    moved.append(replace(moved[1], id="ay"))
    assert len(set(map(record_digest, moved))) == 3


def test_samples_are_read_back_in_the_records_order_whatever_their_order_in_the_file(tmp_path):
    data, answers = write_set(tmp_path, 40, size=50)
    lines = answers.read_text().splitlines(keepends=True)
    evaluate("sentiment", RecordFile(data, Labelled), predictions=read_predictions(answers), out=tmp_path / "a")
    rows = data.read_text().splitlines(keepends=True)
    data.write_text("".join(reversed(rows)))
    answers.write_text("".join(lines[20:] + lines[:20]).replace('"1"', '"0"'))
    evaluate("sentiment", RecordFile(data, Labelled), predictions=read_predictions(answers), out=tmp_path / "b")
    before, after = read_samples(tmp_path / "a"), read_samples(tmp_path / "b")
    assert [one.record.id for one in before.samples] == [f"r{n}" for n in range(40)]
    assert before.samples[3].record.text == after.samples[36].record.text
    found = compare(tmp_path / "a", tmp_path / "b")
    assert (found.n, found.left_out) == (40, 0)
    half = sum('"label": "0"' in row for row in rows) / 40
    assert (found.before["accuracy"].n, found.after["accuracy"].value) == (40, pytest.approx(half))


def test_the_page_shows_no_more_rows_than_a_browser_bears_and_says_where_the_others_are(tmp_path, monkeypatch):
    monkeypatch.setattr("guiju.tasks.table.MOST_ROWS", 10)
    data, answers = write_set(tmp_path, 60, size=50)
    evaluate("sentiment", RecordFile(data, Labelled), predictions=read_predictions(answers), out=tmp_path / "out")
    page = (tmp_path / "out" / "samples.html").read_text()
    states = re.findall(r'<tr data-state="(\w+)"', page)
    wrong = sum(one.prediction != one.record.label for one in read_samples(tmp_path / "out").samples)
    assert states == (["wrong"] * wrong + ["right"] * 10)[:10]
    assert "The first 10 of 60 samples, wrong ones first. All of them are in samples.jsonl" in page


# --- stopping


def test_an_evaluation_stopped_from_the_keyboard_ends_at_once_and_what_was_answered_stays(tmp_path, serve_slowly):
    data = tmp_path / "d.jsonl"
    data.write_text("".join(json.dumps({"source": f"Once upon a time {n}", "target": "x"}) + "\n" for n in range(9)))
    child = subprocess.Popen(
        [
            sys.executable, "-m", "guiju", "eval", "--model", "openai:test-model", "--task", "translation",
            "--data", data, "--new-tokens", "4", "--remote", "concurrency=3", "--out", tmp_path / "out",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        wait_until(lambda: len(serve_slowly.requests) >= 5 or child.poll() is not None)
        time.sleep(0.3)
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=15)
    finally:
        child.kill()
        child.wait()
    assert time.monotonic() - began < 5, "it waited for a server that does not answer"
    assert (child.returncode, "Traceback" in said) == (130, False), said
    kept = {one.record.id for one in read_samples(tmp_path / "out").samples}
    calls = [json.loads(line) for line in (tmp_path / "out" / "calls.jsonl").read_text().splitlines()]
    assert len(kept) == len([call for call in calls if call["status"] == 200 and call["problem"] is None]) == 2
    assert [call["problem"] for call in calls if call["status"] is None] == ["no longer wanted"] * 3
    asked = len(serve_slowly.requests)
    serve_slowly.faults.clear()
    model = load("openai:test-model", remote=RemoteSettings(concurrency=1))
    settings = TaskSettings(new_tokens=4)
    assert evaluate("translation", RecordFile(data, Pair), model=model, settings=settings, out=tmp_path / "out").n == 9
    assert len(serve_slowly.requests) - asked == 7


def wait_until(holds: Callable[[], bool], patience_s: float = 60) -> None:
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def serve_slowly(monkeypatch):
    """tests/servers/openai_server.py, which answers two requests and then none for a long time."""
    if importlib.util.find_spec("openai") is None:
        pytest.skip("needs pip install 'guiju[openai]'")
    spec = importlib.util.spec_from_file_location("openai_server", ROOT / "tests/servers/openai_server.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["openai_server"] = module
    spec.loader.exec_module(module)
    with module.OpenAIServer(load(STORIES), slots=8) as server:
        server.slow_s = 20.0
        server.faults.extend(["", "", *["slow"] * 30])
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
        yield server
