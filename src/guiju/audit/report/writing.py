"""Puts the report together: the summary first, then what it rests on, then how to check it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from guiju.audit.describing import count_verdicts
from guiju.audit.report.corpus import corpus_section
from guiju.audit.report.figures import brief, duration, large, moment, whole
from guiju.audit.report.findings import Audited, anchor, findings_section, read_findings, verdict_strip
from guiju.audit.report.objectives import wording
from guiju.audit.report.story import Story, flat, number, read_story
from guiju.audit.report.training import cost_section, training_section, writing_section
from guiju.evidence import Kind, Run
from guiju.pages import Html, Text, both, join, page, section, tag
from guiju.statistics import Verdict
from guiju.storage import write_text

NAME = "report.html"
MOST_LINKS = 12


def write_report(run: Run, *, language: Literal["zh", "en"] = "en") -> Path:
    """Write report.html into the run folder, and return its path.

    It tells what the ledger and the run's files hold and nothing else; a run that was cut off gets a shorter report.
    The ledger must name the file afterwards, among the outputs of the stage that calls this.

    Args:
        language: which of the two shows first; the page switches.
    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    path = run.path / NAME
    write_text(path, render_report(run, language=language))
    return path


def render_report(run: Run, *, language: Literal["zh", "en"] = "en") -> Html:
    story = read_story(run)
    audits = read_findings(story)
    summary = _summary_section(story, audits)
    parts: list[tuple[str, Text, Html]] = [("summary", Text("In short", "概要"), summary)]
    for key, label, made in (
        ("corpus", Text("Text", "文本"), corpus_section(story)),
        ("training", Text("Learning", "学习"), training_section(story)),
        ("writing", Text("Writing", "写作"), writing_section(story)),
        ("cost", Text("Cost", "成本"), cost_section(story)),
    ):
        if made is not None:
            parts.append((key, label, made))
    for position, audited in enumerate(audits, start=1):
        label = Text(f"Clauses: {audited.standard.designation}", f"条款：{audited.standard.designation}")
        parts.append((f"findings-{position}", label, findings_section(story, audited, position)))
    parts.append(("verify", Text("Check it yourself", "自行核验"), _verify_section(story)))
    parts.append(("environment", Text("Environment", "环境"), _environment_section(story)))
    links = [tag("a", both(label), href=f"#{key}") for key, label, _ in parts]
    title = Text(f"{story.name}: report", f"{story.name}：报告")
    return page(
        title,
        _masthead(story, links),
        [made for _, _, made in parts],
        _colophon(story),
        language=language,
    )


def _masthead(story: Story, links: list[Html]) -> Html:
    mark = tag(
        "svg",
        tag("rect", x=3, y=3, width=20, height=20),
        tag("circle", cx=13, cy=13, r=10),
        viewBox="0 0 26 26",
        aria_hidden="true",
    )
    brand = tag(
        "div", mark, tag("strong", "guiju 规矩"), both(Text("a run and its proof", "一次运行及其证据")), class_="brand"
    )
    began, last = moment(story.created), max(story.entries, default=0)
    ended = moment(str(story.entries[last].time)) if story.entries else ""
    facts = [
        tag("dt", both(Text("begun", "开始"))),
        tag("dd", began),
        tag("dt", both(Text("last record", "最后记录"))),
        tag("dd", ended),
        tag("dt", both(Text("ledger key", "账本密钥"))),
        tag("dd", tag("code", story.key)),
    ]
    return tag(
        "header",
        brand,
        tag("h1", story.name),
        tag("dl", facts, class_="facts"),
        tag("nav", links, class_="contents"),
        class_="masthead",
    )


def _summary_section(story: Story, audits: list[Audited]) -> Html:
    pieces: list[Html | None] = [_built(story)]
    for audited in audits:
        findings = [finding for _, finding in audited.findings]
        standard = audited.standard
        heading = Text(
            f"{len(findings)} clauses of {standard.designation}, as of {standard.as_of}",
            f"{standard.designation} 共 {len(findings)} 条（{standard.as_of}）",
        )
        pieces += [tag("h3", both(heading)), tag("p", both(_verdict_sentence(audited))), verdict_strip(findings)]
    if not audits:
        pieces.append(tag("p", both(Text("No audit is on record yet.", "尚无审计记录。")), class_="empty"))
    pieces.append(_todo(story, audits))
    return section(
        "summary",
        Text("In short", "概要"),
        Text(
            "What was built, how it stands against the standard, and what is left for a person to do.",
            "构建了什么、与标准对照如何，以及哪些事还需要人来做。",
        ),
        pieces,
    )


def _built(story: Story) -> Html:
    """The numbers that say what this run made. What is not on record is left out."""
    corpus, trained = story.summary("corpus"), story.summary("pretrain")
    counted = corpus.get("documents")
    stayed = [number(counted.get(verdict)) or 0 for verdict in ("kept", "changed")] if isinstance(counted, dict) else []
    weights = story.measurement("param_count") or {}
    bits = story.summary("evaluate").get("model", trained.get("bits_per_byte"))
    spent = sum(story.seconds.values())
    found = (
        (number(trained.get("parameters", weights.get("value"))), large, Text("parameters in the model", "模型参数")),
        (float(sum(stayed)) or None, whole, Text("documents kept", "保留文档")),
        (number(trained.get("tokens")), large, wording(story).targets),
        (number(bits), lambda value: f"{value:.3f}", wording(story).tile),
        (spent or None, duration, Text("of work", "总用时")),
    )
    tiles = [
        tag("div", tag("b", show(value)), tag("span", both(label), class_="what"), class_="tile")
        for value, show, label in found
        if value is not None
    ]
    if not tiles:
        return tag("p", both(Text("No stage is done yet.", "尚无已完成的阶段。")), class_="empty")
    return tag("div", tiles, class_="tiles")


