"""The stages that show what came out: continuations, findings, report."""

from __future__ import annotations

from typing import Any

from guiju.audit import audit_run, write_findings, write_report
from guiju.evidence import Kind
from guiju.model import load_model
from guiju.pipeline.filling import FOR_OBJECTIVE, respond
from guiju.pipeline.orchestration import StageContext, StageResult
from guiju.pipeline.recipe import Recipe
from guiju.settings import to_mapping
from guiju.statistics import Verdict
from guiju.storage import write_json
from guiju.tokens import Tokenizer

CONTINUATIONS = "tasks/generation.json"


def make_continuations(context: StageContext[Recipe]) -> StageResult:
    """Each of the recipe's prompts, continued, filled in or answered; every sequence with its ids goes on record."""
    settings, objective = context.recipe.generation, context.recipe.objective
    model = load_model(context.path("model"))
    tokenizer = Tokenizer.load(context.path("tokenizer"))
    kept: list[dict[str, Any]] = []
    for number, prompt in enumerate(settings.prompts):
        task = FOR_OBJECTIVE[objective][0]
        context.reporter.progress(number, len(settings.prompts), f"{task}: {prompt.text!r}")
        spoken = respond(objective, model, tokenizer, prompt.text, settings.sampling)
        body = {
            "prompt": prompt.text,
            "language": prompt.language,
            "task": task,
            "settings": to_mapping(settings.sampling),
            **spoken.facts,
            "sequences": spoken.sequences,
        }
        context.record(Kind.GENERATION, body, f"{task} {prompt.text!r}: {len(spoken.sequences)} sequences")
        kept.append(body)
    context.path("tasks").mkdir(exist_ok=True)
    write_json(context.path(CONTINUATIONS), kept)
    count = sum(len(body["sequences"]) for body in kept)
    return StageResult({"prompts": len(kept), "sequences": count}, _told(kept, count))


def _told(kept: list[dict[str, Any]], count: int) -> str:
    if not kept:
        return "no prompt was given"
    body = kept[0]
    first = body["sequences"][0]["text"].replace("\n", " ")
    if body["task"] == "continue":
        return f"{count} continuations of {len(kept)} prompts: {body['prompt']}{first[:48]}..."
    shown = first[:96] + ("..." if len(first) > 96 else "")
    return f"{count} texts for {len(kept)} prompts: {body['prompt']} -> {shown}"


def make_findings(context: StageContext[Recipe]) -> StageResult:
    """Every clause of the standard gets its verdict, from what the records say."""
    settings = context.recipe.audit
    findings = audit_run(context.run, settings.standard, as_of=settings.as_of)
    write_findings(context.run, findings)
    counts = {verdict.value: sum(finding.verdict == verdict for finding in findings) for verdict in Verdict}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return StageResult({"standard": settings.standard, "verdicts": counts}, f"{settings.standard}: {told}")


def make_report(context: StageContext[Recipe]) -> StageResult:
    """One page that a person can read, print and check."""
    page = write_report(context.run)
    return StageResult(
        {"bytes": page.stat().st_size}, f"{page.name}, {page.stat().st_size / 1024:,.0f} KiB, opens offline"
    )
