"""How a peer talks to the benchmark: a line of JSON in, a line of JSON out. Plain Python, for any environment."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any


def megabytes(field: str) -> float:
    """VmHWM (the peak) or VmRSS (now) of this process."""
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    return 0.0


def serve(operations: dict[str, Callable[..., Any]]) -> None:
    """Answer until stdin ends. Each answer holds the seconds that the operation took by itself."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    idle = megabytes("VmRSS")
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked.pop("do")
        if name == "memory":
            answer = {"idle": idle, "peak": megabytes("VmHWM"), "now": megabytes("VmRSS")}
        else:
            began = time.perf_counter()
            found = operations[name](**asked)
            answer = {"seconds": time.perf_counter() - began, "found": found}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
