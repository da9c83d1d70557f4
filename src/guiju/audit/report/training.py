"""The report's pages on the model: how it learned, what it must beat, what it writes, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guiju.audit.report.figures import in_unit, words
from guiju.audit.report.objectives import wording
from guiju.audit.report.story import Story, flat, number
from guiju.evidence import Kind
from guiju.pages import Bar, Html, Series, Text, bar_chart, both, join, line_chart, section, table, tag

NEIGHBOURS = 25
MODEL = Text("this model", "本模型")
BASELINES = {
    # word in a summary's key    what it is
    "untrained": Text("the same model, untrained", "未训练的同一模型"),
    "unigram": Text("counts of single tokens", "单词元统计模型"),
    "bigram": Text("counts of token pairs", "双词元统计模型"),
    "xz": Text("the compressor xz", "xz 压缩程序"),
    "other_source": Text("this model, given another text to read", "本模型，但给它另一篇原文"),
}
TASKS = {
    # what was done with a prompt    what a reader is told
    "continue": Text("Continuing", "续写"),
    "fill": Text("Filling the blanks of", "填空"),
    "answer": Text("Writing of", "据此写出"),
}
COSTS = {
    # what a cost is about    what a reader is told
    "time": ("time", "时间"),
    "memory": ("memory at most", "内存峰值"),
    "flops": ("arithmetic", "计算量"),
    "energy": ("energy", "能耗"),
    "co2": ("carbon dioxide", "二氧化碳"),
    "cost": ("money", "费用"),
    "parameters": ("parameters", "参数量"),
}
FORECASTS = {
    # key of a forecast    what it is about, and its unit
    "parameters": ("parameters", ""),
    "seconds": ("time", "s"),
    "flops": ("flops", "FLOP"),
    "memory_bytes": ("memory", "bytes"),
    "energy_kwh": ("energy", "kWh"),
    "co2_kg": ("co2", "kg"),
}
METHODS = {
    "rapl": ("the processor's counters", "处理器计数器"),
    "estimate": ("an estimate from processor time", "按处理器时间估算"),
}


def training_section(story: Story) -> Html | None:
    """Nothing where nothing was trained."""
    bars = _bits_per_byte(story)
    if not story.losses and not bars:
        return None
    return section(
        "training",
        Text("How it learned", "学习过程"),
        wording(story).learning,
        _losses(story),
        _evaluations(story),
        _bars(bars, wording(story).held_out),
        _events(story),
    )


def _losses(story: Story) -> Html | None:
    """Every step faint behind the mean of its neighbours, or every step alone where they are few."""
    if not story.losses:
        return None
    series = [Series(Text("each step", "每一步"), story.losses)]
    if len(story.losses) >= 4 * NEIGHBOURS:
        mean = Series(Text(f"mean of {NEIGHBOURS} steps", f"{NEIGHBOURS}步平均"), _smooth(story.losses, NEIGHBOURS))
        series = [mean, Series(series[0].name, story.losses, faint=True)]
    chart = line_chart(
        series,
        title=Text("Training loss by step", "训练损失随步数变化"),
        x_label=Text("step", "步"),
        y_label=Text("loss, nats a token", "损失（奈特/词元）"),
    )
    return join(tag("h3", both(Text("Loss on the training text", "训练文本上的损失"))), chart)


def _smooth(points: list[tuple[float, float]], width: int) -> list[tuple[float, float]]:
    """The mean of `width` neighbours, standing over the middle one."""
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    middle = width // 2
    return [
        (points[start + middle][0], (sums[start + width] - sums[start]) / width)
        for start in range(len(points) - width + 1)
    ]


def _evaluations(story: Story) -> Html | None:
    if len(story.evaluations) < 2:
        return None
    chart = line_chart(
        [Series(MODEL, story.evaluations)],
        title=Text("Bits per byte on held-out text", "留出文本上的每字节比特数"),
        x_label=Text("step", "步"),
        y_label=Text("bits per byte", "比特/字节"),
    )
    return join(tag("h3", both(Text("On text it has never seen", "在未见过的文本上"))), chart)


def _bits_per_byte(story: Story) -> list[Bar]:
    """The model's bits per byte and those of whatever it is compared with, the best first."""
    measured = story.measurement(wording(story).measure) or {}
    details = measured.get("details")
    found = dict(details) if isinstance(details, Mapping) else {}
    found["model"] = measured.get("value", story.evaluations[-1][1] if story.evaluations else None)
    labels = {"model": MODEL, **BASELINES}
    bars = [
        Bar(label, bits, f"{bits:.3f}", strong=name == "model")
        for name, label in labels.items()
        if (bits := number(found.get(name))) is not None
    ]
    return sorted(bars, key=lambda bar: bar.value) if any(bar.strong for bar in bars) else []


def _bars(bars: list[Bar], title: Text) -> Html | None:
    if not bars:
        return None
    beaten = [bar for bar in bars if not bar.strong and bar.value > next(b.value for b in bars if b.strong)]
    total = len(bars) - 1
    said = f"{len(beaten)} of the {total}" if len(beaten) < total else f"all {total}"
    count = Text(
        f"It does better than {said} that it is compared with.",
        f"在 {total} 个比较对象中，优于 {len(beaten)} 个。",
    )
    return join(
        tag("h3", both(title)),
        bar_chart(bars, title=title),
        tag("p", both(count), class_="soft small") if len(bars) > 1 else None,
    )


