"""Code: functions are written, run against their tests within walls, and counted by the unbiased pass@k."""

from __future__ import annotations

import re
from array import array
from typing import Any

import numpy as np

from guiju.tasks.estimates import Statistic, mean, rate
from guiju.tasks.records import CodeProblem
from guiju.tasks.samples import Samples, Scores

_DESCRIPTIONS = {
    "en": '"""\n{prompt}\nThe function passes these tests:\n{tests}"""\n',
    "zh": '"""\n{prompt}\n该函数应通过以下测试：\n{tests}"""\n',
    "de": '"""\n{prompt}\nDie Funktion besteht diese Tests:\n{tests}"""\n',
}
_CHAT = {
    "en": "Write the Python function. Answer with its whole code alone.\n\n{prompt}",
    "zh": "请写出这个 Python 函数，只回答完整的代码。\n\n{prompt}",
    "de": "Schreibe die Python-Funktion. Antworte nur mit ihrem ganzen Code.\n\n{prompt}",
}
_FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL | re.IGNORECASE)

AFTER_FUNCTION = ("\nclass ", "\ndef ", "\n#", "\nif ")
"""Where a continued function is over (Chen et al. 2021, arXiv:2107.03374, section 2.1); an API takes four at most."""


class Programming:
    """A function to write, and tests that decide."""

    name = "code"
    kind = CodeProblem
    main = "pass@1"
    new_tokens = 384

    def prompt(self, record: CodeProblem, language: str) -> str:
        if record.kind == "continuation":
            return record.prompt
        return _DESCRIPTIONS[language].format(prompt=record.prompt, tests=record.tests)

    def chat_prompt(self, record: CodeProblem, language: str) -> str:
        """The same for a model that answers rather than goes on."""
        return _CHAT[language].format(prompt=self.prompt(record, language))

    def source(self, record: CodeProblem) -> str:
        return record.prompt

    def read(self, text: str, record: CodeProblem) -> str | None:
        """The code: what stands in the first fence, where there is one."""
        fenced = _FENCED.search(text)
        code = fenced.group(1) if fenced else text
        return code if code.strip() else None

    def score(self, samples: Samples, language: str, **given: Any) -> Scores:
        """Of every problem, how many of its tries passed; `details` of a sample hold its verdicts."""
        from guiju.tasks.code_scores import pass_at_k

        drawn, passed = array("i"), array("i")
        for sample in samples:
            verdicts = sample.details.get("verdicts", [])
            drawn.append(len(verdicts))
            passed.append(sum(one.get("status") == "passed" for one in verdicts))
        tries = max(drawn, default=0) or 1
        metrics: dict[str, Statistic] = {}
        for k in (1, 5, 10, 100):
            if k <= tries:
                each = np.array([pass_at_k(max(tries, n), count, k) for n, count in zip(drawn, passed, strict=True)])
                metrics[f"pass@{k}"] = rate(each == 1) if tries == 1 else mean(each)
        return Scores(metrics, {"pass@1": np.asarray(passed) / tries})
