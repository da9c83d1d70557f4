"""One program within the walls as a process: its limits, its pipes, its end."""

from __future__ import annotations

import fcntl
import json
import os
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import psutil

from guiju.errors import ConfigError, SandboxError
from guiju.sealing import filter_program
from guiju.tasks import sandbox_walls
from guiju.tasks.sandbox_inside import BEGUN

_LOOK_S = 0.05  # how often one looks at the number of files
_BUILT_S = 10.0  # how long bubblewrap may take to say whom it started
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
    scratch_files: int = 1000
    """Files and folders there; a program that makes more is ended."""
    open_files: int = 64

    def __post_init__(self) -> None:
        for name in ("wall_s", "cpu_s", "memory_bytes", "output_bytes", "scratch_files", "open_files"):
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

    def __init__(self, process: subprocess.Popen[bytes], info: int, limits: Limits) -> None:
        self.process, self._info, self._limits = process, info, limits
        self.began = time.monotonic()
        self.deadline = self.began + limits.wall_s
        self.seconds: float | None = None
        self._first: int | None = None

    def wait(self) -> Literal["ended", "timeout", "flooded"]:
        """Until it ends by itself, has made too many files, or its time is over."""
        while True:
            left = self.deadline - time.monotonic()
            try:
                self.process.wait(max(0.0, min(left, _LOOK_S)))
            except subprocess.TimeoutExpired:
                if left <= 0:
                    return "timeout"
                if self.too_many_files():
                    return "flooded"
            else:
                return "ended"

    def too_many_files(self) -> bool:
        """Whether /tmp inside holds more than it may. Ask once the program has begun.

        The kernel limits the bytes of a tmpfs there, but each empty file takes a kilobyte of its own memory as well.
        """
        if not self._limits.scratch_bytes:
            return False
        try:
            found = os.statvfs(f"/proc/{self._first_inside()}/root/tmp")
        except OSError:  # it has ended
            return False
        return found.f_files - found.f_ffree > self._limits.scratch_files

    def end(self) -> tuple[int, float]:
        """End it where it has not ended; returns its exit code and the seconds that it took.

        The kernel ends everything inside with bubblewrap's first process there, and that one with bubblewrap, once it
        has asked for that. It is killed by itself as well, for the moment before.
        """
        if self.seconds is None:
            if self.process.poll() is None:
                self._kill_inside()
                self.process.kill()
            self.process.wait()
            self.seconds = time.monotonic() - self.began
        code = self.process.returncode
        return (128 - code if code < 0 else code), self.seconds

    def _first_inside(self) -> int | None:
        """The number that bubblewrap's first process inside has out here; None where it came to nothing."""
        waiting = select.poll()
        waiting.register(self._info, select.POLLIN)
        if self._first is None and waiting.poll(_BUILT_S * 1000):
            told = os.read(self._info, 4096)
            self._first = json.loads(told)["child-pid"] if told else None
        return self._first

    def _kill_inside(self) -> None:
        first = self._first_inside()
        try:
            handle = os.pidfd_open(first or -1)
        except OSError:  # there was none, or it has ended
            return
        try:
            # The handle stands for one process for good; that it is bubblewrap's child shows that it is the right one.
            if psutil.Process(first).ppid() == self.process.pid:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        except (OSError, psutil.Error):
            pass
        finally:
            os.close(handle)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        os.close(self._info)


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
    with sealed_file(data) as file, sealed_file(filter_program(sandbox_walls.CALLS)) as calls, Pipe() as info:
        words = sandbox_walls.command(
            modules,
            [str(file.fileno())],
            filter_handle=calls.fileno(),
            info_handle=info.write,
            scratch_bytes=limits.scratch_bytes,
        )
        try:
            process = subprocess.Popen(  # noqa: S603 -- bubblewrap, with arguments of ours
                words,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=[file.fileno(), calls.fileno(), info.write, *handles],
                env={},
                cwd="/",
            )
        except OSError as problem:
            raise SandboxError(f"bubblewrap cannot be started ({problem}), so generated programs are not run") from None
        return Running(process, os.dup(info.read), limits)


def collect(
    handles: Mapping[str, int], running: Running, most_bytes: int
) -> tuple[Literal["ended", "timeout", "flooded"], dict[str, bytes]]:
    """Read several pipes until all are at their end, the time is over, or there is more than there may be."""
    told = {name: bytearray() for name in handles}

    def read(key: selectors.SelectorKey) -> bool:
        data = os.read(key.fd, _CHUNK)
        told[key.data] += data
        if not data:
            selector.unregister(key.fd)
        return len(told[key.data]) <= most_bytes

    how: Literal["ended", "timeout", "flooded"] = "ended"
    with selectors.DefaultSelector() as selector:
        for name, handle in handles.items():
            selector.register(handle, selectors.EVENT_READ, name)
        while how == "ended" and selector.get_map():
            left = running.deadline - time.monotonic()
            if not all(read(key) for key, _ in selector.select(max(0.0, min(left, _LOOK_S)))):
                how = "flooded"
            elif left <= 0:
                how = "timeout"
            elif bytes(told.get("begun", b"")) == BEGUN and running.too_many_files():
                how = "flooded"
    return how, {name: bytes(data) for name, data in told.items()}
