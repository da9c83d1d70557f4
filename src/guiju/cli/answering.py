"""What translate, summarize, answer, code and sentiment share: texts in, answers of a model out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guiju.cli.measuring import ModelWish
from guiju.cli.screen import fail, print_json

if TYPE_CHECKING:
    from guiju.tasks import Record, Sample, TaskSettings

TextArgument = Annotated[str | None, typer.Argument(help="a text; - reads it from stdin", show_default=False)]
FileOption = Annotated[
    Path | None, typer.Option("--file", help='texts: a .txt file, or JSON lines of {"id", "text"}', show_default=False)
]
Prompt = Annotated[
    str | None, typer.Option(help='in place of the task\'s own, with the fields in braces, such as "{source} =>"')
]
NewTokens = Annotated[int | None, typer.Option(help="of an answer at most")]
LongSources = Annotated[str, typer.Option(help="what is longer than the context: window or refuse")]
Json = Annotated[bool, typer.Option("--json", help='{"results": [...]} on stdout')]


def texts_of(text: str | None, file: Path | None, *, by_line: bool) -> list[tuple[str, str]]:
    """Id and text of each text that is given: one, or those of a file.

    Args:
        by_line: whether each line of a plain file is a text of its own, or the file is one text.
    """
    from guiju.providers import read_texts

    if (text is None) == (file is None):
        fail("give a TEXT or --file FILE, and not both")
    if file is not None and file.suffix in (".jsonl", ".ndjson"):
        found = [(str(number) if id is None else str(id), one) for number, (id, one) in enumerate(read_texts(file))]
    elif file is not None:
        lines = read_file(file).splitlines() if by_line else [read_file(file)]
        found = [(str(number), line.strip()) for number, line in enumerate(lines)]
    else:
        found = [("0", sys.stdin.read() if text == "-" else str(text))]
    empty = [id for id, one in found if not one.strip()]
    if empty or not found:
        where = "" if file is None else f" of {file}"
        fail(f"text {empty[0] if empty else 0}{where} is empty, so there is nothing to ask; leave it out")
    return found


def read_file(file: Path) -> str:
    from guiju.errors import DataError

    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise DataError(f"{file} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{file} is not UTF-8 text: {problem}. Save it as UTF-8") from None


def answer_all(
    task: str,
    wish: ModelWish,
    records: Sequence[Record],
    settings: TaskSettings,
    tell: Callable[[Sample], Mapping[str, Any]],
    show: Callable[[Sample], str],
    json: bool,
    labels: Sequence[str] = (),
) -> None:
    """Ask, print, and exit with 1 where a text got no answer.

    Args:
        tell: what of a sample stands in the results.
        show: the same for people.
    """
    from guiju.tasks import ask, task_named

    model = wish.load()
    results, missing = [], 0
    for sample in ask(task_named(task), model, records, settings, labels):
        missing += sample.prediction is None
        why = {} if sample.prediction is not None else {"why": sample.details.get("why", "")}
        if json:
            results.append({"id": sample.record.id, **tell(sample), **why})
        elif sample.prediction is None:
            typer.echo(f"{sample.record.id}: no answer: {why['why']}", err=True)
        else:
            typer.echo(show(sample))
    if json:
        print_json({"results": results})
    raise typer.Exit(1 if missing else 0)
