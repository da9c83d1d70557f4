"""Every way to change a run that we know of, and that both verifiers find it, and where.

What nobody can see from the run alone passes without an anchor, and is found with one: both are tested.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from ledger_worlds import (
    chained,
    entries_of,
    finding,
    in_memory,
    lines_of,
    make_run,
    measurement,
    put,
    sign,
    verify_both,
    write_lines,
)

from guiju.evidence import Kind, Run, VerifierKey, canonical_json
from guiju.evidence.keys import public_bytes
from guiju.statistics import Threshold

ENTRIES, NOTE, KEYS = "ledger/entries.jsonl", "ledger/note", "ledger/keys.pub"
ANCHOR = "the note kept elsewhere"
SEEDS = 20
BASES = 20
SOAK = int(os.environ.get("GUIJU_SOAK", "1000"))


@dataclass
class World:
    run: Path
    """The run to be tampered with: a copy."""
    backup: Path
    """The same run as it was some entries ago."""
    other: Path
    """Another run, signed with the same key."""
    contents: Path
    """Every content that a file of the run ever had, by digest."""
    anchor: Path
    """The run's last note, kept elsewhere."""
    draw: random.Random

    @property
    def size(self) -> int:
        return len(lines_of(self.run))

    def some(self, first: int = 0, behind: int = 0) -> int:
        """The index of an entry, at least `first`, with at least `behind` others behind it."""
        return self.draw.randrange(first, self.size - behind)

    def artefact(self) -> str:
        paths = [p.relative_to(self.run).as_posix() for p in sorted(self.run.rglob("*")) if p.is_file()]
        return self.draw.choice([path for path in paths if not path.startswith("ledger/")])


Place = tuple[int | None, str]
"""Entry and file that must be among the first named."""


def flip(data: bytes, at: int, draw: random.Random) -> bytes:
    return data[:at] + bytes([data[at] ^ draw.randrange(1, 256)]) + data[at + 1 :]


def byte_flip(world: World) -> list[Place]:
    index = world.some()
    lines = lines_of(world.run)
    lines[index] = flip(lines[index], world.draw.randrange(len(lines[index])), world.draw)
    write_lines(world.run, lines)
    return [(index, ENTRIES)]


def field_edit(world: World) -> list[Place]:
    index = world.some()
    lines = lines_of(world.run)
    entry = json.loads(lines[index])
    entry["reason"] += " (as agreed)"
    lines[index] = canonical_json(entry) + b"\n"
    write_lines(world.run, lines)
    return [(index, ENTRIES)]


def link_edit(world: World) -> list[Place]:
    index = world.some(first=1)
    lines = lines_of(world.run)
    entry = json.loads(lines[index])
    entry["previous"] = world.draw.randbytes(32).hex()
    lines[index] = canonical_json(entry) + b"\n"
    write_lines(world.run, lines)
    return [(index, ENTRIES)]


def edit_and_rehash(world: World) -> list[Place]:
    """The entry is changed, and the next one made to fit: two changed entries, either is a right answer."""
    index = world.some(behind=1)
    entries, lines = entries_of(world.run), lines_of(world.run)
    entries[index]["actor"] = "somebody else"
    lines[index : index + 2] = chained(entries[: index + 2])[index:]
    write_lines(world.run, lines)
    return [(index, ENTRIES), (index + 1, ENTRIES)]


def delete_middle(world: World) -> list[Place]:
    index = world.some(behind=1)
    lines = lines_of(world.run)
    del lines[index]
    write_lines(world.run, lines)
    return [(index, ENTRIES)]


def delete_tail(world: World) -> list[Place]:
    keep = world.some(first=1)
    write_lines(world.run, lines_of(world.run)[:keep])
    return [(keep, ENTRIES)]


def truncate_file(world: World) -> list[Place]:
    data = b"".join(lines_of(world.run))
    keep = world.draw.randrange(len(data))
    (world.run / ENTRIES).write_bytes(data[:keep])
    return [(data[:keep].count(b"\n"), ENTRIES)]


def reorder(world: World) -> list[Place]:
    index = world.some(behind=1)
    lines = lines_of(world.run)
    other = world.draw.randrange(index + 1, len(lines))
    lines[index], lines[other] = lines[other], lines[index]
    write_lines(world.run, lines)
    return [(index, ENTRIES)]


def duplicate(world: World) -> list[Place]:
    index = world.some()
    lines = lines_of(world.run)
    lines.insert(index + 1, lines[index])
    write_lines(world.run, lines)
    return [(index + 1, ENTRIES)]


