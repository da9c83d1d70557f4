"""A recipe's stages in order; each is skipped while its inputs' digests stand."""

from guiju.pipeline.finetuning import (
    FinetuneRecipe,
    FinetuneSummary,
    ShownRow,
    finetune_stages,
    plain_text,
    plan_finetune,
    read_finetune_recipe,
    run_finetune,
    runs,
)
from guiju.pipeline.judging import record_judgement
from guiju.pipeline.recipe import Recipe, read_recipe
from guiju.pipeline.running import describe_states, plan_recipe, plan_states, run_folder, run_recipe
from guiju.pipeline.stages import STAGES
from guiju.pipeline.summary import RunSummary

__all__ = [
    "STAGES",
    "FinetuneRecipe",
    "FinetuneSummary",
    "Recipe",
    "RunSummary",
    "ShownRow",
    "describe_states",
    "finetune_stages",
    "plain_text",
    "plan_finetune",
    "plan_recipe",
    "plan_states",
    "read_finetune_recipe",
    "read_recipe",
    "record_judgement",
    "run_finetune",
    "run_folder",
    "run_recipe",
    "runs",
]
