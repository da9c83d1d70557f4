from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from guiju.errors import ConfigError, DataError
from guiju.tasks.code import LIMITS, Verdict, check_all, check_solution, program
from guiju.tasks.reading import read_records
from guiju.tasks.records import CodeProblem
from guiju.tasks.sandbox import Limits, run_program

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None and "GUIJU_EXTRAS" not in os.environ,
    reason="needs bubblewrap: apt install bubblewrap",
)
ROOT = Path(__file__).parents[2]
CHEATS = sorted(Path(__file__).with_name("cheats").glob("*.py"))
SHORT = Limits(wall_s=1, scratch_bytes=0)

SQUARES = CodeProblem(
    id="squares",
    place="squares.jsonl, line 1",
    prompt="Write a function to add up the squares of numbers.",
    tests="assert solve([1, 2, 3]) == 14\nassert solve([0.5, 1.0]) == 1.25\nassert solve([]) == 0\n",
    entry_point="solve",
    solution="def solve(values):\n    return sum(value * value for value in values)\n",
    kind="description",
)
WORDS = CodeProblem(
    id="words",
    place="words.jsonl, line 1",
    prompt='def encode(text: str) -> str:\n    """Turn a text around."""\n    return text[::-1] + "!"\n\n\n'
    'def solve(text: str) -> str:\n    """Undo encode."""\n',
    tests="import random\n\n\ndef check(candidate):\n    for _ in range(10):\n"
    "        text = ''.join(random.choice('abc') for _ in range(random.randint(5, 9)))\n"
    "        assert candidate(encode(text)) == text\n",
    entry_point="solve",
    solution="    return text[:-1][::-1]\n",
    kind="continuation",
)


def describe(tests: str, solution: str, entry_point: str = "solve") -> CodeProblem:
    return CodeProblem(
        id="1", place="x.jsonl, line 1", prompt="", tests=tests, entry_point=entry_point, solution=solution,
        kind="description",
    )  # fmt: skip


def verdict(tests: str, solution: str, limits: Limits = LIMITS) -> Verdict:
    return check_solution(describe(tests, solution), solution, limits)


def mutant(problem: CodeProblem, value: str) -> str:
    """The problem's own solution with a body that returns a constant."""
    if problem.kind == "continuation":
        return f"    return {value}\n"
    return f"{problem.solution}\n\n\ndef {problem.entry_point}(*_, **__):\n    return {value}\n"


def problems(name: str, every: int = 1) -> list[CodeProblem]:
    if name == "humaneval":
        return list(read_records(ROOT / "examples/data/humaneval/HumanEval.even.jsonl", CodeProblem))[::every]
    if "GUIJU_DATA" not in os.environ:
        pytest.skip("MBPP is read from GUIJU_DATA")
    return list(read_records(Path(os.environ["GUIJU_DATA"]) / "mbpp/mbpp.dev.jsonl", CodeProblem))[::every]


def hold_references_and_mutants(chosen: list[CodeProblem]) -> None:
    right = list(check_all((problem, problem.solution) for problem in chosen))
    assert {p.id: v for p, v in zip(chosen, right, strict=True) if not v.passed} == {}
    without = list(check_all((problem, mutant(problem, "None")) for problem in chosen))
    # Where nothing is the right answer to all tests, a wrong constant takes its place.
    none_is_right = [problem for problem, v in zip(chosen, without, strict=True) if v.passed]
    wrong = list(check_all((problem, mutant(problem, "'guiju'")) for problem in none_is_right))
    assert [p.id for p, v in zip(none_is_right, wrong, strict=True) if v.passed] == []
    assert len(none_is_right) <= 5
    assert {v.status for v in without if not v.passed} <= {"wrong", "raised"}


def test_all_references_of_humaneval_pass_and_a_mutant_of_each_fails():
    chosen = problems("humaneval")
    assert len(chosen) == 82
    hold_references_and_mutants(chosen)


def test_references_of_mbpp_pass_and_a_mutant_of_each_fails():
    hold_references_and_mutants(problems("mbpp", every=12))


@pytest.mark.soak
def test_all_references_of_mbpp_pass_and_a_mutant_of_each_fails():
    chosen = problems("mbpp")
    assert len(chosen) == 724
    hold_references_and_mutants(chosen)


def test_there_are_sixty_cheats_and_what_is_honest_passes():
    assert len(CHEATS) >= 60
    assert check_solution(SQUARES, SQUARES.solution).passed
    assert check_solution(WORDS, WORDS.solution).passed


@pytest.mark.parametrize("path", CHEATS, ids=lambda path: path.stem)
def test_no_cheat_passes(path):
    source = path.read_text()
    for problem in (SQUARES, WORDS):
        found = check_solution(problem, source, SHORT)
        assert not found.passed
        assert found.detail


