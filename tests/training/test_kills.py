from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def kill(
    world: Path, folder: Path, single: int, triple: int = 0, seed: int = 0, forgotten: str = "", variants: str = ""
) -> list[dict]:
    """Run the harness; its report by trial."""
    harness = Path(__file__).with_name("killing.py")
    command = [sys.executable, harness, world, folder, "--single", single, "--triple", triple, "--seed", seed]
    command += ["--forget", forgotten, *(["--variants", variants] if variants else [])]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=7200)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_training_killed_at_random_moments_ends_in_the_same_bits(world, tmp_path):
    trials = kill(world, tmp_path, single=20, triple=2)
    assert len(trials) == 22
    assert sum(trial["inside"] for trial in trials) == 6
    assert not [trial for trial in trials if not trial["identical"] or trial["left_over"]]
    assert sum(trial["resumed_from"] > 0 for trial in trials) >= 10  # most did go on from a checkpoint


def test_a_run_that_forgets_something_over_a_kill_is_noticed(world, tmp_path):
    """The control: with one part of the state not restored, the same comparison fails."""
    trials = kill(world, tmp_path, single=9, seed=3, forgotten="generators,position,memory")
    concerned = [
        trial
        for trial in trials
        if 0 < trial["resumed_from"] < 30 and (trial["forgotten"] != "generators" or trial["variant"] == "dropout")
    ]
    assert {trial["forgotten"] for trial in concerned} == {"generators", "position", "memory"}
    assert not any(trial["identical"] for trial in concerned)


def test_encoders_and_encoder_decoders_killed_at_random_moments_end_in_the_same_bits(world, tmp_path):
    trials = kill(world, tmp_path, single=6, triple=1, seed=1, variants="masked,pairs,spans")
    assert {trial["variant"] for trial in trials} == {"masked", "pairs", "spans"}
    assert not [trial for trial in trials if not trial["identical"] or trial["left_over"]]
    assert sum(trial["resumed_from"] > 0 for trial in trials) >= 3


def test_an_encoder_that_forgets_its_place_in_the_data_over_a_kill_is_noticed(world, tmp_path):
    trials = kill(world, tmp_path, single=2, seed=2, forgotten="position", variants="pairs")
    concerned = [trial for trial in trials if 0 < trial["resumed_from"] < 30]
    assert concerned
    assert not any(trial["identical"] for trial in concerned)