def _verdict_sentence(audited: Audited) -> Text:
    counts = count_verdicts([finding for _, finding in audited.findings])
    total = len(audited.findings)
    settled = counts[Verdict.PASS] + counts[Verdict.FAIL]
    held, failed = counts[Verdict.PASS], counts[Verdict.FAIL]
    return Text(
        f"{held} hold, {failed} fail, and {total - settled} are open, because a person's word or a measurement is "
        "missing. An open clause is no pass.",
        f"{held} 条符合，{failed} 条不符合，{total - settled} 条尚无结论，因缺少人员声明或测量。尚无结论不等于符合。",
    )


def _todo(story: Story, audits: list[Audited]) -> Html:
    """What a person must do next, the gravest first."""
    items: list[Html] = []
    for audited in audits:
        for verdict, said in _TODO.items():
            found = [(index, finding.clause) for index, finding in audited.findings if finding.verdict is verdict]
            if found:
                links: list[object] = []
                for place, (index, clause) in enumerate(found[:MOST_LINKS]):
                    title = Text(clause.title, clause.title_zh or clause.title)
                    links += [
                        both(Text("; ", "；")) if place else None,
                        tag("a", both(title), href=f"#{anchor(index)}"),
                    ]
                rest = len(found) - MOST_LINKS
                if rest > 0:
                    links.append(both(Text(f"; and {rest} more below", f"；另有 {rest} 条见下文")))
                items.append(tag("li", both(said.format(count=len(found))), " ", links))
        unsure = [finding for _, finding in audited.findings if not finding.clause.may_be_judged]
        if unsure:
            items.append(tag("li", both(_UNSURE.format(count=len(unsure)))))
    if story.bodies(Kind.SAMPLE_DRAWN):
        items.append(tag("li", both(_INSPECT)))
    items.append(tag("li", both(_ANCHOR)))
    return join(
        tag("h3", both(Text("What a person must do next", "接下来需要人做的事"))), tag("ol", items, class_="todo")
    )


_TODO = {
    Verdict.FAIL: Text("Mend what fails ({count}):", "整改不符合项（{count}）："),
    Verdict.INCONCLUSIVE: Text(
        "Measure more where it is too close to call ({count}):", "扩大样本，数据不足以下结论（{count}）："
    ),
    Verdict.NEEDS_PERSON: Text("State and sign, with a date ({count}):", "出具签字并注明日期的声明（{count}）："),
}
_UNSURE = Text(
    "Compare {count} catalogue entries with the official text: our reading of them is unsure, so they are not judged.",
    "对照正式文本核实 {count} 条目录条目：我们对其文本把握较低，故未作判定。",
)
_INSPECT = Text(
    "Judge the documents that were drawn for inspection (corpus/inspection.jsonl).",
    "判定抽检文档（corpus/inspection.jsonl）。",
)
_ANCHOR = Text(
    "Keep a copy of ledger/note where whoever builds the models cannot write: with it, a rewritten run is found out.",
    "将 ledger/note 另存于模型构建者无法改写之处：凭此可以发现被整体重写的运行。",
)


def _verify_section(story: Story) -> Html:
    # The report cannot name its own digest, and the run's path is the reader's own.
    command = "guiju verify RUN\npython3 verify.py RUN\nguiju verify RUN --against KEPT-ELSEWHERE.note"
    text = Text(
        "The first command recomputes every entry, the tree, the signature, each file's digest and each verdict. "
        "The second does the same with Python alone, in one file that an auditor can read through. The third also "
        "finds a run that was rewritten as a whole, if a signed note of it was kept elsewhere.",
        "第一条命令重新计算每条账本记录、哈希树、签名、每个文件的摘要和每个结论；第二条只用 Python 标准库，"
        "以一个可通读的文件做同样的事；第三条凭另存的签名记录，还能发现被整体重写的运行。",
    )
    facts = [
        tag("dt", both(Text("ledger entries when this was written", "撰写本报告时的账本条数"))),
        tag("dd", whole(len(story.entries))),
        tag("dt", both(Text("files under the ledger", "账本覆盖的文件"))),
        tag("dd", whole(len(story.manifest))),
    ]
    return section(
        "verify",
        Text("Check it yourself", "自行核验"),
        Text("Nothing in this report has to be believed.", "本报告中的任何内容都无须轻信。"),
        tag("pre", command),
        tag("p", both(text)),
        tag("dl", facts, class_="facts"),
    )


def _environment_section(story: Story) -> Html:
    facts: list[Any] = []
    for key, value in flat(story.environment):
        if value is None or (isinstance(value, list | dict) and not value):
            continue
        shown = (
            " ".join(map(str, value))
            if isinstance(value, list)
            else brief(value)
            if isinstance(value, float)
            else value
        )
        facts += [tag("dt", key), tag("dd", str(shown))]
    return section(
        "environment",
        Text("Environment", "运行环境"),
        Text("The machine and the programs that made this run.", "产生本次运行的机器与程序。"),
        tag("dl", facts, class_="facts small")
        if facts
        else tag("p", both(Text("Not on record.", "无记录。")), class_="empty"),
    )


def _colophon(story: Story) -> Html:
    text = Text(
        "Made by guiju from this run's own ledger and files. The clauses are paraphrased, with our confidence in each; "
        "they are no legal advice, and no certificate.",
        "由 guiju 依据本次运行的账本与文件生成。条款为转述，并标明把握程度；不构成法律意见，亦非合格证书。",
    )
    return tag("footer", both(text), class_="colophon")
