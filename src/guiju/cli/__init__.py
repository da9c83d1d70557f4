"""The command line: one thin module a verb. A verb loads its rooms when it is chosen, so that help stays instant."""

from __future__ import annotations

import errno
import os
import sys

from guiju.cli.application import application
from guiju.cli.screen import fail
from guiju.errors import GuijuError

__all__ = ["main"]

_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "it would be larger than is allowed here",
    errno.EROFS: "the disk may only be read",
    errno.EACCES: "you may not write there",
}


def main() -> None:
    """Run a verb. Exit code 0 for ok, 1 where a check failed, 2 for usage and bad input."""
    # Threads that wait must sleep: while they spin, a neighbour on the same core slows a step down sixfold (measured).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        application()
    except GuijuError as problem:
        fail(str(problem), code=getattr(problem, "exit_code", 2))
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output went away; there is no one left to tell
        sys.exit(0)
    except OSError as problem:
        if problem.errno not in _DISK:
            raise
        where = problem.filename or "a temporary file"
        fail(f"{where} could not be written: {_DISK[problem.errno]}; mend that, and run the same command again")
    except KeyboardInterrupt:
        fail("stopped from the keyboard; the same command goes on where it can", code=130)
