"""Running programs that nobody has read: under bubblewrap, without network, files, other processes, or time to waste.

docs/howto/code-sandbox.md says what holds and what does not. Where the walls cannot be built, nothing is run.
"""

from __future__ import annotations

import functools
import json
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from guiju.errors import SandboxError
from guiju.sealing import can_seal
from guiju.tasks import sandbox_walls
from guiju.tasks.sandbox_inside import BEGUN
from guiju.tasks.sandbox_probe import PROBE, TRIES
from guiju.tasks.sandbox_process import Limits, Pipe, collect, not_begun, sealed_file, start

__all__ = ["Limits", "Outcome", "Status", "require_sandbox", "run_program"]

Status = Literal["ended", "failed", "killed", "timeout", "flooded"]
_LIMITS = Limits()


@dataclass(frozen=True)
class Outcome:
    """What became of a program. None of it may be believed as a verdict: the program wrote it."""

    status: Status
    """`ended` with exit code 0, `failed` with another, `killed` by a signal, `timeout`, `flooded` its output or its
    /tmp with files."""
    code: int
    """Its exit code, or 128 and the signal; -1 where it was ended from here."""
    stdout: str
    stderr: str
    seconds: float


def run_program(source: str, limits: Limits = _LIMITS, stdin: str = "") -> Outcome:
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
        victim = Path(folder) / "victim"
        victim.write_text("outside", encoding="utf-8")
        told = {"victim": str(victim), "names": sorted(sandbox_walls.ENVIRONMENT)}
        outcome = _run(PROBE, _LIMITS, json.dumps(told))
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
        begun = held.enter_context(Pipe())
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
            process,
            limits.output_bytes,
        )
        if how == "ended":
            how = process.wait()
        code, seconds = process.end()
        texts = {name: told[name][: limits.output_bytes].decode("utf-8", "replace") for name in pipes}
        if told["begun"] != BEGUN and how != "timeout":
            raise not_begun(texts["stderr"])
    if how != "ended":
        return Outcome(how, -1, texts["stdout"], texts["stderr"], seconds)
    status: Status = "ended" if code == 0 else "killed" if code > 128 else "failed"
    return Outcome(status, code, texts["stdout"], texts["stderr"], seconds)
