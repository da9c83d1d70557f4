"""The stages that make a model and say how good it is: plan, pretrain, evaluate."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

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
    training_flops,
)
from guiju.evidence import Kind
from guiju.model import ModelConfig, Transformer, load_model, save_model
from guiju.pipeline.building import read_documents
from guiju.pipeline.orchestration import StageContext, StageResult
from guiju.pipeline.recipe import Recipe
from guiju.storage import folder_digests, write_json
from guiju.tokens import Batch, PackedBatches, TokenData, Tokenizer
from guiju.training import (
    Batches,
    TrainingInterrupted,
    TrainingResult,
    evaluate_bits_per_byte,
    ngram_baselines,
    train,
    xz_bits_per_byte,
)

CALIBRATION_STEPS = 5
EVALUATION_ROWS = 64
"""Rows of held-out text looked at while training; the evaluate stage looks at all of them."""


def make_plan(context: StageContext) -> StageResult:
    """What pretraining will cost, from a few timed steps of the real loop on the real tokens."""
    plan = calibrated_plan(context.recipe, context.path("tokenizer"), context.path("tokens/train"))
    context.record(Kind.PLAN, {"forecast": plan.to_json()}, "forecast of pretraining, before it begins")
    write_json(context.path("plan.json"), plan.to_json())
    return StageResult(
        {"forecast": plan.to_json()},
        f"{plan.parameters:,} parameters, {plan.flops:.2g} FLOPs: about {plan.seconds:.0f} s, "
        f"{plan.memory_bytes / 1e6:,.0f} MB, {plan.energy_kwh * 1000:.2g} Wh",
    )


def calibrated_plan(recipe: Recipe, tokenizer: Path, tokens: Path) -> Plan:
    """The forecast of a recipe's pretraining, timed on this machine with the run's own tokens."""
    vocabulary = Tokenizer.load(tokenizer)
    return _timed_plan(recipe, vocabulary.vocab_size, _batches(recipe, TokenData.open(tokens, vocabulary.digest)))


def plan_without_data(recipe: Recipe) -> Plan:
    """The same before there are tokens: timed with random ones of the vocabulary that the recipe asks for."""
    return _timed_plan(recipe, recipe.tokenizer.vocab_size, _RandomBatches(recipe))


def _timed_plan(recipe: Recipe, vocab_size: int, batches: Batches) -> Plan:
    config = recipe.model.config(vocab_size)
    training = recipe.training
    settings = replace(training, steps=CALIBRATION_STEPS, warmup_steps=1, evaluate_every=0, checkpoint_every=0, keep=1)
    with tempfile.TemporaryDirectory(prefix="guiju-plan-") as place:
        try:
            result = train(new_model(recipe, config), batches, settings, folder=Path(place))
        except TrainingInterrupted as stop:
            told = "stopped while the first steps were timed; run the same command again"
            raise TrainingInterrupted(told, step=0, checkpoint=stop.checkpoint) from None
        times = _step_seconds(result)
    rest = times[1:]
    calibration = Calibration(
        first_s=times[0],
        step_s=statistics.median(rest),
        spread=(max(rest) - min(rest)) / 2 / statistics.median(rest),
        steps=len(rest),
    )
    device = devices.pick_device(training.device)
    return plan_training(
        config,
        steps=training.steps,
        batch=training.batch,
        length=config.context,
        accumulate=training.accumulate,
        calibration=calibration,
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


def _step_seconds(result: TrainingResult) -> list[float]:
    """Time of each step, those of earlier processes included."""
    return [json.loads(line)["seconds"] for line in result.timing.read_text(encoding="utf-8").splitlines()]


def pretrain(context: StageContext) -> StageResult:
    """Maximum likelihood on the packed training tokens, from the newest whole checkpoint where there is one."""
    recipe = context.recipe
    tokenizer = Tokenizer.load(context.path("tokenizer"))
    config = recipe.model.config(tokenizer.vocab_size)
    data = TokenData.open(context.path("tokens/train"), tokenizer.digest)
    held_out = TokenData.open(context.path("tokens/validation"), tokenizer.digest)
    model = new_model(recipe, config)
    sizes = tokenizer.bytes_per_token

    def evaluate(model: Transformer) -> float:
        return evaluate_bits_per_byte(
            model, held_out, sizes, context=config.context, batch=recipe.training.batch, max_rows=EVALUATION_ROWS
        )

    with Meter(watts_per_core=recipe.cost.watts_per_core, grid=recipe.cost.grid) as meter:
        result = train(
            model,
            _batches(recipe, data),
            recipe.training,
            folder=context.path("checkpoints"),
            evaluate=evaluate,
            on_event=lambda name, facts: _on_event(context, name, facts),
            report=context.reporter.progress,
            flops_per_token=_flops_per_token(recipe, config),
            energy_kwh=meter.energy_kwh,
        )
    save_model(model, context.path("model"), tokenizer)
    _record_cost(context, config, result, meter.result)
    bits = result.evaluations[-1][1]
    summary = {
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
    return StageResult(
        summary,
        f"{parameters(config).total:,} parameters, {result.tokens:,} tokens, {bits:.3f} bits per byte, "
        f"{result.tokens_per_second:,.0f} tokens/s{share}",
    )


def evaluate(context: StageContext) -> StageResult:
    """Bits per byte on all held-out text, beside the untrained model, counts of tokens, and a general compressor."""
    recipe = context.recipe
    tokenizer = Tokenizer.load(context.path("tokenizer"))
    model = load_model(context.path("model"), kind="decoder")
    data = TokenData.open(context.path("tokens/train"), tokenizer.digest)
    held_out = TokenData.open(context.path("tokens/validation"), tokenizer.digest)
    sizes, config = tokenizer.bytes_per_token, model.config
    counted = ngram_baselines(data, held_out, sizes)
    texts = (text for _, text in read_documents(context.path("corpus/validation.jsonl")))

    def measured(model: Transformer) -> float:
        return evaluate_bits_per_byte(model, held_out, sizes, context=config.context, batch=recipe.training.batch)

    details = {
        "model": measured(model),
        "untrained": measured(new_model(recipe, config)),
        "unigram": counted.unigram_bits_per_byte,
        "bigram": counted.bigram_bits_per_byte,
        "xz": xz_bits_per_byte(texts),
        "bytes": counted.validation_bytes,
        "tokens": held_out.tokens,
    }
    _record_measure(context, "bits_per_byte", details["model"], "bits per byte of held-out text", "bits/byte", details)
    context.path("tasks").mkdir(exist_ok=True)
    write_json(context.path("tasks/bits-per-byte.json"), details)
    others = ", ".join(f"{name} {details[name]:.3f}" for name in ("bigram", "unigram", "untrained", "xz"))
    return StageResult(details, f"{details['model']:.3f} bits per byte; {others}")


def new_model(recipe: Recipe, config: ModelConfig) -> Transformer:
    """The model before it learned anything; the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)
        return Transformer(config)


