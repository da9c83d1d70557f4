from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ledger_worlds import (
    ROOT,
    chained,
    entries_of,
    lines_of,
    make_run,
    put,
    sha256,
    sign,
    verify_both,
    write_lines,
)

from guiju.errors import EvidenceError
from guiju.evidence import Kind, Run, verify_run

FLIPS = 12 if "GUIJU_SOAK" in os.environ else 3


@pytest.fixture
def run(quick: Path, home: Path) -> Path:
    return make_run(quick / "run", seed=3)


@pytest.fixture
def small(quick: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As few bytes as a run can have: each of them will be changed."""
    monkeypatch.setattr("guiju.evidence.run.environment", lambda: {"guiju": "0", "load": 1.5})
    with Run.create(quick / "run", name="s", actor="a") as run:
        run.append(Kind.STAGE_FINISHED, {}, reason="文", outputs=put(run.path, "a.bin", b"artefact \x00\xff"))
        run.append(Kind.PLAN, {"x": [True, None, "\\\n\U0001f600"]}, reason="")
    return run.path


def test_any_one_byte_that_changes_is_found_and_its_entry_and_file_are_named(small):
    """Every byte of every file, each with several other values; ledger, note, key and artefact alike."""
    draw = random.Random(0)
    files = sorted(path for path in small.rglob("*") if path.is_file())
    assert len(files) == 4
    changed = 0
    for file in files:
        name, data = file.relative_to(small).as_posix(), file.read_bytes()
        for place in range(len(data)):
            for flip in [1 << draw.randrange(8), *(draw.randrange(1, 256) for _ in range(FLIPS - 1))]:
                file.write_bytes(data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])
                first = verify_both(small).problems[0]
                if name == "ledger/entries.jsonl":
                    assert (first.entry, first.file) == (data[:place].count(b"\n"), name)
                elif name == "ledger/keys.pub":  # a key that is read, but another: then the note is not signed by it
                    assert first.file in (name, "ledger/note")
                else:
                    assert first.file == name
                changed += 1
        file.write_bytes(data)
    assert changed > 3000
    assert verify_both(small).ok


def test_any_one_byte_that_is_lost_or_added_is_found(small):
    draw = random.Random(1)
    for file in sorted(path for path in small.rglob("*") if path.is_file()):
        data = file.read_bytes()
        for place in draw.sample(range(len(data)), min(60, len(data))):
            for other in (
                data[:place] + data[place + 1 :],
                data[:place] + draw.randbytes(1) + data[place:],
                data[:place],
            ):
                file.write_bytes(other)
                assert not verify_both(small).ok
        file.write_bytes(data)


def test_changed_bytes_in_a_larger_artefact_are_found(quick, home):
    content = random.Random(0).randbytes(3 << 20)
    with Run.create(quick / "run", name="large") as run:
        run.append(Kind.STAGE_FINISHED, {}, reason="made", outputs=put(run.path, "model/weights.bin", content))
    file = quick / "run/model/weights.bin"
    for place in [0, 1, len(content) // 2, (1 << 20) - 1, 1 << 20, len(content) - 1]:
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        (problem,) = verify_both(quick / "run").problems
        assert (problem.entry, problem.file) == (1, "model/weights.bin")


def test_a_run_that_was_not_touched_passes(run):
    found = verify_both(run)
    assert found.ok
    assert found.entries == len(lines_of(run))
    assert found.files == sum(path.is_file() for path in run.rglob("*")) - 3


def test_a_run_may_be_moved_and_copied(run, quick):
    shutil.copytree(run, quick / "copy")
    shutil.move(run, quick / "moved")
    assert verify_both(quick / "copy").ok
    assert verify_both(quick / "moved", quick / "copy/ledger/note").ok


@pytest.mark.parametrize("name", ["entries.jsonl", "note", "keys.pub"])
def test_a_missing_or_replaced_file_of_the_ledger_is_a_problem(run, quick, name):
    place = run / "ledger" / name
    shutil.move(place, quick / "kept")
    assert f"ledger/{name}" in {problem.file for problem in verify_both(run).problems}
    place.symlink_to(quick / "kept")
    assert f"ledger/{name}" in {problem.file for problem in verify_both(run).problems}
    place.unlink()
    place.mkdir()
    assert f"ledger/{name}" in {problem.file for problem in verify_both(run).problems}
    place.rmdir()
    os.mkfifo(place)  # whoever opened it to read would wait for ever
    assert f"ledger/{name}" in {problem.file for problem in verify_both(run).problems}
    place.unlink()
    place.write_bytes(b"")
    assert not verify_both(run).ok


def test_links_and_special_files_in_a_run_are_problems(run, quick):
    (run / "folder-link").symlink_to(quick)
    (run / "dangling").symlink_to("nowhere")
    os.mkfifo(run / "pipe")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(run / "socket"))
        found = {problem.file for problem in verify_both(run).problems}
    assert found == {"folder-link", "dangling", "pipe", "socket"}


def test_an_artefact_in_place_of_which_stands_a_folder_is_missing(run):
    (run / "corpus/a.txt").unlink()
    (run / "corpus/a.txt").mkdir()
    (problem,) = verify_both(run).problems
    assert (problem.entry, problem.file) == (1, "corpus/a.txt")


def test_a_file_that_was_taken_away_and_is_there_again_is_a_problem(run):
    with Run.open(run) as opened:
        index = opened.append(Kind.STAGE_FINISHED, {}, reason="", outputs={"corpus/a.txt": None, "never/was": None})
    assert [(problem.entry, problem.file) for problem in verify_both(run).problems] == [(index, "corpus/a.txt")]
    (run / "corpus/a.txt").unlink()
    assert verify_both(run).ok


def test_a_file_beside_the_ledger_is_a_problem_even_if_an_entry_names_it(run):
    put(run, "ledger/extra", b"")
    assert [problem.file for problem in verify_both(run).problems] == ["ledger/extra"]
    with Run.open(run) as opened, pytest.raises(EvidenceError, match="no path inside the run"):
        opened.append(Kind.PLAN, {}, reason="", outputs={"ledger/extra": sha256(b"")})


def test_a_file_with_a_name_that_is_not_utf_8_is_named_readably(run):
    (run / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    (problem,) = verify_both(run).problems
    assert problem.file == "caf\\xe9"
    json.dumps(problem.file).encode()


def test_an_empty_folder_is_no_problem(run):
    (run / "empty/inner").mkdir(parents=True)
    assert verify_both(run).ok


def resigned(run: Path, index: int, **changes: object) -> None:
    """Change fields of an entry, and sign it all anew, as the holder of the key can."""
    entries = entries_of(run)
    entries[index].update(changes)
    write_lines(run, chained(entries))
    sign(run)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "rumour"}, {"kind": 1}, {"kind": "run-created"}, {"time": "2026-01-31 00:00:00.000000Z"},
        {"time": "2026-02-31T00:00:00.000000Z"}, {"time": "2999-01-01T00:00:00Z"}, {"time": 5}, {"actor": None},
        {"time": "2999-01-01T25:00:00.000000Z"}, {"time": "٢٩٩٩-01-01T00:00:00.000000Z"}, {"reason": ["x"]},
        {"inputs": {"a": "short"}}, {"inputs": {"a": None}}, {"inputs": []}, {"outputs": {"a": "F" * 64}},
        {"outputs": {"../a": None}}, {"outputs": {"/a": None}}, {"outputs": {"a//b": None}}, {"outputs": {"": None}},
        {"outputs": {"./a": None}}, {"outputs": {"a/": None}}, {"outputs": {"ledger/note": None}}, {"body": None},
        {"outputs": {"ledger": None}}, {"outputs": {"a\0": None}}, {"outputs": {"a": 5}}, {"outputs": None},
        {"extra": 1}, {"body": []},
    ],
)  # fmt: skip
def test_an_entry_of_another_form_is_found_even_under_a_good_signature(run, changes):
    resigned(run, 1, **changes)
    assert (verify_both(run).problems[0].entry, verify_both(run).problems[0].file) == (1, "ledger/entries.jsonl")


@pytest.mark.parametrize(
    "body",
    [
        {"format": 2}, {"format": None}, {"format": True}, {"format": "1"}, {"origin": "guiju/a/1"}, {"key": "other"},
    ],
)  # fmt: skip
def test_a_first_entry_of_another_format_or_identity_is_found(run, body):
    resigned(run, 0, body={**entries_of(run)[0]["body"], **body})
    assert verify_both(run).problems[0].entry == 0
    if "format" in body:
        with pytest.raises(EvidenceError, match="another version"):
            Run.open(run)


def test_a_measurement_of_another_form_is_found(run):
    whole = {"measure": "m", "what": "", "count": 1, "n": 2, "value": None, "unit": "", "sampled": True, "details": {}}
    with Run.open(run) as opened:
        index = opened.append(Kind.MEASUREMENT, whole, reason="")
    assert verify_both(run).ok
    for changes in [
        {"count": 3}, {"count": -1}, {"count": 1.5}, {"count": True}, {"n": None}, {"n": "2"}, {"sampled": 1},
        {"value": []}, {"value": True}, {"details": []}, {"unit": None}, {"what": 3}, {"measure": None},
        {"n": 10**7 + 1},
    ]:  # fmt: skip
        with Run.open(run) as opened, pytest.raises(EvidenceError, match="cannot go into the ledger"):
            opened.append(Kind.MEASUREMENT, {**whole, **changes}, reason="")
        shutil.copytree(run, run.with_name("copy"))
        resigned(run.with_name("copy"), index, body={**whole, **changes})
        assert verify_both(run.with_name("copy")).problems[0].entry == index
        shutil.rmtree(run.with_name("copy"))
    for name in whole:
        shutil.copytree(run, run.with_name("copy"))
        resigned(run.with_name("copy"), index, body={key: value for key, value in whole.items() if key != name})
        assert verify_both(run.with_name("copy")).problems[0].entry == index
        shutil.rmtree(run.with_name("copy"))


def test_an_anchor_that_is_damaged_foreign_or_from_the_future_is_a_problem(run, quick, home):
    note = (run / "ledger/note").read_bytes()
    other = make_run(quick / "other", seed=4)
    anchor = quick / "anchor"
    for data in (b"", note[:-1], note.replace(b"guiju", b"GUIJU"), (other / "ledger/note").read_bytes(), b"\xff"):
        anchor.write_bytes(data)
        assert not verify_both(run, anchor).ok
    anchor.write_bytes(note)
    assert verify_both(run, anchor).ok
    with Run.open(run) as opened:
        opened.append(Kind.PLAN, {}, reason="")
        assert verify_both(run, anchor).ok  # the run went on; the old note still fits
        anchor.write_bytes(opened.note())
    write_lines(run, lines_of(run)[:-1])
    (run / "ledger/note").write_bytes(note)
    assert verify_both(run).ok
    assert [problem.entry for problem in verify_both(run, anchor).problems] == [len(lines_of(run))]


def test_what_cannot_be_verified_at_all_is_an_error_and_not_an_answer(quick, run):
    with pytest.raises(EvidenceError, match="no folder"):
        verify_run(quick / "nothing")
    with pytest.raises(EvidenceError, match="cannot be read"):
        verify_run(run, against=quick / "nothing")


def test_a_folder_that_is_no_run_is_not_ok(quick):
    (quick / "empty").mkdir()
    assert {problem.file for problem in verify_both(quick / "empty").problems} == {
        "ledger/entries.jsonl",
        "ledger/note",
        "ledger/keys.pub",
    }


def test_very_long_deep_or_many_bad_lines_are_answered(run):
    for line in (
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"9" * 100_000,
        b'"' + b"x" * (5 << 20) + b'"',
        b"\xff\n" * 30,
        b"\n" * 30,
    ):
        lines = lines_of(run)
        (run / "ledger/entries.jsonl").write_bytes(b"".join(lines) + line + b"\n")
        assert not verify_both(run).ok
        write_lines(run, lines)
    assert verify_both(run).ok


def alone(*arguments: object) -> subprocess.CompletedProcess[str]:
    """verify.py as an auditor runs it: a bare Python, none of our packages."""
    command = [sys.executable, "-I", "-S", str(ROOT / "verify.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_second_verifier_runs_alone_with_plain_python(run, quick):
    good = alone(run)
    assert (good.returncode, good.stderr) == (0, "")
    assert "all is as recorded" in good.stdout
    assert "--against" in good.stdout
    shutil.copy(run / "ledger/note", quick / "anchor")
    anchored = alone(run, "--against", quick / "anchor", "--json")
    assert anchored.returncode == 0
    assert json.loads(anchored.stdout) == {
        "ok": True,
        "problems": [],
        "entries": len(lines_of(run)),
        "files": verify_run(run).files,
    }
    (run / "corpus/a.txt").write_bytes(b"other")
    bad = alone(run)
    assert (bad.returncode, bad.stderr) == (1, "")
    assert "corpus/a.txt, entry 1: its content" in bad.stdout
    assert "NOT as recorded" in bad.stdout
    report = json.loads(alone(run, "--json").stdout)
    assert report["ok"] is False
    assert [(p["entry"], p["file"]) for p in report["problems"]] == [(1, "corpus/a.txt")]


@pytest.mark.parametrize("arguments", [[], ["nothing"], [".", "--against", "nothing"], [".", "--no-such-option"]])
def test_the_second_verifier_answers_2_where_the_question_makes_no_sense(arguments):
    answer = alone(*arguments)
    assert answer.returncode == 2
    assert "Traceback" not in answer.stderr


def test_the_second_verifier_is_one_file_of_at_most_300_lines_and_knows_nothing_of_guiju():
    text = (ROOT / "verify.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    assert max(map(len, text.splitlines())) <= 120
    imported = {
        name.strip() for line in text.splitlines() if line.startswith("import ") for name in line[7:].split(",")
    }
    assert imported <= sys.stdlib_module_names
    assert not any(line.lstrip().startswith("from ") for line in text.splitlines())
