"""The rule from a clause and the records about it to a verdict. Pure: it reads no file and writes none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from guiju.audit.findings import Finding, Method, Part, worst
from guiju.audit.measures import MEASURES, not_measured
from guiju.audit.notes import Note
from guiju.standards import Bound, Clause, Standard
from guiju.statistics import Threshold, Verdict, clopper_pearson, exact_verdict, meets_letter, rate_verdict


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A `measurement` record, with the ledger index at which it stands (none outside a ledger)."""

    entry: int | None
    measure: str
    what: str
    count: int | None
    n: int | None
    value: float | int | str | None
    unit: str
    sampled: bool
    details: Mapping[str, Any]

    @classmethod
    def from_body(cls, body: Mapping[str, Any], entry: int | None) -> Measurement:
        """A body as a stage wrote it. A field of another type counts as absent: it supports nothing."""
        details = body.get("details")
        value = body.get("value")
        return cls(
            entry=entry,
            measure=str(body.get("measure", "")),
            what=str(body.get("what", "")),
            count=_whole(body.get("count")),
            n=_whole(body.get("n")),
            value=value if isinstance(value, int | float | str) and not isinstance(value, bool) else None,
            unit=str(body.get("unit", "")),
            sampled=body.get("sampled") is not False,
            details=details if isinstance(details, Mapping) else {},
        )

    @property
    def is_rate(self) -> bool:
        return self.count is not None and self.n is not None and 0 <= self.count <= self.n

    @property
    def number(self) -> float | None:
        """The quantity, where it is one."""
        if isinstance(self.value, int | float) and math.isfinite(self.value):
            return float(self.value)
        return None


@dataclass(frozen=True, kw_only=True)
class Attestation:
    """A person's dated statement about a clause."""

    entry: int
    clause: str
    statement: str
    by: str
    date: str
    holds: bool
    """Whether they state that the clause is met, or that it is not."""

    @classmethod
    def from_body(cls, body: Mapping[str, Any], entry: int) -> Attestation | None:
        """None where it lacks a clause, a statement, a name or a real date: half a statement is none."""
        texts = {key: body.get(key) for key in ("clause", "statement", "by", "date")}
        if not all(isinstance(text, str) and text.strip() for text in texts.values()):
            return None
        try:
            date.fromisoformat(str(texts["date"])[:10])
        except ValueError:
            return None
        holds = body.get("holds", True)
        if not isinstance(holds, bool):
            return None
        return cls(entry=entry, holds=holds, **{key: str(text) for key, text in texts.items()})


def judge(
    clause: Clause, standard: Standard, measurements: Sequence[Measurement], attestations: Sequence[Attestation]
) -> Finding:
    """The verdict on one clause.

    Args:
        measurements: every measurement in the ledger, in order; the last one of the clause's measure counts.
        attestations: every attestation in the ledger, in order; the last one about the clause counts.
    """
    measurement = next((m for m in reversed(measurements) if clause.measure and m.measure == clause.measure), None)
    stated = next((a for a in reversed(attestations) if a.clause == clause.id and _dated(a, standard)), None)
    finding = Finding(
        clause=clause,
        standard=standard.id,
        designation=standard.designation,
        edition=standard.edition,
        as_of=standard.as_of.isoformat(),
        verdict=Verdict.NOT_ASSESSED,
        parts=tuple(_open_part(bound) for bound in _bounds(clause)),
    )
    if measurement is not None:
        finding = _with_figures(finding, measurement)
    if stated is not None:
        finding = replace(finding, evidence=(*finding.evidence, stated.entry))
    return _decide(finding, measurement, stated)


def _decide(finding: Finding, measurement: Measurement | None, stated: Attestation | None) -> Finding:
    clause = finding.clause
    day = date.fromisoformat(finding.as_of)
    if not clause.in_force(day):
        note = Note(f"In force only from {clause.in_force_from}.", f"自 {clause.in_force_from} 起施行，尚未生效。")
        return _settle(finding, Verdict.NOT_ASSESSED, note)
    if clause.purpose == "classification":
        return _settle(finding, Verdict.NOT_ASSESSED, _classified(finding))
    owed = clause.evidence in ("attested", "both") and stated is None
    if not clause.may_be_judged:
        return _settle(finding, Verdict.NOT_ASSESSED, _unverified(owed))
    if clause.evidence == "attested":
        return _attested(finding, stated)
    verdict, note = _measured(finding, measurement)
    if clause.evidence == "measured":
        return _settle(finding, verdict, note)
    if stated is None:
        return _settle(finding, worst([verdict, Verdict.NEEDS_PERSON]), _OWED + note)
    return _settle(finding, worst([verdict, Verdict.PASS if stated.holds else Verdict.FAIL]), note + _quoted(stated))


