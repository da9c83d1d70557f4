"""Let a model learn from examples: answers, labels, pairs, spans or preferences; whole, or by an adapter."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from guiju.cli.screen import Progress, print_json

if TYPE_CHECKING:
    from guiju.pipeline import ShownRow

NAME = "finetune"
EXAMPLE = "Example: guiju finetune recipes/finetune-answers.yaml --show-examples 3"
_STYLES = {
    "read": ("dim", "dim"),
    "learned": ("bold green underline", "green underline"),
    "rejected": ("bold red strike", "red strike"),
}


def command(
    recipe: Annotated[Path, typer.Argument(help="a recipe, such as recipes/finetune-answers.yaml", show_default=False)],
    show_examples: Annotated[
        int,
        typer.Option(min=0, max=16, metavar="N", help="show so many rows first, token by token, with what is learned"),
    ] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="STAGE.KEY=VALUE", help="one setting, laid over the recipe")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="STAGE", help="this stage alone; examples shows without learning")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would be done, and do nothing")] = False,
    out: Annotated[Path | None, typer.Option(help="the run folder; runs/NAME where not given")] = None,
    json: Annotated[bool, typer.Option("--json", help="the summary as JSON on stdout")] = False,
) -> None:
    from guiju.pipeline import describe_states, plan_finetune, run_finetune

    if dry_run:
        states = plan_finetune(recipe, overrides=set_ or [], only=only, out=out)
        if json:
            print_json([{"stage": s.stage.name, "status": s.status, "why": s.why} for s in states])
        else:
            typer.echo(describe_states(states))
        return
    summary = run_finetune(
        recipe,
        overrides=set_ or [],
        only=only,
        out=out,
        reporter=Progress(),
        examples=show_examples,
        show=lambda rows: show(rows, err=json),
    )
    if json:
        print_json(summary.to_json())
    else:
        typer.echo(summary.text())


def show(rows: Sequence[ShownRow], *, err: bool) -> None:
    """Rows with their mask: in colours on a terminal, in brackets elsewhere."""
    from rich.console import Console
    from rich.text import Text

    from guiju.pipeline import plain_text, runs

    console = Console(file=sys.stderr if err else sys.stdout, highlight=False, soft_wrap=True)
    if not console.is_terminal or console.no_color:
        typer.echo(f"What is learned stands in ⟦ ⟧, a bar between tokens.\n\n{plain_text(rows)}\n", err=err)
        return
    console.print(Text("What is learned is green and underlined; all else is only read.", style="italic"))
    for row in rows:
        shown = Text()
        shown.append(f"\n{row.place}: {row.learned} of {row.total} tokens learned\n", style="bold")
        for part, tokens in runs(row.tokens):
            for number, token in enumerate(tokens):  # neighbours differ a little: one sees where a token ends
                shown.append(_visible(token), style=_STYLES[part][number % 2])
        console.print(shown)


def _visible(token: str) -> str:
    """What a model reads may hold what steers a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in token)
