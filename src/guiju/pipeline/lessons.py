"""What a recipe's model learns from, and what it is held against: a lesson for each objective.

The decoder's is packed text; the others' are examples: masked tokens, cut-out runs, or pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from guiju.compute import training_flops
from guiju.model import AnyModel, ModelConfig, Transformer
from guiju.pipeline.building import read_documents, sources_of
from guiju.pipeline.recipe import Recipe
from guiju.tokens import (
    MASKED_SHARE,
    Batch,
    BatchSize,
    BucketedBatches,
    Examples,
    Marks,
    MaskedExamples,
    PackedBatches,
    PairExamples,
    SpanExamples,
    TokenData,
    Tokenizer,
    longest_target,
)
from guiju.training import (
    Batches,
    TargetScores,
    evaluate_bits_per_byte,
    evaluation_batches,
    make_objective,
    ngram_baselines,
    objective_name,
    score_targets,
    score_unigram,
    unigram_chances,
    with_other_sources,
    xz_bits_per_byte,
)

EVALUATION_ROWS = 64
"""Rows of held-out text looked at while training; the evaluate stage looks at all of them."""

MOST_COUNTED = 20_000
"""Batches whose sizes are counted one by one; beyond, those counted stand for all."""

HEEDS = 1.02
"""A model heeds its source if another text's costs it so many times as much a token."""


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """How good a model is on held-out text."""

    measure: str
    """The name of the measurement on record."""
    what: str
    file: str
    value: float
    """Bits per byte."""
    details: dict[str, Any]
    line: str
    """For the screen."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """What so many batches come to."""

    flops: float
    """Forward and backward, what the model asks for."""
    executed: float
    """The same with what activation checkpointing computes twice."""
    tokens: int
    """That are read, padding included."""
    targets: int
    largest: BatchSize


class Lesson(Protocol):
    """One objective's data."""

    @property
    def batches(self) -> Batches: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the data."""

    def sizes(self, batches: int) -> list[BatchSize]:
        """How much each of the first batches is."""

    def watch(self, model: Any) -> float:
        """Bits per byte on part of the held-out text."""

    def assess(self, model: Any, untrained: Any) -> Assessment:
        """The same on all of it, beside what a model must beat."""


def open_lesson(recipe: Recipe, folder: Path) -> Lesson:
    """The lesson of a run whose tokenizer and tokens stand below the folder."""
    tokenizer = Tokenizer.load(folder / "tokenizer")
    config = model_config(recipe, tokenizer)
    make = PackedText if objective_name(recipe.training, config) == "next-token" else FromExamples
    return make(recipe, config, tokenizer, folder)


def model_config(recipe: Recipe, tokenizer: Tokenizer) -> ModelConfig:
    """The model's whole shape, with the ids that the tokenizer gives it."""
    config = recipe.model.config(tokenizer.vocab_size)
    if config.kind == "decoder":
        return config
    marks = Marks.of(tokenizer)
    if config.kind == "encoder":
        return replace(config, pad_id=marks.pad)
    return replace(config, pad_id=marks.pad, start_id=marks.start)


def work_of(recipe: Recipe, config: ModelConfig, sizes: Sequence[BatchSize], batches: int) -> Work:
    """What `batches` batches come to, the first of which have these sizes."""
    scale = batches / len(sizes)
    counted = {size: _flops(recipe, config, size) for size in set(sizes)}
    return Work(
        flops=scale * sum(counted[size][0] for size in sizes),
        executed=scale * sum(counted[size][1] for size in sizes),
        tokens=round(scale * sum(size.rows * (size.width + size.source) for size in sizes)),
        targets=round(scale * sum(size.targets for size in sizes)),
        largest=BatchSize(
            max(size.rows for size in sizes),
            max(size.width for size in sizes),
            max(size.source for size in sizes),
            max(size.targets for size in sizes),
        ),
    )


def flops_of(recipe: Recipe, config: ModelConfig, size: BatchSize) -> float:
    """Forward and backward of one batch, as executed."""
    return _flops(recipe, config, size)[1]


def _flops(recipe: Recipe, config: ModelConfig, size: BatchSize) -> tuple[float, float]:
    def count(again: bool) -> float:
        return training_flops(
            config,
            size.rows,
            size.width,
            source=size.source,
            predicted=None if config.kind == "decoder" else size.targets,
            activation_checkpointing=again,
        ).total

    asked = count(False)
    return asked, count(True) if recipe.training.activation_checkpointing else asked


