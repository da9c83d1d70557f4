"""Files that somebody else wrote: opened without waiting for anybody, no larger than they may be, no way out of their
folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from guiju.errors import StorageError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_foreign(path: Path, largest_bytes: int | None = None) -> BinaryIO:
    """A regular file, to be read. A pipe without a writer does not block, and a device is not touched.

    Raises:
        StorageError: there is none, it is of another kind, or larger than `largest_bytes`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as problem:  # ValueError: a NUL in the name
        reason = problem.strerror if isinstance(problem, OSError) else str(problem)
        raise StorageError(f"{path} cannot be read: {reason}") from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise StorageError(f"{path} is {_kind(facts.st_mode)}, not a regular file, so it is not read")
    if largest_bytes is not None and facts.st_size > largest_bytes:
        os.close(descriptor)
        raise StorageError(
            f"{path} is {facts.st_size} bytes long; a file of its kind has at most {largest_bytes}, so it is not read"
        )
    return os.fdopen(descriptor, "rb")


def read_foreign(path: Path, largest_bytes: int) -> bytes:
    """The bytes of such a file.

    Raises:
        StorageError: as open_foreign, or the file cannot be read.
    """
    with open_foreign(path, largest_bytes) as file:
        try:
            data = file.read(largest_bytes + 1)
        except OSError as problem:
            raise StorageError(f"{path} cannot be read: {problem.strerror}") from None
    if len(data) > largest_bytes:  # it grew meanwhile
        raise StorageError(f"{path} has more than the {largest_bytes} bytes that a file of its kind may have")
    return data


def require_plain_folder(folder: Path) -> None:
    """See that a folder holds regular files, folders, and links that stay within it.

    One way out is known: the Hugging Face cache keeps files in `blobs`, and links to them in `snapshots/REVISION`.

    Raises:
        StorageError: a link leads elsewhere or nowhere, or there is a pipe, a socket or a device; it is named.
    """
    try:
        home = folder.resolve(strict=True)
        entries = sorted(os.scandir(home), key=lambda entry: entry.name)
    except (OSError, RuntimeError, ValueError) as problem:
        raise StorageError(f"{folder} cannot be read: {problem}") from None
    homes = [home]
    if home.parent.name == "snapshots":
        homes.append(home.parent.parent / "blobs")
    for entry in entries:
        if entry.is_symlink():
            _require_inner_link(Path(entry.path), homes)
        elif not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
            kind = _kind(entry.stat(follow_symlinks=False).st_mode)
            raise StorageError(f"{folder / entry.name} is {kind}; a model's folder holds plain files. Remove it")


def _require_inner_link(link: Path, homes: list[Path]) -> None:
    try:
        target = link.resolve(strict=True)
        kind = target.stat().st_mode
    except (OSError, RuntimeError) as problem:  # RuntimeError: links in a circle
        why = "to itself" if isinstance(problem, RuntimeError) else "to nothing that can be read"
        raise StorageError(f"{link} is a link that leads {why} ({link.readlink()}). Copy the file here") from None
    if not any(target.is_relative_to(home) for home in homes):
        raise StorageError(
            f"{link} is a link out of its folder, to {target}: what a model's folder names is not read from elsewhere. "
            f"Where you trust it, copy the file in place of the link"
        )
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise StorageError(f"{link} is a link to {_kind(kind)}; a model's folder holds plain files. Remove it")


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "of an unknown kind")
