"""A real writer is killed, and its calls to the disk fail: what was acknowledged is there, and the run goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ledger_worlds import lines_of, verify_both

from guiju.evidence import Kind, Run
from guiju.storage import remove_stale, sha256_file

KILLS = 20
SOAK = int(os.environ.get("GUIJU_SOAK", "500"))
WRITER = [sys.executable, str(Path(__file__).parent / "writer.py")]

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="failing calls are injected by strace")


@pytest.fixture
def run(quick: Path, home: Path) -> Path:
    Run.create(quick / "run", name="crash", actor="a test").close()
    return quick / "run"


def recover(run: Path, acknowledged: Path) -> int:
    """Look after a crash: nothing acknowledged is gone, and the run is whole once it is opened again."""
    told = [int(line) for line in acknowledged.read_text().split()] if acknowledged.exists() else []
    before = lines_of(run)
    with Run.open(run) as opened:
        assert remove_stale(run) is not None
        if (run / "state.bin").exists():  # it may be newer than what the ledger says: a stage that is done again
            outputs = {"state.bin": sha256_file(run / "state.bin")}
            opened.append(Kind.STAGE_FINISHED, {}, reason="done again", outputs=outputs)
        entries = list(opened.entries())
    assert [entry.index for entry in entries] == list(range(len(entries)))
    assert told == sorted(set(told))
    assert not told or told[-1] < len(entries)
    assert all(entries[index].kind in (Kind.TRAINING_EVENT, Kind.CHECKPOINT, Kind.COST) for index in told)
    if told:
        assert lines_of(run)[: told[-1] + 1] == before[: told[-1] + 1]
    assert verify_both(run).problems == []
    return len(told)


def kill_at_random(run: Path, draw: random.Random, times: int) -> int:
    told = 0
    for number in range(times):
        acknowledged = run.parent / f"acknowledged{number}"
        process = subprocess.Popen([*WRITER, str(run), str(acknowledged)], stdout=subprocess.DEVNULL)
        while not acknowledged.exists():
            time.sleep(0.001)
            assert process.poll() is None
        time.sleep(draw.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        process.wait()
        told += recover(run, acknowledged)
        acknowledged.unlink()
    return told


def test_a_writer_that_is_killed_at_random_loses_nothing_that_was_acknowledged(run):
    assert kill_at_random(run, random.Random(0), KILLS) > KILLS


@pytest.mark.soak
def test_soak_a_writer_that_is_killed_at_random_loses_nothing_that_was_acknowledged(run):
    for seed in range(0, SOAK, 25):  # a fresh run now and then, so that opening stays quick
        shutil.rmtree(run)
        Run.create(run, name="crash").close()
        assert kill_at_random(run, random.Random(seed), min(25, SOAK - seed)) > 0


def hindered(run: Path, calls: str, inject: str, appends: int) -> int:
    acknowledged = run.parent / "acknowledged"
    acknowledged.unlink(missing_ok=True)
    command = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:{inject}"]
    done = subprocess.run(
        [*command, *WRITER, str(run), str(acknowledged), str(appends)], capture_output=True, check=False
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return recover(run, acknowledged)


CALLS = ["write", "fsync", "rename", "ftruncate", "openat"]


@needs_strace
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_calls_that_fail_again_and_again_lose_nothing_that_was_acknowledged(run, call, error):
    """Every seventh call fails; seven divides no number of calls in an append, so that each is met in turn."""
    assert hindered(run, call, f"error={error}:when=3+7", appends=40) > 10
    assert int((run.parent / "acknowledged.refused").read_text()) >= 5


@needs_strace
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize("when", [1, 2, 3, 5])
def test_a_writer_that_is_killed_inside_a_call_loses_nothing_that_was_acknowledged(run, call, when):
    hindered(run, call, f"signal=KILL:when={when}", appends=6)


@needs_strace
@pytest.mark.soak
@pytest.mark.parametrize("call", CALLS)
def test_soak_every_call_fails_once_and_kills_once(run, call):
    for when in range(1, 60):
        for inject in (f"error=ENOSPC:when={when}", f"error=EIO:when={when}", f"signal=KILL:when={when}"):
            if call == "openat" and when < 1:
                continue
            shutil.rmtree(run)
            Run.create(run, name="crash").close()
            acknowledged = run.parent / "acknowledged"
            acknowledged.unlink(missing_ok=True)
            command = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{inject}"]
            subprocess.run([*command, *WRITER, str(run), str(acknowledged), "12"], capture_output=True, check=False)
            recover(run, acknowledged)