class PackedText:
    """A decoder's: all text in full rows, each token predicted from those before it."""

    notes: tuple[str, ...] = ()

    def __init__(self, recipe: Recipe, config: ModelConfig, tokenizer: Tokenizer, folder: Path) -> None:
        self._recipe, self._config, self._folder = recipe, config, folder
        self._data, self._held_out = _sides(folder, tokenizer)
        self._sizes = self._held_out.byte_sizes(tokenizer.bytes_per_token)
        self.batches = PackedBatches(
            self._data, context=config.context, batch=recipe.training.batch, seed=recipe.training.seed
        )

    def sizes(self, batches: int) -> list[BatchSize]:
        rows, width = self.batches.batch, self.batches.context
        return [BatchSize(rows, width, 0, rows * width)]

    def watch(self, model: Transformer) -> float:
        return self._measured(model, EVALUATION_ROWS)

    def assess(self, model: Transformer, untrained: Transformer) -> Assessment:
        counted = ngram_baselines(self._data, self._held_out, self._sizes)
        texts = (text for _, text in read_documents(self._folder / "corpus/validation.jsonl"))
        details = {
            "model": self._measured(model),
            "untrained": self._measured(untrained),
            "unigram": counted.unigram_bits_per_byte,
            "bigram": counted.bigram_bits_per_byte,
            "xz": xz_bits_per_byte(texts),
            "bytes": counted.validation_bytes,
            "tokens": self._held_out.tokens,
        }
        others = ", ".join(f"{name} {details[name]:.3f}" for name in ("bigram", "unigram", "untrained", "xz"))
        return Assessment(
            measure="bits_per_byte",
            what="bits per byte of held-out text",
            file="tasks/bits-per-byte.json",
            value=details["model"],
            details=details,
            line=f"{details['model']:.3f} bits per byte; {others}",
        )

    def _measured(self, model: Transformer, max_rows: int | None = None) -> float:
        context, batch = self._config.context, self._recipe.training.batch
        return evaluate_bits_per_byte(
            model, self._held_out, self._sizes, context=context, batch=batch, max_rows=max_rows
        )


@dataclass(frozen=True)
class _Kind:
    """What is said of the targets of an objective."""

    measure: str
    what: str
    file: str
    tokens: str


_KINDS = {
    "masked-tokens": _Kind(
        "masked_bits_per_byte", "bits per byte of masked tokens of held-out text", "masked-tokens", "masked token"
    ),
    "spans": _Kind(
        "target_bits_per_byte", "bits per byte of runs cut out of held-out text", "targets", "token of the runs"
    ),
    "pairs": _Kind("target_bits_per_byte", "bits per byte of held-out targets", "targets", "token of the target"),
}


class FromExamples:
    """An encoder's, and an encoder-decoder's."""

    def __init__(self, recipe: Recipe, config: ModelConfig, tokenizer: Tokenizer, folder: Path) -> None:
        self._name = objective_name(recipe.training, config)
        self._objective = make_objective(recipe.training, config)
        self._data, held_out = _sides(folder, tokenizer)
        self._bytes = held_out.byte_sizes(tokenizer.bytes_per_token)
        learned = _examples(self._name, config, tokenizer, folder, "train", self._data)
        held = _examples(self._name, config, tokenizer, folder, "validation", held_out)
        self.batches = BucketedBatches(learned, batch=recipe.training.batch, seed=recipe.training.seed)
        self._watched = evaluation_batches(held, recipe.training.batch, EVALUATION_ROWS)
        self._held_out, self._batch = held, recipe.training.batch
        left_out = [
            f"{examples.left_out} pairs of {side} are empty on one side or longer than the context, and left out"
            for side, examples in (("train", learned), ("validation", held))
            if isinstance(examples, PairExamples) and examples.left_out
        ]
        self.notes = tuple(left_out)

    def sizes(self, batches: int) -> list[BatchSize]:
        return self.batches.sizes(min(batches, MOST_COUNTED))

    def watch(self, model: AnyModel) -> float:
        return score_targets(model, self._objective, self._watched, self._bytes).bits_per_byte

    def assess(self, model: AnyModel, untrained: AnyModel) -> Assessment:
        kind, rows = _KINDS[self._name], evaluation_batches(self._held_out, self._batch)
        scores = {
            "model": score_targets(model, self._objective, rows, self._bytes),
            "untrained": score_targets(untrained, self._objective, rows, self._bytes),
            "unigram": score_unigram(unigram_chances(self._data, self._bytes), rows, self._bytes),
        }
        details: dict[str, Any] = {"objective": self._name, "tokens": scores["model"].tokens}
        details["bytes"] = scores["model"].bytes
        notes: tuple[str, ...] = ()
        if rows[0].source is not None:
            own, others = (
                score_targets(model, self._objective, made, self._bytes) for made in with_other_sources(rows)
            )
            scores["other_source"] = others
            cost = others.nats_per_token / own.nats_per_token
            details |= {"other_source_costs": cost, "heeds_source": cost >= HEEDS}
            if cost < HEEDS:
                notes = (
                    f"with another text's source a target costs only {cost:.3f} times as much: the model does not heed "
                    "what it reads. Train it longer",
                )
        details |= {name: score.bits_per_byte for name, score in scores.items()}
        details["nats_per_token"] = {name: score.nats_per_token for name, score in scores.items()}
        details["accuracy"] = {name: score.accuracy for name, score in scores.items()}
        return Assessment(
            measure=kind.measure,
            what=kind.what,
            file=f"tasks/{kind.file}.json",
            value=details["model"],
            details=details,
            line=_line(kind, scores),
            notes=notes,
        )