def insert(world: World) -> list[Place]:
    """A new entry that claims the right place and the right hash of the one before."""
    index = world.some(first=1)
    lines, entries = lines_of(world.run), entries_of(world.run)
    new = {**entries[index], "kind": "attestation", "body": {}, "outputs": {}, "reason": "was there all along"}
    lines.insert(index, canonical_json(new) + b"\n")
    write_lines(world.run, lines)
    return [(index, ENTRIES)]


def append_unsigned(world: World) -> list[Place]:
    entries = entries_of(world.run)
    extra = {**entries[-1], "kind": "attestation", "body": {"clause": "all", "holds": True}, "outputs": {}}
    write_lines(world.run, [*lines_of(world.run), chained([*entries, extra])[-1]])
    return [(len(entries), ENTRIES)]


def replay_from_another_run(world: World) -> list[Place]:
    theirs = lines_of(world.other)
    lines = lines_of(world.run)
    index = world.draw.randrange(min(len(lines), len(theirs)))
    lines[index] = theirs[index]
    write_lines(world.run, lines)
    if index == len(lines) - 1 > 0:  # nothing behind it tells which of the last two contradicts the other
        return [(index, ENTRIES), (index - 1, ENTRIES)]
    return [(index, ENTRIES)]


def rechain_without_key(world: World) -> list[Place]:
    """Nothing in the entries contradicts anything; the signed root does, and the last entry is not the signed one."""
    entries = entries_of(world.run)
    entries[world.some()]["reason"] = "rewritten"
    write_lines(world.run, chained(entries))
    return [(len(entries) - 1, ENTRIES)]


def clock_set_back(world: World) -> list[Place]:
    """Even by the holder of the key."""
    index = world.some(first=1)
    entries = entries_of(world.run)
    entries[index]["time"] = "2001-01-01T00:00:00.000000Z"
    write_lines(world.run, chained(entries))
    sign(world.run)
    return [(index, ENTRIES)]


def note_changed(world: World) -> list[Place]:
    data = (world.run / NOTE).read_bytes()
    (world.run / NOTE).write_bytes(flip(data, world.draw.randrange(len(data)), world.draw))
    return [(None, NOTE)]


def note_of_a_moment_before(world: World) -> list[Place]:
    shutil.copy(world.backup / NOTE, world.run / NOTE)
    return [(len(lines_of(world.backup)), ENTRIES)]


def note_of_another_run(world: World) -> list[Place]:
    shutil.copy(world.other / NOTE, world.run / NOTE)
    return [(None, NOTE)]


def key_file_changed(world: World) -> list[Place]:
    data = (world.run / KEYS).read_bytes()
    (world.run / KEYS).write_bytes(flip(data, world.draw.randrange(len(data)), world.draw))
    return [(None, KEYS), (None, NOTE)]


def identity_swap(world: World) -> list[Place]:
    """The run takes another run's name, with the very same key: entry 0 says which run it was."""
    mine = VerifierKey.parse((world.run / KEYS).read_text()[:-1])
    theirs = VerifierKey.parse((world.other / KEYS).read_text()[:-1])
    assert mine.public == theirs.public
    shutil.copy(world.other / KEYS, world.run / KEYS)
    sign(world.run, theirs)
    return [(0, ENTRIES)]


def key_swap(world: World) -> list[Place]:
    """Somebody else's key under the same name."""
    private = Ed25519PrivateKey.generate()
    origin = VerifierKey.parse((world.run / KEYS).read_text()[:-1]).origin
    key = VerifierKey(origin, public_bytes(private))
    (world.run / KEYS).write_text(f"{key}\n")
    sign(world.run, key, private)
    return [(0, ENTRIES)]


def artefact_changed(world: World) -> list[Place]:
    path = world.artefact()
    data = (world.run / path).read_bytes()
    (world.run / path).write_bytes(flip(data, world.draw.randrange(len(data)), world.draw))
    return [(recorded_by(world.run, path), path)]


def artefact_missing(world: World) -> list[Place]:
    path = world.artefact()
    (world.run / path).unlink()
    return [(recorded_by(world.run, path), path)]


def artefact_put_in(world: World) -> list[Place]:
    path = f"model/.{world.draw.randrange(1000)}"
    put(world.run, path, b"")
    return [(None, path)]


def artefact_becomes_a_link(world: World) -> list[Place]:
    """The content is right as long as the link leads there; it can lead elsewhere tomorrow."""
    path = world.artefact()
    elsewhere = world.run.parent / "elsewhere"
    shutil.move(world.run / path, elsewhere)
    (world.run / path).symlink_to(elsewhere)
    return [(recorded_by(world.run, path), path)]


