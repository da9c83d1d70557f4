from __future__ import annotations

import subprocess
import sys

import pytest

from guiju.sealing import can_seal

pytestmark = pytest.mark.skipif(not can_seal(), reason="seccomp of Linux on x86_64 or aarch64 seals a process")

# What code that has broken out could try. Each must fail, in Python and past it, by the call itself.
TRIES = {
    "open a file to read": "open('/etc/hostname')",
    "open a file to write": "open(canary, 'w')",
    "look for a file": "os.listdir('/')",
    "remove a file": "os.remove(victim)",
    "rename a file": "os.rename(victim, canary)",
    "link a file": "os.symlink(victim, canary)",
    "change rights": "os.chmod(victim, 0o777)",
    "make a folder": "os.mkdir(canary)",
    "run a program": "os.execv('/bin/sh', ['sh', '-c', 'touch ' + canary])",
    "start a shell": "subprocess.run(['touch', canary], check=True)",
    "fork": "os.fork()",
    "start a thread": "threading.Thread(target=print).start()",
    "reach the network": "socket.create_connection(('127.0.0.1', 9))",
    "listen": "socket.socket()",
    "a pair of sockets": "socket.socketpair()",
    "make a pipe": "os.pipe()",
    "anonymous memory to execute": "os.memfd_create('x')",
    "kill the parent": "os.kill(os.getppid(), 9)",
    "change the limits": "resource.setrlimit(resource.RLIMIT_CORE, (1, 1))",
    "trace another process": "call('ptrace', 16, os.getppid(), 0, 0)",
    "call fork itself": "call('fork')",
    "call socket itself": "call('socket', 2, 1, 0)",
    "call open itself": "call('open', canary.encode(), 65, 438)",
    "undo the seal": "call('prctl', 22, 0, 0, 0, 0)",
    "another name space": "call('unshare', 0x10000000)",
}
CHILD = """
import ctypes, os, resource, socket, subprocess, sys, threading
from guiju.sealing import seal
canary, victim, tries = sys.argv[1], sys.argv[2], sys.argv[3].split("\\n")
library = ctypes.CDLL(None, use_errno=True)
def call(name, *values):
    if getattr(library, name)(*values) < 0:
        raise OSError(ctypes.get_errno(), name)
out = open(sys.argv[4], "w")
if sys.argv[5] == "sealed":
    seal()
for number, line in enumerate(tries):
    try:
        exec(line)
        out.write(f"{number} worked\\n")
    except BaseException as problem:
        out.write(f"{number} {problem!r}\\n")
    out.flush()
os._exit(0)
"""


def _run(tmp_path, tries, how):
    (tmp_path / "victim").write_text("mine")
    arguments = [str(tmp_path / "canary"), str(tmp_path / "victim"), "\n".join(tries), str(tmp_path / "out"), how]
    done = subprocess.run([sys.executable, "-c", CHILD, *arguments], timeout=60, check=False)
    assert done.returncode == 0
    return (tmp_path / "out").read_text().splitlines()


def test_a_sealed_process_can_only_write_what_it_has_open(tmp_path):
    lines = _run(tmp_path, TRIES.values(), "sealed")
    assert len(lines) == len(TRIES)  # each line was written after the seal, into the file that was open before
    worked = [name for name, line in zip(TRIES, lines, strict=True) if line.endswith("worked")]
    assert worked == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "victim"]
    assert (tmp_path / "victim").read_text() == "mine"


def test_without_the_seal_the_same_tries_work(tmp_path):
    chosen = [TRIES[name] for name in ("start a shell", "listen", "open a file to read", "make a pipe")]
    assert [line.split()[1] for line in _run(tmp_path, chosen, "open")] == ["worked"] * 4
    assert (tmp_path / "canary").exists()
