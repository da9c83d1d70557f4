"""A run as the pipeline leaves it, made with the real evidence room: records, files, and a ledger over both."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guiju.evidence import Kind, Record, Run, environment

STEPS = 900

SOURCES: tuple[tuple[str, str, str, str, str, tuple[int, int, int]], ...] = (
    ("tinystories", "CDLA-Sharing-1.0", "en", "foreign", "TinyStories, arXiv:2305.07759", (21_314, 402, 1_733)),
    ("books", "LicenseRef-public-domain", "en", "foreign", "mlschmitt/classic-books-markdown", (88, 121, 5)),
    ("poems", "MIT", "zh", "domestic", "chinese-poetry/chinese-poetry", (1_871, 41, 97)),
    ("classics", "MIT", "zh", "domestic", "chinese-poetry/chinese-poetry", (34, 0, 0)),
    ("abstracts", "Apache-2.0", "zh", "domestic", "ydli-ai/CSL", (2_713, 268, 19)),
)


def measurement(
    measure: str,
    *,
    count: int | None = None,
    n: int | None = None,
    value: float | None = None,
    unit: str = "share",
    sampled: bool = False,
    what: str = "",
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    if count is not None and n:
        value = round(count / n, 9)
    return {
        "measure": measure,
        "what": what or measure.replace("_", " "),
        "count": count,
        "n": n,
        "value": value,
        "unit": unit,
        "sampled": sampled,
        "details": dict(details or {}),
    }


CORPUS_MEASURES = (
    measurement("license_coverage", count=26_820, n=26_820, what="kept documents whose source has a recorded licence"),
    measurement("source_registry_completeness", count=26_820, n=26_820),
    measurement(
        "source_diversity_count",
        value=2,
        unit="sources",
        what="sources with kept documents, for the language and kind of source that has fewest",
        details={"sources": {"en, open-source": ["books", "tinystories"], "zh, open-source": ["abstracts", "poems"]}},
    ),
    measurement("domestic_foreign_mix_report", value=0.3124, what="share of kept characters from domestic sources"),
    measurement("pii_hits_per_1k_docs", value=0.0, unit="hits per 1,000 documents"),
    measurement("sensitive_pii_hits", value=0, unit="hits"),
    measurement("dedup_ratio", count=1_204, n=28_674),
    measurement(
        "corpus_filter_coverage",
        count=26_820,
        n=26_820,
        details={"filters": ["length", "language", "quality"], "absent": ["keyword", "classifier"]},
    ),
    measurement(
        "corpus_technical_sample_pass_rate",
        count=2_679,
        n=2_682,
        sampled=True,
        details={"filters": ["length", "quality"], "absent": ["keyword", "classifier"], "population": 26_820},
    ),
    measurement("user_data_consent_coverage", count=0, n=0),
    measurement("robots_optout_respected", count=0, n=0, details={"addresses_examined": False}),
    measurement("contamination_rate", count=0, n=1_354),
)


@contextmanager
def open_run(folder: Path, name: str = "quickstart") -> Iterator[Run]:
    folder.mkdir(parents=True, exist_ok=True)
    run = Run.open(folder) if (folder / "ledger").exists() else Run.create(folder, name=name)
    try:
        yield run
    finally:
        run.close()


def put(run: Run, path: str, content: str | bytes) -> dict[str, str | None]:
    """A file of the run, and the outputs that name it."""
    data = content.encode() if isinstance(content, str) else content
    place = run.path / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return {path: hashlib.sha256(data).hexdigest()}


@contextmanager
def stage(run: Run, name: str, key: str = "k") -> Iterator[dict[str, Any]]:
    """A stage that begins and ends; what the caller puts into the yielded dict is its summary and its outputs."""
    body = {"stage": name, "key": key, "settings": {}, "inputs": {}, "environment": environment()}
    run.append(Kind.STAGE_STARTED, body, reason="not done yet")
    result: dict[str, Any] = {"summary": {}, "outputs": {}, "seconds": 1.5}
    yield result
    run.append(
        Kind.STAGE_FINISHED,
        {"stage": name, "key": key, "seconds": result["seconds"], "summary": result["summary"]},
        reason=f"{name} is done",
        outputs=result["outputs"],
    )


def record(run: Run, kind: Kind, stage_name: str, body: Mapping[str, Any], reason: str = "as measured") -> int:
    return run.append(kind, {"stage": stage_name, **body}, reason=reason)


def records(run: Run, stage_name: str, bodies: list[tuple[Kind, Mapping[str, Any]]]) -> None:
    """Several at once, under one signature."""
    run.append_many(
        [Record(kind=kind, body={"stage": stage_name, **body}, reason="as measured") for kind, body in bodies]
    )


def build_corpus(run: Run, measures: tuple[dict[str, Any], ...] = CORPUS_MEASURES, key: str = "k") -> None:
    with stage(run, "corpus", key) as result:
        by_source = {}
        found: list[tuple[Kind, Mapping[str, Any]]] = []
        for name, licence, language, region, origin, (kept, changed, dropped) in SOURCES:
            counts = {"kept": kept, "changed": changed, "dropped": dropped, "documents": kept + changed + dropped}
            by_source[name] = counts
            body = {
                "name": name,
                "licence": licence,
                "origin": origin,
                "language": [language],
                "region": region,
                "kind": "open-source",
                "documents": counts,
            }
            found.append((Kind.SOURCE_REGISTERED, body))
        sample = {
            "population": 26_852,
            "seed": 20251101,
            "people": {"n": 4000, "ids_sha256": "0" * 64},
            "rules": {"n": 2682, "ids_sha256": "1" * 64},
        }
        records(run, "corpus", [*found, (Kind.SAMPLE_DRAWN, sample), *((Kind.MEASUREMENT, body) for body in measures)])
        totals = {key: sum(counts[key] for counts in by_source.values()) for key in ("kept", "changed", "dropped")}
        result["summary"] = {
            "documents": totals | {"read": sum(totals.values())},
            "by_source": by_source,
            "dropped_by": {"near-duplicate": 1_118, "duplicate": 86, "too-short": 511, "language": 120, "symbols": 19},
            "changed_by": {"whitespace": 514, "boilerplate": 121, "personal-data": 62, "mojibake": 14, "nfc": 121},
        }
        result["seconds"] = 9.4
        result["outputs"] = {
            **put(run, "corpus/train.jsonl", '{"id": "poems-1", "text": "床前明月光"}\n'),
            **put(run, "corpus/decisions.jsonl", "{}\n"),
            **put(run, "corpus/inspection.jsonl", "{}\n"),
        }


def pretrain(run: Run) -> None:
    forecast = {
        "flops": 4.31e14,
        "seconds": 61.0,
        "memory_bytes": 912_000_000,
        "energy_kwh": 0.00034,
        "co2_kg": 0.00018,
    }
    with stage(run, "plan") as result:
        record(run, Kind.PLAN, "plan", {"forecast": forecast})
        result["outputs"] = put(run, "plan.json", json.dumps(forecast))
    with stage(run, "pretrain") as result:
        lines = []
        for step in range(1, STEPS + 1):
            noise = 0.22 * math.sin(step * 12.9898) * math.sin(step * 78.233)
            loss = 2.62 + 5.0 * math.exp(-step / 95) + 0.5 * math.exp(-step / 420) + noise
            lines.append(json.dumps({"step": step, "loss": loss, "learning_rate": 4e-3, "skipped": False}))
            if step % 150 == 0:
                lines.append(json.dumps({"step": step, "bits_per_byte": 1.46 + 1.9 * math.exp(-step / 160)}))
        outputs = put(run, "checkpoints/train_log.jsonl", "\n".join(lines) + "\n")
        record(run, Kind.TRAINING_EVENT, "pretrain", {"event": "started", "dtype": "float32", "compiled": False})
        record(run, Kind.TRAINING_EVENT, "pretrain", {"event": "resumed", "step": 300, "checkpoint": "step-300"})
        rows = [
            ("time", "s", 61.0, 66.4),
            ("memory", "bytes", 912_000_000, 871_000_000),
            ("flops", "FLOP", 4.31e14, 4.31e14),
            ("energy", "kWh", 0.00034, 0.00037),
            ("co2", "kg", 0.00018, 0.0002),
        ]
        table = [
            {"what": what, "unit": unit, "forecast": before, "actual": after, "ratio": after / before}
            for what, unit, before, after in rows
        ]
        record(
            run,
            Kind.COST,
            "pretrain",
            {"rows": table, "meter": {"energy_method": "estimate", "assumptions": ["a busy core draws 10 W"]}},
        )
        measured = (
            measurement("param_count", value=1_049_088, unit="parameters"),
            measurement("training_flops", value=4.31e14, unit="FLOP"),
            measurement("energy_kwh", value=0.00037, unit="kWh"),
            measurement("co2e_kg", value=0.0002, unit="kg"),
        )
        records(run, "pretrain", [(Kind.MEASUREMENT, body) for body in measured])
        result["summary"] = {"parameters": 1_049_088, "steps": STEPS, "tokens": 1_843_200, "bits_per_byte": 1.466}
        result["seconds"] = 71.2
        result["outputs"] = {
            **outputs,
            **put(run, "model/config.json", "{}"),
            **put(run, "model/model.safetensors", b"x"),
        }
    with stage(run, "evaluate") as result:
        bits = {"model": 1.469, "untrained": 4.312, "unigram": 2.871, "bigram": 2.008, "xz": 2.117, "bytes": 311_204}
        body = measurement("bits_per_byte", value=1.469, unit="bits/byte", details=bits)
        record(run, Kind.MEASUREMENT, "evaluate", body)
        result["summary"] = bits
        result["outputs"] = put(run, "tasks/bits-per-byte.json", json.dumps(bits))


def write_continuations(run: Run, texts: Mapping[str, list[str]] | None = None) -> None:
    given = texts or {
        "Once upon a time": [
            ", there was a little girl named Lily. She loved to play outside in the sun. One day, she saw a big tree",
            ", there was a boy who lived in the wood. He said, “The rabbit is not my friend,” and ran away to the",
        ],
        "春": ["風吹花落滿江城，明月照人千里行。\n何處故園歸未得，一聲羌笛萬山青。"],
    }
    with stage(run, "generate") as result:
        for prompt, sequences in given.items():
            body = {
                "prompt": prompt,
                "language": "en" if prompt.isascii() else "zh",
                "settings": {"temperature": 0.8, "top_p": 0.95, "max_new_tokens": 50, "stop": []},
                "sequences": [
                    {"text": text, "ids": [1, 2, 3], "finish_reason": "length", "seed": number}
                    for number, text in enumerate(sequences)
                ],
            }
            record(run, Kind.GENERATION, "generate", body)
        result["outputs"] = put(run, "tasks/generation.json", "[]")


def build_all(run: Run, measures: tuple[dict[str, Any], ...] = CORPUS_MEASURES) -> None:
    """Everything before the audit."""
    build_corpus(run, measures)
    pretrain(run)
    write_continuations(run)
