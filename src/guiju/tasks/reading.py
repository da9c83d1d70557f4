"""Task data out of files: which format and columns a file has, and its records one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from guiju.errors import ConfigError, DataError
from guiju.tasks.fields import NAMES, Fields, check_columns, record_of
from guiju.tasks.records import Labelled, Pair, Question, Record
from guiju.tasks.rows import Row, aligned_rows, json_rows, jsonl_rows, parquet_rows, table_rows

R = TypeVar("R", bound=Record)

FORMATS = ("auto", "jsonl", "json", "csv", "tsv", "lines", "parquet")
_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "tsv",
    ".parquet": "parquet",
}
_LOOK = 20
"""Rows from which the layout of a table without a header is told."""


def read_records(
    path: str | Path | Sequence[str | Path],
    kind: type[R],
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
) -> Iterator[R]:
    """The records of a file, one by one as they are asked for; of .json an object or an article of SQuAD's at a time.

    Args:
        path: a file, plain or packed (.gz, .zst); for pairs also several that are aligned line by line (the sources
            first), as a list or with commas between: `a.en,a.de`.
        kind: of which records.
        format: one of FORMATS; auto tells it by the file's name. json is a list of objects, or SQuAD's form.
        columns: where the fields stand, such as {"source": "en", "target": "de"}, where they have no usual name; a dot
            leads inward; figures mean the columns of a table without a header, from "0". `groups` names several, with
            commas between.
    Raises:
        DataError: the file cannot be read, or a row is not such a record; with file and line.
        ConfigError: the format or a column's name is unknown, or an extra is not installed.
    """
    columns = dict(columns or {})
    check_columns(kind, columns)
    paths = _paths(path)
    format = _format(paths, kind, format)
    rows, found = _rows(paths, kind, format, columns)
    fields = Fields(kind, found)
    number = -1
    for number, row in enumerate(rows):
        yield record_of(kind, fields, row, number)
    if number < 0:
        raise DataError(f"{', '.join(map(str, paths))} holds no row")


@dataclass(frozen=True)
class RecordFile(Generic[R]):
    """The records of a file, to be read more than once; the fields are read_records' arguments."""

    path: str | Path | Sequence[str | Path]
    kind: type[R]
    format: str = "auto"
    columns: Mapping[str, str] | None = None

    def __iter__(self) -> Iterator[R]:
        return read_records(self.path, self.kind, self.format, self.columns)


def rereadable(
    path: str | Path | Sequence[str | Path],
    kind: type[R],
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
) -> Iterable[R]:
    """A file's records, to be read more than once: none are held, but those of a pipe, which gives them once."""
    file = RecordFile(path, kind, format, columns)
    return list(file) if any(one.is_fifo() for one in _paths(path)) else file


def read_unanswered(path: str | Path) -> list[Question]:
    """Questions with their passages, of which the answers need not be known: JSON lines of {"question", "context"}, or
    any file of questions.

    Raises:
        DataError, ConfigError: as read_records.
    """
    fields = Fields(Question, {})
    name = Path(path)
    rows, _ = _rows([name], Question, _format([name], Question, "auto"), {})
    known = (Row(row.place, {"answers": [], **row.values}) for row in rows)
    found = [record_of(Question, fields, row, number) for number, row in enumerate(known)]
    if not found:
        raise DataError(f"{path} holds no question")
    return found


def _paths(path: str | Path | Sequence[str | Path]) -> list[Path]:
    if isinstance(path, str | Path):
        whole = Path(path)
        if isinstance(path, Path) or "," not in path or whole.exists():
            return [whole]
        return [Path(part.strip()) for part in path.split(",") if part.strip()]
    if not path:
        raise ConfigError("no file of data is named")
    return [Path(one) for one in path]


def _format(paths: Sequence[Path], kind: type[Record], format: str) -> str:
    if format not in FORMATS:
        raise ConfigError(f"format is {format!r}; it can be {', '.join(FORMATS)}")
    if len(paths) > 1:
        if format not in ("auto", "lines") or kind is not Pair:
            raise ConfigError(
                f"{len(paths)} files are named, but only pairs are read from several at once, aligned line by line; "
                f"{kind.__name__} records stand in one file"
            )
        return "lines"
    if format == "lines":
        raise ConfigError(f"format is lines, but {paths[0]} is one file; name the sources' and the targets', a.en,a.de")
    if format != "auto":
        return format
    name = paths[0].with_suffix("") if paths[0].suffix.lower() in (".gz", ".zst") else paths[0]
    if name.suffix.lower() in _SUFFIXES:
        return _SUFFIXES[name.suffix.lower()]
    more = " For lines aligned with another file's, name both: a.en,a.de" if kind is Pair else ""
    raise ConfigError(f"{paths[0]} does not tell its format; name it: {', '.join(FORMATS[1:])}.{more}")