def _settle(finding: Finding, verdict: Verdict, note: Note) -> Finding:
    return replace(finding, verdict=verdict, note=note)


def _measured(finding: Finding, measurement: Measurement | None) -> tuple[Verdict, Note]:
    """The verdict by the figures alone."""
    clause = finding.clause
    if measurement is None:
        return Verdict.NOT_ASSESSED, not_measured(clause.measure)
    if measurement.n == 0:
        return Verdict.NOT_ASSESSED, _NOTHING_TO_COUNT
    if missing := missing_filters(measurement):
        names = ", ".join(missing)
        chinese = "、".join(_FILTER_NAMES_ZH.get(name, name) for name in missing)
        return Verdict.NOT_ASSESSED, Note(
            f"The clause asks for checks that did not run ({names}); the figure alone supports nothing.",
            f"条款要求的检查（{chinese}）未执行，仅凭此数字不能得出结论。",
        )
    if not clause.threshold:
        return Verdict.NEEDS_PERSON, Note(
            "Measured; the clause sets no number, so a person judges whether it is enough.",
            "已测量；条款未规定数值，须由人判断是否足够。",
        )
    verdict = worst([part.verdict for part in finding.parts])
    return verdict, _SAID[verdict]


def _attested(finding: Finding, stated: Attestation | None) -> Finding:
    if stated is None:
        return _settle(finding, Verdict.NEEDS_PERSON, _OWED)
    verdict = Verdict.PASS if stated.holds else Verdict.FAIL
    return replace(finding, verdict=verdict, method="attested", note=_quoted(stated))


def _with_figures(finding: Finding, measurement: Measurement) -> Finding:
    """The same finding with its measured figures and each bound held against them."""
    clause = finding.clause
    parts = tuple(_hold(bound, measurement) for bound in _bounds(clause))
    form: Method = "rate" if measurement.is_rate and measurement.sampled else "exact"
    low = high = estimate = None
    if measurement.is_rate and measurement.n:
        assert measurement.count is not None
        estimate = measurement.count / measurement.n
        low = high = estimate
        if measurement.sampled:
            interval = clopper_pearson(measurement.count, measurement.n)
            low, high = interval.low, interval.high
    elif not measurement.is_rate:
        estimate = low = high = measurement.number
    letters = [part.letter for part in parts]
    usable = bool(parts) and None not in letters and not missing_filters(measurement)
    return replace(
        finding,
        method=form,
        count=measurement.count if measurement.is_rate else None,
        n=measurement.n,
        estimate=estimate,
        low=low,
        high=high,
        unit=measurement.unit,
        parts=parts,
        meets_letter=all(letters) if usable else None,
        supported=all(part.verdict is Verdict.PASS for part in parts) if usable else None,
        evidence=() if measurement.entry is None else (measurement.entry,),
    )


def _bounds(clause: Clause) -> tuple[Bound, ...]:
    """What can be kept or broken; a classification's bounds only say who is meant."""
    return clause.threshold if clause.purpose == "duty" else ()


def _open_part(bound: Bound) -> Part:
    """A bound that nothing was held against yet."""
    return Part(
        part=bound.of,
        comparator=bound.comparator,
        value=bound.fraction,
        unit=bound.unit,
        unit_zh=bound.unit_zh,
        verdict=Verdict.NOT_ASSESSED,
    )


