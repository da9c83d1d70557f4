"""Files and folders that are there whole or not at all, whenever the power goes.

Written under a name of their own beside the place, synced, renamed into it, and the folder synced: after the call
returns, the new content survives a crash; before, the old one does.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from guiju.errors import StorageError

_PARTIAL = ".partial-"
_REPLACED = ".replaced-"
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than allowed here",
}
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


def write_bytes(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put `data` at `path`, durably, or leave what was there.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    prepare_bytes(path, data, mode).commit()


def write_text(path: Path, text: str) -> None:
    """The same with text, as UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, data: Any) -> None:
    """The same with plain data, as indented JSON."""
    write_text(path, json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


@dataclass(frozen=True)
class PreparedFile:
    """Content that lies on the disk, synced, but has not taken its name yet."""

    path: Path
    partial: Path

    def commit(self, sync: bool = True) -> None:
        """Take the name, durably.

        Args:
            sync: whether the name itself must survive a power cut; without, the old content may come back.

        Raises:
            StorageError: it could not; what was there before still is, unless only the folder could not be synced.
        """
        try:
            self.partial.replace(self.path)
            if sync:
                sync_folder(self.path.parent)
        except OSError as problem:
            self.discard()
            raise explain_failure(problem, self.path) from problem

    def discard(self) -> None:
        """Take it away again."""
        with contextlib.suppress(OSError):
            self.partial.unlink()


def prepare_bytes(path: Path, data: bytes, mode: int = 0o644) -> PreparedFile:
    """Do everything of `write_bytes` that may run out of space; `commit` does the rest.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    prepared = PreparedFile(Path(path), _partial_name(Path(path)))
    try:
        with _exclusive(prepared.partial, mode) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as problem:
        prepared.discard()
        if isinstance(problem, OSError):
            raise explain_failure(problem, prepared.path) from problem
        raise
    return prepared


@contextlib.contextmanager
def open_atomic(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A binary file to write; it takes its name when the block ends well, and vanishes when it does not.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    prepared = PreparedFile(Path(path), _partial_name(Path(path)))
    try:
        with _exclusive(prepared.partial, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException as problem:
        prepared.discard()
        if isinstance(problem, OSError):
            raise explain_failure(problem, prepared.path) from problem
        raise
    prepared.commit()


@contextlib.contextmanager
def folder_atomic(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A folder to fill; it takes its name when the block ends well, and vanishes when it does not.

    A folder that was there is replaced in one step, where the file system can exchange two names (Linux); elsewhere
    there is a moment between two renames, after which `remove_stale` puts the old one back.

    Raises:
        StorageError: the disk is full, the place cannot be written, or is taken and `replace` is false.
    """
    path = Path(path)
    partial = _partial_name(path)
    try:
        partial.mkdir(parents=True)
        yield partial
        _sync_tree(partial)
        if replace and path.exists():
            _replace_folder(partial, path)
        else:
            partial.rename(path)
        sync_folder(path.parent)
    except BaseException as problem:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(problem, OSError):
            raise explain_failure(problem, path) from problem
        raise


def remove_stale(folder: Path) -> list[str]:
    """Take away what a killed writer left half-written below `folder`; returns the names."""
    root = Path(folder)
    for aside in sorted(root.rglob(f".*{_REPLACED}*")):
        place = aside.with_name(aside.name[1:].rpartition(_REPLACED)[0])
        if not place.exists():  # killed between two renames: nothing new came, so the old one stands
            aside.rename(place)
    found = [*root.rglob(f".*{_PARTIAL}*"), *root.rglob(f".*{_REPLACED}*")]
    for place in sorted(found):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
    return sorted(place.relative_to(root).as_posix() for place in found)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, as fsync makes a file's content."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as problem:
        if problem.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems have nothing to sync here
            raise
    finally:
        os.close(descriptor)


def explain_failure(problem: OSError, path: Path) -> StorageError:
    """What a person can do about a write that failed."""
    place = problem.filename if isinstance(problem.filename, str) else str(path)
    if problem.errno in _FULL:
        return StorageError(
            f"{path} could not be written: {_FULL[problem.errno]}. "
            "Nothing was changed; make room, or choose another folder, and run the same command again"
        )
    return StorageError(
        f"{path} could not be written: {problem.strerror or problem} ({place}). Nothing was changed; "
        "see that the folder exists, may be written and stands on a sound disk, and run the same command again"
    )


def _exclusive(path: Path, mode: int) -> IO[bytes]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    return os.fdopen(descriptor, "wb")


def _partial_name(path: Path, mark: str = _PARTIAL) -> Path:
    # A name has at most 255 bytes; a long one is cut, save where the old folder must find its name again.
    name = path.name if mark == _REPLACED else path.name.encode()[:200].decode(errors="ignore")
    return path.with_name(f".{name}{mark}{os.getpid()}-{secrets.token_hex(4)}")


def _replace_folder(new: Path, place: Path) -> None:
    """Put `new` where a folder is, and take the old one away."""
    if _exchange(new, place):
        sync_folder(place.parent)
        shutil.rmtree(new, ignore_errors=True)
        return
    aside = _partial_name(place, _REPLACED)
    place.rename(aside)
    try:
        new.rename(place)
    except BaseException:
        aside.rename(place)
        raise
    sync_folder(place.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; False where system or file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), str(other))


def _sync_tree(folder: Path) -> None:
    for place, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(Path(place, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(place))