def _rows(
    paths: Sequence[Path], kind: type[Record], format: str, columns: dict[str, str]
) -> tuple[Iterator[Row], dict[str, str]]:
    """The rows, and where their fields stand."""
    if format == "lines":
        return aligned_rows(paths), columns
    path = paths[0]
    if format in ("csv", "tsv"):
        delimiter = "," if format == "csv" else "\t"
        header, columns = _layout(path, kind, delimiter, columns)
        rows = table_rows(path, delimiter, header)
        # A rating (VADER's means of people's figures from -4 to 4) says by its sign which class the text is of.
        return (_rated(row, columns) for row in rows) if columns.pop(_RATED, "") else rows, columns
    return {"jsonl": jsonl_rows, "json": json_rows, "parquet": parquet_rows}[format](path), columns


_RATED = "rated"


def _rated(row: Row, columns: Mapping[str, str]) -> Row:
    name = columns["label"]
    try:
        rating = float(row.values[name])
    except ValueError:
        raise DataError(f"{row.place}: the rating is {row.values[name]!r}; it must be a number") from None
    return Row(row.place, {**row.values, name: "1" if rating > 0 else "0"})


def _layout(path: Path, kind: type[Record], delimiter: str, columns: dict[str, str]) -> tuple[bool, dict[str, str]]:
    """Whether a table has a header, and where its fields stand."""
    if columns and all(value.isdigit() for name, value in columns.items() if name != "groups"):
        return False, columns
    rows = list(itertools.islice(table_rows(path, delimiter, False), _LOOK))
    if not rows:
        raise DataError(f"{path} holds no row")
    head = [cell.strip() for cell in rows[0].values.values()]
    if columns:
        for name, column in columns.items():
            for one in column.split(",") if name == "groups" else [column]:
                if one.strip() not in head:
                    raise DataError(f"{path} has no column {one!r}; its header names {', '.join(head[:12])}")
        return True, columns
    if all(any(name in head for name in names) for names in NAMES[kind].values()):
        return True, columns
    cells = [list(row.values.values()) for row in rows]
    first = 0
    if len(cells[0]) == 3 and len(rows) > 1 and len({row[0] for row in cells}) == 1:
        first = 1  # CSL's rows begin with the name of their task
    if kind is Labelled and not first and len(cells[0]) == 3 and all(_is_rating(row[1]) for row in cells):
        return False, {"id": "0", "label": "1", "text": "2", _RATED: "yes"}
    if kind is Labelled and len(cells[0]) == first + 2:
        short = [_are_labels(row[first + side] for row in cells) for side in (0, 1)]
        if short[0] != short[1]:
            return False, {"label": str(first + short[1]), "text": str(first + short[0])}
    if kind is Pair and len(cells[0]) == first + 2:
        return False, {"source": str(first), "target": str(first + 1)}
    if kind is Pair and len(cells[0]) == 3 and all("CC-BY" in row[2] for row in cells):
        return False, {"source": "0", "target": "1"}  # Tatoeba's third column says whose sentences they are
    wanted = " and ".join(NAMES[kind])
    example = ", ".join(f"{name}: {place}" for place, name in enumerate(NAMES[kind]))
    raise ConfigError(
        f"which of the {len(head)} columns of {path} hold {wanted} is not told by its first row ({_cut(head)}). Name "
        f"them, such as columns: {{{example}}}; figures count the columns from 0 where there is no header"
    )


def _is_rating(cell: str) -> bool:
    try:
        return -4 <= float(cell) <= 4
    except ValueError:
        return False


def _are_labels(cells: Iterable[str]) -> bool:
    """Whether they are classes rather than texts: short, without spaces, and some come again."""
    held = list(cells)
    return all(cell.strip() and len(cell) <= 24 and " " not in cell.strip() for cell in held) and (
        len(held) < 4 or len(set(held)) < len(held)
    )


def _cut(cells: Sequence[str]) -> str:
    text = " | ".join(cells)
    return text if len(text) <= 80 else text[:77] + "..."
