"""How fast the corpus is built, stage by stage; how time grows with size; and how much memory a gigabyte takes.

    python benchmarks/corpus.py                  stages at 50 MB, and growth from 10 to 200 MB
    python benchmarks/corpus.py --sizes 5 10 20  the same at other sizes (MB)
    python benchmarks/corpus.py --memory         a gigabyte: proportional set size, summed over all processes

Texts come from mixer.py. Stages are given in megabytes of input a second of processor time of one core, so that other
work on the machine does not count; wall time stands beside it. Results go to benchmarks/results/corpus*.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from guiju.corpus import CorpusReport, CorpusSettings, SourceSettings, build_corpus
from mixer import mix

RESULTS = Path(__file__).parent / "results"
MOST_SLOPE = 1.05
MOST_MEMORY = 10**9
STAGES = (
    "read", "surrogates", "mojibake", "nfc", "controls", "whitespace", "boilerplate", "length", "language", "quality",
    "personal-data", "shingles", "contamination", "signatures", "duplicates", "write", "inspect",
)  # fmt: skip
PASSES = ("register", "repeated-lines", "read-and-prepare", "duplicates", "write", "inspect")


def build(texts: Path, out: Path, processes: int) -> CorpusReport:
    source = SourceSettings(
        name="mixed", path="*.jsonl", language=("en", "zh"), licence="mixed", origin="benchmarks/mixer.py", date="2026"
    )
    settings = CorpusSettings(sources=(source,), processes=processes)
    return build_corpus(settings, out, root=texts)


def growth(sizes: list[int], work: Path, repeats: int) -> dict[str, Any]:
    """Time over size in one process; each size is built several times, and the best counts."""
    rows = []
    for megabytes in sizes:
        texts, best = work / f"mixed-{megabytes}", None
        mix(texts, megabytes * 10**6, seed=megabytes)
        for _ in range(repeats):
            wall, processor = time.perf_counter(), time.process_time()
            report = build(texts, work / "corpus", processes=1)
            taken = (time.process_time() - processor, time.perf_counter() - wall, report)
            best = min(best or taken, taken, key=lambda row: row[0])
        assert best is not None
        rows.append({"megabytes": megabytes, "processor_s": best[0], "wall_s": best[1], "seconds": best[2].seconds})
        print(f"{megabytes:>5} MB  {best[0]:8.1f} s processor  {best[1]:8.1f} s wall  "
              f"{megabytes / best[0]:6.2f} MB/s a core   {best[2].line}", flush=True)  # fmt: skip
        shutil.rmtree(texts)
    return {"rows": rows, "slope": slope([(row["megabytes"], row["processor_s"]) for row in rows]),
            "slope_wall": slope([(row["megabytes"], row["wall_s"]) for row in rows])}  # fmt: skip


def slope(points: list[tuple[float, float]]) -> float:
    """Of the least-squares line through log time over log size: 1 where time grows as size does."""
    if len(points) < 2:
        return math.nan
    logs = [(math.log(size), math.log(seconds)) for size, seconds in points]
    mean_x, mean_y = (sum(values) / len(logs) for values in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def print_stages(row: dict[str, Any]) -> None:
    print(f"\nstages at {row['megabytes']} MB, one process: MB/s a core (share of the processor time)")
    for stage in STAGES:
        seconds = row["seconds"].get(stage, 0.0)
        if seconds > 0:
            print(f"  {stage:<16}{row['megabytes'] / seconds:10.1f}   {seconds / row['processor_s']:6.1%}")


class MemoryWatch(threading.Thread):
    """Samples the proportional set size of this process and all below it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = self.samples = 0
        self.processes = 0
        self._stop_now = threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self._stop_now.wait(0.2):
            total = 0
            below = me.children(recursive=True)
            for process in (me, *below):
                total += proportional_set_size(process.pid)
            self.peak, self.samples = max(self.peak, total), self.samples + 1
            self.processes = max(self.processes, 1 + len(below))

    def stop(self) -> None:
        self._stop_now.set()
        self.join()


def proportional_set_size(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (OSError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def memory(megabytes: int, work: Path, processes: int) -> dict[str, Any]:
    texts = work / "mixed"
    planted = mix_apart(texts, megabytes)
    watch = MemoryWatch()
    watch.start()
    began = time.perf_counter()
    report = build(texts, work / "corpus", processes)
    seconds = time.perf_counter() - began
    watch.stop()
    print(f"{megabytes} MB in {seconds:.0f} s with {processes} worker processes: {report.line}")
    print(f"peak proportional set size, summed over {watch.processes} processes: {watch.peak / 1e6:.0f} MB "
          f"({watch.samples} samples); at most {MOST_MEMORY / 1e6:.0f} MB is asked for")  # fmt: skip
    return {"megabytes": megabytes, "wall_s": seconds, "peak_bytes": watch.peak, "processes": watch.processes,
            "samples": watch.samples, "planted": planted}  # fmt: skip


def mix_apart(texts: Path, megabytes: int) -> dict[str, int]:
    """The mixer in a process of its own, so that its memory does not stay in this one."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return dict(pool.apply(mix, (texts, megabytes * 10**6, 1)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 50, 100, 200], help="megabytes")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="a gigabyte, and the memory that it takes")
    parser.add_argument("--megabytes", type=int, default=1000, help="of --memory")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="of --memory")
    given = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="guiju-corpus-") as folder:
        if given.memory:
            result = memory(given.megabytes, Path(folder), given.processes)
            (RESULTS / "corpus-memory.json").write_text(json.dumps(result, indent=1) + "\n")
            return int(result["peak_bytes"] > MOST_MEMORY)
        result = growth(given.sizes, Path(folder), given.repeats)
    print_stages(result["rows"][-1])
    print(f"\nslope of log time over log size: {result['slope']:.3f} (wall {result['slope_wall']:.3f}); "
          f"at most {MOST_SLOPE} is asked for")  # fmt: skip
    (RESULTS / "corpus.json").write_text(json.dumps(result, indent=1) + "\n")
    return int(result["slope"] > MOST_SLOPE)


if __name__ == "__main__":
    raise SystemExit(main())
