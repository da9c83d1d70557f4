"""Our runners beside transformers, CTranslate2, llama.cpp and OpenVINO GenAI: same weights, same ids, in one run.

Each peer has an environment and a process of its own. It takes turns with transformers, round by round, so that what
else the machine does meets both alike: what counts are the ratios within a round. Weights are random: speeds are valid,
and what is written means nothing; quality is measured apart, on a published checkpoint and on models trained here.

    make bench-generate                      # about a quarter of an hour; --quick in five minutes
    python benchmarks/generate.py --only gpt2 --peers "guiju int8" "llama.cpp q8_0"
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import generate_models as models
import generate_report as report

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BASE = "transformers"


@dataclass(frozen=True)
class Peer:
    script: str
    options: dict[str, Any] = field(default_factory=dict)
    environment: str = ""
    """Folder of benchmarks/.environments; our own where empty."""
    shapes: tuple[str, ...] = ("gpt2", "qwen2")


PEERS = {
    BASE: Peer("transformers_peer"),
    "guiju torch float32": Peer("guiju_peer", {"runner_name": "torch", "precision": "float32"}),
    "guiju float32": Peer("guiju_peer", {"runner_name": "openvino", "precision": "float32"}),
    "guiju int8": Peer("guiju_peer", {"runner_name": "openvino", "precision": "int8"}),
    "guiju int4": Peer("guiju_peer", {"runner_name": "openvino", "precision": "int4"}),
    "CTranslate2 float32": Peer("ctranslate2_peer", {"precision": "float32"}, "ctranslate2", ("gpt2",)),
    "CTranslate2 int8": Peer("ctranslate2_peer", {"precision": "int8"}, "ctranslate2"),
    "llama.cpp f32": Peer("llama_cpp_peer", {"type": "f32"}, "llama.cpp", ("gpt2",)),
    "llama.cpp q8_0": Peer("llama_cpp_peer", {"type": "q8_0"}, "llama.cpp", ("gpt2",)),
    "OpenVINO GenAI int8": Peer("openvino_genai_peer", {}, "openvino-genai", ("gpt2",)),
}
NEEDS = {
    "ctranslate2": ["ctranslate2", "transformers==5.23.0", "torch==2.13.0"],
    "llama.cpp": ["llama-cpp-python", "numpy"],
    "openvino-genai": ["openvino-genai", "openvino-tokenizers", "optimum-intel", "nncf", "torch==2.13.0"],
}
"""What pip is asked for, by environment."""


class Worker:
    """A peer's process."""

    def __init__(self, peer: Peer) -> None:
        threads = str(len(os.sched_getaffinity(0)))
        self.errors = tempfile.TemporaryFile("w+")  # not a pipe: some peers write more than one holds  # noqa: SIM115
        quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        self.process = subprocess.Popen(
            [python_of(peer.environment), str(HERE / "peers" / f"{peer.script}.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env={**os.environ, "OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", **quiet},
        )  # fmt: skip

    def do(self, what: str, **options: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": what, **options}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.errors.seek(0)
            told = self.errors.read().strip().splitlines()
            raise RuntimeError(told[-1] if told else "the process ended without a word")
        return json.loads(line)

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def working(peer: Peer, **options: Any) -> Iterator[Worker]:
    worker = Worker(peer)
    try:
        worker.do("load", **options)
        yield worker
    finally:
        worker.close()


def python_of(environment: str) -> str:
    return str(HERE / ".environments" / environment / "bin/python") if environment else sys.executable


def make_environment(name: str) -> str | None:
    """Why there is none; None where there is one."""
    folder = HERE / ".environments" / name
    if not (folder / "bin/python").exists():
        print(f"building {folder} (once)", file=sys.stderr)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
            pip = [str(folder / "bin/python"), "-m", "pip", "install", "-q", *NEEDS[name]]
            subprocess.run(pip, check=True, capture_output=True, text=True)
            # optimum-intel brings a torchvision that does not fit torch's CPU build, and transformers then fails.
            subprocess.run([*pip[:3], "uninstall", "-q", "-y", "torchvision"], capture_output=True)
        except subprocess.CalledProcessError as problem:
            shutil.rmtree(folder, ignore_errors=True)
            return f"pip: {str(problem.stderr).strip().splitlines()[-1:]}"
    return None


@dataclass
class Case:
    """What is measured in a round."""

    name: str
    batch: int
    prompt: int
    new: int

    def prompts(self, turn: int, ids: int) -> list[list[int]]:
        draw = random.Random(f"{self.name} {turn}")
        return [[draw.randrange(5, ids) for _ in range(self.prompt)] for _ in range(self.batch)]


CASES = {
    "gpt2": [
        Case("batch 1", 1, 32, 128),
        Case("batch 8", 8, 32, 128),
        Case("prefill", 1, 512, 1),
        Case("first", 1, 32, 1),
    ],
    "qwen2": [Case("batch 1", 1, 32, 48), Case("prefill", 1, 512, 1), Case("first", 1, 32, 1)],
}


def measure_peer(shape: str, name: str, rounds: int, base_name: str = BASE) -> dict[str, Any]:
    """A peer beside transformers (or another): for each case, seconds of both in every round; memory; whether ids
    agree."""
    peer = PEERS[name]
    options = models.prepare(shape, name, peer)
    found: dict[str, Any] = {"peer": name, "shape": shape, "base": base_name, "cases": {}}
    found["read_gb_per_s"] = report.read_speed()
    with working(PEERS[base_name], **models.prepare(shape, base_name, PEERS[base_name])) as base:
        with working(peer, **options) as worker:
            for case in CASES[shape]:
                rows = []
                for turn in range(-1, rounds):  # the first turn warms up
                    prompts = case.prompts(turn, models.TOKENS)
                    # Who goes first changes, as what the one leaves in the caches meets the other.
                    order = (base, worker) if turn % 2 else (worker, base)
                    answers = {id(one): one.do("generate", prompts=prompts, new=case.new) for one in order}
                    mine, theirs = answers[id(worker)], answers[id(base)]
                    if turn >= 0:
                        alike = sum(a == b for a, b in zip(mine["found"], theirs["found"], strict=True))
                        rows.append({"seconds": mine["seconds"], "base": theirs["seconds"], "alike": alike})
                found["cases"][case.name] = {**vars(case), "rounds": rows}
            found["memory"] = worker.do("memory")
        found["base_memory"] = base.do("memory")
    return found


def measure_shape(shape: str, names: list[str], rounds: int) -> list[dict[str, Any]]:
    results = []
    for name in names:
        peer = PEERS[name]
        if shape not in peer.shapes:
            continue
        missing = make_environment(peer.environment) if peer.environment else None
        try:
            if missing:
                raise RuntimeError(missing)
            result = measure_peer(shape, name, rounds)
            print(report.peer_line(result), flush=True)
        except (RuntimeError, subprocess.CalledProcessError, OSError) as problem:
            told = getattr(problem, "stderr", None) or str(problem)
            result = {"peer": name, "shape": shape, "missing": str(told).strip()[-300:]}
            print(f"{shape:<6} {name:<22} missing: {result['missing']}", flush=True)
        results.append(result)
    return results


def measure_clients(rounds: int) -> dict[str, Any]:
    """16 clients of ragged lengths beside the same requests all known from the beginning."""
    draw = random.Random(0)
    prompts = [[draw.randrange(5, models.TOKENS) for _ in range(draw.randrange(8, 96))] for _ in range(192)]
    lengths = [draw.randrange(16, 96) for _ in prompts]
    name = "guiju int8"
    with working(PEERS[name], **models.prepare("gpt2", name, PEERS[name])) as worker:
        rows = []
        for turn in range(-1, rounds):
            asked = {"prompts": prompts, "lengths": lengths, "clients": 16}
            joined, known = worker.do("clients", **asked), worker.do("offline", **asked)
            if turn >= 0:
                rows.append({
                    "clients": joined["found"]["tokens"] / joined["seconds"],
                    "offline": known["found"]["tokens"] / known["seconds"],
                    "first_token_s": joined["found"]["first_token_s"],
                })  # fmt: skip
    return {"peer": name, "rounds": rows}


def measure_lookup(rounds: int) -> dict[str, Any]:
    """Guesses out of the text, on a model trained here to copy and edit; the same ids are demanded."""
    folder, asked = models.copying(40)
    results = {}
    for name in ("guiju torch float32", "guiju float32", "guiju int8"):
        with working(PEERS[name], folder=str(folder), **PEERS[name].options) as worker:
            rows = []
            for turn in range(-1, rounds):
                plain, guessed = worker.do("lookup", **asked, lookup=0), worker.do("lookup", **asked, lookup=8)
                if turn >= 0:
                    facts = guessed["found"]
                    rows.append({
                        "ratio": plain["seconds"] / guessed["seconds"],
                        "acceptance": facts["accepted"] / max(1, facts["drafted"]),
                        "unchanged": facts["ids"] == plain["found"]["ids"],
                        "rewound": facts["rewound"],
                    })  # fmt: skip
            results[name] = rows
    return results


def measure_quality() -> dict[str, Any]:
    """Bits per byte of real text by precision, on a published checkpoint and on the largest model trained here."""
    results: dict[str, Any] = {}
    for model, folder, rows, size in models.real_models():
        results[model] = {"bytes": size}
        for runner in ("openvino", "torch"):
            for precision in ("float32", "bfloat16", "int8", "int4"):
                peer = Peer("guiju_peer", {"runner_name": runner, "precision": precision})
                try:
                    with working(peer, folder=str(folder), **peer.options) as worker:
                        nats = worker.do("nats", rows=rows)["found"]
                    results[model][f"{runner} {precision}"] = nats / 0.6931471805599453 / size
                except RuntimeError as problem:
                    results[model][f"{runner} {precision}"] = f"missing: {str(problem)[-200:]}"
        print(report.quality_line(model, results[model]), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("gpt2", "qwen2", "direct", "clients", "lookup", "quality")
    parser.add_argument("--quick", action="store_true", help="one round of each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=parts, default=list(parts), help="others keep their last figures")
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), help="others keep their last figures")
    parser.add_argument("--out", type=Path, default=RESULTS / "generate.json")
    arguments = parser.parse_args()
    rounds = 1 if arguments.quick else arguments.rounds
    kept = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    results = {**kept, "machine": report.machine(), "python": platform.python_version()}
    names = arguments.peers or [name for name in PEERS if name != BASE]
    for part in arguments.only:
        if part in CASES:
            new = measure_shape(part, names, rounds)
            done = {result["peer"] for result in new}
            results[part] = [old for old in results.get(part, []) if old["peer"] not in done] + new
        elif part == "direct":  # the two are close: only turns that they take with each other tell
            results[part] = measure_peer("gpt2", "guiju int8", 2 * rounds, "OpenVINO GenAI int8")
            print(report.peer_line(results[part]), flush=True)
        elif part == "clients":
            results[part] = measure_clients(rounds)
        elif part == "lookup":
            results[part] = measure_lookup(rounds)
        else:
            results[part] = measure_quality()
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")  # a cut run keeps its parts
    print(report.page(results))
    print(f"\nwritten to {arguments.out}")


if __name__ == "__main__":
    main()
