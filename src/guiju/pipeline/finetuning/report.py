"""The page that a fine-tuning leaves: what learned from what, how the loss fell, what is learned, how it measures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guiju.evidence import Kind
from guiju.pages import Bar, Html, Series, Text, bar_chart, both, join, line_chart, page, section, table, tag
from guiju.pipeline.finetuning.base import read_base
from guiju.pipeline.finetuning.examples import read_shown
from guiju.pipeline.finetuning.learning import FILE, LOSS
from guiju.pipeline.finetuning.recipe import FinetuneRecipe
from guiju.pipeline.finetuning.shown import LEAD, TITLE, mask_figure
from guiju.pipeline.orchestration import StageContext, StageResult
from guiju.storage import write_text

SHOWN = 3
"""Rows of the mask in the report; the page examples/mask.html has more."""
OBJECTIVES = {
    "answers": Text("answers to prompts", "对提示的回答"),
    "classes": Text("the label of a text", "文本的类别标签"),
    "pairs": Text("a target from its source", "由原文写出目标文本"),
    "extractive": Text("where an answer stands in a text", "答案在文中的位置"),
    "preferences": Text("the preferred of two answers", "两个回答中更受偏好者"),
    "next-token": Text("the token that follows", "下一个词元"),
}
UNITS = {
    "answers": Text("nats a learned token", "奈特/所学词元"),
    "classes": Text("nats a text", "奈特/文本"),
    "pairs": Text("nats a target token", "奈特/目标词元"),
    "extractive": Text("nats an end of an answer", "奈特/答案端点"),
    "preferences": Text("nats a pair", "奈特/偏好对"),
    "next-token": Text("nats a token", "奈特/词元"),
}
BEFORE, AFTER = Text("before it learned", "微调前"), Text("this model", "本模型")


def make_report(context: StageContext[FinetuneRecipe]) -> StageResult:
    """One page that opens offline, in both languages."""
    recipe, folder = context.recipe, context.run.path
    title = Text("Fine-tuning of {name}", "微调：{name}").format(name=recipe.name)
    body = (
        tag("header", tag("h1", both(title)), _facts(context), class_="masthead"),
        _learning(recipe, folder),
        _held_out(recipe, folder),
        section("mask", TITLE, LEAD, mask_figure(read_shown(folder)[:SHOWN])),
        _tasks(folder),
        _checking(folder),
    )
    text = page(title, *body)
    write_text(folder / "report.html", text)
    size = len(text.encode())
    return StageResult({"bytes": size}, f"report.html, {size / 1024:,.0f} KiB, opens offline")


def _facts(context: StageContext[FinetuneRecipe]) -> Html:
    recipe, base = context.recipe, read_base(context.run.path)
    new = Text("none: a new model", "无：全新模型")
    rows: list[tuple[Text, object]] = [
        (Text("learned", "学习目标"), both(OBJECTIVES[recipe.objective])),
        (Text("base", "基座模型"), tag("code", base.reference) if base.reference else both(new)),
    ]
    if base.digest:
        rows.append((Text("its SHA-256", "基座 SHA-256"), tag("code", base.digest)))
    rows += [
        (Text("parameters", "参数量"), f"{base.parameters:,}"),
        (Text("data", "数据"), tag("code", recipe.data.train)),
        (Text("rows", "样例"), both(_rows(context))),
    ]
    if recipe.lora is not None:
        kept = "" if recipe.base_precision == "float32" else f", {recipe.base_precision}"
        told = f"rank {recipe.lora.rank}, alpha {recipe.lora.alpha:g}, {', '.join(recipe.lora.layers)}{kept}"
        rows.append((Text("adapter (LoRA)", "适配器（LoRA）"), told))
    return tag("dl", [join(tag("dt", both(name)), tag("dd", value)) for name, value in rows], class_="facts")


def _rows(context: StageContext[FinetuneRecipe]) -> Text:
    """How many rows there were, and what became of them."""
    entries = context.run.entries()
    built = {entry.body["stage"]: entry.body["summary"] for entry in entries if entry.kind == Kind.STAGE_FINISHED}
    train, overlapping = built["examples"]["train"], built["data"]["overlapping"]
    held_out = built["examples"].get("validation", {}).get("rows", 0)
    told = Text(
        "{train} learned from, {held_out} held out; left out: {long} too long, {overlapping} that are held out as well",
        "学习 {train} 条，留出 {held_out} 条；剔除：过长 {long} 条，与留出数据重复 {overlapping} 条",
    )
    counts = {"train": train["rows"], "held_out": held_out, "long": train.get("left_out", 0)}
    return told.format(overlapping=f"{overlapping:,}", **{name: f"{count:,}" for name, count in counts.items()})


def _learning(recipe: FinetuneRecipe, folder: Path) -> Html:
    lines = _log(folder)
    losses = [(line["step"], line["loss"]) for line in lines if _is_number(line.get("loss"))]
    watched = [(line["step"], line[LOSS]) for line in lines if _is_number(line.get(LOSS))]
    series = [Series(Text("training", "训练"), losses, faint=len(losses) > 40 and bool(watched))]
    if watched:
        series.insert(0, Series(Text("held out", "留出数据"), watched))
    chart = line_chart(
        series,
        title=Text("Loss by step", "损失随步数变化"),
        x_label=Text("step", "步"),
        y_label=Text("loss, {unit}", "损失（{unit}）").format(unit=UNITS[recipe.objective]),
    )
    lead = Text(
        "Less is better. Where the training loss falls and the held-out loss rises, the model learns data by heart.",
        "越低越好。若训练损失下降而留出损失上升，说明模型在死记数据。",
    )
    return section("learning", Text("How it learned", "学习过程"), lead, chart)


def _held_out(recipe: FinetuneRecipe, folder: Path) -> Html | None:
    found = _json(folder / FILE)
    if "loss" not in found:
        return None
    loss, accuracy = found["loss"], found["accuracy"]
    bars = [
        Bar(label, loss[name], f"{loss[name]:.3f}", strong=name == "after")
        for name, label in (("before", BEFORE), ("after", AFTER))
    ]
    heading = Text("On data that it did not learn", "在未学习的数据上")
    lead = Text("Loss of {n} targets, {unit}.", "{n} 个目标的损失（{unit}）。")
    lead = lead.format(n=f"{found['targets']:,}", unit=UNITS[recipe.objective])
    head = [Text("", ""), Text("loss", "损失"), Text("right", "正确率")]
    rows: list[list[object]] = [
        [label, f"{loss[name]:.4f}", f"{accuracy[name]:.1%}"] for name, label in (("before", BEFORE), ("after", AFTER))
    ]
    worse = Text("The model did not get better at what it did not see.", "模型在未见过的数据上没有变好。")
    warning = tag("p", both(worse), class_="todo") if loss["after"] >= loss["before"] else None
    return section(
        "held-out", heading, lead, bar_chart(bars, title=heading), table(head, rows, numbers=(1, 2)), warning
    )


def _tasks(folder: Path) -> Html | None:
    """What the tasks measured, each with its interval."""
    rows: list[list[object]] = []
    for file in sorted((folder / "tasks").glob("*/result.json")):
        found = _json(file)
        for who, metrics in (("", found["metrics"]), *found.get("baselines", {}).items()):
            name = found["task"] if not who else f"{found['task']}, {who}"
            for metric, one in metrics.items():
                rows.append([name, metric, _figure(one.get("value")), _interval(one), f"{found['n']:,}"])
    if not rows:
        return None
    head = [
        Text("task", "任务"),
        Text("measure", "指标"),
        Text("value", "数值"),
        Text("95 % interval", "95% 区间"),
        Text("samples", "样本数"),
    ]
    lead = Text(
        "The model put to the task that the recipe names; every sample is kept in tasks/.",
        "以配方指定的任务评测本模型；每个样本都保存在 tasks/ 中。",
    )
    return section("tasks", Text("How it measures", "评测结果"), lead, table(head, rows, numbers=(2, 3, 4)))


def _checking(folder: Path) -> Html:
    lead = Text(
        "Every stage left its digests in the run's signed ledger. Anyone can check them:",
        "每个阶段的摘要都记录在本次运行的签名账本中，任何人都可以核验：",
    )
    command = tag("pre", f"guiju verify {folder.as_posix()}")
    return section("checking", Text("How to check it", "如何核验"), lead, command)


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "–"


def _interval(one: Mapping[str, Any]) -> str:
    return f"{_figure(one.get('low'))} – {_figure(one.get('high'))}"


def _log(folder: Path) -> Sequence[dict[str, Any]]:
    text = (folder / "checkpoints" / "train_log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
