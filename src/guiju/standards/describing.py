"""A standard's clauses as plain text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from guiju.standards.clauses import Clause, Standard


def describe_clauses(standard: Standard, clauses: Sequence[Clause], language: str = "en") -> str:
    """What each clause asks, its bounds, how it is shown and how sure we are of it.

    Args:
        language: en or zh; where an entry has no Chinese, English stands there and says so.
    """
    head = standard.head
    chinese = language == "zh"
    lines = [f"{head.designation}  {head.title_in(language)}", f"{standard.as_of}: {head.status}"]
    lines += [f"{'注意' if chinese else 'note'}: {caveat}" for caveat in head.caveats]
    chapter = None
    for clause in clauses:
        if clause.chapter != chapter:
            chapter = clause.chapter
            lines += ["", f"{chapter}  {head.chapters[chapter].title_in(language)}"]
        lines += ["", f"  {clause.id}  {clause.title_in(language)}", f"    {clause.requirement_in(language)}"]
        bounds = [f"{bound.comparator} {bound.value:,.10g} {bound.unit}" for bound in clause.threshold]
        labels = ("阈值", "证明方式", "指标", "把握", "核实") if chinese else _LABELS
        facts = [
            (labels[0], " & ".join(bounds)),
            (labels[1], clause.evidence),
            (labels[2], clause.measure or ""),
            (labels[3], clause.confidence),
            (labels[4], f"{clause.verified_by} {clause.verified_on}" if clause.verified_by else ""),
        ]
        lines.append("    " + "; ".join(f"{label}: {text}" for label, text in facts if text))
        if not clause.in_force(standard.as_of):
            lines.append(f"    {'自此日起施行' if chinese else 'in force from'}: {clause.in_force_from}")
    return "\n".join(lines)


_LABELS = ("threshold", "shown by", "measure", "confidence", "verified")
