"""Findings as plain text, for a terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from guiju.audit.findings import Finding
from guiju.statistics import Verdict

ORDER = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.NEEDS_PERSON, Verdict.PASS, Verdict.NOT_ASSESSED)


def count_verdicts(findings: Sequence[Finding]) -> dict[Verdict, int]:
    """How many clauses got each verdict; all five are there, and none stands for a clause that was left out."""
    counted = Counter(finding.verdict for finding in findings)
    return {verdict: counted[verdict] for verdict in ORDER}


def describe_findings(findings: Sequence[Finding]) -> str:
    """A line per clause with its figures and reason, the worst first, and the counts at the end."""
    lines = []
    for verdict in ORDER:
        for finding in findings:
            if finding.verdict is verdict:
                figures = describe_figures(finding)
                tail = "; ".join(text for text in (figures, finding.note.en) if text)
                lines.append(f"{verdict:<13} {finding.clause.id}  {finding.clause.title}")
                if tail:
                    lines.append(f"{'':14}{tail}")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in count_verdicts(findings).items())
    first = findings[0] if findings else None
    head = f"{first.designation} as of {first.as_of}: " if first else ""
    return "\n".join([*lines, f"{head}{len(findings)} clauses: {counts}"])


def describe_figures(finding: Finding) -> str:
    """The measured figure with its interval, and the bounds; empty where nothing was measured."""
    pieces = []
    if finding.count is not None and finding.n:
        text = f"{finding.count} of {finding.n} = {format_rate(finding.count / finding.n)}"
        if finding.method == "rate" and finding.low is not None and finding.high is not None:
            text += f" (95 %: {format_rate(finding.low, 'low')} to {format_rate(finding.high, 'high')})"
        pieces.append(text)
    elif finding.estimate is not None:
        pieces.append(f"{finding.estimate:,.6g} {finding.unit}".strip())
    if finding.parts:
        bounds = [describe_bound(part.part, part.comparator, part.value, part.unit) for part in finding.parts]
        pieces.append("asked: " + " and ".join(bounds))
    return ", ".join(pieces)


def describe_bound(part: str, comparator: str, value: float, unit: str) -> str:
    """A bound as people write it: percent for a rate or a share."""
    sign = {">=": "≥", "<=": "≤", "==": "="}.get(comparator, comparator)
    if part in ("rate", "share"):
        return f"{sign} {value * 100:g} {unit}".replace(" % ", " % ")
    return f"{sign} {value:,.10g} {unit}"


def format_rate(rate: float, end: Literal["low", "high"] | None = None) -> str:
    """Percent with two digits, rounded so that it promises nothing: the ends of an interval outward, and what is below
    100 % never to 100 %, nor what is above 0 % to 0 %."""
    hundredths = rate * 10_000
    if end == "low":
        rounded = math.floor(hundredths + 1e-9)
    elif end == "high":
        rounded = math.ceil(hundredths - 1e-9)
    else:
        rounded = min(max(round(hundredths), int(rate > 0)), 10_000 - int(rate < 1))
    return f"{rounded / 100:g} %"
