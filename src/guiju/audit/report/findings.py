"""The report's pages on the clauses: each with its verdict, its figures, and the ledger entries that it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from guiju.audit.describing import count_verdicts, format_rate
from guiju.audit.findings import Finding, Part
from guiju.audit.report.corpus import measure_name, quantity
from guiju.audit.report.figures import brief, moment
from guiju.audit.report.story import Story
from guiju.evidence import Entry, Kind
from guiju.pages import (
    MEANINGS,
    VERDICTS,
    Html,
    Text,
    both,
    interval_bar,
    join,
    section,
    table,
    tag,
    verdict_badge,
    verdict_mark,
)
from guiju.standards import Clause, Standard, load_standard
from guiju.statistics import Verdict

CONFIDENCES = {"high": Text("high", "高"), "medium": Text("medium", "中"), "low": Text("low", "低")}
EVIDENCES = {
    "measured": Text("a measurement", "测量"),
    "attested": Text("a person's statement", "人员声明"),
    "both": Text("a measurement and a person's statement", "测量与人员声明"),
}
MOST_DETAILS, LONGEST_DETAIL = 8, 300
_CAVEATS = Text("What to keep in mind", "阅读须知")
SIGNS = {">=": "≥", "<=": "≤", "==": "="}


@dataclass(frozen=True, kw_only=True)
class Audited:
    """A standard with the last recorded finding for each of its clauses, and where in the ledger that stands."""

    standard: Standard
    findings: list[tuple[int, Finding]]
    """(ledger index, finding), in the standard's order."""


def read_findings(story: Story) -> list[Audited]:
    """What the ledger holds, a standard each; of several findings about one clause the last counts."""
    last: dict[str, tuple[str, dict[str, Entry]]] = {}
    for entry in story.current:
        if entry.kind == Kind.FINDING:
            name, as_of = str(entry.body["standard"]), str(entry.body["as_of"])
            if last.get(name, ("", {}))[0] != as_of:  # an audit for another day replaces the one before
                last[name] = (as_of, {})
            last[name][1][str(entry.body["clause"])] = entry
    audited = []
    for name, (as_of, entries) in last.items():
        standard = load_standard(name, as_of)
        found = [(entries[clause.id], clause) for clause in standard.clauses if clause.id in entries]
        findings = [(entry.index, Finding.from_body(entry.body, clause)) for entry, clause in found]
        audited.append(Audited(standard=standard, findings=findings))
    return audited


def anchor(index: int) -> str:
    return f"finding-{index}"


def findings_section(story: Story, audited: Audited, number: int) -> Html:
    """All clauses of a standard by chapter; each opens to what it rests on."""
    standard = audited.standard
    title = Text(standard.title, standard.title_zh or standard.title)
    chapters = []
    for key, chapter in standard.chapters.items():
        rows = [(index, finding) for index, finding in audited.findings if finding.clause.chapter == key]
        if not rows:
            continue
        # A number stands before its title; a word such as GV or B is told by the title already.
        before = f"{key}  " if key[0].isdigit() else ""
        heading = Text(f"{before}{chapter.title}", f"{before}{chapter.title_zh or chapter.title}")
        chapters.append(
            tag(
                "div",
                tag("h3", both(heading), _tally(rows)),
                [_finding(story, index, finding) for index, finding in rows],
            )
        )
    key_list = [tag("li", verdict_badge(verdict), both(meaning)) for verdict, meaning in MEANINGS.items()]
    head = standard.head
    pairs = zip(head.caveats_in("en"), head.caveats_in("zh"), strict=True)
    caveats = [tag("li", both(Text(english, chinese))) for english, chinese in pairs]
    about = Text(
        f"Held against {standard.designation} as of {standard.as_of}. Open a clause to see what its verdict rests on.",
        f"对照 {standard.designation}（{standard.as_of}）。点开任一条款，可查看结论所依据的证据。",
    )
    return section(
        f"findings-{number}",
        Text("Clause by clause", "逐条结果"),
        about,
        tag("p", tag("b", both(title))),
        tag("ul", key_list, class_="key"),
        chapters,
        tag("details", tag("summary", both(_CAVEATS)), tag("ul", caveats), class_="plain") if caveats else None,
    )


