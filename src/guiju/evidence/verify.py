"""Recompute everything that a run claims: entries, chain, tree, signature, files, findings.

Nothing is believed that can be computed. `verify.py` at the root of the repository does the same with none of this
code; both must agree.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guiju.errors import EvidenceError
from guiju.evidence.canonical import CanonicalReader
from guiju.evidence.findings import finding_problem
from guiju.evidence.ledger import ENTRIES, KEYS, NOTE
from guiju.evidence.note import TreeHead, VerifierKey, parse_note
from guiju.evidence.records import ENTRY_LIMIT_BYTES, FIRST_PREVIOUS, FORMAT, Kind, entry_problem
from guiju.evidence.tree import Frontier, leaf_hash

ENTRIES_FILE, NOTE_FILE, KEYS_FILE = (f"ledger/{name}" for name in (ENTRIES, NOTE, KEYS))
PROBLEM_LIMIT = 100
"""Of one ledger's entries; what comes after is not listed."""


@dataclass(frozen=True)
class Problem:
    """One thing that does not hold, and where."""

    entry: int | None
    file: str | None
    message: str

    def __str__(self) -> str:
        where = [] if self.entry is None else [f"entry {self.entry}"]
        where += [] if self.file is None else [self.file]
        return ": ".join([", ".join(where), self.message] if where else [self.message])


@dataclass(frozen=True)
class Verification:
    """What came out: `ok` only where there is no problem at all."""

    ok: bool
    problems: list[Problem]
    entries: int
    files: int