def _line(kind: _Kind, scores: dict[str, TargetScores]) -> str:
    found = scores["model"]
    words = {"untrained": "untrained", "unigram": "unigram", "other_source": "with another text's source"}
    others = ", ".join(f"{word} {scores[name].nats_per_token:.3f}" for name, word in words.items() if name in scores)
    return f"{found.nats_per_token:.3f} nats a {kind.tokens}, {found.accuracy:.1%} right; {others}"


def _sides(folder: Path, tokenizer: Tokenizer) -> tuple[TokenData, TokenData]:
    """Tokens to learn from, and held-out ones; of pairs, their targets."""
    learned, held_out = (TokenData.open(folder / "tokens" / side, tokenizer.digest) for side in ("train", "validation"))
    return learned, held_out


def _examples(
    name: str, config: ModelConfig, tokenizer: Tokenizer, folder: Path, side: str, data: TokenData
) -> Examples:
    marks = Marks.of(tokenizer)
    if name == "pairs":
        sources = TokenData.open(sources_of(folder / "tokens" / side), tokenizer.digest)
        return PairExamples(sources, data, marks, context=config.context)
    make = MaskedExamples if name == "masked-tokens" else SpanExamples
    return make(data, marks, context=config.context)


class RandomLesson:
    """Batches of random tokens, for timing alone: all of one size, as large as the context allows."""

    notes: tuple[str, ...] = ()

    def __init__(self, recipe: Recipe, config: ModelConfig) -> None:
        batch, context = recipe.training.batch, config.context
        source, width, targets = _full_row(recipe.objective, context)
        self._size = BatchSize(batch, width, source, batch * targets)
        self._vocab_size, self._encoder = config.vocab_size, config.kind == "encoder"
        self._random = torch.Generator().manual_seed(0)
        self.batches = self

    def sizes(self, batches: int) -> list[BatchSize]:
        return [self._size]

    def next(self) -> Batch:
        size = self._size
        tokens = torch.randint(self._vocab_size, (size.rows, size.width + 1), generator=self._random)
        documents = None if self._encoder or size.source else torch.zeros(size.rows, size.width, dtype=torch.int64)
        targets = tokens[:, 1:].clone()
        targets[:, size.targets // size.rows :] = -100
        source = None
        if size.source:
            source = torch.randint(self._vocab_size, (size.rows, size.source), generator=self._random)
        return Batch(tokens[:, :-1], targets, documents, source=source)

    def state(self) -> dict[str, int]:
        return {}

    def restore(self, state: dict[str, int]) -> None:
        assert not state, "random tokens for timing are never resumed"

    def identity(self) -> dict[str, str | int]:
        return {"data": "random tokens"}

    def watch(self, model: Any) -> float:
        raise AssertionError("random tokens teach nothing, so there is nothing to evaluate")

    def assess(self, model: Any, untrained: Any) -> Assessment:
        raise AssertionError("random tokens teach nothing, so there is nothing to evaluate")


def _full_row(objective: str, context: int) -> tuple[int, int, int]:
    """Tokens of the source of a row as long as the context allows, of the row itself, and of its targets."""
    if objective == "next-token":
        return 0, context, context
    if objective == "masked-tokens":
        return 0, context, max(1, round(MASKED_SHARE * context))
    if objective == "spans":
        target = longest_target(context)
        return context, target, target
    return context, context, context
