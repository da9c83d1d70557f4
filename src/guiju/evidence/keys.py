"""The key that signs ledgers: made at first use, outside every run, readable by its owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from guiju.errors import EvidenceError, StorageError
from guiju.storage import prepare_bytes, sync_folder


def guiju_home() -> Path:
    """Where guiju keeps what belongs to a person rather than to a run: $GUIJU_HOME, or ~/.guiju."""
    named = os.environ.get("GUIJU_HOME")
    return Path(named).absolute() if named else Path.home() / ".guiju"


def ledger_key() -> Ed25519PrivateKey:
    """The signing key of this person; made at the first call.

    Raises:
        EvidenceError: others may read or replace it, or the file holds no Ed25519 key.
        StorageError: it cannot be written or read.
    """
    path = guiju_home() / "keys" / "ledger.key"
    private_folder(path.parent.parent)
    private_folder(path.parent)
    if not path.exists():
        _make_key(path)
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(1 << 16)
    except OSError as problem:
        raise StorageError(f"the key {path} cannot be read: {problem.strerror}") from problem
    if mode & 0o077:
        raise EvidenceError(
            f"the key {path} has mode {mode:04o}, so others than its owner may use it, and a signature would say "
            f"nothing. If nobody did: chmod 600 {path}; otherwise move it away, and the next run makes a new one"
        )
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as problem:
        raise EvidenceError(f"the key {path} cannot be read as a PEM private key: restore it from a copy") from problem
    if not isinstance(key, Ed25519PrivateKey):
        raise EvidenceError(f"the key {path} is not an Ed25519 key: restore it from a copy")
    return key


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The public half, 32 bytes."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def private_folder(folder: Path) -> None:
    """Make a folder that its owner alone may enter, and refuse one in which others may replace files.

    Raises:
        EvidenceError: others may write into it.
        StorageError: it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = stat.S_IMODE(folder.stat().st_mode)
    except OSError as problem:
        raise StorageError(f"{folder} cannot be made ({problem.strerror}); set GUIJU_HOME to another folder") from None
    if mode & 0o022:
        raise EvidenceError(
            f"others may write into {folder} (mode {mode:04o}), and could replace the signing key in it: "
            f"chmod 700 {folder}"
        )


def _make_key(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    prepared = prepare_bytes(path, pem, mode=0o600)
    try:
        os.link(prepared.partial, path)  # unlike a rename, this fails where another process has just made one
    except FileExistsError:
        pass
    except OSError as problem:
        raise StorageError(f"the key {path} cannot be written: {problem.strerror}") from problem
    finally:
        prepared.discard()
    sync_folder(path.parent)
