"""The generation benchmark's figures as tables, and each goal with what was got."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

BYTES = {"gpt2": 124_439_808 * 4 - 1024 * 768 * 4, "qwen2": 494_032_768 * 4}
"""Of float32 weights that a token reads: all but the table of positions; the head is the embedding."""


def machine() -> dict[str, Any]:
    facts = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processor": facts[0] if facts else "unknown",
        "threads": torch.get_num_threads(),
        "read_gb_per_s": read_speed(),
        "load_at_start": os.getloadavg()[0],
        "measured": time.strftime("%Y-%m-%d"),
    }


def read_speed(megabytes: int = 1024) -> float:
    """GB/s of reading more than the caches hold: what bounds a step at batch 1."""
    numbers = torch.ones(megabytes * 250_000)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - began)
    return megabytes / 1000 / best


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            return file.readlines()
    except OSError:
        return []


def ratio(result: dict[str, Any], case: str) -> float | None:
    """How many times as fast as transformers: the median of the rounds' ratios."""
    rounds = result.get("cases", {}).get(case, {}).get("rounds")
    return statistics.median(row["base"] / row["seconds"] for row in rounds) if rounds else None


def spread(result: dict[str, Any], case: str) -> float:
    ratios = [row["base"] / row["seconds"] for row in result["cases"][case]["rounds"]]
    return (max(ratios) - min(ratios)) / 2 / statistics.median(ratios)


def speed(result: dict[str, Any], case: str, whose: str = "seconds") -> float | None:
    """Tokens a second, the prompt's reading included: new ones, or the prompt's where one is written."""
    facts = result.get("cases", {}).get(case)
    if not facts:
        return None
    tokens = facts["batch"] * (facts["new"] if facts["new"] > 1 else facts["prompt"])
    return tokens / statistics.median(row[whose] for row in facts["rounds"])


def peer_line(result: dict[str, Any]) -> str:
    if "missing" in result:
        return f"{result['shape']:<6} {result['peer']:<22} missing: {result['missing']}"
    parts = [f"{case} {ratio(result, case):.2f}x" for case in result["cases"]]
    return f"{result['shape']:<6} {result['peer']:<22} {', '.join(parts)}"


def quality_line(name: str, figures: dict[str, Any]) -> str:
    parts = [
        f"{what} {value:.4f}" if isinstance(value, float) else f"{what} {value}"
        for what, value in figures.items()
        if what != "bytes"
    ]
    return f"{name}: bits per byte {', '.join(parts)}"


def page(results: dict[str, Any]) -> str:
    """Markdown: a table a shape, then the rest, then the goals."""
    facts = results["machine"]
    lines = [
        f"{facts['processor']}, {facts['threads']} threads, memory read at {facts['read_gb_per_s']:.1f} GB/s, "
        f"load {facts['load_at_start']:.2f}, {facts['measured']}.",
        "Ratios are to transformers' generate in float32 in the same rounds; ± is half their range.",
    ]
    for shape in ("gpt2", "qwen2"):
        if results.get(shape):
            lines += ["", *_shape_table(shape, results[shape])]
    for name, figures in results.get("quality", {}).items():
        lines += ["", quality_line(name, figures)]
    lines += ["", "| goal | wanted | got | met |", "|---|---|---|---|"]
    lines += [f"| {name} | {wanted} | {got} | {met} |" for name, wanted, got, met in goals(results)]
    return "\n".join(lines)


