"""What an audit says about one clause, in the shape in which it is recorded and printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from guiju.audit.notes import NOTHING, Note
from guiju.standards import Clause
from guiju.statistics import Verdict

Method = Literal["rate", "exact", "none", "attested"]

SEVERITY = (Verdict.PASS, Verdict.NOT_ASSESSED, Verdict.NEEDS_PERSON, Verdict.INCONCLUSIVE, Verdict.FAIL)
"""From the best to the worst. Of several parts the worst counts: what is known to fail is not hidden behind what is
unknown, and nothing passes while a part of it is open."""


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a whole out of those of its parts; without any part nothing was assessed."""
    return max(verdicts, key=SEVERITY.index, default=Verdict.NOT_ASSESSED)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One bound of a clause, held against one measurement. Rates and shares are fractions from 0 to 1."""

    part: Literal["rate", "n", "share", "value"]
    comparator: str
    value: float
    """The bound."""

    unit: str
    unit_zh: str
    verdict: Verdict
    method: Method = "none"
    actual: float | None = None
    """The measured figure: the point estimate of a rate, otherwise the quantity itself."""

    count: int | None = None
    n: int | None = None
    low: float | None = None
    high: float | None = None
    letter: bool | None = None
    """Whether the bare figure keeps the bound; none where there is no figure."""

    def to_json(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "comparator": self.comparator,
            "value": self.value,
            "unit": self.unit,
            "unit_zh": self.unit_zh,
            "method": self.method,
            "actual": self.actual,
            "count": self.count,
            "n": self.n,
            "low": self.low,
            "high": self.high,
            "verdict": str(self.verdict),
            "meets_letter": self.letter,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Part:
        """What `to_json` wrote."""
        names = ("part", "comparator", "value", "unit", "unit_zh", "actual", "count", "n", "low", "high")
        fields: dict[str, Any] = {name: data.get(name) for name in names}
        return cls(verdict=Verdict(data["verdict"]), method=data["method"], letter=data.get("meets_letter"), **fields)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A clause's verdict with the figures, the reason and the ledger entries that it rests on."""

    clause: Clause
    standard: str
    designation: str
    edition: str
    as_of: str
    verdict: Verdict
    method: Method = "none"
    count: int | None = None
    n: int | None = None
    estimate: float | None = None
    """A rate as a fraction from 0 to 1, or a quantity in its own unit."""

    low: float | None = None
    high: float | None = None
    unit: str = ""
    parts: tuple[Part, ...] = ()
    meets_letter: bool | None = None
    """Whether the bare figures keep every bound of the clause; none where there is nothing to compare."""

    supported: bool | None = None
    """Whether the figures support it at 95 % confidence; none where there is nothing to compare."""

    evidence: tuple[int, ...] = ()
    """Indices of the ledger entries that the finding rests on."""

    note: Note = NOTHING

    @property
    def threshold(self) -> dict[str, Any] | list[dict[str, Any]] | None:
        """Nothing, the one bound, or the list of several, as the ledger holds them."""
        if not self.parts:
            return None
        if len(self.parts) == 1:
            only = self.parts[0]
            return {"comparator": only.comparator, "value": only.value, "unit": only.unit, "part": only.part}
        return [part.to_json() for part in self.parts]

    def to_json(self) -> dict[str, Any]:
        """What `guiju audit --json` prints for a clause."""
        return {
            "clause": self.clause.id,
            "verdict": str(self.verdict),
            "n": self.n,
            "estimate": self.estimate,
            "low": self.low,
            "high": self.high,
            "threshold": self.threshold,
            "evidence": list(self.evidence),
            "count": self.count,
            "unit": self.unit,
            "method": self.method,
            "meets_letter": self.meets_letter,
            "supported": self.supported,
            "title": self.clause.title,
            "title_zh": self.clause.title_zh,
            "measure": self.clause.measure,
            "confidence": self.clause.confidence,
            "note": self.note.en,
            "note_zh": self.note.zh,
        }

    def to_body(self) -> dict[str, Any]:
        """What the ledger's `finding` record holds."""
        verified_on = self.clause.verified_on
        return {
            "standard": self.standard,
            "designation": self.designation,
            "edition": self.edition,
            "as_of": self.as_of,
            **self.to_json(),
            "parts": [part.to_json() for part in self.parts],
            "verified_by": self.clause.verified_by,
            "verified_on": verified_on.isoformat() if verified_on else None,
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any], clause: Clause) -> Finding:
        """What `to_body` wrote, with the clause from the catalogue for its texts."""
        names = ("count", "n", "estimate", "low", "high", "meets_letter", "supported")
        fields: dict[str, Any] = {name: body.get(name) for name in names}
        for name in ("standard", "designation", "edition", "as_of", "unit"):
            fields[name] = str(body.get(name) or "")
        return cls(
            clause=clause,
            verdict=Verdict(body["verdict"]),
            method=body.get("method") or "none",
            parts=tuple(Part.from_json(part) for part in body.get("parts") or []),
            evidence=tuple(body.get("evidence") or ()),
            note=Note(str(body.get("note") or ""), str(body.get("note_zh") or body.get("note") or "")),
            **fields,
        )
