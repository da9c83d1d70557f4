from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason="needs the extra cpu, which .ci/run installs")

STRACE = shutil.which("strace")
RUNNER = """
import threading
import torch
from guiju.generation import Chunk, open_runner
from guiju.model import Transformer, gpt2_config
model = Transformer(gpt2_config(vocab_size=64, context=64, width=32, layers=1, heads=2))
for precision in ("float32", "int8"):
    runner = open_runner(model, runner="openvino", precision=precision, pages=2)
    runner.step([Chunk((1, 2, 3), 0, (0,), 1)])
"""
NNCF = """
import importlib.util
if importlib.util.find_spec("nncf"):
    import openvino, numpy as np
    from openvino import opset13 as operations
    x = operations.parameter([-1, 64], np.float32)
    product = operations.matmul(x, operations.constant(np.ones((64, 64), np.float32)), False, True)
    import nncf
    nncf.compress_weights(openvino.Model([product], [x], "product"), mode=nncf.CompressWeightsMode.INT8_SYM)
"""
THREADS = """
import time
time.sleep(1)
print([thread.name for thread in threading.enumerate()])
"""
CONNECT = """
import socket
with socket.socket() as one:
    one.settimeout(0.2)
    try:
        one.connect(("127.0.0.1", 9))
    except OSError:
        pass
"""


@dataclass(frozen=True)
class Seen:
    said: str
    connections: list[str]
    programs: list[str]
    home: list[str]


def watch(code: str, folder: Path) -> Seen:
    """What a fresh process does beyond itself: whom it connects to, what it starts, what it leaves in its home.

    A proxy on a closed port of this machine stands before all others, so that not even what ought to be caught leaves.
    """
    assert STRACE is not None
    home = folder / "home"
    home.mkdir()
    trace = folder / "trace"
    environment = {
        name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")
    } | dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment |= {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    calls = "trace=connect,sendto,sendmsg,sendmmsg,execve"
    command = [STRACE, "-f", "-qq", "--seccomp-bpf", "-e", calls, "-o", str(trace), sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    inet = [line for line in lines if re.search(r"AF_INET6?\b", line)]
    started = [line for line in lines if "execve(" in line and "= 0" in line]
    left = sorted(str(path.relative_to(home)) for path in home.rglob("*"))
    return Seen(done.stdout.strip(), inet, started, left)


needs_strace = pytest.mark.skipif(STRACE is None, reason="needs strace, which .ci/run installs")


@needs_strace
def test_the_fast_runner_connects_to_no_one_starts_nothing_and_leaves_nothing_at_home(tmp_path):
    seen = watch(RUNNER + NNCF + THREADS, tmp_path)
    assert seen.connections == []
    assert len(seen.programs) == 1  # itself
    assert seen.home == []
    assert seen.said.splitlines()[-1] == "['MainThread']"


@needs_strace
def test_telemetry_that_another_part_of_the_program_brought_in_is_silenced(tmp_path):
    seen = watch("import openvino_telemetry\n" + RUNNER + THREADS, tmp_path)
    assert seen.connections == []
    assert seen.home == []
    assert seen.said.splitlines()[-1] == "['MainThread']"


@needs_strace
def test_the_watch_notices_openvinos_telemetry_where_it_is_on_and_a_plain_connection(tmp_path):
    for name in ("plain", "telemetry"):
        (tmp_path / name).mkdir()
    assert any("htons(9)" in line for line in watch(CONNECT, tmp_path / "plain").connections)
    on = watch("import openvino, time\ntime.sleep(2)", tmp_path / "telemetry")
    assert on.connections
    assert any(path.startswith("intel") for path in on.home)


SIGNALLED = """
import gc, os, signal
signal.signal(signal.SIGTERM, lambda *noted: print("noted", flush=True))
first = open_runner(model, runner="openvino", precision="float32", pages=2)
second = open_runner(model, runner="openvino", precision="float32", pages=2)
for gone in ("first", "second", "runner"):
    exec(f"del {gone}"); gc.collect()
    os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_models_that_came_and_went_in_turn_is_noted():
    done = subprocess.run(
        [sys.executable, "-c", RUNNER + SIGNALLED], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["noted"] * 3), done.stderr[-2000:]