def _shape_table(shape: str, peers: list[dict[str, Any]]) -> list[str]:
    cases = list(next((one["cases"] for one in peers if "cases" in one), {}))
    head = [f"{case}: tokens/s" if case != "first" else "first token, ms" for case in cases]
    lines = [
        "| "
        + " | ".join([f"**{shape}**", *(f"{name} (ratio)" for name in head), "share of bandwidth", "peak MB"])
        + " |",
        "|---" * (len(cases) + 3) + "|",
    ]
    for one in peers:
        if "missing" in one:
            lines.append(f"| {one['peer']} | missing: {one['missing'][:120]} |" + " |" * (len(cases) + 1))
            continue
        cells = []
        for case in cases:
            rate = speed(one, case)
            assert rate is not None
            value = f"{rate:.0f}"
            if case == "first":
                value = f"{1000 * one['cases'][case]['prompt'] / rate:.1f}"
            cells.append(f"{value} ({ratio(one, case):.2f} ±{spread(one, case):.0%})")
        share = _share(shape, one)
        lines.append(f"| {one['peer']} | " + " | ".join(cells) + f" | {share:.0%} | {one['memory']['peak']:.0f} |")
    base = next((one for one in peers if "cases" in one), None)
    if base:
        rates = [f"{case} {speed(base, case, 'base'):.0f}" for case in cases]
        lines.append(f"\ntransformers itself, beside {base['peer']}: tokens/s {', '.join(rates)}; peak "
                     f"{base['base_memory']['peak']:.0f} MB.")  # fmt: skip
    return lines


def _share(shape: str, one: dict[str, Any]) -> float:
    """Of the bandwidth limit: what the weights of a token weigh, times tokens a second, over what was read a second
    just before (it is half as much at other times, on a machine that others share)."""
    weighs = {"int8": 0.25, "q8_0": 0.25 * 34 / 32, "int4": 0.125 * 34 / 32}
    part = next((share for name, share in weighs.items() if name in one["peer"]), 1.0)
    return BYTES[shape] * part * (speed(one, "batch 1") or 0) / 1e9 / one["read_gb_per_s"]


Found = tuple[str, str, str, str]


def goals(results: dict[str, Any]) -> list[Found]:
    by = {(one["shape"], one["peer"]): one for shape in ("gpt2", "qwen2") for one in results.get(shape, [])}

    def get(peer: str, case: str, shape: str = "gpt2") -> float | None:
        return ratio(by.get((shape, peer), {}), case)

    def beside(peer: str, other: str, case: str, shape: str = "gpt2") -> float | None:
        mine, theirs = get(peer, case, shape), get(other, case, shape)
        return None if mine is None or theirs is None else mine / theirs

    torch_runner = by.get(("gpt2", "guiju torch float32"))
    share = _share("gpt2", torch_runner) if torch_runner and _has(torch_runner) else None
    ttft = get("guiju int8", "first")
    direct = results.get("direct", {})
    rows: list[tuple[str, float, float | None, Callable[[float], str], bool]] = [
        ("fp32, batch 1, reference runner / transformers", 1.1, get("guiju torch float32", "batch 1"), _times, True),
        ("the same, share of the memory's bandwidth", 0.75, share, _percent, True),
        ("fp32, batch 1, fast runner / transformers", 1.3, get("guiju float32", "batch 1"), _times, True),
        ("fp32, batch 8, fast runner / transformers", 2.0, get("guiju float32", "batch 8"), _times, True),
        ("int8, batch 1 / transformers fp32", 5.0, get("guiju int8", "batch 1"), _times, True),
        ("int8, batch 8 / transformers fp32", 5.5, get("guiju int8", "batch 8"), _times, True),
        ("int8, batch 1 / llama.cpp q8_0", 2.0, beside("guiju int8", "llama.cpp q8_0", "batch 1"), _times, True),
        ("int8, batch 8 / llama.cpp q8_0", 3.0, beside("guiju int8", "llama.cpp q8_0", "batch 8"), _times, True),
        ("int8, batch 1 / OpenVINO GenAI int8, in turns", 1.0, ratio(direct, "batch 1"), _times, True),
        ("int8, batch 8 / OpenVINO GenAI int8, in turns", 1.0, ratio(direct, "batch 8"), _times, True),
        ("int4 / our int8, batch 1, 0.5B", 1.4, beside("guiju int4", "guiju int8", "batch 1", "qwen2"), _times, True),
        ("prefill 512, int8 / transformers fp32", 2.3, get("guiju int8", "prefill"), _times, True),
        ("time to first token, int8 / transformers", 0.3, None if not ttft else 1 / ttft, _times, False),
    ]
    found = [_row(*row) for row in rows]
    return [*found, *_quality_goals(results), *_lookup_goals(results), *_client_goals(results), *_memory_goals(by)]


