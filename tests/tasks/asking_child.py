"""A process that evaluates, to be killed: its model answers slowly, and writes down whom it answered."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from guiju.tasks import Pair, evaluate


class SlowModel:
    """Answers a prompt with itself turned round, after a moment, as a server would."""

    reference, digest, labels, continues = "slow", "0" * 64, (), False
    abilities = frozenset({"generate"})

    def __init__(self, answered: Path, wait_s: float) -> None:
        self.answered, self.wait_s = answered, wait_s

    def generate_each(self, prompts: Iterable[str], settings: Any = None, **wishes: Any) -> Iterator[Any]:
        for prompt in prompts:
            time.sleep(self.wait_s)
            with self.answered.open("a") as file:
                file.write(prompt.split("\n")[2] + "\n")
            yield [SimpleNamespace(text=prompt.split("\n")[2][::-1])]


def records(count: int) -> list[Pair]:
    return [
        Pair(id=str(n), place=f"row {n}", source=f"source {n}", targets=(f"source {n}"[::-1],)) for n in range(count)
    ]


if __name__ == "__main__":
    folder, answered = Path(sys.argv[1]), Path(sys.argv[2])
    evaluate("translation", records(int(sys.argv[3])), model=SlowModel(answered, float(sys.argv[4])), out=folder)
