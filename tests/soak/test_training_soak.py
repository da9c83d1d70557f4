"""The long versions of the training safeguards; `make soak` runs them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

import damage
import worlds
from test_kills import kill

from guiju.training import train

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    worlds.make_world(folder)
    return folder


def test_200_killed_runs_and_50_killed_three_times_end_in_the_same_bits(world, tmp_path):
    trials = kill(world, tmp_path, single=200, triple=50, seed=1)
    wrong = [trial for trial in trials if not trial["identical"] or trial["left_over"]]
    inside = sum(trial["inside"] for trial in trials[:200])
    went_on = sum(trial["resumed_from"] > 0 for trial in trials)
    print(
        f"{len(trials)} runs, {inside} of 200 killed inside a save, {went_on} went on from a checkpoint; wrong: {wrong}"
    )
    assert (len(trials), inside) == (250, 50)
    assert not wrong


def test_1000_damaged_checkpoints_are_found_and_passed_over(world, tmp_path):
    train(worlds.make_model(), worlds.make_batches(world), worlds.make_settings(keep=3), folder=tmp_path / "run")
    for seed in range(1000):
        damage.check(tmp_path / "run", tmp_path / "copy", seed)