SHARED = """
TESTS = {tests!r}
with open("/tmp/tests.py", "w") as file:
    file.write(TESTS)
kept = [TESTS]
names = {{"__name__": "solution"}}
exec(compile({source!r}, "solution.py", "exec"), names)
exec(compile(TESTS, "/tmp/tests.py", "exec"), names)
print("passed")
"""


def passes_in_one_process(problem: CodeProblem, source: str) -> bool:
    """The way of human-eval: the tests run behind the solution, and it passes where the end is reached in order."""
    tests = problem.tests if problem is SQUARES else f"{problem.tests}\ncheck(solve)\n"
    head = "" if problem is SQUARES else f"{problem.prompt}    pass\n"
    found = run_program(SHARED.format(tests=tests, source=head + source), Limits(wall_s=1))
    return found.status == "ended" or "passed" in found.stdout.lower()


def test_many_cheats_would_pass_where_tests_and_solution_share_a_process():
    """Without this, the cheats above might fail for reasons of their own."""
    assert passes_in_one_process(SQUARES, SQUARES.solution)
    assert not passes_in_one_process(SQUARES, "def solve(values):\n    return None\n")
    chosen = CHEATS[::3]
    fooled = [path.stem for path in chosen if any(passes_in_one_process(p, path.read_text()) for p in (SQUARES, WORDS))]
    assert len(fooled) >= len(chosen) / 3, fooled


def test_a_verdict_is_the_same_each_time():
    answers = [(problem, text) for problem in (SQUARES, WORDS) for text in (problem.solution, "def solve(x): return x")]
    assert len({tuple((v.status, v.detail) for v in check_all(answers)) for _ in range(5)}) == 1


BEYOND = {
    "objects that tests build": (
        "root = Node(1)\nroot.left = Node(2)\nassert solve(root) == 3",
        "class Node:\n  def __init__(self, value): self.value, self.left = value, None\n"
        "def solve(root): return root.value + root.left.value",
    ),
    "modules that the solution imports": (
        "assert math.isclose(solve(2), math.sqrt(2))",
        "import math\nsolve = math.sqrt",
    ),
    "functions as arguments": (
        "assert solve(lambda x: x + 1, [1, 2]) == [2, 3]",
        "def solve(f, v): return [*map(f, v)]",
    ),
    "functions that call back": (
        "assert solve(lambda x: solve(None, x) + 1, 1) == 3",
        "def solve(f, x): return f(x) if f else x + 1",
    ),
    "built-in functions": ("assert solve(max, [1, 2]) == 2", "def solve(f, v): return f(v)"),
    "functions as results": ("assert solve(3)(4) == 7", "def solve(x): return lambda y: x + y"),
    "types as arguments": (
        "assert solve([1, 'a'], int) == [1]",
        "def solve(v, t): return [x for x in v if isinstance(x, t)]",
    ),
    "iterators": ("assert list(solve(3)) == [0, 1, 2]", "def solve(n): yield from range(n)"),
    "counters": ("assert solve('aab') == {'a': 2, 'b': 1}", "from collections import Counter as solve"),
    "sets and tuples": ("assert solve() == {(1, 2), frozenset({3})}", "def solve(): return {(1, 2), frozenset({3})}"),
    "large numbers": ("assert solve(5000) == 10**5000", "def solve(n): return 10**n"),
    "numbers that are none": (
        "assert str(solve()) == '[inf, -inf, nan, -0.0]'",
        "def solve(): return [1e999, -1e999, 1e999 - 1e999, -0.0]",
    ),
    "bytes": ("assert solve(b'a\\xff') == bytearray(b'\\xffa')", "def solve(b): return bytearray(b[::-1])"),
    "complex numbers": ("assert solve(1, 2) == 1 + 2j", "solve = complex"),
    "halves of characters": ("assert solve('\\ud800') == '\\ud800é'", "def solve(x): return x + 'é'"),
    "named arguments": ("assert solve(1, b=2) == 3", "def solve(a, *, b): return a + b"),
    "exceptions": (
        "try:\n  solve(1)\nexcept ValueError as problem:\n  assert str(problem) == 'no'\nelse:\n  assert False",
        "def solve(x): raise ValueError('no')",
    ),
    "data classes": (
        "assert solve(1) == 1",
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n  x: int\n"
        "def solve(x): return P(x).x",
    ),
    "noise": (
        "assert solve(1) == 1",
        "import sys\ndef solve(x):\n  print('x' * 10**6)\n  sys.stderr.write('y')\n  return x",
    ),
    "classes under test": (
        "c = solve(1)\nc.add(2)\nassert c.total == 3",
        "class solve:\n  def __init__(s, n): s.total = n\n  def add(s, n): s.total += n",
    ),
}


