"""Running programs that nobody has read: under bubblewrap, without network, files, other processes, or time to waste.

docs/howto/code-sandbox.md says what holds and what does not. Where the walls cannot be built, nothing is run.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from guiju.errors import ConfigError, SandboxError
from guiju.sealing import can_seal, filter_program
from guiju.tasks import sandbox_walls
from guiju.tasks.sandbox_inside import BEGUN
from guiju.tasks.sandbox_probe import PROBE, TRIES

Status = Literal["ended", "failed", "killed", "timeout", "flooded"]
_AFTER_KILL_S = 5.0
_CHUNK = 65536


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one program may use. It can start no process and no thread, whatever the limits are."""

    wall_s: float = 10.0
    """Seconds until it is ended, however it spends them."""
    cpu_s: int = 10
    """Seconds of processor."""
    memory_bytes: int = 512 << 20
    """Address space."""
    output_bytes: int = 1 << 20
    """Of stdout and of stderr, each; a program that writes more is ended."""
    scratch_bytes: int = 16 << 20
    """Room in its own /tmp, which is memory; with 0 there is nothing that it can write."""
    open_files: int = 64

    def __post_init__(self) -> None:
        for name in ("wall_s", "cpu_s", "memory_bytes", "output_bytes", "open_files"):
            if not 0 < getattr(self, name) < 1 << 62:
                raise ConfigError(f"limits.{name} is {getattr(self, name)}; a program needs more than 0 of it")
        if not 0 <= self.scratch_bytes < 1 << 62:
            raise ConfigError(f"limits.scratch_bytes is {self.scratch_bytes}; it is 0 (nothing) or more")
        if self.memory_bytes < 64 << 20:
            raise ConfigError(f"limits.memory_bytes is {self.memory_bytes}; Python itself needs {64 << 20}")

    def of_process(self) -> dict[str, int]:
        """The limits that a process takes on, by the names of sandbox_inside."""
        return {
            "memory_bytes": self.memory_bytes,
            "cpu_s": self.cpu_s,
            "file_bytes": self.scratch_bytes,
            "open_files": self.open_files,
            "processes": 0,
            "core_bytes": 0,
        }


@dataclass(frozen=True)
class Outcome:
    """What became of a program. None of it may be believed as a verdict: the program wrote it."""

    status: Status
    """`ended` with exit code 0, `failed` with another, `killed` by a signal, `timeout`, `flooded` its output."""
    code: int
    """Its exit code, or 128 and the signal; -1 where it was ended from here."""
    stdout: str
    stderr: str
    seconds: float


def run_program(source: str, limits: Limits = Limits(), stdin: str = "") -> Outcome:
    """Run Python source as a program of its own, within the walls.

    Args:
        source: Python; it may use the standard library, stdin, stdout, stderr and its own /tmp.
    Raises:
        SandboxError: the walls cannot be built here, or one of them does not hold.
    """
    require_sandbox()
    return _run(source, limits, stdin)