def _tally(rows: Sequence[tuple[int, Finding]]) -> Html:
    """A chapter's verdicts in shapes and numbers."""
    counts = count_verdicts([finding for _, finding in rows])
    told = [
        tag("span", verdict_mark(verdict), str(count), title=f"{VERDICTS[verdict].en} · {VERDICTS[verdict].zh}")
        for verdict, count in counts.items()
        if count
    ]
    return tag("span", told, class_="tally")


def verdict_strip(findings: Sequence[Finding]) -> Html:
    """The five counts as tiles over one bar; all five are there, zero or not."""
    counts = count_verdicts(findings)
    tiles = [
        tag(
            "div",
            tag("b", str(count)),
            verdict_badge(verdict),
            tag("span", both(MEANINGS[verdict]), class_="what"),
            class_="tile",
        )
        for verdict, count in counts.items()
    ]
    bar = [tag("span", class_=f"share-{verdict}", style=f"flex: {count}") for verdict, count in counts.items() if count]
    return join(tag("div", tiles, class_="tiles"), tag("div", bar, class_="share", aria_hidden="true"))


def _finding(story: Story, index: int, finding: Finding) -> Html:
    clause = finding.clause
    title = Text(clause.title, clause.title_zh or f"{clause.title}（暂无中文）")
    summary = tag(
        "summary",
        verdict_badge(finding.verdict),
        tag("span", tag("span", both(title), class_="clause-title")),
        tag("span", _short(finding), class_="figure-short"),
    )
    return tag(
        "details",
        summary,
        tag("div", _inside(story, index, finding), class_="inside"),
        class_="finding",
        id=anchor(index),
    )


def _short(finding: Finding) -> Html | None:
    if finding.count is not None and finding.n:
        return join(f"{finding.count:,} / {finding.n:,} = {format_rate(finding.count / finding.n)}")
    return None if finding.estimate is None else quantity(finding.estimate, finding.unit)


def _inside(story: Story, index: int, finding: Finding) -> Html:
    clause = finding.clause
    requirement = Text(clause.requirement, clause.requirement_zh or f"{clause.requirement}（暂无中文）")
    return join(
        tag("p", both(requirement), class_="requirement"),
        tag("p", both(Text(finding.note.en, finding.note.zh))) if finding.note else None,
        _parts(finding),
        [_bar(part) for part in finding.parts if part.part in ("rate", "share")],
        _evidence(story, finding),
        _chips(clause, index),
    )


def _parts(finding: Finding) -> Html | None:
    """Each bound with what was measured, and the two ways to read it."""
    if not finding.parts:
        return None
    rows: list[list[object]] = [
        [
            _bound(part),
            _actual(part, finding.method),
            _yes_no(part.letter),
            _yes_no(None if part.letter is None else part.verdict is Verdict.PASS),
            verdict_badge(part.verdict),
        ]
        for part in finding.parts
    ]
    head = [
        Text("Asked", "要求"),
        Text("Measured", "实测"),
        Text("Meets the letter", "字面达标"),
        Text("Supported at 95 %", "95 % 置信支持"),
        Text("Verdict", "结论"),
    ]
    return tag("div", table(head, rows), class_="parts")


def _bound(part: Part) -> Html:
    sign = SIGNS.get(part.comparator, part.comparator)
    value = f"{part.value * 100:g}" if part.part in ("rate", "share") else f"{part.value:,.10g}"
    return both(Text(f"{sign} {value} {part.unit}", f"{sign} {value} {part.unit_zh or part.unit}"))


def _actual(part: Part, method: str) -> Html:
    if part.actual is None:
        missing = Text("nothing to count", "无可计数") if method != "none" else Text("not measured", "未测量")
        return both(missing)
    if part.part not in ("rate", "share"):
        return join(brief(part.actual))
    text = format_rate(part.actual)
    if part.count is not None and part.n is not None:
        text = f"{part.count:,} / {part.n:,} = {text}"
    if part.method == "rate" and part.low is not None and part.high is not None:
        interval = f"{format_rate(part.low, 'low')} – {format_rate(part.high, 'high')}"
        return join(text, tag("br"), tag("span", interval, class_="soft"))
    return join(text, tag("br"), tag("span", both(Text("all counted", "全数统计")), class_="soft"))


def _yes_no(value: bool | None) -> Text:
    if value is None:
        return Text("–", "–")
    return Text("yes", "是") if value else Text("no", "否")


