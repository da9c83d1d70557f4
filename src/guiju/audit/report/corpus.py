"""The report's pages on the corpus: where the text comes from, what was done to it, and the inspection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guiju.audit.describing import format_rate
from guiju.audit.report.figures import brief, whole, words
from guiju.audit.report.story import Story, flat, number
from guiju.evidence import Kind
from guiju.pages import Html, Text, both, join, section, table, tag
from guiju.statistics import clopper_pearson

VERDICTS = {"kept": ("kept", "保留"), "changed": ("changed", "修改后保留"), "dropped": ("left out", "剔除")}
LANGUAGES = {"en": ("English", "英文"), "zh": ("Chinese", "中文")}
REGIONS = {"domestic": ("domestic", "境内"), "foreign": ("foreign", "境外")}
UNITS = {
    "sources": ("sources", "个来源"),
    "hits": ("hits", "处"),
    "hits per 1,000 documents": ("hits per 1,000 documents", "处/千份文档"),
    "parameters": ("parameters", "个参数"),
    "clauses": ("clauses", "条"),
    "files": ("files", "个文件"),
    "bits/byte": ("bits per byte", "比特/字节"),
}
RULES = {
    # rule of the corpus stage      what a reader is told
    "surrogates": ("broken characters mended", "修复残缺字符"),
    "mojibake": ("garbled characters mended", "修复乱码"),
    "nfc": ("characters brought into one form", "统一字符形式"),
    "controls": ("control characters removed", "去除控制字符"),
    "whitespace": ("spacing tidied", "整理空白"),
    "boilerplate": ("publisher's frame or navigation removed", "去除版权框架与导航文字"),
    "personal-data": ("personal data masked", "遮蔽个人信息"),
    "too-large": ("too large to read", "体积过大"),
    "too-long": ("too long", "过长"),
    "too-short": ("too short", "过短"),
    "language": ("another language than stated", "语言与声明不符"),
    "replacement-characters": ("characters were lost", "字符丢失"),
    "symbols": ("mostly symbols", "以符号为主"),
    "digits": ("mostly digits", "以数字为主"),
    "word-length": ("words of unlikely length", "词长异常"),
    "repeated-lines": ("its lines repeat", "行内容重复"),
    "repeated-ngrams": ("goes round in circles", "内容循环重复"),
    "duplicate": ("an exact copy", "完全重复"),
    "near-duplicate": ("nearly a copy", "近似重复"),
    "contamination": ("overlaps with test data", "与评测数据重叠"),
}
MEASURES = {
    # measure                               what a reader is told
    "license_coverage": ("documents with a recorded licence", "有许可记录的文档"),
    "source_registry_completeness": ("documents whose source entry is complete", "来源登记完整的文档"),
    "source_diversity_count": ("least number of sources for a language and kind", "每种语言、类型的最少来源数"),
    "domestic_foreign_mix_report": ("share of domestic text", "境内来源占比"),
    "pii_hits_per_1k_docs": ("personal data found per 1,000 documents", "每千份文档个人信息命中数"),
    "sensitive_pii_hits": ("sensitive personal data found", "敏感个人信息命中数"),
    "corpus_filter_coverage": ("documents that went through the filters", "经过滤的文档"),
    "corpus_technical_sample_pass_rate": ("drawn sample that the rules accept", "技术抽检合格"),
    "corpus_manual_sample_pass_rate": ("drawn sample that people accept", "人工抽检合格"),
    "user_data_consent_coverage": ("users' texts with consent on record", "有授权记录的使用者输入"),
    "robots_optout_respected": ("collected documents whose owners had not objected", "未违反采集禁令的自采文档"),
    "contamination_rate": ("test items found in the corpus", "评测题目混入"),
    "dedup_ratio": ("removed as copies", "去重比例"),
}


def corpus_section(story: Story) -> Html | None:
    """Nothing where the run has no corpus."""
    sources = story.bodies(Kind.SOURCE_REGISTERED)
    if not sources and "corpus" not in story.stages:
        return None
    return section(
        "corpus",
        Text("The text it learned from", "所学的文本"),
        Text(
            "Where every text comes from, by what licence it may be used, and what was kept, changed or left out.",
            "每份文本从何而来、依据何种许可使用，以及保留、修改或剔除了什么。",
        ),
        _sources(story, sources) if sources else None,
        _rules(story.summary("corpus")),
        _measures(story),
        _inspection(story),
    )


def _sources(story: Story, sources: list[Mapping[str, Any]]) -> Html:
    """The licence register: a row a source, with what became of its documents."""
    rows: list[list[object]] = []
    for source in sources:
        counts = source.get("documents")
        counted = counts if isinstance(counts, Mapping) else {}
        origin = ", ".join(str(source[key]) for key in ("origin", "date") if source.get(key))
        rows.append(
            [
                join(tag("b", str(source.get("name", ""))), tag("br"), tag("span", origin, class_="soft small")),
                join(source.get("licence") or both(Text("none stated", "未声明"))),
                _languages(source),
                words(REGIONS, str(source.get("region") or "–")),
                *(whole(counted.get(verdict)) for verdict in VERDICTS),
            ]
        )
    together = story.summary("corpus").get("documents")
    if len(rows) > 1 and isinstance(together, Mapping):
        total = tag("b", both(Text("together", "合计")))
        rows.append([total, "", "", "", *(tag("b", whole(together.get(verdict))) for verdict in VERDICTS)])
    head = [
        Text("Source", "来源"),
        Text("Licence", "许可"),
        Text("Language", "语言"),
        Text("Region", "地域"),
        *(Text(*label) for label in VERDICTS.values()),
    ]
    return join(tag("h3", both(Text("Licence register", "许可登记"))), table(head, rows, numbers=(4, 5, 6)))


def _languages(source: Mapping[str, Any]) -> Html:
    given = source.get("languages") or source.get("language") or "–"
    listed = given if isinstance(given, list) else [given]
    pieces: list[object] = []
    for position, language in enumerate(listed):
        pieces += [", " if position else None, both(words(LANGUAGES, str(language)))]
    return join(*pieces)


def _rules(summary: Mapping[str, Any]) -> Html | None:
    """By which rules documents were left out or changed."""
    rows: list[list[object]] = []
    for key, label in (("dropped_by", Text("left out", "剔除")), ("changed_by", Text("changed", "修改"))):
        counts = summary.get(key)
        counted = counts if isinstance(counts, Mapping) else {}
        for rule, count in sorted(counted.items(), key=lambda item: (-(number(item[1]) or 0), item[0])):
            rows.append([label, words(RULES, rule), tag("code", rule), whole(count)])
    if not rows:
        return None
    head = [Text("Outcome", "结果"), Text("Why", "原因"), Text("Rule", "规则"), Text("Documents", "文档数")]
    note = Text(
        "Several rules can change one document. guiju corpus show RUN DOCUMENT explains any single one.",
        "一份文档可能被多条规则修改。用 guiju corpus show RUN DOCUMENT 可查看任一文档的处理经过。",
    )
    return join(
        tag("h3", both(Text("Why documents were changed or left out", "修改与剔除的原因"))),
        table(head, rows, numbers=(3,)),
        tag("p", both(note), class_="soft small"),
    )


def _measures(story: Story) -> Html | None:
    rows: list[list[object]] = []
    for measure, words_ in MEASURES.items():
        body = story.measurement(measure)
        if body is None:
            continue
        rows.append([Text(*words_), tag("code", measure), figure(body)])
    if not rows:
        return None
    head = [Text("Measured", "测量内容"), Text("Measure", "指标"), Text("Figure", "数值")]
    return join(tag("h3", both(Text("Figures of the corpus", "语料数据"))), table(head, rows, numbers=(2,)))


def measure_name(measure: str) -> Text | None:
    """What a reader is told a measure is, where this report knows it."""
    return Text(*MEASURES[measure]) if measure in MEASURES else None


def figure(body: Mapping[str, Any]) -> Html:
    """A measurement's figure in one line: a rate with its interval where it was sampled, or a quantity."""
    count, n = number(body.get("count")), number(body.get("n"))
    if count is not None and n is not None and 0 <= count <= n:
        if n == 0:
            return both(Text("none of this kind", "无此类对象"))
        text = f"{count:,.0f} / {n:,.0f} = {format_rate(count / n)}"
        if body.get("sampled") is not False:
            interval = clopper_pearson(int(count), int(n))
            text += f" ({format_rate(interval.low, 'low')} – {format_rate(interval.high, 'high')})"
        return join(text)
    return quantity(body.get("value"), str(body.get("unit") or ""))