def _hold(bound: Bound, measurement: Measurement) -> Part:
    """One bound against one measurement."""
    assert bound.comparator != "<", "only a classification is bounded so"
    assert bound.comparator != ">", "only a classification is bounded so"
    threshold = Threshold(bound.comparator, bound.fraction)
    part = _open_part(bound)
    if bound.of == "rate":
        return _hold_rate(part, threshold, measurement)
    if bound.of == "n":
        actual = None if measurement.n is None else float(measurement.n)
    elif bound.of == "share":
        population = _whole(measurement.details.get("population"))
        actual = measurement.n / population if measurement.n is not None and population else None
    else:
        # A rate's value repeats its share; a bound on a quantity is about something else.
        actual = None if measurement.is_rate else measurement.number
    if actual is None:
        return part
    verdict = exact_verdict(actual, threshold)
    return replace(part, verdict=verdict, method="exact", actual=actual, letter=threshold.holds(actual))


def _hold_rate(part: Part, threshold: Threshold, measurement: Measurement) -> Part:
    if not measurement.is_rate or not measurement.n:
        return part
    assert measurement.count is not None
    count, n = measurement.count, measurement.n
    rate = count / n
    known = replace(part, count=count, n=n, actual=rate, letter=meets_letter(count, n, threshold))
    if measurement.sampled:
        interval = clopper_pearson(count, n)
        verdict = rate_verdict(count, n, threshold)
        return replace(known, verdict=verdict, method="rate", low=interval.low, high=interval.high)
    return replace(known, verdict=exact_verdict(rate, threshold), method="exact", low=rate, high=rate)


def missing_filters(measurement: Measurement) -> list[str]:
    """Which of the checks that the measure needs did not run. What the record does not say did not run."""
    known = MEASURES.get(measurement.measure)
    if known is None:
        return []
    ran = measurement.details.get("filters")
    listed = ran if isinstance(ran, list | tuple) else []
    missing = [name for name in known.filters if name not in listed]
    return missing + [name for name in known.confirmed if measurement.details.get(name) is not True]


def _classified(finding: Finding) -> Note:
    bounds = "; ".join(f"{b.comparator} {b.value:g} {b.unit}" for b in finding.clause.threshold)
    scope = Note(
        f"This clause says whom a duty falls on ({bounds}); it cannot be passed or failed.",
        f"本条用于界定适用对象（{bounds}），不产生符合与否的结论。",
    )
    if finding.estimate is None:
        return scope
    figure = f"{finding.estimate:.4g} {finding.unit}"
    return scope + Note(f"Measured: {figure}.", f"实测：{figure}。")


def _unverified(owed: bool) -> Note:
    note = Note(
        "Our reading of this clause is unsure (confidence low): a figure is shown where there is one, and judged only "
        "once a person has compared the entry with the official text (verified_by).",
        "我们对本条文本的把握较低：有数字则列出，须待有人对照正式文本核实（verified_by）后方可判定。",
    )
    return note + _OWED if owed else note


def _quoted(stated: Attestation) -> Note:
    holds = (
        Note("states that it holds", "声明符合") if stated.holds else Note("states that it does not hold", "声明不符合")
    )
    return Note(
        f"{stated.by} {holds.en} ({stated.date}): {stated.statement}",
        f"{stated.by}{holds.zh}（{stated.date}）：{stated.statement}",
    )


def _dated(stated: Attestation, standard: Standard) -> bool:
    """Whether it had been made by the day that the audit speaks about."""
    return date.fromisoformat(stated.date[:10]) <= standard.as_of


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


_OWED = Note("A person's signed and dated statement is owed.", "须由责任人出具签字并注明日期的声明。")
_NOTHING_TO_COUNT = Note(
    "There is nothing of this kind in the run, so there was nothing to count.", "本次运行中没有此类对象，无可计数。"
)
_OTHER_SHAPE = Note(
    "The record does not hold the figure that the clause's bound is about.", "记录中没有该条款阈值所针对的数字。"
)
_SAID = {
    Verdict.PASS: Note("Every bound is kept.", "各项要求均已满足。"),
    Verdict.FAIL: Note("At least one bound is broken.", "至少一项要求未满足。"),
    Verdict.INCONCLUSIVE: Note(
        "The interval lies on both sides of what is asked: more must be measured.", "置信区间跨越要求值，须扩大样本。"
    ),
    Verdict.NOT_ASSESSED: _OTHER_SHAPE,
}
_FILTER_NAMES_ZH = {
    "keyword": "关键词",
    "classifier": "分类模型",
    "person": "人工抽检",
    "addresses_examined": "采集地址核查",
}
