"""What `guiju run` and `guiju plan` do with a recipe."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guiju.compute import Plan, find_grid
from guiju.corpus import input_files
from guiju.errors import ConfigError
from guiju.evidence import Kind
from guiju.pipeline.learning import calibrated_plan, plan_without_data
from guiju.pipeline.orchestration import Glance, Orchestrator, R, Reporter, Stage, StageState, open_run
from guiju.pipeline.reading import AnyRecipe
from guiju.pipeline.recipe import Recipe, read_recipe
from guiju.pipeline.stages import STAGES
from guiju.pipeline.summary import RunSummary, summarise
from guiju.standards import load_standard


def run_recipe(
    path: Path,
    *,
    reporter: Reporter,
    overrides: Sequence[str] = (),
    only: str | None = None,
    out: Path | None = None,
) -> RunSummary:
    """Do a recipe's stages, each only where its inputs, settings or outputs changed.

    Raises:
        GuijuError: the recipe, a source, the disk or the run folder is not as it must be; nothing is half-written.
    """
    recipe = _checked(path, overrides, only)
    began = time.monotonic()
    with open_run(run_folder(recipe, out), recipe) as run:
        orchestrator = Orchestrator(run, recipe, STAGES, reporter)
        done = orchestrator.run_all(only=only)
        if done:
            run.append(Kind.RUN_FINISHED, {"stages": done}, reason="every stage that was asked for is up to date")
        return summarise(run, done, seconds=time.monotonic() - began)


def _checked(path: Path, overrides: Sequence[str], only: str | None) -> Recipe:
    """The recipe, once all that can be known to be wrong is known: before a run folder is made or an hour is spent."""
    recipe = read_recipe(path, overrides)
    input_files(recipe.corpus, recipe.root)
    load_standard(recipe.audit.standard, recipe.audit.as_of)
    find_grid(recipe.cost.grid)
    require_stage(only, STAGES)
    return recipe


def plan_states(
    path: Path, *, overrides: Sequence[str] = (), only: str | None = None, out: Path | None = None
) -> list[StageState[Recipe]]:
    """Which stages `run_recipe` would do, and why; nothing is written."""
    recipe = _checked(path, overrides, only)
    return [state for state in states_of(recipe, STAGES, run_folder(recipe, out)) if only in (None, state.stage.name)]


def states_of(recipe: R, stages: tuple[Stage[R], ...], folder: Path) -> list[StageState[R]]:
    """Each stage's state in a run folder, which may not be there yet; nothing is written."""
    if not (folder / "ledger").exists():
        return [StageState(stage, None, "to do", "not done yet") for stage in stages]
    return list(Orchestrator(Glance(folder), recipe, stages, _Silent()).states())


def require_stage(only: str | None, stages: Sequence[Stage[Any]]) -> None:
    """Refuse the name of a stage that there is not."""
    names = [stage.name for stage in stages]
    if only is not None and only not in names:
        raise ConfigError(f"--only {only}: there is no such stage; the stages are {', '.join(names)}")


def describe_states(states: Sequence[StageState[Any]]) -> str:
    """The states as lines for the screen."""
    return "\n".join(f"{s.stage.name:<10} {s.status:<11} {s.why}".rstrip() for s in states)


def plan_recipe(path: Path, *, overrides: Sequence[str] = (), out: Path | None = None) -> Plan:
    """The forecast of a recipe's pretraining: on the run's own tokens where they stand, else on random ones."""
    recipe = read_recipe(path, overrides)
    folder = run_folder(recipe, out)
    if (folder / "tokens" / "validation" / "index.json").is_file() and (folder / "tokenizer").is_dir():
        return calibrated_plan(recipe, folder)
    return plan_without_data(recipe)


def run_folder(recipe: AnyRecipe, out: Path | None) -> Path:
    """runs/NAME below the current folder, where no other is asked for."""
    return out if out is not None else Path("runs") / recipe.name


@dataclass(frozen=True)
class _Silent:
    """A reporter for looking without doing."""

    def stage(self, name: str, status: str, why: str) -> None: ...

    def progress(self, done: int, total: int, label: str) -> None: ...

    def finished(self, name: str, seconds: float, line: str) -> None: ...

    def note(self, text: str) -> None: ...