def _batches(recipe: Recipe, data: TokenData) -> PackedBatches:
    return PackedBatches(data, context=recipe.model.context, batch=recipe.training.batch, seed=recipe.training.seed)


class _RandomBatches:
    """Rows of random tokens, for timing alone."""

    def __init__(self, recipe: Recipe) -> None:
        self.shape = (recipe.training.batch, recipe.model.context + 1)
        self.vocab_size = recipe.tokenizer.vocab_size
        self.random = torch.Generator().manual_seed(0)

    def next(self) -> Batch:
        tokens = torch.randint(self.vocab_size, self.shape, generator=self.random)
        documents = torch.zeros(self.shape[0], self.shape[1] - 1, dtype=torch.int64)
        return Batch(tokens[:, :-1], tokens[:, 1:], documents)

    def state(self) -> dict[str, int]:
        return {}

    def restore(self, state: dict[str, int]) -> None:
        assert not state, "random tokens for timing are never resumed"

    def identity(self) -> dict[str, str | int]:
        return {"data": "random tokens"}


def _flops_per_token(recipe: Recipe, config: ModelConfig) -> float:
    batch = recipe.training.batch
    return training_flops(config, batch, config.context).total / (batch * config.context)


def _on_event(context: StageContext, name: str, facts: Mapping[str, Any]) -> None:
    """Training's events on record; a checkpoint's files are named as soon as they are safe."""
    if name == "evaluation":
        context.reporter.note(
            f"step {facts['step']}: {_rounded(facts['bits_per_byte'])} bits per byte of held-out text"
        )
    if name == "notice":
        context.reporter.note(facts["text"])
    if name != "checkpoint":
        context.record(Kind.TRAINING_EVENT, {"event": name, **facts}, f"training: {name}")
        return
    place = f"checkpoints/{facts['folder']}"
    manifest = context.run.manifest()
    outputs: dict[str, str | None] = {
        path: None for old in facts["removed"] for path in manifest if path.startswith(f"checkpoints/{old}/")
    }
    outputs.update({f"{place}/{path}": digest for path, digest in folder_digests(context.path(place)).items()})
    context.record(Kind.CHECKPOINT, dict(facts), f"checkpoint after step {facts['step']}", outputs=outputs)


def _rounded(value: float | None) -> str:
    return "no finite number of" if value is None else f"{value:.3f}"


def _record_cost(context: StageContext, config: ModelConfig, result: TrainingResult, reading: Reading) -> None:
    """Forecast beside what was measured, and the measures that standards ask for."""
    said = json.loads(context.path("plan.json").read_text(encoding="utf-8"))
    said.pop("estimate")
    forecast = Plan(**{**said, "assumptions": tuple(said["assumptions"])})
    seconds = sum(_step_seconds(result))
    # A row's last targets may be missing, but the products are computed for the whole row all the same.
    positions = result.steps * context.recipe.training.accumulate * context.recipe.training.batch * config.context
    flops = _flops_per_token(context.recipe, config) * positions
    price = context.recipe.cost.price_per_hour
    actual = Actual(
        seconds=seconds,
        flops=flops,
        memory_bytes=reading.peak_memory_bytes,
        energy_kwh=reading.energy_kwh,
        co2_kg=reading.co2_kg,
        cost=None if price is None else seconds / 3600 * price,
    )
    rows = [asdict(row) for row in forecast_against_actual(forecast, actual)]
    meter = reading.to_json()
    context.record(Kind.COST, {"rows": rows, "meter": meter}, "forecast of pretraining against what it took")
    _record_measure(context, "param_count", parameters(config).total, "weights of the model, counted", "parameters")
    _record_measure(context, "training_flops", flops, "operations of the matrix products in pretraining", "FLOP")
    _record_measure(context, "energy_kwh", reading.energy_kwh, "energy of pretraining", "kWh", meter)
    _record_measure(context, "co2e_kg", reading.co2_kg, "CO2 equivalent of that energy", "kg")


def _record_measure(
    context: StageContext, measure: str, value: float, what: str, unit: str, details: Mapping[str, Any] | None = None
) -> None:
    body = {
        "measure": measure,
        "what": what,
        "count": None,
        "n": None,
        "value": value,
        "unit": unit,
        "sampled": False,
        "details": dict(details or {}),
    }
    context.record(Kind.MEASUREMENT, body, what)
