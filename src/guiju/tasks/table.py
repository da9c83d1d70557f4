"""Every sample of an evaluation in one page that opens offline: sorted and filtered by a click, wrong ones first."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from guiju.pages import Html, Text, Texts, both, page, section, tag
from guiju.pages import table as plain_table
from guiju.storage import open_atomic
from guiju.tasks.estimates import Estimate, Floats
from guiju.tasks.records import CodeProblem, Labelled, Pair, Question, Record
from guiju.tasks.samples import Sample, Task
from guiju.tasks.store import SAMPLES

if TYPE_CHECKING:
    from guiju.tasks.evaluation import TaskResult


class SamplesByNumber(Protocol):
    """Samples of which each can be had by itself."""

    def __getitem__(self, number: int, /) -> Sample: ...


MOST_ROWS = 5000
"""Of a page, wrong ones first; samples.jsonl holds them all."""

_SHOWN = 4000
"""Characters of a text."""

_TEXTS = Texts(
    {
        "lead": (
            "{n} samples, {unanswered} without an answer, which count as wrong.",
            "共 {n} 个样本，其中 {unanswered} 个没有回答，按错误计。",
        ),
        "figures": ("Figures", "指标"),
        "samples": ("Samples", "样本"),
        "click": (
            "A click on a heading sorts, a second one turns the order round.",
            "点击表头排序，再次点击反向。",
        ),
        "cut": (
            "The first {most} of {n} samples, wrong ones first. All of them are in {file}, beside this page.",
            "只显示 {n} 个样本中的前 {most} 个，错误在前；全部样本在本页旁的 {file} 中。",
        ),
        "metric": ("figure", "指标"),
        "value": ("value", "值"),
        "interval": ("95 % interval", "95% 置信区间"),
        "n": ("n", "n"),
        "of": ("of", "对象"),
        "answers": ("the answers", "回答"),
        "state": ("state", "状态"),
        "id": ("id", "编号"),
        "asked": ("asked", "题目"),
        "expected": ("expected", "标准答案"),
        "answer": ("answer", "回答"),
        "note": ("note", "说明"),
        "search": ("search", "搜索"),
        "all": ("all", "全部"),
        "wrong": ("wrong", "错误"),
        "right": ("right", "正确"),
        "partly": ("partly right", "部分正确"),
        "unanswered": ("unanswered", "未回答"),
    }
)
_STATES = ("wrong", "unanswered", "partly", "right")


@dataclass(frozen=True, eq=False)
class Marks:
    """What each of n samples scored by itself."""

    figures: Mapping[str, Floats]
    """Each (n,), 0 to 1 where 1 is right. The first one counts."""

    unanswered: NDArray[np.bool_]
    """(n,)"""

    def of(self, number: int) -> dict[str, float]:
        return {name: float(figures[number]) for name, figures in self.figures.items()}

    def wrong_first(self) -> NDArray[np.int64]:
        """(n,) the samples' numbers: wrong ones first, and of them those that were answered."""
        main = next(iter(self.figures.values()), np.zeros(len(self.unanswered)))
        return np.lexsort((self.unanswered, main)).astype(np.int64)


def write_table(path: Path, task: Task, result: TaskResult, samples: SamplesByNumber, marks: Marks) -> None:
    """Write the page, row by row.

    Raises:
        StorageError: it cannot be written.
    """
    with open_atomic(path) as file:
        for piece in sample_table(task, result, samples, marks):
            file.write(piece.encode())


def sample_table(task: Task, result: TaskResult, samples: SamplesByNumber, marks: Marks) -> Iterator[Html]:
    """The page, in pieces. Texts of models and data are escaped like any others; its one script is ours, and reads the
    table."""
    place_of_rows = Html(f"<!-- {secrets.token_hex(16)} -->")  # no text of the data can be the same
    front, _, back = _around(task, result, marks, place_of_rows).partition(place_of_rows)
    yield Html(front)
    for number in marks.wrong_first()[:MOST_ROWS]:
        yield _row(samples[int(number)], marks.of(int(number)))
    yield Html(back)


