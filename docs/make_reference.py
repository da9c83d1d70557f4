"""Writes docs/reference.md from the code: every verb with its options, every recipe setting with its default.

Run by `make reference`; a test fails when the page is not what the code says.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
import typing
from pathlib import Path
from typing import Any

import typer.main

from guiju.cli.application import application
from guiju.model import ModelSettings
from guiju.pipeline import FinetuneRecipe, Recipe
from guiju.tokens import TokenizerSettings
from guiju.training import TrainingSettings

PAGE = Path(__file__).parent / "reference.md"


def reference() -> str:
    """The whole page."""
    lines = [
        "# Reference",
        "",
        "Generated from the code by `make reference`.",
        "",
        "## Verbs",
        "",
        "Exit codes: 0 ok, 1 a check failed, 2 usage or bad input, 130 stopped from the keyboard, 143 stopped by "
        "SIGTERM with a checkpoint written. Results go to stdout, progress and messages to stderr.",
        "",
    ]
    command = typer.main.get_command(application)
    for name, verb in sorted(command.commands.items()):
        inner = getattr(verb, "commands", None)
        for title, leaf in sorted(inner.items()) if inner else [("", verb)]:
            lines += _verb(f"guiju {name} {title}".rstrip(), leaf)
    lines += ["## Recipe", "", "A recipe names what differs from these defaults. Lists are written `[a, b]`.", ""]
    lines += _settings(Recipe, "")
    told = "For `guiju finetune`. `model`, `tokenizer` and `training` have the settings above."
    lines += ["## Recipe for fine-tuning", "", told, ""]
    lines += _settings(FinetuneRecipe, "", (ModelSettings, TokenizerSettings, TrainingSettings))
    return "\n".join(lines).rstrip() + "\n"


def _verb(title: str, verb: Any) -> list[str]:
    lines = [f"### `{title}`", "", inspect.cleandoc(verb.help or ""), ""]
    rows = []
    for parameter in verb.params:
        if parameter.name == "help":
            continue
        record = getattr(parameter, "help", "") or ""
        names = ", ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name.upper()
        default = parameter.default
        shown = (
            ""
            if default is None or default is False or callable(default) or "Sentinel" in repr(default)
            else f"`{default}`"
        )
        rows.append(f"| `{names}` | {record} | {shown} |")
    lines += ["| option | meaning | default |", "|---|---|---|", *rows, ""]
    if verb.epilog:
        lines += [
            verb.epilog.replace("Example: ", "Example: `").rstrip() + ("`" if "Example: " in verb.epilog else ""),
            "",
        ]
    return lines


def _settings(cls: type, place: str, seen: tuple[type, ...] = ()) -> list[str]:
    hints = typing.get_type_hints(cls)
    meanings = _field_docs(cls)
    rows, inner = [], []
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        kind = hints[field.name]
        nested = _nested(kind)
        if nested and nested not in seen:
            many = typing.get_origin(kind) is tuple
            inner += _settings(nested, f"{place}{field.name}{'[]' if many else ''}.", (*seen, cls))
        rows.append(f"| `{field.name}` | {_kind(kind)} | {_default(field)} | {meanings.get(field.name, '')} |")
    head = f"### `{place[:-1]}`" if place else "### At the top"
    about = inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    about = "" if about.startswith(cls.__name__ + "(") else about
    return [head, "", about, "", "| setting | type | default | meaning |", "|---|---|---|---|", *rows, "", *inner]


def _nested(kind: Any) -> type | None:
    for candidate in (kind, *typing.get_args(kind)):
        if isinstance(candidate, type) and dataclasses.is_dataclass(candidate):
            return candidate
    return None


def _kind(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) else str(kind)
    for long in ("typing.", "pathlib.", "collections.abc."):
        text = text.replace(long, "")
    if _nested(kind):
        text = "list" if typing.get_origin(kind) is tuple else "settings below"
    return f"`{text}`".replace("|", "\\|")


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return (
            f"`{field.default!r}`".replace("|", "\\|") if not isinstance(field.default, Path) else f"`{field.default}`"
        )
    if field.default_factory is not dataclasses.MISSING:
        return "" if dataclasses.is_dataclass(field.default_factory) else f"`{field.default_factory()!r}`"
    return "**required**"


def _field_docs(cls: type) -> dict[str, str]:
    """The string below each field, which Python itself forgets."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        tree = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(tree, ast.ClassDef)
        for statement, after in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                text = inspect.cleandoc(str(after.value.value)).replace("\n", " ")
                docs[statement.target.id] = text.replace("|", "\\|")
    return docs


if __name__ == "__main__":
    text = reference()
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == text else f"{PAGE} is not what the code says: make reference")
    PAGE.write_text(text, encoding="utf-8")
