from __future__ import annotations

import datetime
import json
import os
import random
import resource
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_worlds import chained, entries_of, in_memory, lines_of, make_run, put, sign, verify_both, write_lines

from guiju.errors import EvidenceError, StorageError
from guiju.evidence import (
    Entry,
    Kind,
    Record,
    Run,
    VerifierKey,
    environment,
    ledger_key,
    parse_note,
    read_entries,
    read_manifest,
)
from guiju.evidence.note import sign_head

SOAK = int(os.environ.get("GUIJU_SOAK", "1000"))


@pytest.fixture
def run(quick: Path, home: Path) -> Path:
    return make_run(quick / "run", seed=5, steps=3)


def test_each_append_is_covered_by_a_signature_before_it_returns(quick, home):
    with Run.create(quick / "run", name="first") as run:
        for number in range(1, 9):
            assert run.append(Kind.PLAN, {"step": number}, reason="next") == number
            head = parse_note(run.note())
            assert head.size == number + 1
            assert head.is_signed_by(VerifierKey.parse((quick / "run/ledger/keys.pub").read_text()[:-1]))
            assert verify_both(quick / "run").ok


def test_several_records_under_one_signature_are_all_or_none(quick, home):
    with Run.create(quick / "run", name="batch") as run:
        records = [Record(kind=Kind.COST, body={"n": n}, reason="", actor="meter") for n in range(5)]
        assert run.append_many(records) == [1, 2, 3, 4, 5]
        assert run.append_many([]) == []
        before = (quick / "run/ledger/entries.jsonl").read_bytes()
        with pytest.raises(EvidenceError, match="cannot"):
            run.append_many([*records, Record(kind=Kind.COST, body={"bad": float("nan")}, reason="")])
        assert (quick / "run/ledger/entries.jsonl").read_bytes() == before
        assert [entry.actor for entry in run.entries()][1:] == ["meter"] * 5
    assert verify_both(quick / "run").ok


def test_an_entry_reads_back_as_it_was_written(quick, home):
    digest = "0" * 64
    with Run.create(quick / "run", name="n", actor="李雷") as run:
        run.append(Kind.PLAN, {"规": [1, 2.5, None]}, reason="矩", inputs={"in": digest}, outputs={"gone": None})
        entry = list(run.entries())[1]
    assert isinstance(entry, Entry)
    assert (entry.index, entry.kind, entry.actor, entry.reason) == (1, Kind.PLAN, "李雷", "矩")
    assert (entry.body, entry.inputs, entry.outputs) == ({"规": [1, 2.5, None]}, {"in": digest}, {"gone": None})
    first = next(read_entries(quick / "run"))
    assert (first.kind, first.body["name"], first.body["format"]) == (Kind.RUN_CREATED, "n", 1)
    assert first.body["environment"] == environment()


def test_the_manifest_is_what_the_entries_add_up_to(quick, home):
    with Run.create(quick / "run", name="n") as run:
        one = put(run.path, "a/1", b"1")
        two = put(run.path, "a/2", b"2")
        run.append(Kind.STAGE_FINISHED, {}, reason="", outputs={**one, **two})
        (run.path / "a/1").unlink()
        run.append(Kind.STAGE_FINISHED, {}, reason="", outputs={"a/1": None, **put(run.path, "a/2", b"3")})
        manifest = run.manifest()
        assert manifest == {"a/2": put(run.path, "a/2", b"3")["a/2"]}
    with Run.open(quick / "run") as run:
        assert run.manifest() == manifest == read_manifest(quick / "run")


def test_a_second_writer_is_turned_away_also_from_a_copy(run, quick):
    with Run.open(run), pytest.raises(EvidenceError, match="another process"):
        Run.open(run)
    shutil.copytree(run, quick / "copy")
    with Run.open(run), pytest.raises(EvidenceError, match="a copy of it"):
        Run.open(quick / "copy")
    Run.open(run).close()


def test_a_child_process_holds_no_lock_when_its_parent_is_gone(run):
    opened = Run.open(run)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            opened.append(Kind.PLAN, {}, reason="")
            answer = b"wrote"
        except StorageError:
            answer = b"closed"
        os.write(writing, answer)
        time.sleep(30)
        os._exit(0)
    try:
        assert os.read(reading, 100) == b"closed"
        opened.append(Kind.PLAN, {}, reason="the parent still can")
        opened.close()
        Run.open(run).close()  # although the child lives
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert verify_both(run).ok


def test_threads_may_append_at_once(run):
    with Run.open(run) as opened:
        before = len(lines_of(run))
        indices: list[int] = []
        threads = [
            threading.Thread(target=lambda: indices.extend(opened.append(Kind.COST, {}, reason="") for _ in range(10)))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(indices) == list(range(before, before + 40))
    assert verify_both(run).ok


class Clock(datetime.datetime):
    offset = datetime.timedelta()

    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) + cls.offset


