"""All verbs under one name."""

from __future__ import annotations

from typing import Annotated

import typer

from guiju import __version__
from guiju.cli import (
    answer,
    audit,
    code,
    corpus,
    eval,
    export,
    finetune,
    generate,
    plan,
    run,
    score,
    sentiment,
    standards,
    summarize,
    translate,
    verify,
)

application = typer.Typer(
    name="guiju",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    help="guiju (规矩) builds language models to a standard: every step is its own proof.",
    epilog="First steps: guiju run recipes/quickstart.yaml, then guiju verify runs/quickstart.",
)

_VERBS = (
    run,
    plan,
    finetune,
    generate,
    score,
    translate,
    summarize,
    answer,
    code,
    sentiment,
    eval,
    export,
    audit,
    verify,
)
for verb in _VERBS:
    application.command(name=verb.NAME, help=verb.__doc__, epilog=verb.EXAMPLE)(verb.command)
application.add_typer(corpus.application, name="corpus")
application.add_typer(standards.application, name="standards")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"guiju {__version__}")
        raise typer.Exit


@application.callback()
def everything(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    pass