@pytest.mark.parametrize(("tests", "solution"), BEYOND.values(), ids=BEYOND)
def test_what_tests_need_beyond_plain_values(tests, solution):
    assert verdict(tests, solution) == Verdict("passed", "", pytest.approx(0, abs=9))


@pytest.mark.parametrize(
    ("status", "solution", "words"),
    [
        ("wrong", "def solve(x): return 3", "assert solve(1) == 2"),
        ("wrong", "def solve(x): return object()", "an object of its own"),
        ("raised", "def solve(x): return x / 0", "ZeroDivisionError"),
        ("raised", "def solve(x: return x", "SyntaxError"),
        ("raised", "def other(x): return x", "solve"),
        ("raised", "def solve(x): return input()", "EOFError"),
        ("raised", "def solve(x): return bytearray(1 << 40)", "MemoryError"),
        ("raised", "import threading\ndef solve(x): threading.Thread(target=print).start()", "thread"),
        ("timeout", "def solve(x):\n while True: pass", "1 s"),
        ("timeout", "while True: pass", "1 s"),
        ("crashed", "import os\ndef solve(x): os._exit(3)", "exit code 3"),
        ("crashed", "import ctypes\ndef solve(x): ctypes.string_at(0)", "signal 11"),
        ("raised", "def solve(x): return 'x' * (17 << 20)", "may be sent at once"),
        ("wrong", "def solve(x): return [[]] * 10**5", "assert solve(1) == 2"),
    ],
)
def test_what_became_of_a_solution_is_told(status, solution, words):
    found = verdict("assert solve(1) == 2", solution, SHORT if status == "timeout" else LIMITS)
    assert found.status == status
    assert words in found.detail


def test_a_lying_helper_cannot_give_values_to_the_tests():
    lies = "def solve(x): return 0\ndef same(a, b): return True\n"
    honest = "def solve(x): return 2\ndef same(a, b): return a == b\n"
    for solution in (lies, honest):  # what the solution says of itself does not count, however true
        assert not verdict("assert same(solve(1), 2)", solution).passed
    lies = "class math:\n  isclose = lambda *_: True\ndef solve(x): return 0\n"
    assert verdict("assert math.isclose(solve(4), 2)", lies).status == "wrong"


def test_a_solution_cannot_pass_by_being_caught():
    swallowing = "try:\n    assert solve(1) == 2\nexcept BaseException:\n    pass\n"
    for solution in ("import os\ndef solve(x): os._exit(0)", "def solve(x): return object()"):
        assert not verdict(swallowing, solution).passed


@pytest.mark.parametrize(
    ("tests", "words"),
    [("assert solve(1 == 2", "SyntaxError"), ("assert True", "do not call solve"), ("", "do not call solve")],
)
def test_tests_that_cannot_judge_are_an_error_of_the_data(tests, words):
    with pytest.raises(DataError, match=words) as caught:
        verdict(tests, "def solve(x): return 2")
    assert "x.jsonl, line 1" in str(caught.value)


def test_a_problem_without_a_name_for_its_function_is_an_error_of_the_data():
    with pytest.raises(DataError, match="entry_point"):
        check_solution(describe("assert solve(1)", "", entry_point=""), "")


def test_a_completion_goes_on_or_stands_for_itself():
    whole = "import math\r\ndef solve(text):\r\n    return text[:-1][::-1]\r\n"
    assert program(WORDS, WORDS.solution) == WORDS.prompt + WORDS.solution
    assert program(WORDS, whole).startswith(WORDS.prompt)
    assert check_solution(WORDS, whole).passed
    assert program(SQUARES, "x = 1\r\n") == "x = 1\n"
    assert check_solution(WORDS, f"{WORDS.solution}\n\ndef solve(text):\n    return text[:-1][::-1]\n").passed


def test_many_are_judged_in_order_and_not_all_are_held():
    taken = 0

    def answers():
        nonlocal taken
        for number in range(12):
            taken += 1
            yield describe(f"assert solve() == {number}", ""), f"def solve(): return {number if number % 2 else -1}"

    found = check_all(answers(), workers=2)
    first = next(found)
    assert taken < 8
    assert [first.passed, *(v.passed for v in found)] == [False, True] * 6


def test_limits_that_leave_nothing_are_refused():
    for wrong in ({"wall_s": 0}, {"cpu_s": -1}, {"memory_bytes": 1}, {"scratch_bytes": -1}, {"wall_s": float("nan")}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Limits(**wrong)