def verdict_changed_with_key(world: World) -> list[Place]:
    """The holder of the key may sign what they like; a verdict must still follow from its measurement."""
    body = measurement(1, 2)
    with Run.open(world.run) as run:
        entry = run.append(Kind.MEASUREMENT, body, reason="measured")
        index = run.append(Kind.FINDING, finding(entry, body, Threshold(">=", 0.9)), reason="judged")
    entries = entries_of(world.run)
    entries[index]["body"].update(verdict="pass", supported=True)
    write_lines(world.run, chained(entries))
    sign(world.run)
    return [(index, ENTRIES)]


def measurement_changed_with_key(world: World) -> list[Place]:
    """The figures behind a finding, and not the finding: it no longer follows."""
    body = measurement(1, 2)
    with Run.open(world.run) as run:
        entry = run.append(Kind.MEASUREMENT, body, reason="measured")
        index = run.append(Kind.FINDING, finding(entry, body, Threshold(">=", 0.9)), reason="judged")
    entries = entries_of(world.run)
    entries[entry]["body"].update(count=2)
    write_lines(world.run, chained(entries))
    sign(world.run)
    return [(index, ENTRIES)]


SEEN_ALONE: list[Callable[[World], list[Place]]] = [
    byte_flip, field_edit, link_edit, edit_and_rehash, delete_middle, delete_tail, truncate_file, reorder, duplicate,
    insert, append_unsigned, replay_from_another_run, rechain_without_key, clock_set_back, note_changed,
    note_of_a_moment_before, note_of_another_run, key_file_changed, identity_swap, key_swap, artefact_changed,
    artefact_missing, artefact_put_in, artefact_becomes_a_link, verdict_changed_with_key, measurement_changed_with_key,
]  # fmt: skip


def rechain_with_key(world: World) -> list[Place]:
    entries = entries_of(world.run)
    entries[world.some()]["reason"] = "rewritten"
    write_lines(world.run, chained(entries))
    sign(world.run)
    return [(None, ENTRIES)]


def old_backup(world: World) -> list[Place]:
    replace(world.run, world.backup)
    return [(len(lines_of(world.backup)), ENTRIES)]


def fork(world: World) -> list[Place]:
    """The backup goes on otherwise, and grows longer than the run was: the entries after it are others."""
    wanted = world.size + world.draw.randrange(3)
    replace(world.run, world.backup)
    entries = entries_of(world.run)
    while len(entries) < wanted:
        entries.append({**entries[-1], "kind": "cost", "body": {"other": "history"}, "outputs": {}, "inputs": {}})
    write_lines(world.run, chained(entries))
    sign(world.run)
    return [(None, ENTRIES)]


def truncation_signed_again(world: World) -> list[Place]:
    """The last entries never were, and neither were the files that they tell of."""
    keep = world.some(first=1)
    write_lines(world.run, lines_of(world.run)[:keep])
    sign(world.run)
    manifest: dict[str, str] = {}
    for entry in entries_of(world.run):
        manifest.update(entry["outputs"])
    for place in [place for place in world.run.rglob("*") if place.is_file()]:
        if place.parent.name != "ledger":
            place.unlink()
    for path, digest in manifest.items():
        if digest is not None:
            put(world.run, path, (world.contents / digest).read_bytes())
    return [(keep, ENTRIES)]


def whole_run_swap(world: World) -> list[Place]:
    replace(world.run, world.other)
    return [(None, ANCHOR)]


def all_signed_anew_with_another_key(world: World) -> list[Place]:
    private = Ed25519PrivateKey.generate()
    origin = VerifierKey.parse((world.run / KEYS).read_text()[:-1]).origin
    key = VerifierKey(origin, public_bytes(private))
    (world.run / KEYS).write_text(f"{key}\n")
    entries = entries_of(world.run)
    entries[0]["body"]["key"] = str(key)
    write_lines(world.run, chained(entries))
    sign(world.run, key, private)
    return [(None, ANCHOR)]


SEEN_WITH_ANCHOR: list[Callable[[World], list[Place]]] = [
    rechain_with_key, old_backup, fork, truncation_signed_again, whole_run_swap, all_signed_anew_with_another_key,
]  # fmt: skip


def recorded_by(run: Path, path: str) -> int:
    """The entry that last spoke of a file."""
    return max(entry["index"] for entry in entries_of(run) if path in entry["outputs"])


