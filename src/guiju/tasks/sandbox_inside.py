"""What runs first inside of the sandbox: it sets the limits, says that it has begun, and hands over to the program.

Only the standard library is there. Everything before the program's first line can be trusted; nothing after it can.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import types
from typing import Any

_LIMITS = {
    "memory_bytes": resource.RLIMIT_AS,
    "cpu_s": resource.RLIMIT_CPU,
    "file_bytes": resource.RLIMIT_FSIZE,
    "open_files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "core_bytes": resource.RLIMIT_CORE,
}
BEGUN = b"begun\n"


def begin() -> dict[str, Any]:
    """Read the job, which is open under the number that argv gives, and take on its limits for good."""
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        job: dict[str, Any] = json.loads(file.read())
    for name, value in job["limits"].items():
        resource.setrlimit(_LIMITS[name], (value, value))
    sys.argv[:] = ["program"]
    return job


def silence() -> None:
    """Point input, output and errors at nothing."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.close(nothing)


def new_module(name: str) -> types.ModuleType:
    """A module that code of its own can find in sys.modules, as dataclasses do."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    return module


def main() -> None:
    """Run a program as `python FILE` does."""
    job = begin()
    os.write(job["begun"], BEGUN)
    os.close(job["begun"])
    module = new_module("__main__")
    code = compile(job["source"], "program.py", "exec", dont_inherit=True)
    exec(code, module.__dict__)  # noqa: S102 -- this is what the walls are for
