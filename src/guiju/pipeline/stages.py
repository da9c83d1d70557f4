"""The stages of a run, in order: what each needs, what it leaves, and which settings steer it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guiju.compute import parameters
from guiju.corpus import input_files
from guiju.pipeline.building import make_corpus, make_tokenizer, make_tokens
from guiju.pipeline.learning import evaluate, make_plan, pretrain
from guiju.pipeline.orchestration import Stage
from guiju.pipeline.recipe import Recipe
from guiju.pipeline.showing import make_continuations, make_findings, make_report
from guiju.settings import to_mapping

NO_EFFECT = ("processes",)
"""Corpus settings that change how fast, not what."""


def _corpus_settings(recipe: Recipe) -> Mapping[str, Any]:
    return {key: value for key, value in to_mapping(recipe.corpus).items() if key not in NO_EFFECT}


def _corpus_files(recipe: Recipe) -> dict[str, Path]:
    return input_files(recipe.corpus, recipe.root)


def _corpus_space(recipe: Recipe) -> int:
    """Decompressed text is about four times as large, and stands three times: spilled, kept, decided."""
    return 12 * sum(path.stat().st_size for path in _corpus_files(recipe).values())


def _learning_settings(recipe: Recipe) -> Mapping[str, Any]:
    return {"model": to_mapping(recipe.model), "training": to_mapping(recipe.training)}


def _token_settings(recipe: Recipe) -> Mapping[str, Any]:
    return {"pairs": True} if recipe.objective == "pairs" else {}


def _checkpoint_space(recipe: Recipe) -> int:
    """Each checkpoint holds the weights and AdamW's two moments in float32, and one more is written before one goes."""
    weights = parameters(recipe.model.config(vocab_size=recipe.tokenizer.vocab_size)).total
    return (recipe.training.keep + 2) * weights * 12


STAGES: tuple[Stage[Recipe], ...] = (
    Stage(
        name="corpus",
        needs=(),
        outputs=("corpus",),
        settings=_corpus_settings,
        files=_corpus_files,
        space_bytes=_corpus_space,
        work=make_corpus,
    ),
    Stage(
        name="tokenizer",
        needs=("corpus",),
        outputs=("tokenizer",),
        settings=lambda recipe: to_mapping(recipe.tokenizer),
        work=make_tokenizer,
    ),
    Stage(
        name="tokens",
        needs=("corpus", "tokenizer"),
        outputs=("tokens",),
        settings=_token_settings,
        work=make_tokens,
    ),
    Stage(
        name="plan",
        needs=("tokenizer", "tokens"),
        outputs=("plan.json",),
        settings=lambda recipe: {**_learning_settings(recipe), "cost": to_mapping(recipe.cost)},
        work=make_plan,
    ),
    Stage(
        name="pretrain",
        needs=("tokenizer", "tokens"),
        outputs=("checkpoints", "model"),
        settings=_learning_settings,
        space_bytes=_checkpoint_space,
        work=pretrain,
        resumable=True,
    ),
    Stage(
        name="evaluate",
        needs=("corpus", "tokenizer", "tokens", "pretrain"),
        outputs=("tasks/bits-per-byte.json", "tasks/masked-tokens.json", "tasks/targets.json"),
        settings=lambda recipe: {},
        work=evaluate,
    ),
    Stage(
        name="generate",
        needs=("tokenizer", "pretrain"),
        outputs=("tasks/generation.json",),
        settings=lambda recipe: to_mapping(recipe.generation),
        work=make_continuations,
    ),
    Stage(
        name="audit",
        needs=("corpus", "pretrain", "evaluate", "generate"),
        outputs=("audit",),
        settings=lambda recipe: to_mapping(recipe.audit),
        work=make_findings,
        heeds_people=True,
    ),
    Stage(
        name="report",
        needs=("corpus", "plan", "pretrain", "evaluate", "generate", "audit"),
        outputs=("report.html",),
        settings=lambda recipe: {},
        work=make_report,
    ),
)
"""In the order in which they run; each needs only stages before it."""