def replace(run: Path, by: Path) -> None:
    shutil.rmtree(run)
    shutil.copytree(by, run)


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> Iterator[Path]:
    """Twenty worlds, and the home of the key that signed them."""
    with pytest.MonkeyPatch.context() as patch, in_memory() as place:
        patch.setenv("GUIJU_HOME", str(place / "home"))
        for seed in range(BASES):
            make_base(place / str(seed), seed)
        yield place


def make_base(place: Path, seed: int) -> None:
    (place / "contents").mkdir(parents=True)

    def keep(run: Run) -> None:
        for path, digest in run.manifest().items():
            shutil.copy(run.path / path, place / "contents" / digest)
        if not (place / "backup").exists() and len(list(run.entries())) >= 5:
            shutil.copytree(run.path, place / "backup")

    make_run(place / "run", seed, watch=keep)
    make_run(place / "other", seed + 10**6, steps=4)
    shutil.copy(place / "run" / NOTE, place / "anchor")


@pytest.fixture
def worlds(bases: Path, quick: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Iterator[World]]:
    """World after world, each a fresh copy."""

    def many(count: int) -> Iterator[World]:
        for seed in range(count):
            here = quick / "world"
            shutil.rmtree(here, ignore_errors=True)
            shutil.copytree(bases / str(seed % BASES), here)
            shutil.copytree(bases / "home", here / "home")
            monkeypatch.setenv("GUIJU_HOME", str(here / "home"))
            places = (here / name for name in ("run", "backup", "other", "contents", "anchor"))
            yield World(*places, random.Random(seed))

    return many


def check_seen_alone(tamper: Callable[[World], list[Place]], worlds: Iterator[World]) -> int:
    checked = 0
    for world in worlds:
        places = tamper(world)
        found = verify_both(world.run)
        assert not found.ok
        first = found.problems[0]
        assert (first.entry, first.file) in places, (places, found.problems)
        assert not verify_both(world.run, world.anchor).ok
        checked += 1
    return checked


def check_seen_with_anchor(tamper: Callable[[World], list[Place]], worlds: Iterator[World]) -> int:
    checked = 0
    for world in worlds:
        places = tamper(world)
        assert verify_both(world.run).problems == []  # nobody can see it from the run alone
        found = verify_both(world.run, world.anchor)
        assert not found.ok
        first = found.problems[0]
        assert (first.entry, first.file) in places, (places, found.problems)
        checked += 1
    return checked


def check_untouched(worlds: Iterator[World]) -> int:
    checked = 0
    for world in worlds:
        for anchor in (None, world.anchor, world.backup / NOTE, world.run / NOTE):
            assert verify_both(world.run, anchor).problems == []
        assert verify_both(world.other).problems == []
        checked += 1
    return checked


@pytest.mark.parametrize("tamper", SEEN_ALONE, ids=lambda tamper: tamper.__name__)
def test_tampering_is_found_and_the_place_is_named(tamper, worlds):
    assert check_seen_alone(tamper, worlds(SEEDS)) == SEEDS


@pytest.mark.parametrize("tamper", SEEN_WITH_ANCHOR, ids=lambda tamper: tamper.__name__)
def test_what_only_an_anchor_shows_passes_without_one_and_is_found_with_it(tamper, worlds):
    assert check_seen_with_anchor(tamper, worlds(SEEDS)) == SEEDS


def test_there_is_no_alarm_over_100_untouched_ledgers(quick, home):
    for seed in range(100):
        run = make_run(quick / f"run{seed}", seed, steps=random.Random(seed).randrange(12))
        assert verify_both(run).problems == []
        assert verify_both(run, run / NOTE).problems == []


@pytest.mark.soak
@pytest.mark.parametrize("tamper", SEEN_ALONE, ids=lambda tamper: tamper.__name__)
def test_soak_tampering_is_found_and_the_place_is_named(tamper, worlds):
    assert check_seen_alone(tamper, worlds(SOAK)) == SOAK


@pytest.mark.soak
@pytest.mark.parametrize("tamper", SEEN_WITH_ANCHOR, ids=lambda tamper: tamper.__name__)
def test_soak_what_only_an_anchor_shows_is_found_with_it(tamper, worlds):
    assert check_seen_with_anchor(tamper, worlds(SOAK)) == SOAK


@pytest.mark.soak
def test_soak_there_is_no_alarm_over_untouched_ledgers(quick, home):
    for seed in range(SOAK):
        run = make_run(quick / f"run{seed}", seed, steps=random.Random(seed).randrange(30))
        assert verify_both(run, run / NOTE).problems == []
        shutil.rmtree(run)