@functools.lru_cache(maxsize=1)
def require_sandbox() -> None:
    """See once in this process that programs can be run safely: try from inside what must fail.

    Raises:
        SandboxError: bubblewrap is missing, the kernel denies what it needs, or a try that must fail worked.
    """
    sandbox_walls.find_bubblewrap()
    if not can_seal():
        raise SandboxError(
            "generated programs run behind a filter of the kernel's calls, which is written for Linux on x86_64 and "
            "aarch64: run this on such a machine"
        )
    with tempfile.TemporaryDirectory(prefix="guiju-probe-") as folder:
        victim = os.path.join(folder, "victim")  # noqa: PTH118
        with open(victim, "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write("outside")
        outcome = _run(PROBE, Limits(), json.dumps({"victim": victim, "names": sorted(sandbox_walls.ENVIRONMENT)}))
    try:
        said = json.loads(outcome.stdout)
    except ValueError:
        said = None
    if not isinstance(said, list) or outcome.status != "ended":
        raise SandboxError(
            f"generated programs are not run: the probe of the sandbox did not come to its end ({outcome.status}, "
            f"{outcome.stderr.strip()[-300:] or 'no message'})"
        )
    worked = [name for name in TRIES if name not in said]
    if worked:
        raise SandboxError(
            f"generated programs are not run, because the sandbox does not hold on this machine: from inside one could "
            f"{', '.join(worked)}. Use a kernel with user namespaces and seccomp (Linux 5.10 or newer)"
        )


def _run(source: str, limits: Limits, stdin: str) -> Outcome:
    with ExitStack() as held:
        begun, told = held.enter_context(Pipe()), {}
        job = {"source": source, "begun": begun.write}
        pipes = {name: held.enter_context(Pipe()) for name in ("stdout", "stderr")}
        given = held.enter_context(sealed_file(stdin.encode("utf-8", "surrogatepass")))
        process = held.enter_context(
            start(
                ["sandbox_inside"],
                job,
                limits,
                [begun.write],
                stdin=given.fileno(),
                stdout=pipes["stdout"].write,
                stderr=pipes["stderr"].write,
            )
        )
        for pipe in (begun, *pipes.values()):
            pipe.close_write()
        how, told = collect(
            {"begun": begun.read, **{name: pipe.read for name, pipe in pipes.items()}},
            process.deadline,
            limits.output_bytes,
        )
        if how == "ended":
            how = process.wait()
        code, seconds = process.end()
        texts = {name: told[name][: limits.output_bytes].decode("utf-8", "replace") for name in pipes}
        if told["begun"] != BEGUN:
            raise not_begun(texts["stderr"])
    if how != "ended":
        return Outcome(how, -1, texts["stdout"], texts["stderr"], seconds)
    status: Status = "ended" if code == 0 else "killed" if code > 128 else "failed"
    return Outcome(status, code, texts["stdout"], texts["stderr"], seconds)


def not_begun(said: str) -> SandboxError:
    """What to tell where bubblewrap ended before the program could begin."""
    return SandboxError(
        f"generated programs are not run: bubblewrap could not build the walls ({said.strip()[-500:] or 'no word'}). "
        f"The kernel must allow user namespaces: in a container run it with them allowed (Docker: --security-opt "
        f"seccomp=unconfined, and apparmor=unconfined), on Ubuntu 24.04 with an AppArmor profile for bwrap, elsewhere "
        f"see sysctl kernel.unprivileged_userns_clone and user.max_user_namespaces"
    )


class Pipe:
    """Two ends, each closed once."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self._open = {self.read, self.write}

    def close_write(self) -> None:
        self._close(self.write)

    def close_read(self) -> None:
        self._close(self.read)

    def _close(self, end: int) -> None:
        if end in self._open:
            self._open.remove(end)
            os.close(end)

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_read()
        self.close_write()


def sealed_file(data: bytes) -> Any:
    """A file in memory that holds data and can be changed by nobody any more: a program shares it with us."""
    file = os.fdopen(os.memfd_create("guiju", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b")
    file.write(data)
    file.flush()
    file.seek(0)
    fcntl.fcntl(
        file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    )
    return file


class Running:
    """A sandbox that has been started. Leaving the context ends all that is in it."""

    def __init__(self, process: subprocess.Popen[bytes], wall_s: float) -> None:
        self.process = process
        self.began = time.monotonic()
        self.deadline = self.began + wall_s
        self.seconds: float | None = None

    def wait(self) -> Literal["ended", "timeout"]:
        """Until it ends by itself, or its time is over."""
        try:
            self.process.wait(max(0.0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return "timeout"
        return "ended"

    def end(self) -> tuple[int, float]:
        """End it where it has not ended; returns its exit code and the seconds that it took.

        The kernel ends everything inside with bubblewrap's first process, and that one with bubblewrap.
        """
        if self.seconds is None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait()
            self.seconds = time.monotonic() - self.began
        code = self.process.returncode
        return (128 - code if code < 0 else code), self.seconds

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def start(
    modules: Sequence[str],
    job: Mapping[str, object],
    limits: Limits,
    handles: Sequence[int],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    stderr: int = subprocess.DEVNULL,
) -> Running:
    """Start Python within the walls; `main` of the last module reads the job and goes on with it.

    Args:
        handles: open files that it gets under the same numbers; everything else is closed.
    """
    data = json.dumps({**job, "limits": limits.of_process()}).encode()
    with sealed_file(data) as file, sealed_file(filter_program(sandbox_walls.CALLS)) as calls:
        words = sandbox_walls.command(
            modules, [str(file.fileno())], filter_handle=calls.fileno(), scratch_bytes=limits.scratch_bytes
        )
        try:
            process = subprocess.Popen(  # noqa: S603 -- bubblewrap, with arguments of ours
                words,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=[file.fileno(), calls.fileno(), *handles],
                env={},
                cwd="/",
            )
        except OSError as problem:
            raise SandboxError(f"bubblewrap cannot be started ({problem}), so generated programs are not run") from None
    return Running(process, limits.wall_s)


def collect(
    handles: Mapping[str, int], deadline: float, most_bytes: int
) -> tuple[Literal["ended", "timeout", "flooded"], dict[str, bytes]]:
    """Read several pipes until all are at their end, the time is over, or one has given more than it may."""
    told = {name: bytearray() for name in handles}
    with selectors.DefaultSelector() as selector:
        for name, handle in handles.items():
            selector.register(handle, selectors.EVENT_READ, name)
        while selector.get_map():
            left = deadline - time.monotonic()
            ready = selector.select(left) if left > 0 else []
            if not ready and time.monotonic() >= deadline:
                return "timeout", {name: bytes(data) for name, data in told.items()}
            for key, _ in ready:
                data = os.read(key.fd, _CHUNK)
                told[key.data] += data
                if not data:
                    selector.unregister(key.fd)
                if len(told[key.data]) > most_bytes:
                    return "flooded", {name: bytes(data) for name, data in told.items()}
    return "ended", {name: bytes(data) for name, data in told.items()}
