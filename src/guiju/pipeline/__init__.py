"""A recipe's stages in order; each is skipped while its inputs' digests stand."""

from guiju.pipeline.judging import record_judgement
from guiju.pipeline.recipe import Recipe, read_recipe
from guiju.pipeline.running import describe_states, plan_recipe, plan_states, run_folder, run_recipe
from guiju.pipeline.stages import STAGES
from guiju.pipeline.summary import RunSummary

__all__ = [
    "STAGES",
    "Recipe",
    "RunSummary",
    "describe_states",
    "plan_recipe",
    "plan_states",
    "read_recipe",
    "record_judgement",
    "run_folder",
    "run_recipe",
]
