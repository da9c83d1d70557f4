"""Hold a run or a model against a standard, and write down what is found."""

from __future__ import annotations

from typing import Annotated

import typer

from guiju.cli.screen import fail, print_json

NAME = "audit"
EXAMPLE = "Example: guiju audit runs/quickstart --standard gbt-45654 --fail-on fail,inconclusive"


def command(
    model: Annotated[str, typer.Argument(help="run folder or Hugging Face folder", show_default=False)],
    standard: Annotated[str, typer.Option(help="a standard's id; guiju standards list shows them")] = "gbt-45654",
    as_of: Annotated[str | None, typer.Option(help="the day whose edition counts, such as 2025-11-01")] = None,
    fail_on: Annotated[str, typer.Option(help="verdicts that make the exit code 1, with commas between")] = "fail",
    json: Annotated[bool, typer.Option("--json", help="findings as JSON on stdout")] = False,
) -> None:
    from guiju.audit import audit_reference, describe_findings
    from guiju.statistics import Verdict

    wanted = [word.strip() for word in fail_on.split(",") if word.strip()]
    unknown = [word for word in wanted if word not in list(Verdict)]
    if unknown:
        fail(f"--fail-on {unknown[0]}: there is no such verdict; known: {', '.join(Verdict)}")
    findings = audit_reference(model, standard, as_of=as_of)
    if json:
        print_json({"findings": [finding.to_json() for finding in findings]})
    else:
        typer.echo(describe_findings(findings))
    raise typer.Exit(1 if any(finding.verdict in wanted for finding in findings) else 0)
