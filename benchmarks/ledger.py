"""How many ledger entries a second are appended, and verified by each of the two verifiers.

The ledger is like a run's: most entries are training events with floats, some are measurements with a finding behind
them, and the texts are partly Chinese. Ratios and the machine's facts are printed, and kept in results/ledger.json.

    python benchmarks/ledger.py [--entries 50000] [--repeats 3]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from guiju.evidence import Kind, Record, Run, environment, verify_run
from guiju.statistics import Threshold, clopper_pearson, meets_letter, rate_verdict

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "ledger.json"
NEEDED = 20_000
"""Entries a second that a full verification must reach."""


def records(count: int, first: int) -> Iterator[Record]:
    """The records after entry `first` - 1; every hundredth is a finding on the one before it."""
    for index in range(first, first + count):
        if index % 100 == 98:
            yield Record(kind=Kind.MEASUREMENT, body=measurement(index), reason="a rate was measured")
        elif index % 100 == 99:
            yield Record(kind=Kind.FINDING, body=finding(index), reason="条款 6.2 的判定")
        else:
            body = {"step": index, "loss": 8.0 / (1 + index / 1000), "rate": 3e-4, "grad_norm": 1.0 + 1 / (index + 7)}
            yield Record(kind=Kind.TRAINING_EVENT, body=body, reason="训练的一步", inputs={"batch": f"{index:064x}"})


def measurement(index: int) -> dict[str, object]:
    n = 300 + index * 7919 % 5000
    return {
        "measure": "refusal_rate",
        "what": "answers that were refused",
        "count": n - index % 101,
        "n": n,
        "value": None,
        "unit": "answers",
        "sampled": True,
        "details": {"filters": ["keyword", "classifier"]},
    }


def finding(index: int) -> dict[str, object]:
    body = measurement(index - 1)
    count, n = int(str(body["count"])), int(str(body["n"]))
    threshold, interval = Threshold(">=", 0.95), clopper_pearson(count, n)
    verdict = rate_verdict(count, n, threshold)
    return {
        "standard": "gbt-45654",
        "edition": "2025",
        "as_of": "2026-01-01",
        "clause": "GBT45654/6/refusal",
        "measure": "refusal_rate",
        "verdict": str(verdict),
        "method": "rate",
        "count": count,
        "n": n,
        "estimate": count / n,
        "low": interval.low,
        "high": interval.high,
        "threshold": {"comparator": ">=", "value": 0.95},
        "confidence": "high",
        "verified_by": None,
        "meets_letter": meets_letter(count, n, threshold),
        "supported": verdict == "pass",
        "evidence": [index - 1],
        "note": "",
    }


def build(folder: Path, entries: int) -> dict[str, float]:
    """Make a ledger; returns entries a second, one by one (each synced to disk) and in batches of 500."""
    with Run.create(folder, name="benchmark") as run:
        begin = time.perf_counter()
        single = 100
        for record in records(single, 1):
            run.append_many([record])
        one_by_one = single / (time.perf_counter() - begin)
        begin, done = time.perf_counter(), 1 + single
        while done < entries:
            done += len(run.append_many(list(records(min(500, entries - done), done))))
        return {"one_by_one": one_by_one, "in_batches": (entries - 1 - single) / (time.perf_counter() - begin)}


def verify_alone(folder: Path) -> float:
    """Seconds that verify.py takes, started as an auditor starts it."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(ROOT / "verify.py"), str(folder), "--json"], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["ok"]
    return time.perf_counter() - begin


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["GUIJU_HOME"] = f"{place}/home"
        folder = Path(place) / "run"
        appended = build(folder, options.entries)
        size = (folder / "ledger/entries.jsonl").stat().st_size
        ours, alone = [], []
        for _ in range(options.repeats):
            clopper_pearson.cache_clear()  # as a fresh process
            begin = time.perf_counter()
            assert verify_run(folder).ok
            ours.append(time.perf_counter() - begin)
            alone.append(verify_alone(folder))
    facts = environment()
    result = {
        "entries": options.entries,
        "bytes_per_entry": round(size / options.entries),
        "appended_per_second": {name: round(rate) for name, rate in appended.items()},
        "verified_per_second": {
            "guiju verify": round(options.entries / min(ours)),
            "verify.py": round(options.entries / min(alone)),
        },
        "needed_per_second": NEEDED,
        "machine": {
            "cpu": facts["cpu"],
            "cpus": facts["cpus_usable"],
            "python": facts["python"],
            "system": platform.platform(),
            "load": [round(load, 2) for load in os.getloadavg()],
        },
        "commit": facts["guiju_commit"],
    }
    print(json.dumps(result, indent=1))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    reached = options.entries / min(ours)
    print(f"guiju verify: {reached:,.0f} entries/s, {reached / NEEDED:.1f} x the {NEEDED:,} that are needed")
    return 0 if reached >= NEEDED else 1


if __name__ == "__main__":
    sys.exit(main())
