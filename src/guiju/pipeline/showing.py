"""The stages that show what came out: continuations, findings, report."""

from __future__ import annotations

from typing import Any

from guiju.audit import audit_run, write_findings, write_report
from guiju.evidence import Kind
from guiju.generation import generate
from guiju.model import load_model
from guiju.pipeline.orchestration import StageContext, StageResult
from guiju.settings import to_mapping
from guiju.statistics import Verdict
from guiju.storage import write_json
from guiju.tokens import Tokenizer

CONTINUATIONS = "tasks/generation.json"


def make_continuations(context: StageContext) -> StageResult:
    """Each of the recipe's prompts, continued; every sequence with its ids goes on record."""
    settings = context.recipe.generation
    model = load_model(context.path("model"), kind="decoder")
    tokenizer = Tokenizer.load(context.path("tokenizer"))
    kept: list[dict[str, Any]] = []
    for number, prompt in enumerate(settings.prompts):
        context.reporter.progress(number, len(settings.prompts), f"continuing {prompt.text!r}")
        # A record must come out again bit for bit, whatever is computed beside it.
        found = generate(model, tokenizer, [prompt.text], settings.sampling, record=True)
        [sequences] = found
        body = {
            "prompt": prompt.text,
            "language": prompt.language,
            "settings": to_mapping(settings.sampling),
            "runner": found.runner,
            "precision": found.precision,
            "sequences": [
                {"text": s.text, "ids": list(s.ids), "finish_reason": s.finish_reason, "seed": s.seed}
                for s in sequences
            ],
        }
        context.record(Kind.GENERATION, body, f"{len(sequences)} continuations of {prompt.text!r}")
        kept.append(body)
    context.path("tasks").mkdir(exist_ok=True)
    write_json(context.path(CONTINUATIONS), kept)
    count = sum(len(body["sequences"]) for body in kept)
    first = kept[0]["sequences"][0]["text"].replace("\n", " ")[:48] if kept else ""
    return StageResult(
        {"prompts": len(kept), "sequences": count},
        f"{count} continuations of {len(kept)} prompts: {kept[0]['prompt']}{first}..."
        if kept
        else "no prompt was given",
    )


def make_findings(context: StageContext) -> StageResult:
    """Every clause of the standard gets its verdict, from what the records say."""
    settings = context.recipe.audit
    findings = audit_run(context.run, settings.standard, as_of=settings.as_of)
    write_findings(context.run, findings)
    counts = {verdict.value: sum(finding.verdict == verdict for finding in findings) for verdict in Verdict}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return StageResult({"standard": settings.standard, "verdicts": counts}, f"{settings.standard}: {told}")


def make_report(context: StageContext) -> StageResult:
    """One page that a person can read, print and check."""
    page = write_report(context.run)
    return StageResult(
        {"bytes": page.stat().st_size}, f"{page.name}, {page.stat().st_size / 1024:,.0f} KiB, opens offline"
    )
