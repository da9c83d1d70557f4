"""The judge of a solution: a process that holds the tests, in a sandbox of its own, away from what it judges.

The tests run here. Calling the function that they check sends the arguments to the solution's process; what comes back
is data, and is compared here, by Python's own equality on Python's own types. A value that is no data comes back as a
`Stand` that can be passed on, called, asked for attributes and walked through, but that equals nothing and is neither
true nor false. Other names of the solution (a class Node that the tests build their input from) give stands alone.
"""

from __future__ import annotations

import builtins
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, NoReturn

from guiju.tasks.code_wire import Json, Line, WireError, decode, encode
from guiju.tasks.sandbox_inside import BEGUN, begin, silence


class Stopped(BaseException):
    """The solution can no longer pass. Tests cannot catch it, and if they do, the verdict stands."""


class SolutionError(Exception):
    """The solution raised something that is no built-in exception."""


class Stand:
    """An object of the solution, by its number."""

    _solution: Solution
    _number: int
    _material: bool

    def __init__(self, solution: Solution, number: int, material: bool) -> None:
        self.__dict__.update(_solution=solution, _number=number, _material=material)

    def _do(self, what: str, *values: Any) -> Any:
        return self._solution.do(what, [self, *values], keep=self._material)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._do("call", list(arguments), named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._do("get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._do("set", name, value)

    def __iter__(self) -> Iterator[Any]:
        walker = self._solution.do("iterate", [self], keep=True)
        while True:
            try:
                item = self._solution.do("next", [walker], keep=self._material)
            except StopIteration:
                return
            yield item

    def _refuse(self, *_: object) -> NoReturn:
        self._solution.stop("wrong", "it answered with an object of its own where the tests want a value")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __contains__ = __hash__ = _refuse


class Solution:
    """The other process, as the tests see it."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.verdict: tuple[str, str] | None = None
        self.calls = 0
        self.raised: BaseException | None = None
        self._functions: list[Callable[..., Any]] = []

    def stop(self, status: str, detail: str) -> NoReturn:
        """Give the verdict; the first stands."""
        self.verdict = self.verdict or (status, detail)
        raise Stopped(detail)

    def begin(self) -> None:
        """Wait until the program has been loaded."""
        try:
            if self.line.receive() != {"begun": True}:
                raise EOFError
        except (EOFError, OSError, WireError):  # no line of the program has run yet
            self.stop("unstarted", "its sandbox did not begin")
        self._answer(keep=False)

    def do(self, what: str, values: list[Any], keep: bool) -> Any:
        """Ask the solution's process, and wait for the answer.

        Args:
            keep: only a stand may come back, no value.
        """
        if self.verdict is not None:
            raise Stopped(self.verdict[1])
        try:
            data = encode(values, self._lend)
            self.line.send({"do": what, "with": data, "keep": keep})
        except WireError as problem:
            self.stop("unjudged", f"the tests' {problem}")
        except OSError:
            self.stop("crashed", "its process ended")
        return self._answer(keep)

    def entry(self, name: str) -> Callable[..., Any]:
        """The function that the tests check."""
        found: list[Any] = []

        def candidate(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if not found:
                found.append(self.find(name))
            return self.do("call", [found[0], list(arguments), named], keep=False)

        return candidate

    def find(self, name: str) -> Any:
        """A stand for a name of the solution."""
        return self.do("global", [name], keep=True)

    def _answer(self, keep: bool) -> Any:
        while True:
            message = self._receive()
            try:
                match message:
                    case {"value": data}:
                        value = decode(data, lambda key, number: self._stand(key, number, keep))
                    case {"raised": [str(name), str(text)]}:
                        self.raised = _exception(name, text)
                        raise self.raised
                    case {"ask": int(number), "with": data}:
                        self._asked(number, data)
                        continue
                    case _:
                        self.stop("wrong", "it sends what is no answer")
            except (WireError, RecursionError) as problem:
                if problem is self.raised:
                    raise
                self.stop("wrong", f"its answer cannot be read ({problem})")
            if keep and type(value) is not Stand:
                self.stop("wrong", "it gives a value for what the tests only build from")
            return value

    def _receive(self) -> Json:
        try:
            return self.line.receive()
        except (EOFError, OSError):
            self.stop("crashed", "its process ended")
        except WireError as problem:
            self.stop("wrong", str(problem))

    def _asked(self, number: int, data: Json) -> None:
        """The solution calls a function that the tests gave it."""
        arguments, named = decode(data, lambda key, held: self._stand(key, held, False))
        try:
            result = self._functions[number](*arguments, **named)
            message: Json = {"value": encode(result, self._lend)}
        except Exception as problem:
            message = {"raised": [type(problem).__name__, str(problem)[:1000]]}
        try:
            self.line.send(message)
        except OSError:
            self.stop("crashed", "its process ended")

    def _stand(self, key: str, number: int, material: bool) -> Any:
        if key == "object":
            return Stand(self, number, material)
        if key == "lent" and 0 <= number < len(self._functions):
            return self._functions[number]
        raise WireError(f"{key} {number} is not known")

    def _lend(self, value: Any) -> Json:
        if isinstance(value, Stand):
            return {"object": value._number}
        if not callable(value):
            self.stop("unjudged", f"the tests pass {type(value).__name__}, which cannot be carried to another process")
        self._functions.append(value)
        return {"lent": len(self._functions) - 1}


def _exception(name: str, text: str) -> Exception:
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text)
        except TypeError:  # a few want more than a text
            pass
    return SolutionError(f"{name}: {text}")


def judge(job: dict[str, Any], solution: Solution) -> tuple[str, str]:
    """Run the tests of a job; returns a status of guiju.tasks.code and what there is to say."""
    names: dict[str, Any] = {"__name__": "tests"}
    try:
        exec(compile(job["prompt"], "prompt", "exec", dont_inherit=True), names)  # noqa: S102 -- the data's, in a sandbox
        code = compile(job["tests"], "tests", "exec", dont_inherit=True)
    except Exception as problem:
        return "tests", f"{type(problem).__name__}: {problem}"
    if "random" in job["tests"]:
        importlib.import_module("random").seed(0)  # the same verdict again
    try:
        solution.begin()
        names[job["entry_point"]] = candidate = solution.entry(job["entry_point"])
        for name, as_module in _names_wanted(job["tests"], code, names).items():
            names[name] = importlib.import_module(name) if as_module else solution.find(name)
        exec(code, names)  # noqa: S102 -- the data's, in a sandbox
        if job["check"]:
            if not callable(names.get("check")):
                return "tests", "they define no check(candidate)"
            names["check"](candidate)
    except BaseException as problem:
        if solution.verdict is not None:
            return solution.verdict
        said = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
        return "raised" if problem is solution.raised else "wrong", _where(problem, job["tests"]) or said
    if solution.verdict is not None:
        return solution.verdict
    return ("passed", "") if solution.calls else ("tests", f"they do not call {job['entry_point']}")


def _names_wanted(tests: str, code: CodeType, known: dict[str, Any]) -> dict[str, bool]:
    """Names that the tests use and nobody gives them, each with whether it is a module of the standard library.

    MBPP's tests rely on what the solution imports or defines. Modules come from here: a solution's own would lie.
    """
    given = {*known, *dir(builtins)}
    if given.issuperset(_names_in(code)):
        return {}
    import ast  # takes milliseconds, and few tests need it

    tree = ast.parse(tests)
    used: dict[str, bool] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.setdefault(name, False)
            case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                given.add(name)
            case ast.alias(name=name, asname=other):
                given.add(other or name.partition(".")[0])
            case ast.ExceptHandler(name=str(name)):
                given.add(name)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name)) if name in sys.stdlib_module_names:
                used[name] = True
    return {name: as_module for name, as_module in used.items() if name not in given}


def _names_in(code: CodeType) -> set[str]:
    inner = (_names_in(part) for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*inner)


def _where(problem: BaseException, tests: str) -> str:
    """The line of the tests that did not hold, and why."""
    trace, number = problem.__traceback__, 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "tests":
            number = trace.tb_lineno
        trace = trace.tb_next
    lines = tests.splitlines()
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    why = "" if isinstance(problem, AssertionError) else f" ({type(problem).__name__}: {str(problem)[:300]})"
    return f"{line[:500]}{why}"


def main() -> None:
    """Judge the solution at the other end of two pipes, and write the verdict into a third."""
    job = begin()
    silence()
    verdict = Line(-1, job["verdict"])
    os.write(job["verdict"], BEGUN)
    status, detail = judge(job, Solution(Line(job["answers"], job["requests"])))
    verdict.send({"status": status, "detail": detail[:2000]})
    os._exit(0)  # nothing that the tests left behind gets another turn