def _has(one: dict[str, Any] | None) -> bool:
    return one is not None and "cases" in one


def _row(name: str, wanted: float, got: float | None, show: Callable[[float], str], at_least: bool) -> Found:
    sign = "at least" if at_least else "at most"
    if got is None:
        return name, f"{sign} {show(wanted)}", "not measured", "-"
    met = got >= wanted if at_least else got <= wanted
    return name, f"{sign} {show(wanted)}", show(got), "yes" if met else "**no**"


def _times(value: float) -> str:
    return f"{value:.2f} x"


def _percent(value: float) -> str:
    return f"{value:.1%}"


def _quality_goals(results: dict[str, Any]) -> list[Found]:
    rows = []
    for model, figures in results.get("quality", {}).items():
        for runner in ("openvino", "torch"):
            exact = figures.get(f"{runner} float32")
            for precision, most in (("int8", 0.01), ("int4", 0.04 if model != "stories260K" else 1e9)):
                value = figures.get(f"{runner} {precision}")
                if not isinstance(value, float) or not isinstance(exact, float):
                    continue
                name = f"{precision} against fp32, {model}, {runner}: bits per byte worse by"
                if most > 1:
                    rows.append((name, "the figure", _percent(value / exact - 1), "-"))
                else:
                    rows.append(_row(name, most, value / exact - 1, _percent, False))
    return rows


def _lookup_goals(results: dict[str, Any]) -> list[Found]:
    rows = []
    for name, rounds in results.get("lookup", {}).items():
        got = statistics.median(row["ratio"] for row in rounds)
        unchanged = all(row["unchanged"] for row in rounds)
        accepted = rounds[0]["acceptance"]
        label = f"prompt lookup, {name}: {accepted:.0%} accepted, ids {'unchanged' if unchanged else 'CHANGED'}"
        row = _row(label, 1.5, got, _times, True)
        rows.append(row if unchanged else (*row[:3], "**no**"))
    return rows


def _client_goals(results: dict[str, Any]) -> list[Found]:
    rounds = results.get("clients", {}).get("rounds")
    if not rounds:
        return []
    got = statistics.median(row["clients"] / row["offline"] for row in rounds)
    waits = [row["first_token_s"] for row in rounds]
    told = ", ".join(f"{name} {1000 * statistics.median(w[name] for w in waits):.0f} ms" for name in waits[0])
    speeds = statistics.median(row["clients"] for row in rounds)
    return [_row(f"16 clients / offline batch ({speeds:.0f} tokens/s; first token {told})", 0.9, got, _times, True)]


def _memory_goals(by: dict[tuple[str, str], dict[str, Any]]) -> list[Found]:
    rows = []
    for (shape, name), one in by.items():
        if not name.startswith("guiju") or not _has(one):
            continue
        share = {"int8": 0.25, "int4": 0.14}.get(name.split()[-1], 1.0)
        cache = 8 * 160 * 12 * 2 * 768 * 4 / 2**20 if shape == "gpt2" else 160 * 24 * 2 * 128 * 4 / 2**20
        allowed = 1.3 * (BYTES[shape] * share / 2**20 + cache) + 150
        grown = one["memory"]["peak"] - one["memory"]["idle"]
        settled = one["memory"]["now"] - one["memory"]["idle"]
        what = f"memory, {shape}, {name}: growth at its peak, MB (now {settled:.0f})"
        rows.append(_row(what, allowed, grown, lambda value: f"{value:.0f}", False))
        what = f"memory, {shape}, {name}: peak / transformers' peak"
        rows.append(_row(what, 1.0, one["memory"]["peak"] / one["base_memory"]["peak"], _times, False))
    return rows