def _events(story: Story) -> Html | None:
    """What went otherwise than straight on: skipped steps, resumptions, notices."""
    told = []
    for body in story.bodies(Kind.TRAINING_EVENT):
        name = str(body.get("event") or body.get("name") or "")
        if name in ("step-skipped", "resumed", "notice", "interrupted"):
            facts = ", ".join(f"{key} {value}" for key, value in flat(body) if key in ("step", "text", "checkpoint"))
            told.append(tag("li", f"{name}: {facts}" if facts else name))
    if not told:
        return None
    summary = tag("summary", both(Text("What interrupted it", "训练中的特殊事件")))
    return tag("details", summary, tag("ul", told, class_="small"), class_="plain")


def writing_section(story: Story) -> Html | None:
    """What the model writes, as it wrote it. Nothing where it wrote nothing."""
    bodies = story.bodies(Kind.GENERATION)
    if not bodies:
        return None
    return section(
        "writing",
        Text("What it writes", "它写了什么"),
        Text(
            "Texts as the model gave them, unedited. A small model is fluent long before it makes sense.",
            "以下为模型原样输出，未经修改。小模型写得通顺，远早于写得合理。",
        ),
        [_generation(body) for body in bodies],
    )


def _generation(body: Mapping[str, Any]) -> Html:
    prompt = str(body.get("prompt", ""))
    task = str(body.get("task") or "continue")
    language = str(body.get("language") or "")
    shown = prompt or both(Text("(the beginning of a text)", "（从文本开头）"))
    sequences = body.get("sequences")
    quotes = []
    for sequence in sequences if isinstance(sequences, list) else []:
        if not isinstance(sequence, Mapping):
            continue
        footer = ", ".join(
            f"{label} {sequence[key]}"
            for key, label in (("seed", "seed"), ("finish_reason", "finish"))
            if sequence.get(key) is not None
        )
        quotes.append(
            tag(
                "blockquote",
                tag("span", prompt, class_="prompt") if task == "continue" else None,
                str(sequence.get("text", "")),
                tag("footer", footer) if footer else None,
                class_="quote",
                lang=language if language.isalpha() else None,
            )
        )
    settings = body.get("settings")
    drawn = ", ".join(
        f"{key} {value}" for key, value in flat(settings if isinstance(settings, Mapping) else {}) if _said(value)
    )
    return join(
        tag("h3", both(TASKS.get(task, TASKS["continue"])), " ", tag("q", shown)),
        quotes,
        tag("p", both(Text("drawn with", "采样设置")), ": ", tag("span", drawn), class_="soft small")
        if drawn
        else None,
    )


def _said(value: object) -> bool:
    return value is not None and value is not False and value != [] and value != ""


def cost_section(story: Story) -> Html | None:
    """Forecast against actual. Nothing where neither is on record."""
    bodies = story.bodies(Kind.COST)
    if not bodies:
        return _forecast(story)
    given = bodies[-1].get("rows")
    rows: list[list[object]] = []
    for row in given if isinstance(given, list) else []:
        if not isinstance(row, Mapping) or (row.get("forecast") is None and row.get("actual") is None):
            continue
        unit, what, ratio = str(row.get("unit", "")), str(row.get("what", "")), number(row.get("ratio"))
        shown = [in_unit(row.get(key), unit) for key in ("forecast", "actual")]
        rows.append([words(COSTS, what), *shown, "–" if ratio is None else f"{ratio:.2f}"])
    if not rows:
        return _forecast(story)
    names = ("What", "项目"), ("Forecast", "预测"), ("Actual", "实际"), ("Actual / forecast", "实际/预测")
    return section(
        "cost",
        Text("What it cost", "成本"),
        Text(
            "What was forecast before training began, beside what it took. Energy and carbon dioxide are estimates "
            "unless a power sensor was read.",
            "训练前的预测与实际消耗对照。除非读取了功率传感器，能耗与二氧化碳均为估算。",
        ),
        table([Text(*pair) for pair in names], rows, numbers=(1, 2, 3)),
        _assumptions(bodies[-1].get("meter")),
        _stages(story),
    )


def _assumptions(reading: object) -> Html | None:
    """How energy was come by, and what was assumed, as the record says it."""
    if not isinstance(reading, Mapping):
        return None
    method = words(METHODS, str(reading.get("energy_method") or "–"))
    assumed = reading.get("assumptions")
    listed = [tag("li", str(one)) for one in assumed] if isinstance(assumed, list) else []
    how = Text("Energy comes from: {method}.", "能耗来源：{method}。").format(method=method)
    return join(tag("p", both(how), class_="soft small"), tag("ul", listed, class_="soft small") if listed else None)


def _forecast(story: Story) -> Html | None:
    plans = story.bodies(Kind.PLAN)
    forecast = plans[-1].get("forecast") if plans else None
    if not isinstance(forecast, Mapping):
        return None
    rows: list[list[object]] = [
        [words(COSTS, what), in_unit(forecast.get(key), unit)]
        for key, (what, unit) in FORECASTS.items()
        if number(forecast.get(key)) is not None
    ]
    if not rows:
        return None
    return section(
        "cost",
        Text("What it will cost", "成本预测"),
        Text("A forecast; nothing has been spent yet.", "仅为预测，尚未发生。"),
        table([Text("What", "项目"), Text("Forecast", "预测")], rows, numbers=(1,)),
    )


def _stages(story: Story) -> Html | None:
    if not story.seconds:
        return None
    rows: list[list[object]] = [
        [tag("code", name), in_unit(seconds, "s")] for name, seconds in story.seconds.items() if seconds > 0
    ]
    summary = tag("summary", both(Text("Time by stage", "各阶段用时")))
    return tag(
        "details", summary, table([Text("Stage", "阶段"), Text("Time", "用时")], rows, numbers=(1,)), class_="plain"
    )
