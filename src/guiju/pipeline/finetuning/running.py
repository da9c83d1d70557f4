"""The stages of a fine-tuning, and what `guiju finetune` does with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guiju.errors import ConfigError
from guiju.evidence import Kind, Run
from guiju.pipeline.finetuning.base import base_files, make_base
from guiju.pipeline.finetuning.data import data_files, make_data
from guiju.pipeline.finetuning.examples import make_examples, read_shown
from guiju.pipeline.finetuning.learning import evaluate, finetune
from guiju.pipeline.finetuning.measuring import measure, task_data
from guiju.pipeline.finetuning.recipe import FinetuneRecipe, read_finetune_recipe
from guiju.pipeline.finetuning.report import make_report
from guiju.pipeline.finetuning.shown import ShownRow
from guiju.pipeline.orchestration import Orchestrator, Reporter, Stage, StageState, open_run
from guiju.pipeline.running import require_stage, run_folder, states_of
from guiju.settings import to_mapping

Show = Callable[[Sequence[ShownRow]], None]
"""Brings rows with their mask before a person's eyes."""


def _settings(*names: str) -> Callable[[FinetuneRecipe], Mapping[str, Any]]:
    """The recipe's settings of these names."""

    def chosen(recipe: FinetuneRecipe) -> Mapping[str, Any]:
        every = to_mapping(recipe)
        return {name: every[name] for name in names}

    return chosen


def _data_settings(recipe: FinetuneRecipe) -> Mapping[str, Any]:
    return {"data": to_mapping(recipe.data), "format": recipe.format}


def _example_settings(recipe: FinetuneRecipe) -> Mapping[str, Any]:
    return {
        **_settings("objective", "labels", "stride", "prompt")(recipe),
        "long": recipe.data.long,
        "empty": recipe.data.empty,
    }


def _template_files(recipe: FinetuneRecipe) -> dict[str, Path]:
    if recipe.template in ("auto", "plain"):
        return {}
    file = recipe.root / recipe.template
    if not file.is_file():
        raise ConfigError(f"template is {recipe.template!r}, but {file} is no file; it may also be auto or plain")
    return {"template": file}


def _base_files(recipe: FinetuneRecipe) -> dict[str, Path]:
    return {**base_files(recipe), **_template_files(recipe)}


def _task_files(recipe: FinetuneRecipe) -> dict[str, Path]:
    if recipe.task is None:
        return {}
    place = recipe.place(task_data(recipe, recipe.task))
    return {Path(path).name: Path(path) for path in ([place] if Path(place).exists() else place.split(","))}


LEARNING_STAGES: tuple[Stage[FinetuneRecipe], ...] = (
    Stage(name="data", needs=(), outputs=("data",), settings=_data_settings, files=data_files, work=make_data),
    Stage(
        name="base",
        needs=("data",),
        outputs=("tokenizer", "base.json"),
        settings=_settings("base", "model", "tokenizer", "objective", "template"),
        files=_base_files,
        work=make_base,
    ),
    Stage(
        name="examples",
        needs=("data", "base"),
        outputs=("examples",),
        settings=_example_settings,
        work=make_examples,
    ),
    Stage(
        name="finetune",
        needs=("base", "examples"),
        outputs=("checkpoints", "adapter", "model"),
        settings=_settings("objective", "model", "class_weights", "lora", "base_precision", "training"),
        files=base_files,
        work=finetune,
        resumable=True,
    ),
    Stage(
        name="evaluate",
        needs=("base", "examples", "finetune"),
        outputs=("tasks/held-out.json",),
        settings=lambda recipe: {},
        work=evaluate,
    ),
)
"""In the order in which they run; each needs only stages before it. A task and the report come after them."""


