"""Random damage to checkpoints, and what must come of it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from guiju.training.checkpoints import list_checkpoints, load_checkpoint, newest_checkpoint

Damage = Callable[[Path, Path, random.Random], None]
"""(checkpoint, another whole one, random numbers) -> nothing; the checkpoint is no longer what was written."""


def flip_bit(path: Path, other: Path, draw: random.Random) -> None:
    file = draw.choice(sorted(path.iterdir()))
    data = bytearray(file.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)


def truncate(path: Path, other: Path, draw: random.Random) -> None:
    file = draw.choice(sorted(path.iterdir()))
    data = file.read_bytes()
    file.write_bytes(data[: draw.randrange(len(data))])


def zero_block(path: Path, other: Path, draw: random.Random) -> None:
    file = draw.choice(sorted(path.iterdir()))
    data = bytearray(file.read_bytes())
    start = draw.choice([place for place, byte in enumerate(data) if byte])
    stop = min(len(data), start + draw.randint(1, 4096))
    data[start:stop] = bytes(stop - start)
    file.write_bytes(data)


def swap_file(path: Path, other: Path, draw: random.Random) -> None:
    name = draw.choice(["model.safetensors", "optimizer.safetensors", "state.json", "train_log.jsonl"])
    shutil.copyfile(other / name, path / name)


def lose_file(path: Path, other: Path, draw: random.Random) -> None:
    draw.choice(sorted(path.iterdir())).unlink()


def mix_steps(path: Path, other: Path, draw: random.Random) -> None:
    for name in draw.sample(["model.safetensors", "optimizer.safetensors", "state.json", "train_log.jsonl"], 2):
        shutil.copyfile(other / name, path / name)


def old_manifest(path: Path, other: Path, draw: random.Random) -> None:
    shutil.copyfile(other / "manifest.json", path / "manifest.json")


def whole_other_step(path: Path, other: Path, draw: random.Random) -> None:
    shutil.rmtree(path)
    shutil.copytree(other, path)


def add_file(path: Path, other: Path, draw: random.Random) -> None:
    (path / f"extra-{draw.randrange(100)}.safetensors").write_bytes(draw.randbytes(10))


def link_file(path: Path, other: Path, draw: random.Random) -> None:
    """Even to the very same bytes: what a link leads to can change after it was checked."""
    file = draw.choice(sorted(path.iterdir()))
    if file.name == "manifest.json":
        file = path / "state.json"
    kept = file.parent.parent / f"kept-{file.name}"
    file.rename(kept)
    file.symlink_to(kept)


def edit_manifest(path: Path, other: Path, draw: random.Random) -> None:
    file = path / "manifest.json"
    old, new = draw.choice([('"seed": 3', '"seed": 4'), ('"bit_exact": true', '"bit_exact": false'), ("{", "{ ")])
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


KINDS: list[Damage] = [
    flip_bit, truncate, zero_block, swap_file, lose_file, mix_steps, old_manifest, whole_other_step, add_file,
    link_file, edit_manifest,
]  # fmt: skip


def check(run: Path, copy: Path, seed: int) -> None:
    """Damage the newest one or two checkpoints of a copy of `run`; the newest whole one must be found, and load."""
    draw = random.Random(seed)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    newest = list_checkpoints(copy)
    assert len(newest) == 3
    broken = newest[: draw.choice([1, 1, 2])]
    kinds = [KINDS[(seed + place) % len(KINDS)] for place in range(len(broken))]
    for path, kind in zip(broken, kinds, strict=True):
        kind(path, newest[2], draw)
    what = f"seed {seed}: {[kind.__name__ for kind in kinds]}"
    found = newest_checkpoint(copy)
    assert found is not None, what
    assert found.folder == newest[len(broken)], what
    assert len(found.passed_over) == len(broken), what
    assert [path for path in broken if path.exists()] == [], what
    assert load_checkpoint(found).step == found.manifest["step"], what