def test_time_never_goes_back_and_an_entry_says_when_the_clock_did(run, monkeypatch):
    monkeypatch.setattr("guiju.evidence.ledger.datetime", Clock)
    with Run.open(run) as opened:
        opened.append(Kind.PLAN, {}, reason="before")
        monkeypatch.setattr(Clock, "offset", datetime.timedelta(days=-365))
        opened.append(Kind.PLAN, {}, reason="after")
        monkeypatch.setattr(Clock, "offset", datetime.timedelta())
        opened.append(Kind.PLAN, {}, reason="again")
    before, after, again = list(read_entries(run))[-3:]
    assert after.time == before.time < again.time
    assert "clock was set back" in after.reason
    assert again.reason == "again"
    assert verify_both(run).ok


def test_what_a_killed_writer_left_unsigned_is_dropped_and_an_entry_says_so(run):
    acknowledged = lines_of(run)
    extra = chained([*entries_of(run), {**entries_of(run)[-1], "body": {"holds": True}, "outputs": {}}])[-1]
    for tail in (b"{", b'{"actor":', extra, extra + b"{", b"\n", b"\xff\xfe\n\n", b"x" * 100_000, extra[:-1]):
        write_lines(run, acknowledged)
        shutil.copy(run / "ledger/note", run.with_name("note"))
        (run / "ledger/entries.jsonl").write_bytes(b"".join(acknowledged) + tail)
        (run / "ledger/.note.partial-1-abcd").write_bytes(b"half")
        assert not verify_both(run).ok
        with Run.open(run) as opened:
            *kept, last = opened.entries()
            assert [entry.index for entry in kept] == list(range(len(acknowledged)))
            assert last.kind == Kind.RECOVERED
            assert last.body["dropped_bytes"] == len(tail)
            assert last.body["dropped_lines"] == tail.count(b"\n")
        assert lines_of(run)[: len(acknowledged)] == acknowledged
        assert verify_both(run).ok
        acknowledged = lines_of(run)


def test_opening_does_not_sign_what_somebody_put_at_the_end(run):
    """A line that no signature covers may be anybody's: recovery must not launder it."""
    forged = {**entries_of(run)[-1], "kind": "attestation", "body": {"clause": "all", "holds": True}, "outputs": {}}
    write_lines(run, chained([*entries_of(run), forged]))
    with Run.open(run) as opened:
        assert Kind.ATTESTATION not in {entry.kind for entry in opened.entries()}


def test_a_note_that_was_signed_but_not_put_in_place_is_renewed(run):
    """The writer was killed between the copy beside the key and the note: the entry was signed, so it stays."""
    old = (run / "ledger/note").read_bytes()
    with Run.open(run) as opened:
        index = opened.append(Kind.PLAN, {"kept": True}, reason="")
    (run / "ledger/note").write_bytes(old)
    with Run.open(run) as opened:
        entries = list(opened.entries())
        assert entries[index].body == {"kept": True}
        assert entries[-1].kind == Kind.RECOVERED
        assert entries[-1].body == {"note_renewed": True}
    assert verify_both(run).ok


def test_an_acknowledged_entry_that_is_gone_or_changed_stops_the_writer(run):
    lines = lines_of(run)
    entry = json.loads(lines[1])
    entry["reason"] = "other"
    for changed in (
        [*lines[:-1]],
        [lines[0], json.dumps(entry).encode() + b"\n", *lines[2:]],
        lines[::-1],
        [],
        [b"\n"],
    ):
        write_lines(run, changed)
        before = (run / "ledger/entries.jsonl").read_bytes()
        with pytest.raises(EvidenceError, match=r"verify|restore|older|newer"):
            Run.open(run)
        assert (run / "ledger/entries.jsonl").read_bytes() == before


def test_a_restored_backup_is_not_continued(run, quick):
    shutil.copytree(run, quick / "backup")
    with Run.open(run) as opened:
        opened.append(Kind.PLAN, {}, reason="newer")
    with pytest.raises(EvidenceError, match="a backup was restored"):
        Run.open(quick / "backup")
    assert verify_both(quick / "backup").ok  # it is no forgery, only old
    with Run.open(run) as opened:
        opened.append(Kind.PLAN, {}, reason="goes on")


def test_a_fork_is_not_continued(run):
    """Another tree of the same size, even under a good signature."""
    entries = entries_of(run)
    entries[-1]["reason"] += "!"
    write_lines(run, chained(entries))
    sign(run)
    with pytest.raises(EvidenceError, match="not those that were signed"):
        Run.open(run)


