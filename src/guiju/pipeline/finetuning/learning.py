"""The stages in which a model learns, and is compared with what it was before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from guiju import device as devices
from guiju.compute import Meter, Reading
from guiju.evidence import Kind
from guiju.model import AnyModel, load_model, merge_lora, save_model, save_peft
from guiju.pipeline.finetuning.base import read_base, starting_model
from guiju.pipeline.finetuning.examples import open_examples, read_labels
from guiju.pipeline.finetuning.recipe import FinetuneRecipe
from guiju.pipeline.orchestration import StageContext, StageResult
from guiju.pipeline.recording import record_measure, record_training_event
from guiju.storage import write_json
from guiju.tokens import (
    IGNORED,
    Batch,
    BucketedBatches,
    PackedBatches,
    PreferenceExamples,
    TokenData,
    Tokenizer,
    read_rows,
    row_count,
)
from guiju.training import (
    Batches,
    Objective,
    TrainingResult,
    evaluation_batches,
    make_objective,
    reference_log_probs,
    row_log_probs,
    train,
)

LOSS = "held_out_loss"
UNITS = {
    "answers": "nats a learned token",
    "next-token": "nats a token",
    "pairs": "nats a target token",
    "classes": "nats a text",
    "extractive": "nats an end of an answer",
    "preferences": "nats a pair",
}
WATCHED_ROWS = 128
"""Held-out rows looked at while training; the evaluate stage looks at all of them."""
FILE = "tasks/held-out.json"


@dataclass(frozen=True)
class Lesson:
    """What is learned from, and what is held out."""

    batches: Batches
    objective: Objective
    held_out: list[Batch]
    """Empty where nothing is."""
    watched: list[Batch]
    """A part of them."""


def finetune(context: StageContext[FinetuneRecipe]) -> StageResult:
    """The recipe's objective on the examples, from the newest whole checkpoint where there is one."""
    recipe = context.recipe
    tokenizer = Tokenizer.load(context.path("tokenizer"))
    model, adapter = starting_model(recipe, tokenizer, read_labels(context.run.path))
    model.to(devices.pick_device(recipe.training.device))
    moving = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    lesson = open_lesson(context, model, tokenizer)
    with Meter() as meter:
        result = train(
            model,
            lesson.batches,
            recipe.training,
            folder=context.path("checkpoints"),
            evaluate=(lambda tuned: assess(tuned, lesson.objective, lesson.watched).loss) if lesson.watched else None,
            measure=LOSS,
            on_event=lambda name, facts: record_training_event(
                context, name, facts, LOSS, f"{UNITS[recipe.objective]}, held out"
            ),
            report=context.reporter.progress,
            energy_kwh=meter.energy_kwh,
        )
    if adapter is not None:
        save_peft(model, context.path("adapter"), adapter)
        merge_lora(model)
    save_model(model, context.path("model"), tokenizer)
    _record_cost(context, result, meter.result)
    summary = {
        "objective": recipe.objective,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "trainable": moving,
        "steps": result.steps,
        "targets": result.tokens,
        "skipped": result.skipped,
        "final_loss": result.final_loss,
        "tokens_per_second": round(result.tokens_per_second, 1),
        "dtype": result.dtype,
        "bit_exact": result.bit_exact,
        "notices": list(result.notices),
    }
    beside = " in an adapter" if adapter is not None else ""
    return StageResult(
        summary,
        f"{moving:,} weights{beside} learned from {result.tokens:,} targets, {result.steps} steps",
    )


