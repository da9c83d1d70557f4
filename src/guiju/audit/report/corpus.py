"""The report's pages on the corpus: where the text comes from, what was done to it, and the inspection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guiju.audit.describing import format_rate
from guiju.audit.report.figures import brief, whole, words
from guiju.audit.report.story import Story, number
from guiju.evidence import Kind
from guiju.pages import Html, Text, both, join, section, table, tag
from guiju.statistics import clopper_pearson

VERDICTS = {"kept": ("kept", "保留"), "changed": ("changed", "修改后保留"), "dropped": ("dropped", "剔除")}
LANGUAGES = {"en": ("English", "英文"), "zh": ("Chinese", "中文")}
REGIONS = {"domestic": ("domestic", "境内"), "foreign": ("foreign", "境外")}
RULES = {
    # rule of the corpus stage        what a reader is told
    "surrogates": ("broken characters mended", "修复残缺字符"),
    "mojibake": ("garbled characters mended", "修复乱码"),
    "nfc": ("characters brought into one form", "统一字符形式"),
    "controls": ("control characters removed", "去除控制字符"),
    "whitespace": ("spacing tidied", "整理空白"),
    "boilerplate": ("repeated boilerplate removed", "去除套话"),
    "length": ("too short or too long", "过短或过长"),
    "too-large": ("too large to read", "体积过大"),
    "language": ("another language than stated", "语言与声明不符"),
    "quality": ("too little prose in it", "质量不足"),
    "repetition": ("repeats itself", "内容重复"),
    "exact-duplicate": ("an exact copy", "完全重复"),
    "duplicate": ("an exact copy", "完全重复"),
    "near-duplicate": ("nearly a copy", "近似重复"),
    "personal-data": ("personal data masked", "遮蔽个人信息"),
    "contamination": ("overlaps with test data", "与评测数据重叠"),
    "empty": ("empty", "空文档"),
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
        _decisions(story),
        _measures(story),
        _inspection(story),
    )


def _sources(story: Story, sources: list[Mapping[str, Any]]) -> Html:
    rows: list[list[object]] = []
    for source in sources:
        name = str(source.get("name", ""))
        counted = story.documents.get(name, {}).get("", {})
        documents = number(source.get("documents")) or (sum(counted.values()) or None)
        rows.append(
            [
                join(tag("b", name), tag("br"), tag("span", source.get("origin") or "", class_="soft small")),
                join(source.get("licence") or both(Text("none stated", "未声明"))),
                _languages(source),
                words(REGIONS, str(source.get("region") or "–")),
                whole(documents),
            ]
        )
    head = [
        Text("Source", "来源"),
        Text("Licence", "许可"),
        Text("Language", "语言"),
        Text("Region", "地域"),
        Text("Documents", "文档数"),
    ]
    return join(tag("h3", both(Text("Licence register", "许可登记"))), table(head, rows, numbers=(4,)))


def _languages(source: Mapping[str, Any]) -> Html:
    given = source.get("languages") or source.get("language") or "–"
    listed = given if isinstance(given, list) else [given]
    pieces: list[object] = []
    for position, language in enumerate(listed):
        pieces += [", " if position else None, both(words(LANGUAGES, str(language)))]
    return join(*pieces)


def _decisions(story: Story) -> Html | None:
    if not story.documents:
        return None
    head = [Text("Source", "来源"), *(Text(*VERDICTS[verdict]) for verdict in VERDICTS)]
    rows: list[list[object]] = []
    totals: dict[str, int] = {}
    for name, counted in sorted(story.documents.items()):
        rows.append([name, *(whole(counted[""].get(verdict, 0)) for verdict in VERDICTS)])
        for verdict in VERDICTS:
            totals[verdict] = totals.get(verdict, 0) + counted[""].get(verdict, 0)
    rows.append([join(tag("b", both(Text("together", "合计")))), *(tag("b", whole(totals[v])) for v in VERDICTS)])
    return join(
        tag("h3", both(Text("Kept, changed, left out", "保留、修改、剔除"))),
        table(head, rows, numbers=(1, 2, 3)),
        _rules(story),
    )


def _rules(story: Story) -> Html | None:
    rows: list[list[object]] = []
    for verdict, label in (("dropped", Text("left out", "剔除")), ("changed", Text("changed", "修改"))):
        summed: dict[str, int] = {}
        for counted in story.documents.values():
            for rule, count in counted[verdict].items():
                summed[rule] = summed.get(rule, 0) + count
        for rule, count in sorted(summed.items(), key=lambda item: -item[1]):
            rows.append([label, words(RULES, rule), tag("code", rule), whole(count)])
    if not rows:
        return None
    head = [Text("Outcome", "结果"), Text("Why", "原因"), Text("Rule", "规则"), Text("Documents", "文档数")]
    return join(
        table(head, rows, numbers=(3,)),
        tag(
            "p",
            both(
                Text(
                    "One document can meet several rules. guiju corpus show explains any single one.",
                    "一份文档可能触及多条规则。用 guiju corpus show 可查看任一文档的处理经过。",
                )
            ),
            class_="soft small",
        ),
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
    unit = str(body.get("unit") or "")
    return join(f"{brief(body.get('value'))} {unit}".strip())


def _inspection(story: Story) -> Html | None:
    drawn = story.bodies(Kind.SAMPLE_DRAWN)
    if not drawn:
        return None
    facts: list[object] = []
    for body in drawn:
        for key in ("n", "drawn", "people", "rules", "population", "seed", "share"):
            if (found := number(body.get(key))) is not None:
                facts += [tag("dt", both(words(_DRAW, key))), tag("dd", brief(found))]
    return join(
        tag("h3", both(Text("Inspection by sample", "抽样检查"))),
        tag(
            "p",
            both(
                Text(
                    "Documents were drawn at random, by a seed that anyone can draw with again, and wait in "
                    "corpus/inspection.jsonl for people to judge.",
                    "文档按公开的随机种子抽取，任何人都可重新抽取；它们在 corpus/inspection.jsonl 中等待人工判定。",
                )
            ),
        ),
        tag("dl", facts, class_="facts") if facts else None,
    )


_DRAW = {
    "n": ("drawn", "抽取数"),
    "drawn": ("drawn", "抽取数"),
    "people": ("drawn for people", "供人工检查"),
    "rules": ("drawn for rules", "供规则检查"),
    "population": ("out of", "总数"),
    "share": ("share drawn", "抽取比例"),
    "seed": ("seed", "随机种子"),
}
