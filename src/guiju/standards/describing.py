"""A standard's clauses as plain text, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from guiju.standards.clauses import Clause, Standard


def describe_clauses(standard: Standard, clauses: Sequence[Clause], language: str = "en") -> str:
    """What each clause asks, its bounds, how it is shown and how sure we are of it.

    Args:
        language: en or zh; where an entry has no Chinese, English stands there and says so.
    """
    head, chinese = standard.head, language == "zh"
    words = _CHINESE if chinese else _ENGLISH
    lines = [f"{head.designation}  {head.title_in(language)}", f"{standard.as_of}: {head.status_in(language)}"]
    lines += [f"{words['note']}: {caveat}" for caveat in head.caveats_in(language)]
    chapter = None
    for clause in clauses:
        if clause.chapter != chapter:
            chapter = clause.chapter
            lines += ["", f"{chapter}  {head.chapters[chapter].title_in(language)}"]
        lines += ["", f"  {clause.id}  {clause.title_in(language)}", f"    {clause.requirement_in(language)}"]
        bounds = [
            f"{bound.comparator} {bound.value:,.10g} {bound.unit_zh if chinese else bound.unit}"
            for bound in clause.threshold
        ]
        facts = [
            ("threshold", " & ".join(bounds)),
            ("shown by", words[clause.evidence]),
            ("measure", clause.measure or ""),
            ("confidence", words[clause.confidence]),
            ("verified", f"{clause.verified_by} {clause.verified_on}" if clause.verified_by else ""),
            ("in force from", "" if clause.in_force(standard.as_of) else str(clause.in_force_from)),
        ]
        lines.append("    " + "; ".join(f"{words[label]}: {text}" for label, text in facts if text))
    return "\n".join(lines)


_CHINESE = {
    "note": "注意",
    "threshold": "阈值",
    "shown by": "证明方式",
    "measure": "指标",
    "confidence": "把握",
    "verified": "核实",
    "in force from": "施行日期",
    "measured": "测量",
    "attested": "人员声明",
    "both": "测量与人员声明",
    "high": "高",
    "medium": "中",
    "low": "低",
}
_ENGLISH = {word: word for word in _CHINESE} | {"both": "measured and attested"}