def verify_run(folder: Path, against: Path | None = None) -> Verification:
    """Check a run folder, with nothing but its own bytes and, where given, a note that was kept elsewhere.

    Args:
        against: a signed note of the same run; it finds what no run can show by itself: an old backup, a fork, a
            history rewritten by the holder of the key, another run in this one's place.
    Raises:
        EvidenceError: `folder` is no folder, or `against` cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise EvidenceError(f"{folder} is no folder; give a run folder, such as runs/quickstart")
    check = _Check(folder, _read_anchor(against))
    check.keys_and_note()
    check.entries()
    check.heads()
    files = check.artefacts()
    return Verification(not check.problems, check.problems, check.count, files)


def _read_anchor(against: Path | None) -> bytes | None:
    if against is None:
        return None
    try:
        return Path(against).read_bytes()
    except OSError as problem:
        raise EvidenceError(
            f"{against} cannot be read: {problem.strerror}; give a signed note kept elsewhere"
        ) from None


@dataclass
class _Check:
    folder: Path
    anchor_bytes: bytes | None
    problems: list[Problem] = field(default_factory=list)
    key: VerifierKey | None = None
    note: TreeHead | None = None
    anchor: TreeHead | None = None
    count: int = 0
    frontier: Frontier = field(default_factory=Frontier)
    roots: dict[int, bytes] = field(default_factory=dict)
    blamed: set[int] = field(default_factory=set)
    leaves: bytearray = field(default_factory=bytearray)
    shift: int = 0
    last_time: str = ""
    manifest: dict[str, tuple[str | None, int]] = field(default_factory=dict)
    measurements: dict[int, dict[str, Any]] = field(default_factory=dict)
    attestations: dict[int, dict[str, Any]] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)

    def add(self, entry: int | None, file: str | None, message: str) -> None:
        if file is not None:  # a name that is not UTF-8 must not stop whoever prints it
            file = os.fsencode(file).decode(errors="backslashreplace")
        self.problems.append(Problem(entry, file, message))

    def keys_and_note(self) -> None:
        """Who signed what, and whether they did."""
        data = self._read(KEYS_FILE)
        if data is not None:
            try:
                text = data.decode("ascii")
                if not text.endswith("\n"):
                    raise EvidenceError("it does not end in a newline")
                self.key = VerifierKey.parse(text[:-1])
            except (EvidenceError, UnicodeDecodeError) as problem:
                self.add(None, KEYS_FILE, f"no key can be read from it: {problem}")
        data = self._read(NOTE_FILE)
        if data is not None:
            self.note = self._head(data, NOTE_FILE)
        if self.anchor_bytes is not None:
            self.anchor = self._head(self.anchor_bytes, "the note kept elsewhere")

    def entries(self) -> None:
        """Every line: form, order, time, chain, what it says; and the tree over all."""
        wanted = {head.size for head in (self.note, self.anchor) if head is not None}
        chain, reader, already = _Chain(self), CanonicalReader(), len(self.problems)
        for line in self._lines():
            data, problem = _read_line(reader, line)
            content = line.removesuffix(b"\n")
            leaf = leaf_hash(content)
            # A line in the wrong place is found by its index; its link says nothing about its neighbours.
            misplaced = None if problem is not None else self._misplaced(data, leaf)
            chain.follow(content, leaf, None if problem is not None or misplaced is not None else data["previous"])
            if misplaced is not None:
                self.blame(misplaced, "here, or just behind, an entry was taken out, put in or moved")
            elif problem := problem or self._content_problem(data):
                self.blame(self.count, problem)
            self.frontier.push(leaf)
            self.leaves += leaf
            self.count += 1
            if self.count in wanted:
                self.roots[self.count] = self.frontier.root()
        chain.end()
        self.problems[already:] = sorted(self.problems[already:], key=lambda problem: problem.entry or 0)

    def blame(self, entry: int, message: str) -> None:
        """Say once that an entry is at fault; of very many, the first."""
        if entry not in self.blamed and len(self.blamed) < PROBLEM_LIMIT:
            self.blamed.add(entry)
            self.add(entry, ENTRIES_FILE, message)

    def heads(self) -> None:
        """Whether the tree is the one that was signed, here and in the note kept elsewhere."""
        if self.note is not None:
            self._compare_with_note(self.note)
        if self.anchor is not None and self.key is not None:
            self._compare_with_anchor(self.anchor)

    def _compare_with_note(self, note: TreeHead) -> None:
        counts = f"{note.size} entries were signed, here are {self.count}"
        if note.size > self.count:
            self.add(self.count, ENTRIES_FILE, f"{counts}: the end is missing")
        elif note.root != self.roots[note.size]:
            # Whatever was rewritten, the chain carries it on to the last entry.
            entry = None if self.blamed else note.size - 1
            self.add(entry, ENTRIES_FILE, f"the {note.size} entries that were signed are not these")
        if note.size < self.count:
            way_out = "after a crash, opening the run for writing takes them away"
            self.add(note.size, ENTRIES_FILE, f"{counts}: from this one on they are not signed ({way_out})")

    def _compare_with_anchor(self, anchor: TreeHead) -> None:
        if anchor.size > self.count:
            counts = f"the note kept elsewhere covers {anchor.size} entries, here are {self.count}"
            self.add(self.count, ENTRIES_FILE, f"{counts}: the run was cut short, or is an old backup")
        elif anchor.root != self.roots[anchor.size]:
            message = f"the first {anchor.size} entries are not those of the note kept elsewhere"
            self.add(None, ENTRIES_FILE, f"{message}: history was rewritten, or this is a fork")

    def artefacts(self) -> int:
        """Every file of the run against the digest that an entry gives it; returns how many were read."""
        found = set()
        for path, place, problem in _walk(self.folder):
            if path in (ENTRIES_FILE, NOTE_FILE, KEYS_FILE):
                continue  # these were looked at when they were read
            digest, entry = self.manifest.get(path, (None, None))
            found.add(path)
            if problem is None and digest is None:
                problem = "no entry names this file" if entry is None else f"entry {entry} says that it was taken away"
            if problem is None:
                try:
                    if _digest(place) != digest:
                        problem = f"its content is not the one that entry {entry} recorded"
                except OSError as error:
                    problem = f"it cannot be read: {error.strerror}"
            if problem is not None:
                self.add(entry, path, problem)
        for path, (digest, entry) in sorted(self.manifest.items()):
            if digest is not None and path not in found:
                self.add(entry, path, f"it is missing: entry {entry} recorded it")
        return len(found)

    def _misplaced(self, data: dict[str, Any], leaf: bytes) -> int | None:
        """The entry at fault where the order is broken here.

        That is this one, unless it continues an entry further in front: then what stands between was put in. An exact
        repetition continues the same entry as what it repeats, and is itself at fault.
        """
        says, shift = data["index"], data["index"] - self.count
        if shift in (0, self.shift):  # what follows a gap keeps its distance, and is not a new problem each
            return None
        self.shift = shift
        continues = 0 < says < self.count and self._leaf(says - 1).hex() == data["previous"]
        return says if continues and self._leaf(says) != leaf else self.count

    def _leaf(self, index: int) -> bytes:
        return bytes(self.leaves[32 * index : 32 * index + 32])

    def _content_problem(self, data: dict[str, Any]) -> str | None:
        index, kind, body = self.count, data["kind"], data["body"]
        if data["time"] < self.last_time:
            return f"its time {data['time']} is before that of an entry in front of it, {self.last_time}"
        self.last_time = data["time"]
        for path, digest in data["outputs"].items():
            self.manifest[path] = (digest, index)
        if kind == Kind.MEASUREMENT:
            self.measurements[index] = body
            self.latest[body["measure"]] = index
        elif kind == Kind.ATTESTATION:
            self.attestations[index] = body
        elif kind == Kind.FINDING:
            problem = finding_problem(body, self.measurements, self.attestations, self.latest)
            return problem and f"the finding on {body['clause']} does not follow: {problem}"
        elif kind == Kind.RUN_CREATED:
            if type(body.get("format")) is not int or body["format"] != FORMAT:
                return f"it is of format {body.get('format')!r}, and this verifier knows {FORMAT}"
            if self.key is not None and (body.get("origin"), body.get("key")) != (self.key.origin, str(self.key)):
                return f"it names another origin or key than {KEYS_FILE}"
        return None

    def _head(self, data: bytes, name: str) -> TreeHead | None:
        try:
            head = parse_note(data)
        except EvidenceError as problem:
            self.add(None, name, str(problem))
            return None
        if self.key is None:
            return head
        if head.origin != self.key.origin:
            self.add(None, name, f"it is about the ledger {head.origin}, and this run is {self.key.origin}")
        elif not head.is_signed_by(self.key):
            self.add(None, name, f"its signature is not one of the key in {KEYS_FILE}")
        else:
            return head
        return None

    def _read(self, name: str) -> bytes | None:
        try:
            with _open_plain(self.folder / name) as file:
                return file.read(1 << 16)
        except OSError as error:
            self.add(None, name, f"it cannot be read: {error.strerror}")
            return None

    def _lines(self) -> Iterator[bytes]:
        try:
            with _open_plain(self.folder / ENTRIES_FILE) as file:
                yield from file
        except OSError as error:
            self.add(None, ENTRIES_FILE, f"it cannot be read: {error.strerror}")


class _Chain:
    """Names the entry at fault where an entry's `previous` is not the hash of the one before it.

    One broken link may be the fault of either end. Where the next link is broken too, it is the entry between them;
    otherwise the earlier one. The last entry is at fault where the signed root is that with its link mended.
    """

    def __init__(self, check: _Check) -> None:
        self.check = check
        self.leaf: bytes | None = None
        """Of the entry before."""
        self.broken = False
        """Whether the link before was broken."""
        self.pending: tuple[bytes, Frontier] | None = None
        """Of an entry with a broken link, while the next is still to come: its line if the link held, and the tree in
        front of it."""

    def follow(self, line: bytes, leaf: bytes, previous: str | None) -> None:
        """Look at the entry that comes next; `previous` is None where it says nothing about the one before."""
        index = self.check.count
        expected = FIRST_PREVIOUS if self.leaf is None else self.leaf.hex()
        broken = previous is not None and previous != expected
        if self.pending is not None:
            self._blame(index - 1 if broken else index - 2)
            self.pending = None
        elif broken and index == 0:
            self._blame(0)
        elif broken and not self.broken and previous is not None:
            self.pending = line.replace(previous.encode(), expected.encode()), self.check.frontier.copy()
        self.broken = broken and index > 0
        self.leaf = leaf

    def end(self) -> None:
        """The last link has no next one."""
        if self.pending is None:
            return
        mended, tree = self.pending
        tree.push(leaf_hash(mended))
        note = self.check.note
        as_signed = note is not None and (note.size, note.root) == (tree.size, tree.root())
        self._blame(self.check.count - (1 if as_signed else 2))

    def _blame(self, entry: int) -> None:
        self.check.blame(entry, "it does not fit into the chain: it is not what was written in its place")


def _read_line(reader: CanonicalReader, line: bytes) -> tuple[Any, str | None]:
    """The data of a line, or what is wrong with its form."""
    if not line.endswith(b"\n") or len(line) > ENTRY_LIMIT_BYTES:
        return None, "it is cut off, or too long"
    try:
        data = reader.read(line[:-1])
    except ValueError as problem:
        return None, f"it cannot be read: {problem}"
    return data, entry_problem(data)


def _walk(folder: Path, inside: str = "") -> Iterator[tuple[str, Path, str | None]]:
    """Everything below a folder that is no folder: path, place, and what is wrong with its nature."""
    try:
        found = sorted(os.scandir(folder), key=lambda item: item.name)
    except OSError as error:
        yield inside.rstrip("/") or ".", folder, f"this folder cannot be read: {error.strerror}"
        return
    for item in found:
        path = inside + item.name
        if item.is_dir(follow_symlinks=False):
            yield from _walk(Path(item.path), path + "/")
        elif item.is_file(follow_symlinks=False):
            yield path, Path(item.path), None
        else:
            yield path, Path(item.path), "it is a link or a special file; a run holds plain files alone"


def _open_plain(path: Path) -> io.BufferedReader:
    """A plain file to read; never a link, and never one that blocks."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    return file


def _digest(path: Path) -> str:
    with _open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