def _bar(part: Part) -> Html | None:
    if part.actual is None:
        return None
    low = part.actual if part.low is None else part.low
    high = part.actual if part.high is None else part.high
    shown = f"{format_rate(part.actual)} ({format_rate(low, 'low')} – {format_rate(high, 'high')})"
    sign = SIGNS.get(part.comparator, part.comparator)
    title = Text(
        f"measured {shown}, asked {sign} {part.value * 100:g} %", f"实测 {shown}，要求 {sign} {part.value * 100:g} %"
    )
    return interval_bar(low, high, part.actual, comparator=part.comparator, bound=part.value, title=title)


def _evidence(story: Story, finding: Finding) -> Html | None:
    cards = [_card(story, index) for index in finding.evidence]
    if not cards:
        return None
    return join(tag("h4", both(Text("Rests on", "依据"))), cards)


def _card(story: Story, index: int) -> Html:
    entry = story.entries.get(index)
    if entry is None:
        return tag("div", both(Text(f"entry {index} is not in the ledger", f"账本中没有第 {index} 条")), class_="proof")
    following = story.entries.get(index + 1)
    digest = following.previous if following else None
    what = entry.body.get("what") or entry.body.get("statement") or entry.reason
    facts: list[object] = []
    if digest:
        facts += [tag("dt", both(Text("entry's digest", "条目摘要"))), tag("dd", tag("code", digest))]
    for name, value in [*entry.inputs.items(), *entry.outputs.items()][:8]:
        facts += [tag("dt", tag("code", name)), tag("dd", tag("code", value or "–"))]
    if story.manifest and not entry.outputs and entry.body.get("stage") == "corpus":
        for path in ("corpus/decisions.jsonl", "corpus/inspection.jsonl"):
            if path in story.manifest:
                facts += [tag("dt", tag("code", path)), tag("dd", tag("code", story.manifest[path]))]
    details = entry.body.get("details")
    told = _details(details) if isinstance(details, dict) else None
    named = measure_name(str(entry.body.get("measure"))) if entry.kind == Kind.MEASUREMENT else None
    head = Text(f"Ledger entry {index}", f"账本第 {index} 条")
    return tag(
        "div",
        tag("b", both(head)),
        tag("span", f"  {entry.kind}, {moment(str(entry.time))}", class_="soft"),
        tag("div", both(named), class_="soft") if named else None,
        tag("div", str(what)),
        told,
        tag("dl", facts, class_="facts") if facts else None,
        class_="proof",
    )


def _details(details: dict[str, object]) -> Html | None:
    """The first facts of a measurement; the whole of them stands in the ledger."""
    shown: list[object] = []
    for key, value in list(details.items())[:MOST_DETAILS]:
        shown += [tag("dt", key.replace("_", " ")), tag("dd", _told(value))]
    return tag("dl", shown, class_="facts") if shown else None


def _told(value: object) -> str:
    """A plain value in one line, cut where it is long."""
    if value is True or value is False:
        return "yes · 是" if value else "no · 否"
    if isinstance(value, list):
        cut = [", …"] if len(value) > MOST_DETAILS else []
        return ", ".join(_told(item) for item in value[:MOST_DETAILS]) + "".join(cut)
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_told(item)}" for name, item in list(value.items())[:MOST_DETAILS])
    text = brief(value) if isinstance(value, int | float) else "–" if value is None or value == "" else str(value)
    return text if len(text) <= LONGEST_DETAIL else text[:LONGEST_DETAIL] + "…"


def _chips(clause: Clause, index: int) -> Html:
    chips = [
        tag("code", clause.id),
        join(both(Text("shown by ", "证明方式：")), both(EVIDENCES[clause.evidence])),
        join(both(Text("our certainty of the wording: ", "文本把握：")), both(CONFIDENCES[clause.confidence])),
        join(tag("code", clause.measure)) if clause.measure else None,
        both(Text("recommended, not required", "推荐性条款")) if clause.obligation == "should" else None,
        both(Text(f"verified by {clause.verified_by}", f"由 {clause.verified_by} 核实"))
        if clause.verified_by
        else None,
        both(Text(f"recorded as entry {index}", f"记为账本第 {index} 条")),
    ]
    return tag("div", [tag("span", chip) for chip in chips if chip is not None], class_="chips")
