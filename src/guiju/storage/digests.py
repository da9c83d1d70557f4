"""SHA-256 of bytes, files and folders."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from guiju.errors import StorageError


def sha256_bytes(data: bytes) -> str:
    """The digest as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The digest of a file's content, read in pieces.

    Raises:
        StorageError: the file is missing or cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise StorageError(f"{path} cannot be read: {problem.strerror}") from problem


def folder_digests(path: Path) -> dict[str, str]:
    """Every file below a folder with its digest, by relative path with forward slashes, sorted.

    Raises:
        StorageError: there is no such folder, or it holds something that is neither file nor folder.
    """
    root = Path(path)
    if not root.is_dir():
        raise StorageError(f"{root} is no folder")
    found: dict[str, str] = {}
    for place, folders, files in os.walk(root):
        for name in [*files, *folders]:
            inner = Path(place, name)
            kind = inner.lstat().st_mode
            if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
                raise StorageError(f"{inner} is a link or special file; a folder with a digest holds plain files alone")
        for name in files:
            inner = Path(place, name)
            found[inner.relative_to(root).as_posix()] = sha256_file(inner)
    return dict(sorted(found.items()))


def sha256_folder(path: Path) -> str:
    """One digest over the names and contents of all files below a folder."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in folder_digests(path).items())
    return sha256_bytes(lines.encode())
