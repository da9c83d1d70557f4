"""Whether a generated function does what its tests ask: HumanEval's and MBPP's problems.

The verdict comes from outside of the program under test. Its process has the program and, call by call, arguments; the
tests, what they expect and the comparison are in another process (code_judge.py), which takes data from it and nothing
else. Both run within the walls of sandbox.py: tests are somebody's data, too.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from guiju.errors import DataError
from guiju.tasks.records import CodeProblem
from guiju.tasks.sandbox import require_sandbox
from guiju.tasks.sandbox_inside import BEGUN
from guiju.tasks.sandbox_process import Limits, Pipe, collect, not_begun, start

Status = Literal["passed", "wrong", "raised", "timeout", "crashed", "unjudged"]
_SOLUTION = ("sandbox_inside", "code_wire", "code_solution")
_JUDGE = ("sandbox_inside", "code_wire", "code_judge")
_LONGEST_VERDICT = 100_000
LIMITS = Limits(scratch_bytes=0)


@dataclass(frozen=True)
class Verdict:
    """What became of one solution."""

    status: Status
    """`passed` all tests; `wrong`: one does not hold; `raised` an exception; `timeout`; `crashed`: its process ended;
    `unjudged`: the tests ask for something that cannot be carried between processes, or the judge did not answer."""
    detail: str
    """The test that does not hold, or what was raised."""
    seconds: float

    @property
    def passed(self) -> bool:
        return self.status == "passed"


def program(problem: CodeProblem, completion: str) -> str:
    """The whole program that a completion makes: behind the prompt where that is the head of a function.

    A completion that defines the function itself, as chat models write it, stands for itself, behind the prompt's
    imports and helpers. Line ends become "\\n".
    """
    completion = completion.replace("\r\n", "\n")
    if problem.kind == "description":
        return completion
    name = re.escape(problem.entry_point)
    whole = re.search(rf"^(?:async def|def|class)\s+{name}\b|^{name}\s*=", completion, re.MULTILINE)
    begins_within = completion.lstrip("\n")[:1] in (" ", "\t")  # a body, whatever comes behind it
    if begins_within or not whole:
        return problem.prompt + completion
    return f"{_closed(problem.prompt)}\n\n{completion}"


def _closed(prompt: str) -> str:
    """The head of a function as a program of its own. A docstring is a body; where there is none it gets one."""
    return prompt if prompt.rstrip().endswith(('"""', "'''")) else prompt.rstrip() + "\n    pass\n"


def check_solution(problem: CodeProblem, completion: str, limits: Limits = LIMITS) -> Verdict:
    """Run a problem's tests on a completion.

    Args:
        limits: for the solution and for its judge, each; neither can write a file, whatever they say.
    Raises:
        DataError: the tests themselves cannot be run, or do not call the function.
        SandboxError: programs cannot be run safely here.
    """
    require_sandbox()
    if not problem.entry_point:
        raise DataError(f"{problem.place} does not name the function that its tests check (entry_point)")
    limits = replace(limits, scratch_bytes=0)
    with ExitStack() as held:
        requests, answers, verdict = (held.enter_context(Pipe()) for _ in range(3))
        job: dict[str, object] = {"requests": requests.read, "answers": answers.write}
        solution = _Side(held, _SOLUTION, {**job, "source": program(problem, completion)}, job, limits)
        job = {"requests": requests.write, "answers": answers.read, "verdict": verdict.write}
        judge = _Side(held, _JUDGE, {**job, **_tests(problem)}, job, limits)
        for pipe in (requests, answers):
            pipe.close_read()
            pipe.close_write()
        verdict.close_write()
        how, told = collect({"verdict": verdict.read}, judge.running, _LONGEST_VERDICT)
        begun, _, said = told["verdict"].partition(b"\n")
        if begun + b"\n" != BEGUN and how != "timeout":
            raise not_begun(judge.said())
        status, detail = _read_verdict(said)
        if status == "unstarted":
            raise not_begun(solution.said())
        if status == "crashed":
            solution.running.wait()  # it has ended, but bubblewrap may be about to say how
            code, _ = solution.running.end()
            detail = f"{detail} with {f'signal {code - 128}' if code > 128 else f'exit code {code}'}"
        _, seconds = judge.running.end()
    if status == "tests":
        raise DataError(f"{problem.place}: the tests of {problem.id} cannot be run: {detail}")
    if how == "timeout":
        return Verdict("timeout", f"not done after {limits.wall_s:g} s", seconds)
    if status not in get_args(Status):
        return Verdict("unjudged", "its judge did not come to a verdict", seconds)
    return Verdict(cast(Status, status), detail, seconds)


def check_all(
    answers: Iterable[tuple[CodeProblem, str]], limits: Limits = LIMITS, workers: int | None = None
) -> Iterator[Verdict]:
    """The same for many, in order, as many at once as there are cores.

    Args:
        answers: problems and completions; only a few are held at a time.
        workers: how many at once; None for one a core.
    """
    require_sandbox()
    workers = workers or len(os.sched_getaffinity(0))
    waiting: deque[Future[Verdict]] = deque()
    # The kernel ends a sandbox with the thread that started it; each thread here waits for its own.
    with ThreadPoolExecutor(workers) as pool:
        try:
            for problem, completion in answers:
                waiting.append(pool.submit(check_solution, problem, completion, limits))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Side:
    """One of the two sandboxes, and what bubblewrap said of it."""

    def __init__(
        self,
        held: ExitStack,
        modules: Sequence[str],
        job: Mapping[str, object],
        ends: Mapping[str, Any],
        limits: Limits,
    ) -> None:
        self._errors = held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self.running = held.enter_context(
            start(modules, job, limits, list(ends.values()), stderr=self._errors.fileno())
        )

    def said(self) -> str:
        self._errors.seek(0)
        return self._errors.read(10_000).decode("utf-8", "replace")


def _tests(problem: CodeProblem) -> dict[str, object]:
    continued = problem.kind == "continuation"
    return {
        "prompt": _closed(problem.prompt) if continued else "",
        "tests": problem.tests.replace("\r\n", "\n"),
        "entry_point": problem.entry_point,
        "check": continued,
    }


def _read_verdict(line: bytes) -> tuple[str, str]:
    try:
        match json.loads(line):
            case {"status": str(status), "detail": str(detail)}:
                return status, detail
    except ValueError:
        pass
    return "", ""
