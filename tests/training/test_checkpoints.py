from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from damage import KINDS, check
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import make_batches, make_model, make_settings

from guiju.errors import CheckpointError
from guiju.training import train
from guiju.training.checkpoints import (
    Snapshot,
    list_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    remove_old,
    save_checkpoint,
)

CHILD = Path(__file__).with_name("training_child.py")


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """A finished run with the checkpoints of steps 4, 8 and 12."""
    folder = tmp_path_factory.mktemp("run")
    train(make_model(), make_batches(world), make_settings(keep=3), folder=folder)
    return folder


@pytest.mark.parametrize("seed", range(5 * len(KINDS)))
def test_a_damaged_checkpoint_is_found_and_the_newest_whole_one_taken(run, tmp_path, seed):
    check(run, tmp_path / "copy", seed)


def test_training_goes_on_from_the_newest_whole_checkpoint_and_says_so(world, run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    damaged = tmp_path / "copy" / "step-00000012"
    (damaged / "optimizer.safetensors").write_bytes(b"")
    events = []
    result = train(
        make_model(),
        make_batches(world),
        make_settings(keep=3),
        folder=tmp_path / "copy",
        on_event=lambda *event: events.append(event),
    )
    assert result.resumed_from == 8
    assert len(result.notices) == 1
    assert "step-00000012: optimizer.safetensors is not what was written" in result.notices[0]
    assert ("notice", {"text": result.notices[0]}) in events
    assert (tmp_path / "copy" / "step-00000012.damaged").is_dir()
    for file in ("model.safetensors", "optimizer.safetensors", "train_log.jsonl"):
        assert (damaged / file).read_bytes() == (run / "step-00000012" / file).read_bytes()


def test_where_every_checkpoint_is_damaged_training_stops_and_touches_none(world, run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    for path in list_checkpoints(tmp_path / "copy"):
        (path / "state.json").unlink()
    before = sorted(path.name for path in (tmp_path / "copy").iterdir())
    with pytest.raises(CheckpointError, match=r"no checkpoint .* is whole .*step-00000012: state.json is missing"):
        train(make_model(), make_batches(world), make_settings(keep=3), folder=tmp_path / "copy")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == before


def test_a_checkpoint_holds_no_pickle(run):
    for path in list_checkpoints(run):
        for file in path.iterdir():
            data = file.read_bytes()
            if file.suffix == ".safetensors":
                size = int.from_bytes(data[:8], "little")
                json.loads(data[8 : 8 + size])
            else:
                [json.loads(part) for part in ([data] if file.suffix == ".json" else data.splitlines())]


def test_a_checkpoint_of_another_version_is_passed_over_by_name(run, tmp_path):
    shutil.copytree(run / "step-00000012", tmp_path / "step-00000012")
    file = tmp_path / "step-00000012" / "manifest.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(CheckpointError, match="its format is 2, and this version reads 1"):
        newest_checkpoint(tmp_path)


def snapshot(step: int) -> Snapshot:
    return Snapshot(step=step, evaluated=True, state={"n": step}, model={}, optimizer={}, log=b"")


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("save"), st.integers(1, 4)),
            st.tuples(st.just("crash"), st.integers(0, 3)),
            st.tuples(st.just("damage"), st.integers(0, 3)),
        ),
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_after_the_first_save_there_is_always_a_whole_checkpoint(tmp_path_factory, actions):
    """Saves with any retention, saves cut short, and damage to any checkpoint but the newest whole one."""
    folder = tmp_path_factory.mktemp("state")
    step, durable = 0, 0
    for action, number in actions:
        if action == "save":
            step += 1
            path = save_checkpoint(folder, snapshot(step), {})
            durable = step
            assert path not in remove_old(folder, number, path)
        elif action == "crash":
            half = folder / f".step-{step + 1:08d}.partial-1-{number}"
            half.mkdir(exist_ok=True)
            (half / "model.safetensors").write_bytes(b"half")
        else:
            for path in [p for p in list_checkpoints(folder) if p.name != f"step-{durable:08d}"][:number]:
                (path / "state.json").write_bytes(b"{}")
        found = newest_checkpoint(folder)
        assert (found is None) == (durable == 0)
        if found is not None:
            assert load_checkpoint(found).state == {"n": durable}


# -- a full disk, by real means --------------------------------------------------------------------------------


def run_child(*arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, str(CHILD), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


@pytest.mark.parametrize("limit", [1, 150_000])
def test_a_file_that_may_not_grow_stops_training_and_leaves_the_checkpoint_before_it(world, run, tmp_path, limit):
    """The limit on file size comes down after the second checkpoint, so the kernel refuses the third one's writes."""
    done = run_child(world, tmp_path / "run", "--limit-after", 8, "--limit", limit)
    assert done.returncode == 2, done.stderr
    assert "could not be written" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(path.name for path in (tmp_path / "run").glob("*step*")) == ["step-00000004", "step-00000008"]
    assert train(make_model(), make_batches(world), make_settings(), folder=tmp_path / "run").bit_exact
    for file in ("model.safetensors", "optimizer.safetensors", "train_log.jsonl"):
        assert (tmp_path / "run" / "step-00000012" / file).read_bytes() == (run / "step-00000012" / file).read_bytes()


def test_a_full_disk_stops_training_and_leaves_the_checkpoint_before_it(world, tmp_path):
    """A small tmpfs in a mount namespace of its own, filled to the last byte after the second checkpoint."""
    (tmp_path / "disk").mkdir()
    mount = f'mount -t tmpfs -o size=80m none {tmp_path / "disk"} && exec "$@"'
    namespace = ("unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh")
    probe = ("unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh", "true")
    if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("needs unshare and the right to mount a tmpfs in a user namespace")
    done = run_child(world, tmp_path / "disk" / "run", "--fill-after", 8, prefix=namespace)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert "could not be written" in lines[-1]
    assert "full" in lines[-1] or "No space left" in lines[-1]
    assert json.loads(done.stdout.splitlines()[-1])["whole"] == "step-00000008"
