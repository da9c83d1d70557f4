"""Files and folders that are there whole or not at all, whenever the power goes.

Written under a name of their own beside the place, synced, renamed into it, and the folder synced: after the call
returns, the new content survives a crash; before, the old one does.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from guiju.errors import StorageError

_PARTIAL = ".partial-"
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than allowed here",
}


def write_bytes(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put `data` at `path`, durably, or leave what was there.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    with open_atomic(path, mode=mode) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """The same with text, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """The same with plain data, as indented JSON."""
    write_text(path, json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


@contextlib.contextmanager
def open_atomic(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A binary file to write; it takes its name when the block ends well, and vanishes when it does not."""
    path = Path(path)
    partial = _partial_name(path)
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
    except OSError as problem:
        raise _explained(problem, path) from problem


@contextlib.contextmanager
def folder_atomic(path: Path) -> Iterator[Path]:
    """A folder to fill; it takes its name when the block ends well, and vanishes when it does not.

    A folder that was there is replaced: there is no moment without one of the two, save between two renames.
    """
    path = Path(path)
    partial, old = _partial_name(path), _partial_name(path)
    try:
        partial.mkdir(parents=True)
        try:
            yield partial
            _sync_tree(partial)
            if path.exists():
                path.rename(old)
            partial.rename(path)
            sync_folder(path.parent)
        except BaseException:
            if old.exists() and not path.exists():
                old.rename(path)
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as problem:
        raise _explained(problem, path) from problem


def remove_stale(folder: Path) -> list[str]:
    """Take away what a killed writer left half-written below `folder`; returns the names."""
    found = [place for place in sorted(Path(folder).rglob(f".*{_PARTIAL}*")) if _is_partial(place.name)]
    for place in found:
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
    return [place.relative_to(folder).as_posix() for place in found]


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as fsync makes a file's content."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _partial_name(path: Path) -> Path:
    return path.with_name(f".{path.name}{_PARTIAL}{os.getpid()}-{secrets.token_hex(4)}")


def _is_partial(name: str) -> bool:
    return name.startswith(".") and _PARTIAL in name


def _sync_tree(folder: Path) -> None:
    for place, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(Path(place, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(place))


def _explained(problem: OSError, path: Path) -> StorageError:
    if problem.errno in _FULL:
        return StorageError(
            f"{path} could not be written: {_FULL[problem.errno]}. "
            "Nothing was changed; make room, or choose another folder, and run the same command again"
        )
    return StorageError(f"{path} could not be written: {problem.strerror or problem}. Nothing was changed")
