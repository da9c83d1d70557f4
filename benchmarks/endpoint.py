"""How busy scoring and generation keep an OpenAI-style endpoint: the server of the tests, in a process of its own.

Each of its slots works on one request at a time, for as long as a server with a larger model takes (`--delay`) beside
what the small model costs. What counts is the share of the time, from the first request to the last answer, in which
the slots were at work.

    python benchmarks/endpoint.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from guiju.evidence import environment
from guiju.providers import RemoteSettings, load

HERE = Path(__file__).parent
SERVER = HERE.parent / "tests" / "servers" / "openai_server.py"
MODEL = HERE.parent / "examples" / "data" / "stories260K" / "stories260K.bin"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=160)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--delay", type=float, default=0.1, help="seconds of work a request")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "endpoint.json")
    arguments = parser.parse_args()
    found = {kind: measure(kind, arguments) for kind in ("score", "generate")}
    for kind, share in found.items():
        print(f"{kind:<10}{share:.1%} busy")
    asked = {name: getattr(arguments, name) for name in ("requests", "slots", "delay", "concurrency")}
    facts = {"environment": environment(), "load": os.getloadavg(), **asked, "busy_share": found}
    arguments.out.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def measure(kind: str, arguments: argparse.Namespace) -> float:
    """Of a server of its own."""
    command = [
        sys.executable,
        str(SERVER),
        str(MODEL),
        "--slots",
        str(arguments.slots),
        "--delay",
        str(arguments.delay),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        os.environ["OPENAI_BASE_URL"] = server.stdout.readline().strip()
        model = load("openai:test-model", remote=RemoteSettings(concurrency=arguments.concurrency))
        texts = [f"Once upon a time there were {number} cats." for number in range(arguments.requests)]
        begin = time.perf_counter()
        if kind == "score":
            model.score(texts)
        else:
            model.generate(texts, greedy=True, max_new_tokens=8)
        print(f"{kind}: {arguments.requests / (time.perf_counter() - begin):.1f} requests/s")
        server.stdin.write("busy\nend\n")
        server.stdin.flush()
        return float(server.stdout.readline())


if __name__ == "__main__":
    main()
