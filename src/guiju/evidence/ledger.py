"""The append-only file of entries, and the signed note over them.

An append writes the lines, syncs them, and only then puts the new note in place: an entry counts from the moment at
which a note covers it. A copy of the last note is kept beside the key, so that no tree is ever signed that is smaller
than, or different from, one signed before: not after a backup was restored, nor from a copied folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from guiju.errors import EvidenceError, StorageError
from guiju.evidence.canonical import canonical_json, parse_strict
from guiju.evidence.keys import guiju_home, private_folder, public_bytes
from guiju.evidence.note import TreeHead, VerifierKey, parse_note, sign_head
from guiju.evidence.records import ENTRY_LIMIT_BYTES, FIRST_PREVIOUS, FORMAT, Record, entry_problem
from guiju.evidence.tree import Frontier, leaf_hash
from guiju.storage import explain_failure, folder_atomic, prepare_bytes, remove_stale, write_bytes

ENTRIES, NOTE, KEYS = "entries.jsonl", "note", "keys.pub"
RESERVE_BYTES = 16 << 20
"""A ledger takes no entry on a disk with less room than this, so that it never meets the end of the disk."""

_open_ledgers: weakref.WeakSet[Ledger] = weakref.WeakSet()


class Ledger:
    """A ledger opened for writing: one at a time, in one process.

    Raises (on opening):
        EvidenceError: it is damaged, of another version, signed with another key, older than what was signed before,
            or open elsewhere.
    """

    def __init__(self, folder: Path, private: Ed25519PrivateKey, *, fresh: bool = False) -> None:
        self.folder = folder
        self._private = private
        self._broken: str | None = None
        self._descriptors: list[int] = []
        self._mutex = threading.Lock()
        self.frontier = Frontier()
        self.size_bytes = 0
        self.previous = FIRST_PREVIOUS
        self.time = ""
        self.recovered: dict[str, Any] | None = None
        """What was found and mended on opening; for the entry that tells of it."""

        try:
            self._lock(folder / ENTRIES)
            if not fresh:
                check_format(folder)
            self.key = read_key(folder)
            self._check_key()
            heads = guiju_home() / "heads"
            private_folder(heads)
            self._signed_path = heads / f"{sha256(str(self.key).encode()).hexdigest()[:32]}.note"
            self._lock(self._signed_path.with_suffix(".lock"), create=True)
            if not fresh:
                self._recover()
        except BaseException as problem:
            self.close()
            if isinstance(problem, OSError):
                raise explain_failure(problem, folder) from problem
            raise
        _open_ledgers.add(self)

    @classmethod
    def create(cls, folder: Path, origin: str, private: Ed25519PrivateKey, actor: str, first: Record) -> None:
        """Lay down a ledger with its first entry, whole or not at all."""
        key = VerifierKey(origin, public_bytes(private))
        with folder_atomic(folder, replace=False) as place:
            write_bytes(place / KEYS, f"{key}\n".encode())
            write_bytes(place / ENTRIES, b"")
            body = {"origin": origin, "key": str(key), "format": FORMAT, **first.body}
            with contextlib.closing(cls(place, private, fresh=True)) as ledger:
                ledger.append([replace(first, body=body)], actor)

    def append(self, records: Sequence[Record], actor: str) -> list[dict[str, Any]]:
        """Make records durable under one new signature; returns their entries.

        Raises:
            EvidenceError: a record has not the form of its kind, or cannot be written as canonical JSON.
            StorageError: the disk is full or fails; the ledger stands as it was.
        """
        with self._mutex:
            if self._broken:
                raise StorageError(self._broken)
            if not records:
                return []
            self._check_room()
            frontier, entries, lines = self.frontier.copy(), [], []
            previous, time = self.previous, self.time
            for record in records:
                entry = self._entry(record, actor, frontier.size, previous, time)
                line = canonical_json(entry)
                if len(line) >= ENTRY_LIMIT_BYTES:
                    raise EvidenceError(
                        f"an entry of {len(line)} bytes is longer than {ENTRY_LIMIT_BYTES}: write the data to a file "
                        "of the run, and its digest into the entry"
                    )
                leaf = leaf_hash(line)
                frontier.push(leaf)
                previous, time = leaf.hex(), entry["time"]
                entries.append(entry)
                lines.append(line + b"\n")
            data = b"".join(lines)
            self._broken = self._reopen_advice()  # until all of it is done or undone, even by Ctrl-C
            self._write(data, frontier)
            self.frontier, self.previous, self.time = frontier, previous, time
            self.size_bytes += len(data)
            self._broken = None
            return entries

    def close(self) -> None:
        """Let go of the ledger. What was acknowledged is on disk already."""
        self._broken = self._broken or f"the ledger in {self.folder} is closed"
        _open_ledgers.discard(self)
        while self._descriptors:
            with contextlib.suppress(OSError):
                os.close(self._descriptors.pop())

    def _entry(self, record: Record, actor: str, index: int, previous: str, last_time: str) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        reason = record.reason
        if now < last_time:
            reason += f" [the clock was set back to {now}; the time of the entry before is kept]"
            now = last_time
        entry = {
            "index": index,
            "time": now,
            "kind": str(record.kind),
            "actor": actor if record.actor is None else record.actor,
            "reason": reason,
            "inputs": dict(record.inputs),
            "outputs": dict(record.outputs),
            "body": dict(record.body),
            "previous": previous,
        }
        problem = entry_problem(entry)
        if problem:
            raise EvidenceError(f"a {record.kind} record cannot go into the ledger: {problem}")
        return entry

    def _write(self, data: bytes, frontier: Frontier) -> None:
        """Lines, then note. Up to the moment at which the note is signed for good, a failure takes the lines back."""
        note = prepared = None
        try:
            _write_all(self._descriptors[0], data)
            os.fsync(self._descriptors[0])
            note = sign_head(self._private, self.key, frontier.size, frontier.root())
            prepared = prepare_bytes(self.folder / NOTE, note)
            # Its name need not be synced: after a power cut the note itself is at least as new.
            prepare_bytes(self._signed_path, note, mode=0o600).commit(sync=False)
        except BaseException as problem:
            if prepared is not None:
                prepared.discard()
            if note is None or not self._was_signed(note):
                self._take_back()
            if isinstance(problem, OSError):
                raise explain_failure(problem, self.folder / ENTRIES) from problem
            raise
        prepared.commit()

    def _take_back(self) -> None:
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptors[0], self.size_bytes)
            os.fsync(self._descriptors[0])
            self._broken = None

    def _was_signed(self, note: bytes) -> bool:
        """Whether the copy beside the key already is the new note; also where that cannot be known."""
        try:
            return self._signed_path.read_bytes() == note
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def _reopen_advice(self) -> str:
        return (
            f"the last write to the ledger in {self.folder} was cut short: it takes no more entries in this process. "
            "Nothing acknowledged is lost: mend the disk and run the same command again"
        )

    def _check_room(self) -> None:
        try:
            free = shutil.disk_usage(self.folder).free
        except OSError as problem:
            raise explain_failure(problem, self.folder) from problem
        if free < RESERVE_BYTES:
            raise StorageError(
                f"only {free >> 20} MiB are free where the ledger in {self.folder} is, less than its reserve of "
                f"{RESERVE_BYTES >> 20} MiB; nothing was written. Make room, and run the same command again"
            )

    def _lock(self, path: Path, create: bool = False) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(path, flags | (os.O_CREAT if create else 0), 0o600)
        except OSError as problem:
            raise EvidenceError(
                f"{path} cannot be opened for writing ({problem.strerror}), so this is no run folder that can go on"
            ) from problem
        self._descriptors.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EvidenceError(
                f"another process is writing to the run in {self.folder.parent}, or to a copy of it; wait until it ends"
            ) from None

    def _check_key(self) -> None:
        if self.key.public != public_bytes(self._private):
            raise EvidenceError(
                f"the ledger in {self.folder} is signed with another key than {guiju_home() / 'keys' / 'ledger.key'}; "
                "only the holder of its key can go on with this run. Set GUIJU_HOME to where that key is, or start a "
                "new run in another folder"
            )

    def _recover(self) -> None:
        """Find the last signed state, and take away what a killed writer left behind it."""
        remove_stale(self.folder)
        note = self._read_head(self.folder / NOTE)
        signed = self._read_head(self._signed_path)
        heads = [head for head in (note, signed) if head is not None]
        if not heads:
            raise EvidenceError(
                f"the ledger in {self.folder} has no signed note: it was never begun, or its note was taken away. "
                "Restore it, or start a new run in another folder"
            )
        target = max(heads, key=lambda head: head.size)
        roots = {head.size: head.root for head in heads}
        for line in complete_lines(self.folder / ENTRIES):
            if self.frontier.size == target.size:
                break
            self._advance(line)
            root = roots.get(self.frontier.size)
            if root is not None and root != self.frontier.root():
                raise EvidenceError(self._changed(self.frontier.size))
        if self.frontier.size < target.size or any(head.root != roots[head.size] for head in heads):
            if signed is not None and target is signed and (note is None or note.size < signed.size):
                raise EvidenceError(
                    f"the ledger in {self.folder} has {self.frontier.size} entries, but {signed.size} were signed "
                    "before: a backup was restored, or this is an old copy. Going on would sign two histories of one "
                    "run: go on in the newer folder, or start a new run"
                )
            raise EvidenceError(self._changed(target.size))
        self._mend(target, note)

    def _advance(self, line: bytes) -> None:
        leaf = leaf_hash(line[:-1])
        self.frontier.push(leaf)
        self.previous = leaf.hex()
        self.size_bytes += len(line)
        self._last_line = line[:-1]

    def _mend(self, target: TreeHead, note: TreeHead | None) -> None:
        last = parse_strict(self._last_line)
        problem = entry_problem(last)
        if problem:
            raise EvidenceError(f"the last entry of the ledger in {self.folder} cannot be read: {problem}")
        self.time = last["time"]
        with (self.folder / ENTRIES).open("rb") as file:
            file.seek(self.size_bytes)
            tail = file.read()
        found: dict[str, Any] = {}
        if tail:
            # Only what was signed is kept: a line that no signature covers may be anybody's.
            found = {"dropped_bytes": len(tail), "dropped_sha256": sha256(tail).hexdigest()}
            found["dropped_lines"] = tail.count(b"\n")
            os.ftruncate(self._descriptors[0], self.size_bytes)
            os.fsync(self._descriptors[0])
        if note is None or note.size < target.size:
            found["note_renewed"] = True
            write_bytes(
                self.folder / NOTE, sign_head(self._private, self.key, self.frontier.size, self.frontier.root())
            )
        self.recovered = found or None

    def _read_head(self, path: Path) -> TreeHead | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise StorageError(f"{path} cannot be read: {problem.strerror}") from problem
        try:
            head = parse_note(data)
        except EvidenceError as problem:
            raise EvidenceError(f"{path} is damaged: {problem}. guiju verify tells more") from None
        if not head.is_signed_by(self.key):
            raise EvidenceError(f"{path} is not signed by the key in {self.folder / KEYS}. guiju verify tells more")
        return head

    def _changed(self, size: int) -> str:
        return (
            f"the first {size} entries of the ledger in {self.folder} are not those that were signed; "
            f"nothing is added to it. guiju verify {self.folder.parent} tells where it was changed"
        )


def complete_lines(path: Path) -> Iterator[bytes]:
    """The lines of a ledger that end in a newline, which is kept."""
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield line


def read_key(folder: Path) -> VerifierKey:
    """The key in a ledger's folder.

    Raises:
        EvidenceError: it is missing or damaged.
    """
    path = folder / KEYS
    try:
        text = path.read_bytes().decode("ascii", errors="replace")
    except OSError as problem:
        raise EvidenceError(f"{path} cannot be read ({problem.strerror}), so no signature can be checked") from problem
    if not text.endswith("\n"):
        raise EvidenceError(f"{path} is damaged: it should hold one whole line")
    try:
        return VerifierKey.parse(text[:-1])
    except EvidenceError as problem:
        raise EvidenceError(f"{path} is damaged: {problem}") from None


def check_format(folder: Path) -> None:
    """Refuse what this version cannot read.

    Raises:
        EvidenceError: there is no ledger, or one of another format.
    """
    try:
        first = next(complete_lines(folder / ENTRIES), None)
    except OSError as problem:
        raise EvidenceError(f"{folder.parent} is no run folder: {folder / ENTRIES}: {problem.strerror}") from problem
    if first is None:
        raise EvidenceError(f"the ledger in {folder} is empty or cut off in its first entry; restore it from a copy")
    try:
        body = parse_strict(first)["body"]
        version = body["format"]
    except (EvidenceError, KeyError, TypeError):
        raise EvidenceError(
            f"{folder.parent} holds a ledger whose first entry cannot be read. guiju verify {folder.parent} tells more"
        ) from None
    if type(version) is not int or version != FORMAT:
        raise EvidenceError(
            f"{folder.parent} was written by another version of guiju (ledger format {version!r}, this one knows "
            f"{FORMAT}); use the guiju that wrote it, or start a new run in another folder"
        )


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _release_in_child() -> None:
    """After a fork the child lets go: it may not write, and may not hold the lock when its parent is gone."""
    for ledger in list(_open_ledgers):
        ledger._mutex = threading.Lock()  # another thread of the parent may have held it
        ledger.close()


os.register_at_fork(after_in_child=_release_in_child)
