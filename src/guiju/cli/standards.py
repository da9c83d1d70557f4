"""What standards ask: clauses as facts in our own words, dated, with their confidence."""

from __future__ import annotations

from typing import Annotated

import typer

from guiju.cli.screen import print_json, table

application = typer.Typer(help=__doc__, no_args_is_help=True)


@application.command("list", epilog="Example: guiju standards list --json")
def list_(json: Annotated[bool, typer.Option("--json", help="as JSON on stdout")] = False) -> None:
    """The standards in the catalogue."""
    from guiju.standards import list_standards

    found = list_standards()
    if json:
        print_json([standard.to_json() for standard in found])
    else:
        rows = [(s.id, s.designation, s.edition, s.clause_count, s.title_zh or s.title) for s in found]
        typer.echo(table(rows, head=("id", "standard", "edition", "clauses", "title")))


@application.command(epilog="Example: guiju standards show gbt-45654 --language zh")
def show(
    standard: Annotated[str, typer.Argument(help="a standard's id, such as gbt-45654", show_default=False)],
    clause: Annotated[str | None, typer.Option(help="one clause, or the beginning of its id")] = None,
    language: Annotated[str, typer.Option(help="en or zh")] = "en",
    as_of: Annotated[str | None, typer.Option(help="the day whose edition counts, such as 2025-11-01")] = None,
    json: Annotated[bool, typer.Option("--json", help="as JSON on stdout")] = False,
) -> None:
    """A standard's clauses: what each asks, its threshold, how it is measured, and how sure we are of it."""
    from guiju.standards import describe_clauses, load_standard

    loaded = load_standard(standard, as_of=as_of)
    clauses = [c for c in loaded.clauses if clause is None or c.id.startswith(clause)]
    if json:
        print_json({**loaded.to_json(), "clauses": [c.to_json() for c in clauses]})
    else:
        typer.echo(describe_clauses(loaded, clauses, language))
