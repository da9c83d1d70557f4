"""The stage that puts the tuned model to its task."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

from guiju.errors import ConfigError
from guiju.pipeline.finetuning.recipe import FinetuneRecipe, TaskWish
from guiju.pipeline.orchestration import StageContext, StageResult
from guiju.pipeline.recording import record_measure
from guiju.providers import load
from guiju.settings import to_mapping
from guiju.tasks import TASKS, Labelled, RecordFile, TaskSettings, evaluate, read_records


def task_data(recipe: FinetuneRecipe, task: TaskWish) -> str:
    """The file by which the model is measured.

    Raises:
        ConfigError: the recipe names none.
    """
    if task.data is not None:
        return task.data
    if recipe.held_out_files:
        return recipe.held_out_files[-1]
    raise ConfigError(
        f"task {task.name} has no data to be measured on; name a file as task.data, or as data.evaluation"
    )


def asked_as_learned(recipe: FinetuneRecipe, task: TaskWish) -> TaskSettings:
    """How the task is asked: where the recipe does not say, sources stand in the words in which they were learned."""
    if recipe.objective != "answers" or recipe.format != "source-target" or task.settings.prompt is not None:
        return task.settings
    return replace(task.settings, prompt=recipe.asked("{source}"), template="chat" if recipe.chats else "none")


def measure(context: StageContext[FinetuneRecipe]) -> StageResult:
    """The recipe's task, with every sample kept; nothing where the recipe names none."""
    recipe, task = context.recipe, context.recipe.task
    if task is None:
        return StageResult({}, "the recipe names no task")
    columns = task.columns if task.data is not None else recipe.data.columns
    records = RecordFile(recipe.place(task_data(recipe, task)), TASKS[task.name].kind, task.file_format, columns)
    result = evaluate(
        task.name,
        records,
        model=load(context.run.path),
        settings=asked_as_learned(recipe, task),
        train=_baseline_texts(recipe, task),
        out=context.path(f"tasks/{task.name}"),
        reporter=context.reporter,
    )
    found = result.to_json()
    for name, one in found["metrics"].items():
        what = f"{name} of the task {task.name}"
        details = {**one, "n": result.n, "task": task.name, "settings": to_mapping(asked_as_learned(recipe, task))}
        record_measure(context, f"{task.name}.{name}", one["value"], what, "", details)
    told = ", ".join(f"{name} {one['value']:.3f}" for name, one in list(found["metrics"].items())[:3])
    main = TASKS[task.name].main
    for name, gaps in result.gaps.items():
        if main in gaps:
            gap = gaps[main]
            told += f"; {main} {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] beside {name}"
    beside = {name: found[name] for name in found if name in ("baselines", "gaps")}
    body = {"task": task.name, "n": result.n, "metrics": found["metrics"], **beside}
    return StageResult(body, f"{task.name}: {told}")


def _baseline_texts(recipe: FinetuneRecipe, task: TaskWish) -> list[Labelled]:
    """What a simple classifier learns from, to stand beside a sentiment's figures: the texts that the model learned.
    None where there are no classes, or the library of the baseline is not installed."""
    if task.name != "sentiment" or recipe.record is not Labelled or find_spec("sklearn") is None:
        return []
    data = recipe.data
    return list(read_records(recipe.place(data.train), Labelled, data.file_format, data.columns))
