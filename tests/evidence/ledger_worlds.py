"""Small real ledgers for tests, what an attacker could do to them, and both verifiers at once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from guiju.evidence import Kind, Record, Run, Verification, VerifierKey, canonical_json, ledger_key, verify_run
from guiju.evidence.keys import public_bytes
from guiju.evidence.note import sign_head
from guiju.evidence.tree import leaf_hash, root_of
from guiju.statistics import Threshold, Verdict, clopper_pearson, meets_letter, rate_verdict

ROOT = Path(__file__).parents[2]


def _load_standalone():
    spec = importlib.util.spec_from_file_location("standalone_verify", ROOT / "verify.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # The same signature is checked thousands of times here, and it is a pure function.
    module.signature_holds = functools.lru_cache(maxsize=4096)(module.signature_holds)
    return module


standalone = _load_standalone()


@contextlib.contextmanager
def in_memory() -> Iterator[Path]:
    """A folder in memory where the system has one, since each append waits for the disk otherwise."""
    shared = Path("/dev/shm")
    place = tempfile.mkdtemp(prefix="guiju-test-", dir=shared if shared.is_dir() else None)
    try:
        yield Path(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def verify_both(run: Path, against: Path | None = None) -> Verification:
    """What both verifiers say; they must name the same places."""
    ours = verify_run(run, against)
    problems, entries, files = standalone.check_run(str(run), against.read_bytes() if against else None)
    assert (ours.entries, ours.files) == (entries, files)
    assert {(p.entry, p.file) for p in ours.problems} == {(entry, file) for entry, file, _ in problems}, (
        ours.problems,
        problems,
    )
    assert [(p.entry, p.file) for p in ours.problems[:1]] == [problem[:2] for problem in problems[:1]]
    return ours


def measurement(
    count: int, n: int, measure: str = "refusal_rate", sampled: bool = True, **other: Any
) -> dict[str, Any]:
    return {
        "measure": measure,
        "what": "how often it was refused",
        "count": count,
        "n": n,
        "value": None,
        "unit": "answers",
        "sampled": sampled,
        "details": {},
        **other,
    }


def finding(entry: int, body: dict[str, Any], threshold: Threshold, **other: Any) -> dict[str, Any]:
    """A true finding over a sampled rate."""
    count, n = body["count"], body["n"]
    interval = clopper_pearson(count, n)
    verdict = rate_verdict(count, n, threshold)
    return {
        "standard": "gbt-45654",
        "edition": "2025",
        "as_of": "2026-01-01",
        "clause": "GBT45654/6/refusal",
        "measure": body["measure"],
        "verdict": str(verdict),
        "method": "rate",
        "count": count,
        "n": n,
        "estimate": count / n if n else None,
        "low": interval.low if n else None,
        "high": interval.high if n else None,
        "threshold": {"comparator": threshold.comparator, "value": threshold.value},
        "confidence": "high",
        "verified_by": None,
        "meets_letter": meets_letter(count, n, threshold),
        "supported": verdict is Verdict.PASS,
        "evidence": [entry],
        "note": "",
        **other,
    }


def put(folder: Path, path: str, data: bytes) -> dict[str, str]:
    """Write a file of the run; returns what an entry says of it."""
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return {path: sha256(data)}


def fill(run: Run, draw: random.Random, steps: int) -> None:
    """Let things happen: files come, change and go, rates are measured and held against a bound."""
    for _ in range(steps):
        match draw.choice(["file", "file", "change", "remove", "finding", "event"]):
            case "file":
                name = f"{draw.choice(['corpus', 'model', 'tasks'])}/{draw.randrange(10**6)}.bin"
                outputs = put(run.path, name, draw.randbytes(draw.randint(1, 300)))
                run.append(Kind.STAGE_FINISHED, {"stage": "模型"}, reason="made", outputs=outputs)
            case "change" if run.manifest():
                name = draw.choice(sorted(run.manifest()))
                outputs = put(run.path, name, draw.randbytes(40))
                run.append(Kind.CHECKPOINT, {"step": draw.random()}, reason="changed", outputs=outputs)
            case "remove" if len(run.manifest()) > 1:
                name = draw.choice(sorted(run.manifest()))
                (run.path / name).unlink()
                run.append(Kind.TRAINING_EVENT, {}, reason="taken away", outputs={name: None})
            case "finding":
                n = draw.randint(1, 400)
                body = measurement(draw.randint(0, n), n)
                entry = run.append(Kind.MEASUREMENT, body, reason="measured")
                threshold = Threshold(draw.choice(["<=", ">="]), draw.choice([0.05, 0.5, 0.9, 0.96]))
                run.append(Kind.FINDING, finding(entry, body, threshold), reason="judged")
            case _:
                body = {"loss": draw.random() * 10, "tokens": draw.randrange(10**9), "text": "规矩 \U0001f600\n"}
                run.append_many([Record(kind=Kind.TRAINING_EVENT, body=body, reason="a step")] * draw.randint(1, 3))


def make_run(folder: Path, seed: int, steps: int = 8, watch: Callable[[Run], None] = lambda run: None) -> Path:
    """A run with entries and files, drawn by `seed`."""
    draw = random.Random(seed)
    with Run.create(folder, name=f"world {seed}", actor="a test") as run:
        run.append(
            Kind.STAGE_FINISHED, {"stage": "corpus"}, reason="made", outputs=put(folder, "corpus/a.txt", b"text")
        )
        for _ in range(steps):
            watch(run)
            fill(run, draw, 1)
        watch(run)
    return folder


def lines_of(run: Path) -> list[bytes]:
    return (run / "ledger/entries.jsonl").read_bytes().splitlines(keepends=True)


def write_lines(run: Path, lines: list[bytes]) -> None:
    (run / "ledger/entries.jsonl").write_bytes(b"".join(lines))


def entries_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines_of(run)]


def chained(entries: list[dict[str, Any]]) -> list[bytes]:
    """Lines with index and previous made to fit."""
    previous, lines = "0" * 64, []
    for index, entry in enumerate(entries):
        line = canonical_json({**entry, "index": index, "previous": previous})
        previous = leaf_hash(line).hex()
        lines.append(line + b"\n")
    return lines


def sign(run: Path, key: VerifierKey | None = None, private: Any = None) -> None:
    """Sign whatever stands there, as only the holder of the key can."""
    private = private or ledger_key()
    key = key or VerifierKey.parse((run / "ledger/keys.pub").read_text()[:-1])
    assert key.public == public_bytes(private)
    lines = lines_of(run)
    root = root_of([leaf_hash(line[:-1]) for line in lines])
    (run / "ledger/note").write_bytes(sign_head(private, key, len(lines), root))
