"""The stages that make a model and say how good it is: plan, pretrain, evaluate."""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch

from guiju import device as devices
from guiju.compute import (
    Actual,
    Calibration,
    Meter,
    Plan,
    Reading,
    forecast_against_actual,
    parameters,
    plan_training,
)
from guiju.evidence import Kind
from guiju.model import AnyModel, ModelConfig, build_model, load_model, save_model
from guiju.pipeline.lessons import Lesson, RandomLesson, Work, flops_of, model_config, open_lesson, work_of
from guiju.pipeline.orchestration import StageContext, StageResult
from guiju.pipeline.recipe import Recipe
from guiju.pipeline.recording import record_measure, record_training_event
from guiju.storage import write_json
from guiju.tokens import Tokenizer
from guiju.training import TrainingInterrupted, TrainingResult, train

CALIBRATION_STEPS = 5


def make_plan(context: StageContext[Recipe]) -> StageResult:
    """What pretraining will cost, from a few timed steps of the real loop on the real tokens."""
    plan = calibrated_plan(context.recipe, context.run.path)
    context.record(Kind.PLAN, {"forecast": plan.to_json()}, "forecast of pretraining, before it begins")
    write_json(context.path("plan.json"), plan.to_json())
    return StageResult(
        {"forecast": plan.to_json()},
        f"{plan.parameters:,} parameters, {plan.flops:.2g} FLOPs: about {plan.seconds:.0f} s, "
        f"{plan.memory_bytes / 1e6:,.0f} MB, {plan.energy_kwh * 1000:.2g} Wh",
    )


def calibrated_plan(recipe: Recipe, run: Path) -> Plan:
    """The forecast of a recipe's pretraining, timed on this machine with the run's own tokens."""
    config = model_config(recipe, Tokenizer.load(run / "tokenizer"))
    return _timed_plan(recipe, config, open_lesson(recipe, run))


def plan_without_data(recipe: Recipe) -> Plan:
    """The same before there are tokens: timed with random ones of the vocabulary that the recipe asks for."""
    config = recipe.model.config(recipe.tokenizer.vocab_size)
    return _timed_plan(recipe, config, RandomLesson(recipe, config))


def _timed_plan(recipe: Recipe, config: ModelConfig, lesson: Lesson) -> Plan:
    training = recipe.training
    settings = replace(training, steps=CALIBRATION_STEPS, warmup_steps=1, evaluate_every=0, checkpoint_every=0, keep=1)
    work = _work(recipe, config, lesson)
    with tempfile.TemporaryDirectory(prefix="guiju-plan-") as place:
        try:
            result = train(new_model(recipe, config), lesson.batches, settings, folder=Path(place))
        except TrainingInterrupted as stop:
            told = "stopped while the first steps were timed; run the same command again"
            raise TrainingInterrupted(told, step=0, checkpoint=stop.checkpoint) from None
        times = _step_seconds(result)
    device = devices.pick_device(training.device)
    return plan_training(
        config,
        steps=training.steps,
        batch=work.largest.rows,
        length=work.largest.width,
        source=work.largest.source,
        predicted=None if config.kind == "decoder" else work.largest.targets,
        accumulate=training.accumulate,
        flops=work.executed,
        tokens=work.tokens,
        calibration=_calibration(recipe, config, lesson, times, work),
        peak_flops=devices.matrix_peak_flops(device, getattr(torch, result.dtype)),
        dtype=result.dtype,
        activation_checkpointing=training.activation_checkpointing,
        cores=devices.threads(),
        watts_per_core=recipe.cost.watts_per_core,
        grid=recipe.cost.grid,
        memory_available=devices.memory_available(device),
        price_per_hour=recipe.cost.price_per_hour,
        currency=recipe.cost.currency,
    )


def _calibration(recipe: Recipe, config: ModelConfig, lesson: Lesson, times: list[float], work: Work) -> Calibration:
    """What a step takes, from those that were timed. Where steps differ in size, each is weighed by its operations."""
    accumulate = recipe.training.accumulate
    sizes = lesson.sizes(len(times) * accumulate)
    mean = work.executed / recipe.training.steps
    if len(sizes) == len(times) * accumulate:
        each = [flops_of(recipe, config, size) for size in sizes]
        flops = [sum(each[start : start + accumulate]) for start in range(0, len(each), accumulate)]
        times = [time * mean / own for time, own in zip(times, flops, strict=True)]
    rest = times[1:]
    return Calibration(
        first_s=times[0],
        step_s=statistics.median(rest),
        spread=(max(rest) - min(rest)) / 2 / statistics.median(rest),
        steps=len(rest),
    )


