"""`openai:` against a server that is none of ours: llama-cpp-python's, over the same weights as our own engine.

It is installed once, into an environment of its own, and serves stories260K as GGUF. Greedy text over completions must
be the same, and continuations of a context must score the same; what it does not say (the likelihood of a text's first
token) must be refused by name.

    python benchmarks/foreign_server.py
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from guiju.errors import ModelError
from guiju.providers import RemoteSettings, export_model, load

HERE = Path(__file__).parent
ENVIRONMENT = HERE / ".environments" / "llama.cpp-server"
MODEL = HERE.parent / "examples" / "data" / "stories260K" / "stories260K.bin"
PROMPTS = ["Once upon a time", "Lily had a red ball", "The dog"]
PAIRS = [("Once upon a", " time"), ("Once upon a", " dragon"), ("Lily had a red ball. She", " liked to play with it")]
MOST_APART = 5e-3
"""Nats of a continuation: llama.cpp multiplies some float32 weights in its own way."""


def main() -> None:
    make_environment()
    with tempfile.TemporaryDirectory() as folder:
        export_model(MODEL, to="gguf", out=Path(folder) / "gguf", type="f32")
        [weights] = (Path(folder) / "gguf").glob("*.gguf")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [
            str(ENVIRONMENT / "bin/python"),
            "-m",
            "llama_cpp.server",
            "--model",
            str(weights),
            "--port",
            str(port),
        ]
        command += ["--host", "127.0.0.1", "--logits_all", "true", "--n_ctx", "512", "--model_alias", "stories"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                wait_for(f"http://127.0.0.1:{port}/v1/models", server)
                compare(port)
            finally:
                server.terminate()


def make_environment() -> None:
    if not (ENVIRONMENT / "bin/python").exists():
        print(f"building {ENVIRONMENT} (once)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        pip = [str(ENVIRONMENT / "bin/python"), "-m", "pip", "install", "-q", "llama-cpp-python[server]"]
        subprocess.run(pip, check=True)


def wait_for(url: str, server: subprocess.Popen[bytes], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("llama-cpp-python's server did not start")


def compare(port: int) -> None:
    os.environ["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
    theirs, ours = load("openai:stories", remote=RemoteSettings(concurrency=1)), load(MODEL)
    greedy = {"greedy": True, "max_new_tokens": 24}
    texts = [[found.text for (found,) in model.generate(PROMPTS, **greedy)] for model in (theirs, ours)]
    same = [one == other for one, other in zip(*texts, strict=True)]
    apart = max(
        abs(a.nll_nats - b.nll_nats)
        for a, b in zip(theirs.score_continuations(PAIRS), ours.score_continuations(PAIRS), strict=True)
    )
    try:
        theirs.score(PROMPTS)
        refused = False
    except ModelError as problem:
        refused = "cannot score" in str(problem)
    streamed = "".join(theirs.stream(PROMPTS[0], **greedy)) == ours.generate(PROMPTS[0], **greedy)[0].text
    print(f"greedy texts equal: {same}; streamed equal: {streamed}; continuations differ by {apart:.1e} nats at most")
    print(f"the first token's missing likelihood is refused by name: {refused}")
    if not (all(same) and streamed and refused and apart < MOST_APART):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
