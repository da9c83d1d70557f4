"""Build what a recipe describes: corpus, tokenizer, model, continuations, audit and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guiju.cli.screen import Progress, print_json

NAME = "run"
EXAMPLE = "Example: guiju run recipes/quickstart.yaml --set training.steps=200"


def command(
    recipe: Annotated[Path, typer.Argument(help="a recipe, such as recipes/quickstart.yaml", show_default=False)],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="STAGE.KEY=VALUE", help="one setting, laid over the recipe")
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="STAGE", help="this stage alone")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be done, and do nothing")] = False,
    out: Annotated[Path | None, typer.Option(help="the run folder; runs/NAME where not given")] = None,
    json: Annotated[bool, typer.Option("--json", help="the summary as JSON on stdout")] = False,
) -> None:
    from guiju.pipeline import describe_states, plan_states, run_recipe

    if dry_run:
        states = plan_states(recipe, overrides=set_ or [], only=only, out=out)
        if json:
            print_json([{"stage": s.stage.name, "status": s.status, "why": s.why} for s in states])
        else:
            typer.echo(describe_states(states))
        return
    summary = run_recipe(recipe, overrides=set_ or [], only=only, out=out, reporter=Progress())
    if json:
        print_json(summary.to_json())
    else:
        typer.echo(summary.text())
