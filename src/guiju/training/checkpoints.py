"""Checkpoints: a folder a step that appears whole or not at all, and is believed only after its digests are recomputed.

step-00000100/
  model.safetensors       the weights, by name
  optimizer.safetensors   AdamW's memory, and the random generators' states as bytes
  train_log.jsonl         the loss log up to this step
  state.json              step, counts, place in the data
  manifest.json           what the run is, SHA-256 of each file above, and of the manifest itself

No file is a pickle: reading a checkpoint runs nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from guiju.errors import CheckpointError, StorageError
from guiju.storage import folder_atomic, remove_stale, sha256_bytes, sha256_file, write_bytes

FORMAT = 1
MANIFEST = "manifest.json"
LOG = "train_log.jsonl"
_EARLY = "-before-evaluation"
_NAME = re.compile(rf"step-(\d{{8,}})({_EARLY})?")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All that training needs to go on as if it had never stopped."""

    step: int
    evaluated: bool
    """Whether the evaluation that is due at this step, if any, is in the log."""
    state: Mapping[str, Any]
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    log: bytes


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a folder of checkpoints offers: the newest whole one, and why newer ones were passed over."""

    folder: Path
    manifest: Mapping[str, Any]
    passed_over: tuple[str, ...] = ()


class _Damaged(Exception):  # noqa: N818 -- a finding about a folder, turned into an error only if no folder is whole
    pass


def checkpoint_path(folder: Path, step: int, evaluated: bool = True) -> Path:
    """Where the checkpoint of a step stands.

    Training that is stopped while it evaluates saves the step without the evaluation, under a name of its own: the one
    with it follows later, and no checkpoint is ever replaced by another.
    """
    return folder / f"step-{step:08d}{'' if evaluated else _EARLY}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Folders that are named as checkpoints, newest first."""
    if not folder.is_dir():
        return []
    found = [
        (int(match[1]), match[2] is None, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))
    ]
    return [path for *_, path in sorted(found, reverse=True)]


def save_checkpoint(folder: Path, snapshot: Snapshot, facts: Mapping[str, Any]) -> Path:
    """Write a checkpoint; when this returns, it survives a crash.

    Args:
        facts: what the run is (settings, data, shape, environment); stands in the manifest.
    Raises:
        StorageError: the disk is full or fails; what was there before still is.
    """
    path = checkpoint_path(folder, snapshot.step, snapshot.evaluated)
    with folder_atomic(path) as made:
        _save_tensors(dict(snapshot.model), made / "model.safetensors", path)
        _save_tensors(dict(snapshot.optimizer), made / "optimizer.safetensors", path)
        write_bytes(made / LOG, snapshot.log)
        write_bytes(made / "state.json", _plain(snapshot.state))
        files = {file.name: sha256_file(file) for file in sorted(made.iterdir())}
        manifest = {"format": FORMAT, "step": snapshot.step, "evaluated": snapshot.evaluated, "files": files, **facts}
        write_bytes(made / MANIFEST, _plain({**manifest, "digest": _digest(manifest)}))
    return path


def newest_checkpoint(folder: Path) -> Found | None:
    """The newest whole checkpoint; damaged ones that are newer are put aside as NAME.damaged. None where there is none.

    Raises:
        CheckpointError: there are checkpoints, and each is damaged.
    """
    problems, damaged = [], []
    for path in list_checkpoints(folder):
        try:
            manifest = _verify(path)
        except _Damaged as reason:
            problems.append(f"{path.name}: {reason}")
            damaged.append(path)
            continue
        for other in damaged:
            _put_aside(other)
        return Found(folder=path, manifest=manifest, passed_over=tuple(problems))
    if problems:
        raise CheckpointError(
            f"no checkpoint in {folder} is whole ({'; '.join(problems)}), and training does not go on from damaged "
            "weights. Put a copy of a whole one back, or remove the folder to train from the start."
        )
    return None


def load_checkpoint(found: Found) -> Snapshot:
    """Read what `newest_checkpoint` found; the very bytes that are used are checked once more.

    Raises:
        CheckpointError: it changed since it was verified.
    """
    files: Mapping[str, str] = found.manifest["files"]

    def read(name: str) -> bytes:
        data = (found.folder / name).read_bytes()
        if sha256_bytes(data) != files[name]:
            raise CheckpointError(f"{found.folder / name} changed while it was read; is another run using this folder?")
        return data

    try:
        return Snapshot(
            step=int(found.manifest["step"]),
            evaluated=bool(found.manifest["evaluated"]),
            state=json.loads(read("state.json")),
            model=safetensors.torch.load(read("model.safetensors")),
            optimizer=safetensors.torch.load(read("optimizer.safetensors")),
            log=read(LOG),
        )
    except OSError as error:
        raise CheckpointError(f"{found.folder} cannot be read ({error}); check the disk, and run again") from error


def remove_old(folder: Path, keep: int, newest: Path) -> list[Path]:
    """Remove all but the `keep` newest checkpoints, `newest` (durable and whole) always among those that stay."""
    removed = []
    for path in [path for path in list_checkpoints(folder) if path != newest][max(keep - 1, 0) :]:
        # Renamed first: a half-removed folder must not look like a checkpoint that was damaged.
        gone = path.with_name(f".{path.name}.partial-removed")
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)
        shutil.rmtree(gone)
        removed.append(path)
    return removed


def clean_up(folder: Path) -> None:
    """Remove what a killed writer left half-written."""
    remove_stale(folder)


def _verify(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint, all of whose files are what it names."""
    try:
        written = (path / MANIFEST).read_bytes()
        manifest = json.loads(written)
        if not isinstance(manifest, dict) or _plain(manifest) != written:
            raise _Damaged(f"{MANIFEST} is not what was written")
        stated = manifest.pop("digest", None)
        if manifest.get("format") != FORMAT:
            raise _Damaged(f"its format is {manifest.get('format')!r}, and this version reads {FORMAT}")
        if stated != _digest(manifest):
            raise _Damaged(f"{MANIFEST} is not what was written")
        if checkpoint_path(path.parent, manifest["step"], manifest["evaluated"]) != path:
            raise _Damaged(f"it holds step {manifest['step']}")
        here = {entry.name for entry in os.scandir(path)}
        expected = {*manifest["files"], MANIFEST}
        if here != expected:
            raise _Damaged(f"{', '.join(sorted(here ^ expected))} is missing or does not belong there")
        for name, digest in manifest["files"].items():
            file = path / name
            if file.is_symlink() or not file.is_file() or sha256_file(file) != digest:
                raise _Damaged(f"{name} is not what was written")
    except (OSError, StorageError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Damaged(f"it cannot be read ({error})") from error
    return manifest


def _put_aside(path: Path) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


def _save_tensors(tensors: dict[str, Tensor], file: Path, path: Path) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        safetensors.torch.save_file(tensors, file)
    except safetensors.SafetensorError as error:
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        raise StorageError(
            f"{path / file.name} ({size / 1e6:.1f} MB) could not be written ({error}); the checkpoint before it is "
            "untouched. Free space on the disk, and run again to go on from there."
        ) from error


def _plain(data: Mapping[str, Any]) -> bytes:
    return (json.dumps(data, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _digest(manifest: Mapping[str, Any]) -> str:
    return sha256_bytes(_plain(manifest))
