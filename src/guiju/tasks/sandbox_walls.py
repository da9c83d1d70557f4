"""The walls around a program that nobody has read, as arguments of bubblewrap and a filter of the kernel's calls.

Four walls, each for itself enough against most attacks: name spaces of its own without network (bubblewrap); a root
that holds the interpreter and nothing else, read-only; a list of the calls that the kernel still answers (seccomp),
without sockets, new processes, threads, signals to others, mounts, tracing; limits on memory, time, files and output.
"""

from __future__ import annotations

import functools
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from guiju.errors import SandboxError
from guiju.sealing import SEALED

NAMESPACES = ("user", "pid", "net", "ipc", "uts", "cgroup")
"""What the program has of its own: users, processes, network, memory and queues, host name, control groups."""

CALLS = SEALED | frozenset(
    """
    open openat stat lstat newfstatat statx access faccessat faccessat2 readlink readlinkat getdents getdents64
    getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 truncate ftruncate fdatasync umask
    fcntl dup dup2 dup3 pipe pipe2 select pselect6 pause alarm getitimer setitimer
    execve wait4 uname times time getrusage getrlimit setrlimit prlimit64 getuid getgid geteuid getegid getppid
    arch_prctl set_tid_address set_robust_list clock_getres
    """.split()  # noqa: SIM905 -- names read better without the quotes
)
"""What a Python program calls that opens files, computes and prints. `execve` starts the interpreter itself; there is
nothing else in this root to start, and the walls outlast it. `wait4` is for bubblewrap's own process inside, which has
the same filter."""

INSIDE = "/inside"
_PYTHON = "/python"
_NOBODY = "65534"
# Modules of the standard library that want a screen, a terminal or a network: their libraries stay outside.
_LEFT_OUT = re.compile(r"_tkinter|nis|_curses|readline|_g?dbm|_ssl|_test|_xxtest|xx")
_LIBRARY = re.compile(r"^\s*(?:(\S+) => )?(/\S+) \(0x", re.MULTILINE)

ENVIRONMENT = {
    "PATH": f"{_PYTHON}/bin",
    "HOME": "/tmp",  # noqa: S108 -- the program's own
    "LD_LIBRARY_PATH": "/lib",
    "PYTHONPATH": INSIDE,
    "PYTHONHASHSEED": "0",  # the same program says the same again
}


def find_bubblewrap() -> str:
    """Where bwrap is.

    Raises:
        SandboxError: this is no Linux, or bubblewrap is not installed.
    """
    if not sys.platform.startswith("linux"):
        raise SandboxError(
            f"generated programs run under bubblewrap, which is for Linux, and this is {platform.system()}: run this "
            f"on Linux, or in a Linux container or virtual machine that allows user namespaces"
        )
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError(
            "generated programs run under bubblewrap, and there is no bwrap on this machine: install it "
            "(apt install bubblewrap, dnf install bubblewrap). Without it they are not run at all"
        )
    return found


def command(
    modules: Sequence[str], arguments: Sequence[str], *, filter_handle: int, info_handle: int, scratch_bytes: int
) -> list[str]:
    """The command line that runs Python within the walls.

    Args:
        modules: names of files of this room that the program may import; the last one's `main` is called.
        arguments: for it.
        filter_handle: a file that holds the filter of calls.
        info_handle: a pipe where bubblewrap tells the number of its first process inside.
        scratch_bytes: the room in /tmp; with 0 there is nothing that can be written.
    """
    words = [find_bubblewrap(), *(f"--unshare-{name}" for name in NAMESPACES)]
    words += ["--uid", _NOBODY, "--gid", _NOBODY, "--hostname", "sandbox", "--cap-drop", "ALL"]
    words += ["--new-session", "--die-with-parent", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        words += ["--setenv", name, value]
    words += _interpreter()
    for module in modules:
        words += _shown(Path(__file__).with_name(f"{module}.py"))
    words += ["--dev-bind", "/dev/null", "/dev/null"]
    if scratch_bytes:
        words += ["--size", str(scratch_bytes), "--tmpfs", "/tmp"]  # noqa: S108
    words += ["--remount-ro", "/", "--chdir", "/tmp" if scratch_bytes else "/"]  # noqa: S108
    words += ["--seccomp", str(filter_handle), "--info-fd", str(info_handle), "--", f"{_PYTHON}/bin/python3"]
    # No site packages, no compiled files written, no module found in the working folder; text is UTF-8.
    start = f"from guiju.tasks.{modules[-1]} import main; main()"
    return [*words, "-S", "-B", "-P", "-X", "utf8", "-c", start, *arguments]


def _shown(source: Path) -> list[str]:
    """Arguments that show one of our files, compiled as well where it has been: that saves milliseconds each time."""
    inside = f"{INSIDE}/guiju/tasks"
    compiled = Path(importlib.util.cache_from_source(str(source)))
    words = ["--ro-bind", str(source), f"{inside}/{source.name}"]
    return [*words, "--ro-bind-try", str(compiled), f"{inside}/__pycache__/{compiled.name}"]


@functools.lru_cache(maxsize=1)
def _interpreter() -> tuple[str, ...]:
    """Arguments that show this interpreter, its standard library and the shared libraries that both need."""
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    inside = f"{_PYTHON}/{sys.platlibdir}/{library.name}"
    words = ["--ro-bind", str(python), f"{_PYTHON}/bin/python3", "--ro-bind", str(library), inside]
    for name in ("site-packages", "dist-packages"):
        if (library / name).is_dir():  # what is installed there is not the standard library
            words += ["--tmpfs", f"{inside}/{name}", "--remount-ro", f"{inside}/{name}"]
    objects = [path for path in sorted(library.glob("lib-dynload/*.so")) if not _LEFT_OUT.match(path.name)]
    ldd = shutil.which("ldd")
    if ldd is None:
        raise SandboxError("generated programs see only the libraries that Python needs, and ldd, which lists them, "
                           "is not on this machine: install it (Debian: libc-bin)")  # fmt: skip
    listed = subprocess.run([ldd, python, *objects], capture_output=True, text=True, check=False).stdout  # noqa: S603
    libraries = {}
    for name, place in _LIBRARY.findall(listed):
        libraries[f"/lib/{name}" if name else place] = place  # without a name: the loader, which has a fixed place
    for target, place in sorted(libraries.items()):
        words += ["--ro-bind", place, target]
    return tuple(words)