def finetune_stages(recipe: FinetuneRecipe) -> tuple[Stage[FinetuneRecipe], ...]:
    """All stages of a recipe."""
    stages = list(LEARNING_STAGES)
    if recipe.task is not None:
        stages.append(
            Stage(
                name="task",
                needs=("finetune",),
                outputs=(f"tasks/{recipe.task.name}",),
                settings=_settings("task"),
                files=_task_files,
                work=measure,
                resumable=True,
            )
        )
    report: Stage[FinetuneRecipe] = Stage(
        name="report",
        needs=tuple(stage.name for stage in stages),
        outputs=("report.html",),
        settings=lambda recipe: {},
        work=make_report,
    )
    return (*stages, report)


@dataclass(frozen=True)
class FinetuneSummary:
    """What a fine-tuning ends by telling."""

    folder: str
    done: list[str]
    seconds: float
    built: Mapping[str, Any]
    """Of each stage, what it says of itself."""

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.folder,
            "done": self.done,
            "seconds": round(self.seconds, 1),
            "built": dict(self.built),
            "verify": f"guiju verify {self.folder}",
        }

    def text(self) -> str:
        if not self.done:
            return f"all stages of {self.folder} are up to date; verify it: guiju verify {self.folder}"
        lines = ["", f"Done in {self.seconds:.0f} s: {self.folder}"]
        found = self.built.get("evaluate", {})
        if "loss" in found:
            loss, right = found["loss"], found["accuracy"]
            lines.append(
                f"  held out: {loss['after']:.3f} {found['unit']} ({loss['before']:.3f} before), "
                f"{right['after']:.1%} right ({right['before']:.1%} before)"
            )
        for name, one in self.built.get("task", {}).get("metrics", {}).items():
            lines.append(f"  {self.built['task']['task']}: {name} {one['value']:.4g}")
        report, mask = Path(self.folder) / "report.html", Path(self.folder) / "examples" / "mask.html"
        lines += [""]
        lines += [f"See it     {mask}"] if mask.is_file() else []
        lines += [f"Read it    {report}"] if report.is_file() else []
        return "\n".join([*lines, f"Verify it  guiju verify {self.folder}"])


def run_finetune(
    path: Path,
    *,
    reporter: Reporter,
    overrides: Sequence[str] = (),
    only: str | None = None,
    out: Path | None = None,
    examples: int = 0,
    show: Show | None = None,
) -> FinetuneSummary:
    """Do a fine-tuning's stages, each only where its inputs, settings or outputs changed.

    Args:
        examples: so many rows are shown by `show`, before any step is taken.
    Raises:
        GuijuError: the recipe, the base, the data, the disk or the run folder is not as it must be, or training does
            nothing; nothing is half-written.
    """
    recipe = _checked(path, overrides, only)
    began = time.monotonic()

    def before(stage: str) -> None:
        if stage == "finetune" and examples and show is not None:
            show(read_shown(run.path)[:examples])

    with open_run(run_folder(recipe, out), recipe) as run:
        done = Orchestrator(run, recipe, finetune_stages(recipe), reporter).run_all(only=only, before=before)
        if only == "examples" and examples and show is not None:
            show(read_shown(run.path)[:examples])
        if done:
            run.append(Kind.RUN_FINISHED, {"stages": done}, reason="every stage that was asked for is up to date")
        return FinetuneSummary(str(run.path), done, time.monotonic() - began, _built(run))


def plan_finetune(
    path: Path, *, overrides: Sequence[str] = (), only: str | None = None, out: Path | None = None
) -> list[StageState[FinetuneRecipe]]:
    """Which stages `run_finetune` would do, and why; nothing is written."""
    recipe = _checked(path, overrides, only)
    states = states_of(recipe, finetune_stages(recipe), run_folder(recipe, out))
    return [state for state in states if only in (None, state.stage.name)]


def _checked(path: Path, overrides: Sequence[str], only: str | None) -> FinetuneRecipe:
    """The recipe, once all that can be known to be wrong is known."""
    recipe = read_finetune_recipe(path, overrides)
    require_stage(only, finetune_stages(recipe))
    data_files(recipe)
    _base_files(recipe)
    _task_files(recipe)
    return recipe


def _built(run: Run) -> dict[str, Any]:
    return {entry.body["stage"]: entry.body["summary"] for entry in run.entries() if entry.kind == Kind.STAGE_FINISHED}
