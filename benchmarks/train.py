"""Our training loop beside the Hugging Face Trainer: same shape, same batches, same arithmetic, in one run.

Each peer lives in a process of its own and they take turns, a few steps at a time, so that what else the machine does
meets all of them alike; what counts are medians and ratios within a round, and the fastest turns stand beside them for
machines that are not quiet. The matrix peak is measured in its own turn of every round. `--fast` is the small shape
alone, in about two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PEAK = "matrix peak"
BASE = "Trainer"


@dataclass(frozen=True)
class Case:
    """A GPT-2 shape and its batch."""

    name: str
    vocab_size: int
    context: int
    width: int
    layers: int
    heads: int
    batch: int
    length: int
    steps: int
    """Steps a turn."""


SMALL = Case("10M", vocab_size=8192, context=256, width=384, layers=6, heads=6, batch=8, length=256, steps=3)
LARGE = Case("124M", vocab_size=50257, context=1024, width=768, layers=12, heads=12, batch=4, length=256, steps=1)

PEERS = {
    BASE: {"loop": "trainer"},
    "ours": {"loop": "ours"},
    "ours, compiled": {"loop": "ours", "compile": True},
    "ours, packed rows": {"loop": "ours", "packed": True},
    "ours, packed, compiled": {"loop": "ours", "packed": True, "compile": True},
    "Trainer, compiled": {"loop": "trainer", "compile": True},
    "Trainer, bf16": {"loop": "trainer", "dtype": "bfloat16"},
    "ours, bf16": {"loop": "ours", "dtype": "bfloat16"},
    "ours, bf16, compiled": {"loop": "ours", "dtype": "bfloat16", "compile": True},
}
MAIN = (BASE, "ours", "ours, compiled")
GOALS = (
    ("tokens/s, compiled / Trainer", "ours, compiled", "ratio", ">=", 1.3),
    ("tokens/s, uncompiled / Trainer", "ours", "ratio", ">=", 1.1),
    ("share of the float32 matrix peak, compiled", "ours, compiled", "share", ">=", 0.5),
    ("peak memory, compiled / Trainer", "ours, compiled", "memory_ratio", "<=", 0.8),
    ("peak memory, uncompiled / Trainer", "ours", "memory_ratio", "<=", 0.8),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="the small shape alone, three rounds")
    parser.add_argument("--all", action="store_true", help="then packed rows, bfloat16 and a compiled Trainer as well")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="+", choices=[SMALL.name, LARGE.name], default=[SMALL.name, LARGE.name])
    parser.add_argument("--out", type=Path, default=RESULTS / "train.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(json.loads(arguments.worker))
        return
    rounds, chosen = (3, [SMALL.name]) if arguments.fast else (arguments.rounds, arguments.cases)
    plan = [(case, MAIN, case.name) for case in (SMALL, LARGE) if case.name in chosen]
    if arguments.all:
        plan.append((SMALL, (BASE, *(name for name in PEERS if name not in MAIN)), f"{SMALL.name}, other ways"))
    results: dict[str, Any] = {"machine": machine(), "load_before": os.getloadavg()}
    for case, peers, title in plan:
        results[title] = compare(case, list(peers), rounds)
        print(table(results[title]), flush=True)
    results["load_after"] = os.getloadavg()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


# -- the turns -----------------------------------------------------------------------------------------------------


class Peer:
    """A worker process, as the benchmark sees it."""

    def __init__(self, name: str, case: Case) -> None:
        self.name = name
        given = json.dumps({"peer": name, "case": asdict(case)})
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", given], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.first_s = self.answer()["first_s"]
        self.turns: list[float] = []

    def turn(self, steps: int) -> float:
        """Let it do so many steps; their time, or what else it measured."""
        assert self.process.stdin is not None
        print(steps, file=self.process.stdin, flush=True)
        value = float(self.answer()["value"])
        self.turns.append(value)
        return value

    def end(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.close()
        facts = self.answer()
        self.process.wait()
        return facts

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self.process.wait()}; its message stands above")
        found: dict[str, Any] = json.loads(line)
        return found


def compare(case: Case, names: list[str], rounds: int) -> dict[str, Any]:
    """All peers over the same shape; each makes ready alone, then they take turns."""
    print(f"\n{case.name}: {case.batch} x {case.length} tokens a step, {rounds} rounds of {case.steps}", flush=True)
    peers = []
    for name in [PEAK, *names]:
        peers.append(Peer(name, case))
        print(f"  {name}: ready, first step {peers[-1].first_s:.1f} s", flush=True)
    for peer in peers[1:]:
        peer.turn(case.steps)  # caches and clock rates settle
        peer.turns.clear()
    for number in range(rounds):
        order = peers if number % 2 == 0 else peers[::-1]
        for peer in order:
            peer.turn(case.steps)
    ends = {peer.name: peer.end() for peer in peers}
    peak, base = peers[0], next(peer for peer in peers if peer.name == BASE)
    from guiju.compute import parameters, training_flops

    shape = model_config(case)
    flops = training_flops(shape, case.batch, case.length).total * case.steps
    rows = {}
    for peer in peers[1:]:
        rates = [case.steps * case.batch * case.length / seconds for seconds in peer.turns]
        rows[peer.name] = {
            "tokens_per_second": statistics.median(rates),
            "spread": spread(rates),
            "steps_timed": len(rates) * case.steps,
            "ratio": statistics.median(b / own for b, own in zip(base.turns, peer.turns, strict=True)),
            "best_ratio": min(base.turns) / min(peer.turns),
            "best_share": flops / min(peer.turns) / max(peak.turns),
            "share": statistics.median(flops / own / top for own, top in zip(peer.turns, peak.turns, strict=True)),
            "first_step_s": peer.first_s,
            "peak_memory_mb": ends[peer.name]["peak_memory_bytes"] / 1e6,
            "memory_ratio": ends[peer.name]["peak_memory_bytes"] / ends[BASE]["peak_memory_bytes"],
            "loss": ends[peer.name]["loss"],
            "turns_s": peer.turns,
        }
    return {
        "case": asdict(case),
        "parameters": parameters(shape).total,
        "matrix_peak_gflops": statistics.median(peak.turns) / 1e9,
        "matrix_peak_spread": spread(peak.turns),
        "peers": rows,
        "goals": [goal(rows, *given) for given in GOALS if given[1] in rows],
    }


def goal(rows: dict[str, Any], what: str, peer: str, field: str, sign: str, wanted: float) -> dict[str, Any]:
    value = rows[peer][field]
    return {
        "what": what,
        "value": value,
        "goal": f"{sign} {wanted}",
        "met": value >= wanted if sign == ">=" else value <= wanted,
    }


def spread(values: list[float]) -> float:
    return (max(values) - min(values)) / 2 / statistics.median(values)


def table(result: dict[str, Any]) -> str:
    lines = [
        f"\n{result['case']['name']} ({result['parameters']:,} parameters); float32 matrix peak "
        f"{result['matrix_peak_gflops']:.0f} GFLOP/s ±{result['matrix_peak_spread']:.0%}",
        f"{'':<24}{'':>16}{'--- median ---':>17}{'fastest turn':>16}{'':>12}{'--- memory ---':>17}",
        f"{'peer':<24}{'tokens/s':>16}{'ratio':>8}{'of peak':>9}{'ratio':>7}{'of peak':>9}{'first step':>12}{'MB':>10}"
        f"{'ratio':>7}{'loss':>8}",
    ]
    for name, row in result["peers"].items():
        speed = f"{row['tokens_per_second']:,.0f} ±{row['spread']:.0%}"
        lines.append(
            f"{name:<24}{speed:>16}{row['ratio']:>8.2f}{row['share']:>9.0%}{row['best_ratio']:>7.2f}"
            f"{row['best_share']:>9.0%}{row['first_step_s']:>10.1f} s{row['peak_memory_mb']:>10,.0f}"
            f"{row['memory_ratio']:>7.2f}{row['loss']:>8.3f}"
        )
    for line in result["goals"]:
        lines.append(f"{'met    ' if line['met'] else 'NOT MET'} {line['what']}: {line['value']:.2f} ({line['goal']})")
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    from importlib.metadata import version

    from guiju.evidence import environment

    return {**environment(), "transformers": version("transformers"), "accelerate": version("accelerate")}


# -- in the worker -------------------------------------------------------------------------------------------------


class Turns:
    """The worker's side: work stops between two steps until the next turn comes."""

    def __init__(self) -> None:
        self.answers = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # whatever a library prints is no answer
        self.left = 1
        self.first = True
        self.started = time.perf_counter()

    def between_steps(self) -> None:
        if self.left == 0:
            self.say({"first_s" if self.first else "value": time.perf_counter() - self.started})
            self.first = False
            self.left = self.wait()
            self.started = time.perf_counter()
        self.left -= 1

    def wait(self) -> int:
        line = sys.stdin.readline()
        if not line:
            self.say({"peak_memory_bytes": high_water(), "loss": self.loss()})
            os._exit(0)
        return int(line)

    def say(self, facts: dict[str, Any]) -> None:
        print(json.dumps(facts), file=self.answers, flush=True)

    def loss(self) -> float:
        return float("nan")