def test_damaged_notes_and_keys_stop_the_writer_with_a_clear_message(run, quick, home):
    for name, data, message in [
        ("note", b"", "damaged"),
        ("note", b"x", "damaged"),
        ("keys.pub", b"x\n", "damaged"),
        ("keys.pub", b"x", "whole line"),
    ]:
        shutil.copytree(run, quick / "copy")
        (quick / "copy/ledger" / name).write_bytes(data)
        with pytest.raises(EvidenceError, match=message):
            Run.open(quick / "copy")
        (quick / "copy/ledger" / name).unlink()
        with pytest.raises((EvidenceError, StorageError)):
            Run.open(quick / "copy") if name == "keys.pub" else list(read_entries(quick / "copy"))
        shutil.rmtree(quick / "copy")


def test_another_persons_run_is_not_continued(run, quick, monkeypatch):
    monkeypatch.setenv("GUIJU_HOME", str(quick / "other-home"))
    with pytest.raises(EvidenceError, match="another key"):
        Run.open(run)
    assert len(list(read_entries(run))) == len(lines_of(run))  # reading takes no key


def test_a_run_folder_of_another_version_is_refused_before_anything_else(run):
    entries = entries_of(run)
    entries[0]["body"]["format"] = 7
    write_lines(run, chained(entries))
    for use in (Run.open, lambda folder: list(read_entries(folder)), read_manifest):
        with pytest.raises(EvidenceError, match=r"another version of guiju .ledger format 7"):
            use(run)


def test_folders_that_are_no_runs_are_refused(quick, home):
    (quick / "empty").mkdir()
    with pytest.raises(EvidenceError, match="no run folder"):
        Run.open(quick / "empty")
    with pytest.raises(EvidenceError):
        Run.open(quick / "nothing")
    with Run.create(quick / "run", name="a"), pytest.raises(EvidenceError, match="already holds a run"):
        Run.create(quick / "run", name="b")


def test_a_run_that_was_cut_off_while_it_was_made_can_be_made_again(quick, home):
    (quick / "run/.ledger.partial-1-ab").mkdir(parents=True)
    (quick / "run/.ledger.partial-1-ab/keys.pub").write_text("half")
    with Run.create(quick / "run", name="again"):
        pass
    assert verify_both(quick / "run").ok


def test_a_record_of_another_form_is_refused_and_nothing_is_written(run):
    with Run.open(run) as opened:
        before = lines_of(run)
        for kind, changes in [
            (Kind.RUN_CREATED, {}),
            (Kind.PLAN, {"inputs": {"a": "x"}}),
            (Kind.PLAN, {"outputs": {"../a": None}}),
            (Kind.PLAN, {"outputs": {"ledger/note": None}}),
            (Kind.MEASUREMENT, {}),
            (Kind.FINDING, {}),
            ("rumour", {}),
        ]:
            with pytest.raises(EvidenceError, match="cannot go into the ledger"):
                opened.append(kind, {}, reason="", **changes)
        with pytest.raises(EvidenceError, match="write the data to a file"):
            opened.append(Kind.PLAN, {"x": "x" * (5 << 20)}, reason="")
        assert lines_of(run) == before
        opened.append(Kind.PLAN, {}, reason="and the writer still works")
    assert verify_both(run).ok


def test_a_run_folder_that_vanishes_under_its_writer_is_a_clear_error(run):
    with Run.open(run) as opened:
        shutil.rmtree(run)
        with pytest.raises(StorageError, match="could not be written"):
            opened.append(Kind.PLAN, {}, reason="")


def test_a_closed_run_takes_no_more(run):
    opened = Run.open(run)
    opened.close()
    opened.close()
    with pytest.raises(StorageError, match="closed"):
        opened.append(Kind.PLAN, {}, reason="")


# ---- full and failing disks


@pytest.fixture
def small_disk(quick: Path):
    """A real file system of 24 MiB."""
    place = quick / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root: " + mounted.stderr.decode().strip())
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill_disk(place: Path, leave: int = 0) -> None:
    with (place / "filler").open("ab", buffering=0) as file:
        try:
            while shutil.disk_usage(place).free > leave:
                file.write(b"\0" * max(1, min(1 << 20, shutil.disk_usage(place).free - leave)))
        except OSError:
            pass


def test_a_ledger_stops_before_the_disk_is_full(small_disk, home):
    with Run.create(small_disk / "run", name="small") as run:
        fill_disk(small_disk, leave=12 << 20)
        before = lines_of(run.path)
        with pytest.raises(StorageError, match=r"MiB are free.*reserve.*Make room"):
            run.append(Kind.PLAN, {}, reason="")
        assert lines_of(run.path) == before
        assert verify_both(run.path).ok
        (small_disk / "filler").unlink()
        run.append(Kind.PLAN, {}, reason="goes on")
        assert verify_both(run.path).ok