def _around(task: Task, result: TaskResult, marks: Marks, rows: Html) -> Html:
    """The page around its rows."""
    heads: list[Text | str] = [_TEXTS["state"], *marks.figures]
    heads += [_TEXTS[key] for key in ("id", "asked", "expected", "answer", "note")]
    head = tag("tr", [tag("th", both(one), class_="number" if one in marks.figures else None) for one in heads])
    kind = "samples programs" if task.kind is CodeProblem else "samples"
    cut = _TEXTS.html("cut", most=f"{MOST_ROWS:,}", n=f"{result.n:,}", file=SAMPLES)
    return page(
        Text(f"{task.name}: samples", f"{task.name}：样本"),
        tag("style", Html(_own("table.css"))),
        tag("header", tag("h1", task.name), tag("p", _TEXTS.html("lead", n=result.n, unanswered=result.unanswered))),
        section("figures", _TEXTS["figures"], None, _figures(result)),
        section(
            "samples",
            _TEXTS["samples"],
            _TEXTS["click"],
            tag("p", cut, class_="small") if result.n > MOST_ROWS else None,
            _controls(),
            tag("div", tag("table", tag("thead", head), tag("tbody", rows), class_=kind), class_="table"),
        ),
        script=_own("table.js"),
    )


def _state(sample: Sample, mark: Mapping[str, float]) -> str:
    if sample.prediction is None:
        return "unanswered"
    main = next(iter(mark.values()), 0.0)
    return "right" if main >= 1 else "wrong" if main <= 0 else "partly"


def _row(sample: Sample, mark: Mapping[str, float]) -> Html:
    state = _state(sample, mark)
    asked, expected = _asked(sample)
    answer = sample.prediction if sample.prediction is not None else ""
    return tag(
        "tr",
        tag("td", both(_TEXTS[state]), class_="state", data_value=_STATES.index(state)),
        [tag("td", f"{one:.3g}", class_="number", data_value=one) for one in mark.values()],
        tag("td", sample.record.id),
        [tag("td", tag("div", text, class_="text"), class_="long") for text in (asked, _cut(expected), _cut(answer))],
        tag("td", _note(sample)),
        data_state=state,
    )


def _asked(sample: Sample) -> tuple[Html | str, str]:
    record: Record = sample.record
    match record:
        case Question():
            span = sample.details.get("span")
            return _with_span(record, span), " | ".join(record.answers) or "∅"
        case Pair():
            return _cut(record.source), " | ".join(record.targets)
        case Labelled():
            return _cut(record.text), record.label
        case CodeProblem():
            return _cut(record.prompt.strip("\n")), record.solution
    return "", ""


def _with_span(record: Question, span: object) -> Html:
    """The question, and its passage with the place marked that the answer was taken from."""
    text, front = record.context, tag("strong", record.question)
    if not (isinstance(span, list | tuple) and len(span) == 2):
        return tag("span", front, "\n", _cut(text))
    begin, end = int(span[0]), int(span[1])
    start = max(0, begin - _SHOWN // 2)
    return tag("span", front, "\n", text[start:begin], tag("mark", text[begin:end]), text[end : begin + _SHOWN // 2])


def _note(sample: Sample) -> str:
    details = sample.details
    parts = [str(details["why"])] if "why" in details else []
    parts += [f"{one.get('status')}: {str(one.get('detail'))[:300]}" for one in details.get("verdicts", [])[:5]]
    if "probabilities" in details:
        likeliest = sorted(details["probabilities"].items(), key=lambda item: -item[1])[:5]
        parts.append(", ".join(f"{name} {value:.2f}" for name, value in likeliest))
    if "span" in details:
        parts.append(f"[{details['span'][0]}:{details['span'][1]}]")
    return "\n".join(parts)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " …"


def _controls() -> Html:
    options = [tag("option", _TEXTS["all"].en + " · " + _TEXTS["all"].zh, value="all")]
    options += [tag("option", f"{_TEXTS[name].en} · {_TEXTS[name].zh}", value=name) for name in _STATES]
    return tag(
        "div",
        tag("label", both(_TEXTS["search"]), " ", tag("input", type="search", id="search")),
        tag("label", both(_TEXTS["state"]), " ", tag("select", options, id="state")),
        tag("output", "", id="shown"),
        class_="controls",
    )


def _figures(result: TaskResult) -> Html:
    rows: list[list[object]] = [_figure(_TEXTS["answers"], name, one) for name, one in result.metrics.items()]
    for who, metrics in (*result.baselines.items(), *result.groups.items()):
        rows += [_figure(who, name, one) for name, one in metrics.items()]
    return plain_table([_TEXTS[key] for key in ("of", "metric", "value", "interval", "n")], rows, numbers=(2, 3, 4))


def _figure(who: Text | str, name: str, one: Estimate) -> list[object]:
    digits = 1 if abs(one.high) > 1 else 3
    return [who, name, f"{one.value:.{digits}f}", f"{one.low:.{digits}f} – {one.high:.{digits}f}", one.n]


@functools.cache
def _own(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