def open_lesson(context: StageContext[FinetuneRecipe], model: AnyModel, tokenizer: Tokenizer) -> Lesson:
    """What a run's model learns from. `model` is as it was before it learns: preferences are measured against it."""
    recipe, folder = context.recipe, context.run.path
    length, settings = read_base(folder).context, recipe.training
    learned, held = (open_examples(recipe, folder, side, tokenizer, length) for side in ("train", "validation"))
    assert learned is not None, "the examples stage left some"
    batches: Batches
    if isinstance(learned, TokenData):
        batches = PackedBatches(learned, context=length, batch=settings.batch, seed=settings.seed)
        every = _packed(held, length, settings.batch) if isinstance(held, TokenData) else []
        return Lesson(
            batches, make_objective(settings, model.config), every, every[: -(-WATCHED_ROWS // settings.batch)]
        )
    assert not isinstance(held, TokenData), "both sides hold the same"
    if isinstance(learned, PreferenceExamples):
        digest = read_base(folder).digest
        learned = _with_reference(context, model, learned, digest)
        held = _with_reference(context, model, held, digest) if isinstance(held, PreferenceExamples) else held
    batches = BucketedBatches(learned, batch=settings.batch, seed=settings.seed)
    every = [] if held is None else evaluation_batches(held, settings.batch)
    watched = [] if held is None else evaluation_batches(held, settings.batch, WATCHED_ROWS)
    return Lesson(batches, make_objective(settings, model.config), every, watched)


def _with_reference(
    context: StageContext[FinetuneRecipe], model: AnyModel, examples: PreferenceExamples, digest: str
) -> PreferenceExamples:
    def report(done: int, total: int) -> None:
        context.reporter.progress(done, total, "what the base holds of both answers")

    logs = reference_log_probs(model, examples, batch=context.recipe.training.batch, report=report)
    return examples.with_reference(logs, digest)


def _packed(data: TokenData, length: int, batch: int) -> list[Batch]:
    rows = list(range(row_count(data, length)))
    return [read_rows(data, rows[start : start + batch], length) for start in range(0, len(rows), batch)]


@dataclass(frozen=True)
class Assessed:
    """How well a model does on held-out examples."""

    loss: float
    """Mean nats of a target; see UNITS."""
    right: float
    """Of them, those that the model holds for likeliest; of pairs, those whose preferred answer gained more, and half
    of those where both gained alike."""
    targets: int

    @property
    def accuracy(self) -> float:
        return self.right / self.targets


@torch.no_grad()
def assess(
    model: Any, objective: Objective, batches: Sequence[Batch], report: Callable[[int, int], None] | None = None
) -> Assessed:
    """How well a model does on batches; `report` is called with (batches done, batches in all)."""
    device = model.embedding.weight.device
    total, weight, right, targets = 0.0, 0.0, 0.0, 0
    was_training = model.training
    model.eval()
    try:
        for number, batch in enumerate(batches):
            if report is not None:
                report(number, len(batches))
            here = batch.to(device).without_idle_masks()
            total += float(objective.loss(model, model.hidden, here))
            weight += objective.weigh(here)
            hits, of = _hits(model, objective, here)
            right, targets = right + hits, targets + of
    finally:
        model.train(was_training)
    return Assessed(total / weight, right, targets)


def _hits(model: Any, objective: Any, batch: Batch) -> tuple[float, int]:
    """How many targets a model would say by itself, and how many there are."""
    if batch.reference is not None:
        gain = row_log_probs(model, model.hidden, batch) - batch.reference
        more = gain[0::2] - gain[1::2]
        return float((more > 0).sum() + 0.5 * (more == 0).sum()), len(more)
    if hasattr(objective, "states"):
        states, wanted = objective.states(model, model.hidden, batch)
        places = wanted.flatten() != IGNORED
        chosen = [model.head(part).argmax(dim=-1) for part in states.flatten(0, -2)[places].split(1024)]
        return int((torch.cat(chosen) == wanted.flatten()[places]).sum()), int(places.sum())
    segments = {} if batch.segments is None else {"segments": batch.segments}
    vectors = model.hidden(batch.ids, padding=batch.padding, **segments)
    if batch.targets.ndim == 1:
        found = model.head(model.pooled(vectors, batch.padding)).argmax(dim=-1)
        return int((found == batch.targets).sum()), len(batch.targets)
    logits = model.head(vectors).float()  # (B, T, 2)
    if batch.padding is not None:
        logits = logits.masked_fill(~batch.padding[:, :, None], -torch.inf)
    found = logits.argmax(dim=1)
    return int((found == batch.targets).all(dim=1).sum()), len(batch.targets)


def evaluate(context: StageContext[FinetuneRecipe]) -> StageResult:
    """The model on all held-out examples, beside what it was before it learned."""
    recipe = context.recipe
    tokenizer = Tokenizer.load(context.path("tokenizer"))
    before, _ = starting_model(recipe, tokenizer, read_labels(context.run.path))
    before.to(devices.pick_device(recipe.training.device))
    lesson = open_lesson(context, before, tokenizer)
    context.path("tasks").mkdir(exist_ok=True)
    if not lesson.held_out:
        write_json(context.path(FILE), {"held_out": 0})
        return StageResult({"held_out": 0}, "nothing is held out, so nothing can be said")
    after = load_model(context.path("model"), device=before.embedding.weight.device)

    def report(done: int, total: int) -> None:
        context.reporter.progress(done, total, "held-out examples")

    found = {
        name: assess(model, lesson.objective, lesson.held_out, report)
        for name, model in (("before", before), ("after", after))
    }
    details: dict[str, Any] = {
        "unit": UNITS[recipe.objective],
        "targets": found["after"].targets,
        "loss": {name: one.loss for name, one in found.items()},
        "accuracy": {name: one.accuracy for name, one in found.items()},
    }
    write_json(context.path(FILE), details)
    record_measure(context, LOSS, found["after"].loss, "loss on held-out examples", UNITS[recipe.objective], details)
    if found["after"].loss >= found["before"].loss:
        context.reporter.note(
            f"held-out examples cost {found['after'].loss:.3f} {UNITS[recipe.objective]}, and "
            f"{found['before'].loss:.3f} before: the model did not get better at what it did not see. Lower "
            "training.learning_rate or training.steps, or bring more data"
        )
    said = f"{found['after'].loss:.3f} {UNITS[recipe.objective]} held out ({found['before'].loss:.3f} before)"
    return StageResult(details, f"{said}, {found['after'].accuracy:.1%} right ({found['before'].accuracy:.1%})")


def _record_cost(context: StageContext[FinetuneRecipe], result: TrainingResult, reading: Reading) -> None:
    seconds = sum(json.loads(line)["seconds"] for line in result.timing.read_text(encoding="utf-8").splitlines())
    rows = [
        _row("time", "s", seconds),
        _row("memory", "bytes", reading.peak_memory_bytes),
        _row("energy", "kWh", reading.energy_kwh),
    ]
    context.record(Kind.COST, {"rows": rows, "meter": reading.to_json()}, "what the fine-tuning took")
    record_measure(context, "energy_kwh", reading.energy_kwh, "energy of fine-tuning", "kWh", reading.to_json())


def _row(what: str, unit: str, actual: float) -> Mapping[str, Any]:
    """Nothing was forecast."""
    return {"what": what, "unit": unit, "forecast": None, "actual": actual, "ratio": None}