def high_water() -> int:
    """The highest resident memory of this process so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def work(given: dict[str, Any]) -> None:
    warnings.simplefilter("ignore")
    case = Case(**given["case"])
    turns = Turns()
    if given["peer"] == PEAK:
        measure_peak(turns)
    chosen = PEERS[given["peer"]]
    run = {"ours": run_ours, "trainer": run_trainer}[str(chosen["loop"])]
    run(case, turns, bool(chosen.get("compile")), str(chosen.get("dtype", "float32")), bool(chosen.get("packed")))


def measure_peak(turns: Turns) -> None:
    import torch

    from guiju.device import matrix_peak_flops

    measure = matrix_peak_flops.__wrapped__  # not the figure that a process keeps: a new one each turn
    device = torch.device("cpu")
    measure(device, torch.float32, 0.3)
    turns.say({"first_s": time.perf_counter() - turns.started})
    while turns.wait():
        turns.say({"value": measure(device, torch.float32, 1.0)})


def token_rows(case: Case, count: int = 64) -> Any:
    """Random tokens, (count, length + 1): speed does not depend on what they say."""
    import torch

    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, case.vocab_size, (count * case.batch, case.length + 1), generator=generator)


def model_config(case: Case) -> Any:
    from guiju.model import gpt2_config

    return gpt2_config(
        vocab_size=case.vocab_size, context=case.context, width=case.width, layers=case.layers, heads=case.heads
    )


def run_ours(case: Case, turns: Turns, compiled: bool, dtype: str, packed: bool) -> None:
    """The whole loop as `guiju run` uses it: clipping, log, timing and effect check included."""
    import torch

    from guiju.model import Transformer
    from guiju.tokens import Batch
    from guiju.training import TrainingSettings, train

    rows = token_rows(case)
    length = case.length
    documents = (torch.arange(length) * 4 // length).expand(case.batch, length) if packed else None

    class Rows:
        place = 0

        def next(self) -> Batch:
            turns.between_steps()
            part = rows[self.place * case.batch :][: case.batch]
            self.place = (self.place + 1) % (len(rows) // case.batch)
            return Batch(part[:, :-1].contiguous(), part[:, 1:].contiguous(), documents)

        def state(self) -> dict[str, int]:
            return {"place": self.place}

        def restore(self, state: dict[str, int]) -> None:
            self.place = state["place"]

        def identity(self) -> dict[str, str | int]:
            return {"context": case.length, "vocab_size": case.vocab_size}

    torch.manual_seed(0)
    model = Transformer(model_config(case))
    settings = TrainingSettings(
        steps=10_000,
        batch=case.batch,
        dtype=dtype,
        compile=compiled,
        checkpoint_every=0,
        evaluate_every=0,
        device="cpu",
    )
    with tempfile.TemporaryDirectory() as folder:
        losses = Path(folder) / "train_log.jsonl"
        turns.loss = lambda: probe(lambda ids: model(ids), rows, case)  # type: ignore[method-assign]
        train(model, Rows(), settings, folder=losses.parent)


def run_trainer(case: Case, turns: Turns, compiled: bool, dtype: str, packed: bool) -> None:
    """Hugging Face's Trainer with its defaults: fused AdamW, clipping at 1; no dropout, as in ours."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()
    rows = token_rows(case)
    examples = [{"input_ids": row[:-1], "labels": row[:-1]} for row in rows]  # the model shifts the labels itself
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=case.vocab_size,
        n_positions=case.context,
        n_embd=case.width,
        n_layer=case.layers,
        n_head=case.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    model = GPT2LMHeadModel(config)

    class Gate(TrainerCallback):
        def on_step_begin(self, *given: Any, **named: Any) -> None:
            turns.between_steps()

    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=case.batch,
            max_steps=10_000,
            learning_rate=1e-3,
            warmup_steps=20,
            weight_decay=0.1,
            adam_beta2=0.95,
            lr_scheduler_type="cosine",
            bf16=dtype == "bfloat16",
            torch_compile=compiled,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = Trainer(model=model, args=settings, train_dataset=examples, callbacks=[Gate()])
        turns.loss = lambda: probe(lambda ids: model(ids).logits, rows, case)  # type: ignore[method-assign]
        trainer.train()


def probe(logits: Any, rows: Any, case: Case) -> float:
    """Loss on one batch after the last turn: both loops have learned about as much."""
    import torch
    import torch.nn.functional as F

    part = rows[: case.batch]
    with torch.no_grad():
        found = logits(part[:, :-1])
        return float(F.cross_entropy(found.flatten(0, 1).float(), part[:, 1:].flatten()))


if __name__ == "__main__":
    main()
