"""The process of a solution, inside of the sandbox: it loads the program and answers the judge's requests.

Nothing here can be relied on once the program has begun, and nothing is: the judge, in another process, holds the
tests, takes from here plain values alone, and compares them there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from guiju.tasks.code_wire import Json, Line, WireError, decode, encode
from guiju.tasks.sandbox_inside import begin, new_module, silence


class _Solution:
    """The program's names, and the objects of it that the judge knows by number."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.module = new_module("solution")
        self.objects: list[Any] = []

    def load(self, source: str) -> None:
        code = compile(source, "solution.py", "exec", dont_inherit=True)
        exec(code, self.module.__dict__)  # noqa: S102 -- this is what the walls are for

    def serve(self, loaded: Json) -> Any:
        """Answer requests until the judge is gone, or has answered what was asked from here.

        Args:
            loaded: the message to begin with.
        """
        message = loaded
        while True:
            try:
                self.line.send(message)
            except WireError as problem:  # too much for one line
                self.line.send(raised(problem))
            request = self.line.receive()
            if "do" not in request:
                return request
            try:
                result = self._do(request)
                message = {"value": self._keep(result) if request["keep"] else encode(result, self._keep)}
            except BaseException as problem:
                message = raised(problem)

    def _do(self, request: Mapping[str, Any]) -> Any:
        arguments = decode(request["with"], self._find)
        target: Any = arguments[0]
        match request["do"]:
            case "global":
                return getattr(self.module, target)
            case "call":
                return target(*arguments[1], **arguments[2])
            case "get":
                return getattr(target, arguments[1])
            case "set":
                return setattr(target, arguments[1], arguments[2])
            case "iterate":
                return iter(target)
            case _:
                return next(target)

    def _keep(self, value: Any) -> Json:
        if isinstance(value, _Lent):
            return {"lent": value.number}
        self.objects.append(value)
        return {"object": len(self.objects) - 1}

    def _find(self, key: str, number: int) -> Any:
        return self.objects[number] if key == "object" else _Lent(self, number)


class _Lent:
    """A function of the tests: calling it asks the judge."""

    def __init__(self, solution: _Solution, number: int) -> None:
        self.solution, self.number = solution, number

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        keep = self.solution._keep
        answer = self.solution.serve({"ask": self.number, "with": encode([arguments, named], keep)})
        if "raised" in answer:
            raise RuntimeError(answer["raised"][1])
        return decode(answer["value"], self.solution._find)


def raised(problem: BaseException) -> Json:
    """An exception as a message: its name and what it says."""
    try:
        return {"raised": [type(problem).__name__, str(problem)[:1000]]}
    except Exception:
        return {"raised": [type(problem).__name__, ""]}


def main() -> None:
    """Load the program that the job holds, and answer requests."""
    job = begin()
    silence()
    line = Line(job["requests"], job["answers"])
    line.send({"begun": True})
    solution = _Solution(line)
    try:
        solution.load(job["source"])
        message: Json = {"value": None}
    except BaseException as problem:
        message = raised(problem)
    with contextlib.suppress(EOFError, OSError):  # the judge has all that it wants
        solution.serve(message)
