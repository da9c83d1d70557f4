"""guiju: one of its runners behind its engine, on token ids as the others are."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import Any

import torch
from protocol import serve

from guiju.generation import Chooser, Chunk, Engine, Handle, Request, SamplingSettings, open_runner
from guiju.model import load_model

GREEDY = SamplingSettings(greedy=True, ignore_eos=True)
runner: Any = None


def load(folder: str, runner_name: str, precision: str, **_: object) -> str:
    global runner
    model = load_model(Path(folder))
    runner = open_runner(model, runner=runner_name, precision=precision, pages=None, consume=True)
    del model
    return str(getattr(runner, "arithmetic", runner.precision))


def request(prompt: list[int], new: int, lookup: int = 0, on_token: Any = None) -> Request:
    def take(token: int) -> bool:
        if on_token is not None:
            on_token()
        return False

    chooser = Chooser(GREEDY, prompt, runner.vocab_size, 0, 0)
    return Request(tuple(prompt), new, [chooser], [take], lookup=lookup)


def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
    engine = Engine(runner, step_tokens=512, share_prefixes=False)
    handles = [engine.add(request(prompt, new)) for prompt in prompts]
    engine.run()
    return [handle.branches[0].ids for handle in handles]


def serve_clients(prompts: list[list[int]], lengths: list[int], clients: int) -> dict[str, Any]:
    """Clients that ask, wait for the answer, and ask again; each begins at a moment of its own."""
    engine = Engine(runner, most_running=clients, share_prefixes=False)
    left = list(zip(prompts, lengths, strict=True))
    waiting = sorted(random.Random(0).random() * 0.5 for _ in range(clients))
    first: list[float] = []
    running: list[Handle] = []
    began = time.perf_counter()

    def ask() -> None:
        prompt, new = left.pop()
        asked, seen = time.perf_counter(), []

        def on_token() -> None:
            if not seen:
                seen.append(True)
                first.append(time.perf_counter() - asked)

        running.append(engine.add(request(prompt, new, on_token=on_token)))

    while left or running:
        while waiting and left and time.perf_counter() - began >= waiting[0]:
            waiting.pop(0)
            ask()
        if not engine.step():
            time.sleep(0.001)
        for handle in [handle for handle in running if handle.done]:
            running.remove(handle)
            if left:
                ask()
    first.sort()
    return {
        "tokens": engine.counts.chosen,
        "first_token_s": {"median": first[len(first) // 2], "p95": first[int(0.95 * len(first))], "most": first[-1]},
    }


def offline(prompts: list[list[int]], lengths: list[int], clients: int) -> dict[str, Any]:
    """The same requests, all known from the beginning."""
    engine = Engine(runner, most_running=clients, share_prefixes=False)
    for prompt, new in zip(prompts, lengths, strict=True):
        engine.add(request(prompt, new))
    engine.run()
    return {"tokens": engine.counts.chosen}


def look_up(prompts: list[list[int]], lengths: list[int], lookup: int) -> dict[str, Any]:
    """One request after the other, with guesses out of the text or without."""
    ids, drafted, accepted, rewound = [], 0, 0, 0
    for prompt, new in zip(prompts, lengths, strict=True):
        engine = Engine(runner, share_prefixes=False)
        handle = engine.add(request(prompt, new, lookup=lookup))
        engine.run()
        ids.append(handle.branches[0].ids)
        drafted, accepted = drafted + engine.counts.drafted, accepted + engine.counts.accepted
        rewound += engine.counts.rewound
    return {"ids": ids, "drafted": drafted, "accepted": accepted, "rewound": rewound}


def nats(rows: list[list[int]]) -> float:
    """Sum of -ln p over all tokens but each row's first."""
    total = 0.0
    for row in rows:
        pages = tuple(range(math.ceil(len(row) / runner.page_tokens)))
        [logits] = runner.step([Chunk(tuple(row[:-1]), 0, pages, len(row) - 1)])
        logs = logits.float().log_softmax(-1)
        total -= float(logs.gather(1, torch.tensor(row[1:])[:, None]).double().sum())
    return total


if __name__ == "__main__":
    serve(
        {
            "load": load,
            "generate": generate,
            "clients": serve_clients,
            "offline": offline,
            "lookup": look_up,
            "nats": nats,
        }
    )
