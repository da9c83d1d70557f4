"""What the verbs of tasks share: where results go, how a remote model is asked, and how figures look."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guiju.cli.screen import table
from guiju.errors import ConfigError

if TYPE_CHECKING:
    from guiju.providers import LanguageModel
    from guiju.tasks import Difference, Estimate

Remote = Annotated[
    list[str] | None,
    typer.Option(
        "--remote", metavar="KEY=VALUE", help="of openai:NAME: concurrency, max_cost, timeout_s, api and more"
    ),
]
Columns = Annotated[
    str | None, typer.Option(help="where fields stand, such as source=en,target=de; figures without a header")
]


@dataclass(frozen=True)
class ModelWish:
    """A model as options name it."""

    reference: str
    tokenizer: str | None
    remote: Sequence[str] | None
    allow_pickle: bool

    def load(self, calls: Path | None = None) -> LanguageModel:
        """The model. Of a remote one each call is recorded in `calls`."""
        from guiju.cli.loading import show_downloads
        from guiju.providers import RemoteSettings, load
        from guiju.settings import apply_overrides, from_mapping

        remote = from_mapping(RemoteSettings, apply_overrides({}, self.remote), "remote") if self.remote else None
        record = None if calls is None else CallLog(calls).add
        model = load(self.reference, self.tokenizer, pickles=self.allow_pickle, remote=remote, record_call=record)
        show_downloads(model.downloads)
        return model


@dataclass(frozen=True)
class DataWish:
    """Data as options name them."""

    path: str
    format: str
    columns: Mapping[str, str]

    @property
    def stem(self) -> str:
        return Path(self.path.split(",")[0]).name.partition(".")[0]


class CallLog:
    """Every request that leaves this machine, a line each; no text is in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, call: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:  # one write a line, so that threads do not mix them
            file.write(json.dumps(asdict(call), ensure_ascii=False) + "\n")


def default_folder(reference: str, name: str) -> Path:
    """Where an evaluation goes: beside others of this folder, never into a run, whose ledger names all its files."""
    slug = re.sub(r"[^\w.-]+", "-", reference.rstrip("/").rpartition("/")[2]).strip("-.") or "model"
    return Path("evaluations") / slug / name


def columns_of(text: str | None) -> dict[str, str]:
    """source=en,target=de as a mapping; a plus sign joins several columns of groups."""
    found: dict[str, str] = {}
    for part in (text or "").split(",") if text else []:
        name, equals, column = part.partition("=")
        if not equals or not name.strip() or not column.strip():
            raise ConfigError(f"--columns {part!r} is not of the form field=column, such as source=en,target=de")
        found[name.strip()] = column.strip().replace("+", ",")
    return found


def figures(metrics: Mapping[str, Estimate]) -> list[list[str]]:
    """Rows of name, value, interval and n."""
    return [[name, number(one.value, one.high), interval(one), f"n {one.n}"] for name, one in metrics.items()]


def interval(one: Estimate | Difference) -> str:
    return f"[{number(one.low, one.high)}, {number(one.high, one.high)}]"


def number(value: float, scale: float) -> str:
    """Two digits behind the point for figures up to 100, four for shares."""
    return f"{value:.2f}" if abs(scale) > 1.5 else f"{value:.4f}"


def changes(rows: Mapping[str, Difference]) -> list[list[str]]:
    return [[name, f"{one.value:+.4f}", interval(one), one.verdict] for name, one in rows.items()]


def show_table(rows: Sequence[Sequence[object]], head: Sequence[str] = ()) -> None:
    typer.echo(table(rows, head))
