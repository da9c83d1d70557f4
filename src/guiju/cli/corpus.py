"""Look into a run's corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guiju.cli.screen import print_json

application = typer.Typer(help=__doc__, no_args_is_help=True)


@application.command(epilog="Example: guiju corpus show runs/quickstart tinystories-17")
def show(
    run: Annotated[Path, typer.Argument(help="a run folder", show_default=False)],
    document: Annotated[str, typer.Argument(help="a document's id", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="the decision as JSON on stdout")] = False,
) -> None:
    """Explain one document: kept, changed or dropped, by which rule, and why."""
    from guiju.corpus import show_document

    shown = show_document(run / "corpus", document)
    if json:
        print_json(shown.to_json())
    else:
        typer.echo(shown.text())


@application.command(epilog="Example: guiju corpus judge runs/quickstart verdicts.jsonl")
def judge(
    run: Annotated[Path, typer.Argument(help="a run folder", show_default=False)],
    verdicts: Annotated[
        Path,
        typer.Argument(
            help='JSON lines of {"id", "verdict": "qualified" or "not-qualified", "by", "note"}', show_default=False
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="the measurement as JSON on stdout")] = False,
) -> None:
    """Put people's verdicts on the documents drawn for inspection on record; the next run audits anew."""
    from guiju.pipeline import record_judgement

    body = record_judgement(run, verdicts)
    if json:
        print_json(body)
    else:
        typer.echo(f"{body['count']} of {body['n']} drawn documents qualify; run the recipe again to audit with it")
