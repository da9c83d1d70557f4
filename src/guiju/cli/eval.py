"""Measure a model, or answers made elsewhere, on a task: with n, intervals, and every sample kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from guiju.cli.loading import MODEL, AllowPickle
from guiju.cli.measuring import (
    Columns,
    DataWish,
    ModelWish,
    Remote,
    changes,
    columns_of,
    default_folder,
    figures,
    interval,
    number,
    show_table,
)
from guiju.cli.screen import Progress, fail, print_json

if TYPE_CHECKING:
    from guiju.tasks import BatteryResult, Comparison, Labelled, TaskResult, TaskSettings

NAME = "eval"
EXAMPLE = (
    "Example: guiju eval --model runs/quickstart --task question-answering --data examples/data/xquad/xquad.en.dev.json"
)


def command(
    reference: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="the same as --model")] = None,
    model: Annotated[str | None, typer.Option(help=MODEL, show_default=False)] = None,
    predictions: Annotated[
        Path | None, typer.Option(help='answers made elsewhere: JSON lines of {"id", "prediction"}')
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="translation, summarization, question-answering, code or sentiment")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="jsonl, json, csv, tsv or parquet; aligned lines as a.en,a.de")
    ] = None,
    format: Annotated[str, typer.Option(help="of the data, where its name does not tell")] = "auto",
    columns: Columns = None,
    language: Annotated[str, typer.Option(help="of the answers: auto, en, zh or de")] = "auto",
    limit: Annotated[int | None, typer.Option(help="only the first so many samples")] = None,
    prompt: Annotated[str | None, typer.Option(help='in place of the task\'s own, such as "{source} =>"')] = None,
    template: Annotated[str, typer.Option(help="the model's chat template: auto, none or chat")] = "auto",
    new_tokens: Annotated[int | None, typer.Option(help="of an answer at most")] = None,
    num_beams: Annotated[int, typer.Option(help="above 1: beam search, for translations and summaries")] = 1,
    tries: Annotated[int, typer.Option(help="of code: programs for each problem, for pass@k")] = 1,
    long_sources: Annotated[str, typer.Option(help="what is longer than the context: window or refuse")] = "window",
    overlap: Annotated[float, typer.Option(help="share of a window that the next one shows again")] = 0.25,
    train: Annotated[
        str | None, typer.Option(help="of sentiment: labelled texts for the baseline (a train file beside the data)")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of samples, result and table; a second call goes on")] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(metavar="A B", help="two such folders: what changed from A to B")
    ] = None,
    battery: Annotated[bool, typer.Option("--battery", help="five tasks, English and Chinese, in one table")] = False,
    against: Annotated[str | None, typer.Option(help="of the battery: the model before the change")] = None,
    recipe: Annotated[Path | None, typer.Option(help="of the battery: its sets and its rule")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="the tokenizer's file, where it is not beside the model")
    ] = None,
    remote: Remote = None,
    allow_pickle: AllowPickle = False,
    json: Annotated[bool, typer.Option("--json", help="the figures as JSON on stdout")] = False,
) -> None:
    from guiju.tasks import TaskSettings

    if model is not None and reference is not None:
        fail("the model is named twice; give it once")
    model = model or reference
    if compare is not None:
        if model or predictions or battery:
            fail("--compare reads two folders that are there already; leave --model, --predictions and --battery out")
        _compare(Path(compare[0]), Path(compare[1]), json)
        return
    if battery:
        if model is None or predictions is not None or task is not None or data is not None:
            fail("--battery needs --model, and brings its own tasks and data: leave --task, --data, --predictions out")
        other = None if against is None else ModelWish(against, None, remote, allow_pickle)
        _battery(ModelWish(model, tokenizer, remote, allow_pickle), other, recipe, out, json)
        return
    if against is not None or recipe is not None:
        fail("--against and --recipe belong to --battery; two evaluations are compared by --compare A B")
    if (model is None) == (predictions is None) or task is None or data is None:
        fail("give --model REF or --predictions FILE, and with it --task TASK and --data FILE")
    if predictions is not None and (prompt is not None or new_tokens is not None or num_beams > 1 or tries > 1):
        fail("--prompt, --new-tokens, --num-beams and --tries are for a model that is asked, not for --predictions")
    settings = TaskSettings(
        language=language,
        limit=limit,
        prompt=prompt,
        template=cast('Literal["auto", "none", "chat"]', template),
        new_tokens=new_tokens,
        num_beams=num_beams,
        tries=tries,
        long_sources=cast('Literal["window", "refuse"]', long_sources),
        overlap=overlap,
    )
    wish = None if model is None else ModelWish(model, tokenizer, remote, allow_pickle)
    result = _measure(wish or predictions, task, DataWish(data, format, columns_of(columns)), settings, train, out)
    if json:
        print_json(result.to_json())
    else:
        _show(result)


def _measure(
    answers: ModelWish | Path | None,
    task: str,
    data: DataWish,
    settings: TaskSettings,
    train: str | None,
    out: Path | None,
) -> TaskResult:
    from guiju.tasks import evaluate, read_predictions, rereadable, task_named

    records = rereadable(data.path, task_named(task).kind, data.format, data.columns)
    examples = _train(train, data, task)
    if isinstance(answers, ModelWish):
        folder = out or default_folder(answers.reference, f"{task}-{data.stem}")
        asked = answers.load(folder / "calls.jsonl")
        return evaluate(task, records, model=asked, settings=settings, train=examples, out=folder, reporter=Progress())
    assert answers is not None
    progress = Progress()
    given = read_predictions(answers, progress)
    return evaluate(task, records, predictions=given, settings=settings, train=examples, out=out, reporter=progress)


def _train(train: str | None, data: DataWish, task: str) -> list[Labelled]:
    """What the baseline learns from: the file that is named, or the train file beside the data."""
    from guiju.tasks import Labelled, read_records

    if task != "sentiment":
        if train is not None:
            fail("--train is for the baseline of sentiment; other tasks bring theirs")
        return []
    if train is None:
        place = Path(data.path)
        beside = place.with_name("train" + place.name[len(place.name.partition(".")[0]) :])
        if beside == place or not beside.is_file():
            return []
        train = str(beside)
        typer.echo(f"baseline: logistic regression learns from {train}", err=True)
    return list(read_records(train, Labelled, data.format, data.columns))


def _show(result: TaskResult) -> None:
    typer.echo(f"{result.task}, n {result.n}, answers in {result.language}")
    if result.unanswered:
        refused = f", {result.refused} of them too long" if result.refused else ""
        typer.echo(f"{result.unanswered} without an answer{refused}: they count as wrong")
    show_table(figures(result.metrics))
    for name, metrics in result.baselines.items():
        typer.echo(f"\nbaseline: {name}")
        show_table(figures(metrics))
        if name in result.gaps:
            typer.echo(f"more than {name}, on the same samples:")
            show_table(changes(result.gaps[name]))
    if result.groups:
        typer.echo("\nby group")
        rows = [[name, *row] for name, metrics in result.groups.items() for row in figures(metrics)]
        show_table(rows)
    for name, signature in result.signatures.items():
        typer.echo(f"{name}: {signature}")
    if result.folder is not None:
        typer.echo(f"\nsamples: {result.folder / 'samples.html'}")


def _compare(before: Path, after: Path, json: bool) -> None:
    from guiju.tasks import compare

    found: Comparison = compare(before, after)
    if json:
        print_json(found.to_json())
        return
    typer.echo(f"{found.task}: from {before} to {after}, {found.n} samples that both hold")
    if found.left_out:
        typer.echo(f"{found.left_out} samples that only one of them holds are left out")
    rows = []
    for name, change in found.changes.items():
        one, other = found.before[name], found.after[name]
        scale = max(abs(one.high), abs(other.high))
        figures_ = [number(one.value, scale), number(other.value, scale)]
        rows.append([name, *figures_, f"{change.value:+.4f}", interval(change), change.verdict])
    show_table(rows, ["figure", "before", "after", "change", "95 % interval", "verdict"])
    typer.echo(f"verdict by {found.main}: {found.verdict}")


def _battery(model: ModelWish, against: ModelWish | None, recipe: Path | None, out: Path | None, json: bool) -> None:
    from guiju.tasks import load_battery, run_battery

    settings = load_battery(recipe)
    folder = out or default_folder(model.reference, "battery")
    other = None if against is None else against.load(folder / "calls.jsonl")
    asked = model.load(folder / "calls.jsonl")
    result = run_battery(asked, settings, folder, against=other, reporter=Progress())
    if json:
        print_json(result.to_json())
    else:
        _show_battery(result)


def _show_battery(result: BatteryResult) -> None:
    rows: list[list[object]] = []
    for line in result.lines:
        if line.estimate is None:
            rows.append([line.task, line.language, line.metric, "-", "-", f"not assessed: {line.why}", "", "", ""])
            continue
        row: list[object] = [line.task, line.language, line.metric, line.n]
        row += [number(line.estimate.value, line.estimate.high), interval(line.estimate)]
        if line.before is not None and line.change is not None:
            row += [number(line.before.value, line.before.high), f"{line.change.value:+.4f} {interval(line.change)}"]
            row.append(line.verdict)
        rows.append([*row, *[""] * (9 - len(row))])
    head = ["task", "answers", "figure", "n", "value", "95 % interval"]
    show_table(rows, [*head, "before", "change", "verdict"] if result.verdict else [*head, "", "", ""])
    if result.verdict is not None:
        typer.echo(f"\nverdict: {result.verdict} ({result.why})")
