"""Fine-tuning: a base, or a new model, learns from examples; each stage its own proof."""

from guiju.pipeline.finetuning.recipe import FinetuneRecipe, read_finetune_recipe
from guiju.pipeline.finetuning.running import FinetuneSummary, finetune_stages, plan_finetune, run_finetune
from guiju.pipeline.finetuning.shown import ShownRow, ShownToken, plain_text, runs

__all__ = [
    "FinetuneRecipe",
    "FinetuneSummary",
    "ShownRow",
    "ShownToken",
    "finetune_stages",
    "plain_text",
    "plan_finetune",
    "read_finetune_recipe",
    "run_finetune",
    "runs",
]
