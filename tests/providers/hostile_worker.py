"""A process that loads folders and tells what came of each: the outcome, the time, the memory, and what it saw happen.

Reads lines of JSON {"folder", "sight"} and answers each with a line. An audit hook (PEP 578) notes whatever would be an
execution, a write, a connection or a new process; what Python itself does when it imports its own modules is let by.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys
import time
from pathlib import Path

SEEN: list[str] = []
WATCH = {"folder": ""}
OWN = tuple(str(Path(place).resolve()) for place in {sys.prefix, sys.base_prefix, *sys.path} if place)
ALWAYS = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.remove",
    "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.chown", "os.truncate", "os.putenv",
    "os.unsetenv", "subprocess.Popen", "shutil.", "socket.connect", "socket.bind", "socket.getaddrinfo",
    "socket.gethostbyname", "urllib.Request", "pickle.find_class", "marshal.load", "ctypes.dlopen", "webbrowser.open",
    "tempfile.", "pty.spawn", "code.__new__",
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def note(event: str, arguments: tuple) -> None:
    if not WATCH["folder"]:
        return
    if event == "open":
        path, mode, flags = (*arguments, None, None, None)[:3]
        writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & WRITING)
        if writes:
            SEEN.append(f"open {path!r} to write")
        elif isinstance(path, str) and "/outside/" in path:
            SEEN.append(f"open {path!r}, which is outside")
    elif event == "exec":
        if not _is_own(getattr(arguments[0], "co_filename", "")):
            SEEN.append(f"exec of {getattr(arguments[0], 'co_filename', arguments[0])!r}")
    elif event == "compile":
        if not _is_own(str(arguments[1])):
            SEEN.append(f"compile of {arguments[1]!r}")
    elif event == "import":
        if arguments[1] is not None and str(arguments[1]).startswith(WATCH["folder"]):
            SEEN.append(f"import of {arguments[1]}")
    elif event.startswith(ALWAYS):
        SEEN.append(event)


def _is_own(file: str) -> bool:
    return file.startswith(("<frozen ", *OWN)) and not file.startswith(WATCH["folder"])


def peak_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError


def load_once(folder: str, action: str) -> dict:
    from guiju.errors import GuijuError
    from guiju.providers import load

    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began, cpu = peak_bytes(), time.monotonic(), time.process_time()
    SEEN.clear()
    WATCH["folder"] = folder
    try:
        if action == "planted pickle":
            with open(Path(folder) / "planted", "rb") as file:  # noqa: PTH123
                pickle.load(file)
        elif action == "planted code":
            exec((Path(folder) / "planted").read_text())
        elif action == "planted template":
            import jinja2

            jinja2.Template((Path(folder) / "planted").read_text()).render()
        else:
            load(folder)
        outcome, message = "loaded", ""
    except GuijuError as problem:
        outcome, message = "refused", str(problem)
    except BaseException as problem:
        outcome, message = f"raised {type(problem).__name__}", str(problem)[:2000]
    WATCH["folder"] = ""
    return {
        "outcome": outcome,
        "message": message,
        "seconds": time.process_time() - cpu,
        "wall_seconds": time.monotonic() - began,
        "grown_bytes": peak_bytes() - before,
        "seen": list(SEEN),
    }


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints does not come among the answers
    for folder in sys.argv[1:]:
        load_once(folder, "load")  # what is loaded once is loaded before it counts
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + (2 << 30),) * 2)
    sys.addaudithook(note)
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(load_once(asked["folder"], asked["action"])), file=out, flush=True)


main()
