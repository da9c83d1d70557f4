"""A run: a folder of files, and the ledger that says how each of them came to be."""

from __future__ import annotations

import getpass
import re
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from guiju.errors import EvidenceError
from guiju.evidence.canonical import parse_strict
from guiju.evidence.environment import environment
from guiju.evidence.keys import ledger_key
from guiju.evidence.ledger import ENTRIES, NOTE, Ledger, check_format, complete_lines
from guiju.evidence.note import parse_note
from guiju.evidence.records import Entry, Kind, Record, entry_problem
from guiju.storage import explain_failure, remove_stale


class Run:
    """A run folder opened for writing; `read_entries` and `read_manifest` serve whoever only reads.

    What `append` returns for is acknowledged: it is on the disk, under a signature, and survives a crash.
    """

    def __init__(self, path: Path, ledger: Ledger, actor: str, manifest: dict[str, str]) -> None:
        self.path = path
        self.actor = actor
        self._ledger = ledger
        self._manifest = manifest

    @classmethod
    def create(cls, folder: Path, *, name: str, actor: str | None = None) -> Self:
        """Begin a run in a folder that holds none.

        Args:
            name: what people call it; it becomes part of the ledger's origin.
            actor: who is responsible for the entries; the user and machine where none is given.
        Raises:
            EvidenceError: the folder holds a run already, or the signing key may be used by others.
            StorageError: the folder cannot be written.
        """
        folder = Path(folder)
        if (folder / "ledger").exists():
            raise EvidenceError(f"{folder} already holds a run; open it, or choose another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise explain_failure(problem, folder) from problem
        remove_stale(folder)
        actor = actor or default_actor()
        private = ledger_key()
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")[:60] or "run"
        # The random part tells two runs of one name apart: a signature of the one says nothing about the other.
        origin = f"guiju/{slug}/{secrets.token_hex(8)}"
        first = Record(
            kind=Kind.RUN_CREATED,
            body={"name": name, "environment": environment()},
            reason=f"the run {name} begins",
        )
        Ledger.create(folder / "ledger", origin, private, actor, first)
        return cls(folder, Ledger(folder / "ledger", private), actor, {})

    @classmethod
    def open(cls, folder: Path, *, actor: str | None = None) -> Self:
        """Go on with a run. What a killed writer left unsigned is dropped, and an entry says so.

        Raises:
            EvidenceError: there is no run, it is damaged, of another version, signed with another key, open elsewhere,
                or older than what was signed before.
        """
        folder = Path(folder)
        check_format(folder / "ledger")
        ledger = Ledger(folder / "ledger", ledger_key())
        try:
            run = cls(folder, ledger, actor or default_actor(), read_manifest(folder))
            if ledger.recovered:
                run.append(Kind.RECOVERED, ledger.recovered, reason="the last writer was cut off")
        except BaseException:
            ledger.close()
            raise
        return run

    def append(
        self,
        kind: Kind,
        body: Mapping[str, Any],
        *,
        reason: str,
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str | None] | None = None,
    ) -> int:
        """Put one record into the ledger; returns its index once it is durable and signed.

        Args:
            inputs: name -> SHA-256 of what went in.
            outputs: path in the run, with forward slashes -> SHA-256 of the file, None where it was taken away.
        Raises:
            EvidenceError: the record has not the form of its kind, or is no plain JSON.
            StorageError: the disk is full or fails; the ledger stands as it was.
        """
        record = Record(kind=kind, body=body, reason=reason, inputs=inputs or {}, outputs=outputs or {})
        return self.append_many([record])[0]

    def append_many(self, records: Sequence[Record]) -> list[int]:
        """The same for several records under one signature: all or none. Much faster than one by one."""
        entries = self._ledger.append(records, self.actor)
        for entry in entries:
            fold_outputs(self._manifest, entry["outputs"])
        return [entry["index"] for entry in entries]

    def entries(self) -> Iterator[Entry]:
        """Every acknowledged entry, in order."""
        return read_entries(self.path)

    def manifest(self) -> dict[str, str]:
        """Every file that the run vouches for, with its SHA-256, by path."""
        return dict(sorted(self._manifest.items()))

    def note(self) -> bytes:
        """The signed note as it stands: what to keep elsewhere, as an anchor."""
        return (self.path / "ledger" / NOTE).read_bytes()

    def close(self) -> None:
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_entries(folder: Path) -> Iterator[Entry]:
    """The acknowledged entries of a run, read without lock, key or check; `verify_run` checks.

    Raises:
        EvidenceError: there is no ledger, one of another format, or one that cannot be read.
    """
    ledger = Path(folder) / "ledger"
    check_format(ledger)
    try:
        # The note first: entries that are appended meanwhile are simply not seen.
        size = parse_note((ledger / NOTE).read_bytes()).size
    except OSError as problem:
        raise EvidenceError(f"{ledger / NOTE} cannot be read: {problem.strerror}") from problem
    index = -1
    for index, line in enumerate(complete_lines(ledger / ENTRIES)):
        if index == size:
            return
        data = parse_strict(line)
        if entry_problem(data):
            raise EvidenceError(f"entry {index} of {folder} cannot be read. guiju verify {folder} tells more")
        yield Entry.of(data)
    if index + 1 < size:
        raise EvidenceError(f"the ledger of {folder} ends before entry {index + 1}. guiju verify {folder} tells more")


def read_manifest(folder: Path) -> dict[str, str]:
    """Path -> SHA-256 of every file that a run's entries vouch for."""
    manifest: dict[str, str] = {}
    for entry in read_entries(folder):
        fold_outputs(manifest, entry.outputs)
    return manifest


def fold_outputs(manifest: dict[str, str], outputs: Mapping[str, str | None]) -> None:
    """Bring a manifest up to date with one entry."""
    for path, digest in outputs.items():
        if digest is None:
            manifest.pop(path, None)
        else:
            manifest[path] = digest


def default_actor() -> str:
    """User and machine, as far as the system tells them."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
