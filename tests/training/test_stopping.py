from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from worlds import make_batches, make_model, make_settings

from guiju.training import TrainingInterrupted, train
from guiju.training.checkpoints import newest_checkpoint

CHILD = Path(__file__).with_name("training_child.py")
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def start_child(*arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(CHILD), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(child: subprocess.Popen[str], line: str) -> None:
    for found in child.stdout:
        if found.strip() == line:
            return
    raise AssertionError(child.stderr.read())


def stop(child: subprocess.Popen[str], number: signal.Signals) -> tuple[float, str]:
    """Seconds until the child ended, and what it said."""
    started = time.monotonic()
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    return time.monotonic() - started, said


@pytest.mark.parametrize("number", SIGNALS)
def test_a_stopped_process_saves_says_how_to_go_on_and_exits_143(world, tmp_path, number):
    child = start_child(world, tmp_path / "run", "--steps", 100_000)
    wait_for(child, "step 6")
    seconds, said = stop(child, number)
    assert child.returncode == 143
    assert seconds < 30
    assert len(said.strip().splitlines()) == 1
    assert f"training stopped by {number.name} after step" in said
    assert "Run the same command again to go on" in said
    found = newest_checkpoint(tmp_path / "run")
    assert str(found.folder) in said
    assert found.manifest["step"] >= 6


def test_a_stop_in_the_middle_of_a_long_pass_does_not_wait_for_it(world, tmp_path):
    child = start_child(world, tmp_path / "run", "--slow-step", 60)
    wait_for(child, "inside a pass")
    seconds, said = stop(child, signal.SIGTERM)
    assert child.returncode == 143, said
    assert seconds < 30
    assert "after step 0" in said
    assert newest_checkpoint(tmp_path / "run").manifest["step"] == 0


def test_a_stop_during_an_evaluation_does_not_wait_for_it_and_the_evaluation_is_made_up_for(world, tmp_path):
    child = start_child(world, tmp_path / "run", "--slow-evaluation", 60)
    wait_for(child, "evaluating")
    seconds, said = stop(child, signal.SIGTERM)
    assert child.returncode == 143, said
    assert seconds < 30
    assert "step-00000005-before-evaluation" in said
    for folder in ("run", "undisturbed"):
        train(make_model(), make_batches(world), make_settings(), folder=tmp_path / folder, evaluate=lambda _: 2.5)
    logs = [(tmp_path / folder / "train_log.jsonl").read_bytes() for folder in ("run", "undisturbed")]
    assert logs[0] == logs[1]
    evaluated = [json.loads(line)["step"] for line in logs[0].splitlines() if b"bits_per_byte" in line]
    assert evaluated == [5, 10, 12]
    weights = [tmp_path / folder / "step-00000012" / "model.safetensors" for folder in ("run", "undisturbed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("step", [1, 4, 7, 11])
def test_stopping_at_any_step_and_going_on_gives_the_same_bits(world, tmp_path, number, step):
    train(make_model(dropout=0.1), make_batches(world), make_settings(), folder=tmp_path / "whole")

    def report(done: int, total: int, line: str) -> None:
        if done == step:
            os.kill(os.getpid(), number)

    handlers = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(TrainingInterrupted) as caught:
        train(make_model(dropout=0.1), make_batches(world), make_settings(), folder=tmp_path / "stopped", report=report)
    assert [signal.getsignal(each) for each in SIGNALS] == handlers
    assert (caught.value.step, caught.value.exit_code) == (step, 143)
    assert caught.value.checkpoint == newest_checkpoint(tmp_path / "stopped").folder
    train(make_model(dropout=0.1), make_batches(world), make_settings(), folder=tmp_path / "stopped")
    for file in ("step-00000012/model.safetensors", "step-00000012/optimizer.safetensors", "train_log.jsonl"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "stopped" / file).read_bytes()


def test_a_stop_after_the_last_step_still_stops_the_process(world, tmp_path):
    def report(done: int, total: int, line: str) -> None:
        if done == total:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingInterrupted, match="after step 12 of 12"):
        train(make_model(), make_batches(world), make_settings(), folder=tmp_path, report=report)
    assert train(make_model(), make_batches(world), make_settings(), folder=tmp_path).resumed_from == 12


def test_handlers_are_restored_when_training_ends_well_or_badly(world, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    train(make_model(), make_batches(world), make_settings(), folder=tmp_path / "a")
    assert signal.getsignal(signal.SIGTERM) is before

    def fail(model: object) -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(make_model(), make_batches(world), make_settings(), folder=tmp_path / "b", evaluate=fail)
    assert signal.getsignal(signal.SIGTERM) is before


def test_training_in_another_thread_works_without_handlers(world, tmp_path):
    results = []
    thread = threading.Thread(
        target=lambda: results.append(train(make_model(), make_batches(world), make_settings(), folder=tmp_path))
    )
    thread.start()
    thread.join()
    assert results[0].steps == 12