@pytest.mark.parametrize("home_is_full_too", [False, True])
def test_a_full_disk_leaves_the_ledger_whole(small_disk, home, monkeypatch, home_is_full_too):
    """Without the reserve, so that the end of the disk is really met, at one place of an append after another."""
    monkeypatch.setattr("guiju.evidence.ledger.RESERVE_BYTES", 0)
    if home_is_full_too:
        monkeypatch.setenv("GUIJU_HOME", str(small_disk / "home"))
    refused = 0
    with Run.create(small_disk / "run", name="small") as run:
        for page in range(12):
            (small_disk / "filler").unlink(missing_ok=True)
            fill_disk(small_disk, leave=page * 4096)
            before = len(lines_of(run.path))
            try:
                run.append(Kind.PLAN, {"x": "x" * 6000}, reason="")
            except StorageError as problem:
                refused += "disk is full" in str(problem)
                assert len(lines_of(run.path)) == before
            assert verify_both(run.path).ok
        (small_disk / "filler").unlink()
        run.append(Kind.PLAN, {}, reason="goes on")
    assert refused >= 2
    assert verify_both(small_disk / "run").ok


def test_a_write_that_is_cut_in_the_middle_is_taken_back(run):
    """A limit on the size of files: the kernel writes a part of the line, then refuses."""
    with Run.open(run) as opened:
        size = (run / "ledger/entries.jsonl").stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        for extra in (0, 1, 100, 3000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + extra, limits[1]))
            try:
                with pytest.raises(StorageError, match="larger than allowed"):
                    opened.append(Kind.PLAN, {"x": "x" * 4000}, reason="")
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert (run / "ledger/entries.jsonl").stat().st_size == size
            assert verify_both(run).ok
        opened.append(Kind.PLAN, {}, reason="goes on")
    assert verify_both(run).ok


# ---- never two histories


def history(place: Path, moves: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> int:
    """Play a history of one run, with backups, copies, forks and clocks; returns how many heads were signed."""
    monkeypatch.setattr("guiju.evidence.ledger.datetime", Clock)
    run, heads = place / "run", {}
    Run.create(run, name="history").close()

    def look() -> None:
        for note in [*place.glob("*/ledger/note"), *(place / "home/heads").glob("*.note")]:
            head = parse_note(note.read_bytes())
            heads.setdefault(head.size, set()).add(head.root)

    look()
    largest = 0
    for move, number in moves:
        match move:
            case "append":
                try:
                    with Run.open(run) as opened:
                        opened.append_many([Record(kind=Kind.COST, body={"n": number}, reason="")] * (1 + number % 3))
                        largest = max(largest, len(list(opened.entries())))
                except EvidenceError:
                    # refused because this is not the newest
                    assert sum(line.endswith(b"\n") for line in lines_of(run)) < largest
            case "backup":
                shutil.rmtree(place / f"backup{number % 3}", ignore_errors=True)
                shutil.copytree(run, place / f"backup{number % 3}")
            case "restore":
                if (place / f"backup{number % 3}").exists():
                    shutil.rmtree(run)
                    shutil.copytree(place / f"backup{number % 3}", run)
            case "clock":
                monkeypatch.setattr(Clock, "offset", datetime.timedelta(days=-(number % 366)))
            case "tear":
                with (run / "ledger/entries.jsonl").open("ab") as file:
                    file.write(b'{"actor"'[: number % 9])
            case "old note":
                if (place / f"backup{number % 3}").exists():
                    shutil.copy(place / f"backup{number % 3}/ledger/note", run / "ledger/note")
        look()
    assert all(len(roots) == 1 for roots in heads.values()), "two trees of one size were signed"
    return len(heads)


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "append", "backup", "restore", "clock", "tear", "old note"]),
        st.integers(0, 1000),
    ),
    max_size=14,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MOVES)
def test_no_two_trees_of_one_size_are_ever_signed(monkeypatch, moves):
    with monkeypatch.context() as patch, in_memory() as place:
        patch.setenv("GUIJU_HOME", str(place / "home"))
        assert history(place, moves, patch) >= 1


@pytest.mark.soak
def test_soak_no_two_trees_of_one_size_are_ever_signed(monkeypatch):
    draw = random.Random(0)
    names = ["append", "append", "append", "backup", "restore", "clock", "tear", "old note"]
    for _ in range(10 * SOAK):
        with monkeypatch.context() as patch, in_memory() as place:
            patch.setenv("GUIJU_HOME", str(place / "home"))
            history(place, [(draw.choice(names), draw.randrange(1000)) for _ in range(12)], patch)


def test_a_head_beside_the_key_that_is_foreign_stops_the_writer(run, home):
    (head,) = (home / "heads").glob("*.note")
    key = VerifierKey.parse((run / "ledger/keys.pub").read_text()[:-1])
    head.write_bytes(sign_head(ledger_key(), VerifierKey("guiju/other/1", key.public), 1, bytes(32)))
    with pytest.raises(EvidenceError, match="not signed by the key"):
        Run.open(run)