def quantity(value: object, unit: str) -> Html:
    """A quantity with its unit in both languages; a share as percent."""
    if unit == "share" and (share := number(value)) is not None:
        return join(format_rate(share))
    return join(brief(value), " ", both(words(UNITS, unit))) if unit else join(brief(value))


def _inspection(story: Story) -> Html | None:
    drawn = story.bodies(Kind.SAMPLE_DRAWN)
    if not drawn:
        return None
    facts: list[object] = []
    told = dict(flat(drawn[-1]))
    for key, label in _DRAW.items():
        if number(told.get(key)) is not None:
            shown = str(told[key]) if key == "seed" else whole(told[key])
            facts += [tag("dt", both(Text(*label))), tag("dd", shown)]
    how = Text(
        "Documents were drawn at random by a seed, so that anyone can draw the same ones again. Those for people wait "
        "in corpus/inspection.jsonl, each with room for a verdict and a name.",
        "文档按随机种子抽取，任何人都可抽出同一批。供人工检查的文档在 corpus/inspection.jsonl 中，待人判定并署名。",
    )
    return join(
        tag("h3", both(Text("Inspection by sample", "抽样检查"))),
        tag("p", both(how)),
        tag("dl", facts, class_="facts") if facts else None,
    )


_DRAW = {
    "population": ("documents to draw from", "可抽取文档数"),
    "people.n": ("drawn for people", "供人工检查"),
    "rules.n": ("drawn for the rules", "供规则检查"),
    "seed": ("seed", "随机种子"),
}
