"""Forecast a run's parameters, FLOPs, memory, time, energy, CO2 and money, before it costs anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from guiju.cli.screen import fail, print_json

NAME = "plan"
EXAMPLE = (
    "Example: guiju plan recipes/quickstart.yaml, or: guiju plan --params 7e9 --tokens 2e12 --device a100 --count 64"
)


def command(
    recipe: Annotated[Path | None, typer.Argument(help="a recipe", show_default=False)] = None,
    params: Annotated[float | None, typer.Option(help="parameters, such as 7e9")] = None,
    tokens: Annotated[float | None, typer.Option(help="training tokens, such as 2e12")] = None,
    device: Annotated[str | None, typer.Option(help="a device of the table, such as h100")] = None,
    count: Annotated[int | None, typer.Option(help="how many of them (1 where not given)")] = None,
    utilization: Annotated[
        float | None, typer.Option(help="share of the peak that training reaches, 0 to 1 (0.4 where not given)")
    ] = None,
    price_per_hour: Annotated[float | None, typer.Option(help="money for a device and hour")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="STAGE.KEY=VALUE", help="one setting, laid over the recipe")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="the forecast as JSON on stdout")] = False,
) -> None:
    from guiju.compute import describe_plan, plan_from_counts

    if recipe is not None:
        from guiju.pipeline import plan_recipe

        if any(value is not None for value in (params, tokens, device, count, utilization)):
            fail("give either a recipe, or --params, --tokens and --device with --count and --utilization")
        price = [] if price_per_hour is None else [f"cost.price_per_hour={price_per_hour}"]
        plan = plan_recipe(recipe, overrides=[*(set_ or []), *price])
    elif params is None or tokens is None or device is None:
        fail("give a recipe, or all of --params, --tokens and --device")
    elif set_:
        fail("--set lays a setting over a recipe; give the recipe, or leave --set out")
    else:
        plan = plan_from_counts(
            params=params,
            tokens=tokens,
            device=device,
            count=1 if count is None else count,
            utilization=0.4 if utilization is None else utilization,
            price_per_hour=price_per_hour,
        )
    if json:
        print_json(plan.to_json())
    else:
        typer.echo(describe_plan(plan))