def _work(recipe: Recipe, config: ModelConfig, lesson: Lesson) -> Work:
    """What all of pretraining comes to."""
    batches = recipe.training.steps * recipe.training.accumulate
    return work_of(recipe, config, lesson.sizes(batches), batches)


def _step_seconds(result: TrainingResult) -> list[float]:
    """Time of each step, those of earlier processes included."""
    return [json.loads(line)["seconds"] for line in result.timing.read_text(encoding="utf-8").splitlines()]


def pretrain(context: StageContext[Recipe]) -> StageResult:
    """The recipe's objective on the training tokens, from the newest whole checkpoint where there is one."""
    recipe = context.recipe
    tokenizer = Tokenizer.load(context.path("tokenizer"))
    config = model_config(recipe, tokenizer)
    lesson = open_lesson(recipe, context.run.path)
    for note in lesson.notes:
        context.reporter.note(note)
    model = new_model(recipe, config)
    work = _work(recipe, config, lesson)
    with Meter(watts_per_core=recipe.cost.watts_per_core, grid=recipe.cost.grid) as meter:
        result = train(
            model,
            lesson.batches,
            recipe.training,
            folder=context.path("checkpoints"),
            evaluate=lesson.watch,
            on_event=lambda name, facts: record_training_event(context, name, facts),
            report=context.reporter.progress,
            flops_per_token=work.flops / work.targets,
            energy_kwh=meter.energy_kwh,
        )
    save_model(model, context.path("model"), tokenizer)
    _record_cost(context, config, result, meter.result, work)
    bits = result.evaluations[-1][1]
    summary = {
        "objective": recipe.objective,
        "parameters": parameters(config).total,
        "steps": result.steps,
        "tokens": result.tokens,
        "skipped": result.skipped,
        "tokens_per_second": round(result.tokens_per_second, 1),
        "peak_share": result.peak_share,
        "final_loss": result.final_loss,
        "bits_per_byte": bits,
        "dtype": result.dtype,
        "compiled": result.compiled,
        "bit_exact": result.bit_exact,
        "notices": list(result.notices),
    }
    share = "" if result.peak_share is None else f", {result.peak_share:.0%} of the machine's peak"
    learned = "tokens" if recipe.objective == "next-token" else "targets"
    return StageResult(
        summary,
        f"{parameters(config).total:,} parameters, {result.tokens:,} {learned}, {bits:.3f} bits per byte, "
        f"{result.tokens_per_second:,.0f} {learned}/s{share}",
    )


def evaluate(context: StageContext[Recipe]) -> StageResult:
    """The model on all held-out text, beside what it must beat."""
    recipe = context.recipe
    model = load_model(context.path("model"))
    lesson = open_lesson(recipe, context.run.path)
    found = lesson.assess(model, new_model(recipe, model.config))
    record_measure(context, found.measure, found.value, found.what, "bits/byte", found.details)
    for note in found.notes:
        context.reporter.note(note)
    context.path("tasks").mkdir(exist_ok=True)
    write_json(context.path(found.file), found.details)
    return StageResult({"measure": found.measure, **found.details}, found.line)


def new_model(recipe: Recipe, config: ModelConfig) -> AnyModel:
    """The model before it learned anything; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        return build_model(config)


def _record_cost(
    context: StageContext[Recipe], config: ModelConfig, result: TrainingResult, reading: Reading, work: Work
) -> None:
    """Forecast beside what was measured, and the measures that standards ask for."""
    said = json.loads(context.path("plan.json").read_text(encoding="utf-8"))
    said.pop("estimate")
    forecast = Plan(**{**said, "assumptions": tuple(said["assumptions"])})
    seconds = sum(_step_seconds(result))
    price = context.recipe.cost.price_per_hour
    actual = Actual(
        seconds=seconds,
        flops=work.flops,
        memory_bytes=reading.peak_memory_bytes,
        energy_kwh=reading.energy_kwh,
        co2_kg=reading.co2_kg,
        cost=None if price is None else seconds / 3600 * price,
    )
    rows = [asdict(row) for row in forecast_against_actual(forecast, actual)]
    meter = reading.to_json()
    context.record(Kind.COST, {"rows": rows, "meter": meter}, "forecast of pretraining against what it took")
    record_measure(context, "param_count", parameters(config).total, "weights of the model, counted", "parameters")
    record_measure(context, "training_flops", work.flops, "operations of the matrix products in pretraining", "FLOP")
    record_measure(context, "energy_kwh", reading.energy_kwh, "energy of pretraining", "kWh", meter)
    record_measure(context, "co2e_kg", reading.co2_kg, "CO2 equivalent of that energy", "kg")
