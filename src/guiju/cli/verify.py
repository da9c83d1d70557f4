"""Recompute everything that a run claims: its ledger, its files, its findings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guiju.cli.screen import fail, print_json

NAME = "verify"
EXAMPLE = "Example: guiju verify runs/quickstart --against kept-elsewhere.note"


def command(
    run: Annotated[Path, typer.Argument(help="a run folder", show_default=False)],
    against: Annotated[
        Path | None, typer.Option(help="a signed note of this run that was kept elsewhere: its anchor")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="the result as JSON on stdout")] = False,
) -> None:
    from guiju.evidence import verify_run

    if not run.is_dir():
        fail(f"{run} is no folder; give a run folder, such as runs/quickstart")
    result = verify_run(run, against=against)
    if json:
        problems = [{"entry": p.entry, "file": p.file, "message": p.message} for p in result.problems]
        print_json({"ok": result.ok, "problems": problems, "entries": result.entries, "files": result.files})
    elif result.ok:
        anchored = f", and it extends {against}" if against else ""
        typer.echo(f"ok: {result.entries} entries, {result.files} files and every finding hold{anchored}")
        if not against:
            typer.echo("(without --against NOTE, whoever holds the key could have rewritten the whole run)")
    else:
        for problem in result.problems:
            entry = "" if problem.entry is None else f"entry {problem.entry}: "
            file = "" if problem.file is None else f"{problem.file}: "
            typer.echo(f"{entry}{file}{problem.message}")
        typer.echo(f"NOT ok: {len(result.problems)} problems in {run}")
    raise typer.Exit(0 if result.ok else 1)
