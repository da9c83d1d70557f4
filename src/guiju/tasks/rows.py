"""Files of task data as rows: each a place to name in messages, and a mapping of fields as the file calls them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, cast

import zstandard

from guiju.errors import ConfigError, DataError
from guiju.tasks.json_text import JsonText

LONGEST_LINE = 1 << 26
"""Characters. A longer line is no row of text, and is refused before it fills memory."""

_DAMAGE = (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError)


@dataclass(frozen=True)
class Row:
    """One record as its file holds it."""

    place: str
    values: Mapping[str, Any]


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """A file's text, unpacked as it is read where its name ends in .gz or .zst; line ends stay as they are.

    Raises:
        DataError: it is missing, is a folder, is damaged, or is not UTF-8.
    """
    with ExitStack() as opened:
        try:
            raw = opened.enter_context(path.open("rb"))
        except IsADirectoryError:
            raise DataError(f"{path} is a folder; give a file in it") from None
        except OSError as problem:
            raise DataError(f"{path} cannot be read: {problem.strerror}") from None
        packing = path.suffix.lower()
        stream: Any = raw
        if packing == ".gz":
            stream = gzip.GzipFile(fileobj=raw)
        elif packing == ".zst":
            # A window of at most 128 MiB: a hostile frame may ask for gigabytes.
            stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(raw, read_across_frames=True)
        buffered = opened.enter_context(io.BufferedReader(cast("io.RawIOBase", stream)))
        try:
            yield io.TextIOWrapper(buffered, encoding="utf-8-sig", newline="\n")
        except UnicodeDecodeError as problem:
            byte = problem.object[problem.start]
            raise DataError(
                f"{path} is not UTF-8 text: a byte 0x{byte:02x} in it begins no character. Save it as UTF-8: guessing "
                "the encoding would put wrong characters into the figures"
            ) from None
        except _DAMAGE as problem:
            raise DataError(f"{path} is damaged {packing[1:]}: {problem}; fetch it again") from None
        except OSError as problem:
            raise DataError(f"{path} cannot be read: {problem}") from None


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number from 1 and text of each line, without its end.

    Raises:
        DataError: as open_text; also where a line is beyond all measure.
    """
    with open_text(path) as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise DataError(f"{path}, line {number} is longer than {LONGEST_LINE} characters: it is no row of text")
            yield number, line.removesuffix("\n").removesuffix("\r")


def jsonl_rows(path: Path) -> Iterator[Row]:
    """A row of each line that is not empty.

    Raises:
        DataError: a line is no JSON object; with its number.
    """
    for number, line in text_lines(path):
        if line.strip():
            place = f"{path}, line {number}"
            yield Row(place, _object(_parsed(line, place), place))


def json_rows(path: Path) -> Iterator[Row]:
    """The objects of a JSON list, or the questions of a file in SQuAD's form; an object or an article at a time.

    Raises:
        DataError: it is no such JSON; with the line.
    """
    with open_text(path) as file:
        text = JsonText(file, path)
        match text.next():
            case "[":
                for line in text.items():
                    place = f"{path}, line {line}"
                    yield Row(place, _object(text.value(), place))
                text.end()
            case "{":
                yield from _squad_rows(path, text)
            case _:
                _object(text.value(), str(path))


def _squad_rows(path: Path, text: JsonText) -> Iterator[Row]:
    names: list[str] = []
    is_squad = False
    for name in text.fields():
        names += [name][: 12 - len(names)]
        if name == "data" and text.next() == "[":
            is_squad = True
            for number, _ in enumerate(text.items()):
                yield from _article_rows(f"{path}, data[{number}]", path, text.value())
        else:
            text.value()
    text.end()
    if not is_squad:
        raise DataError(
            f"{path} holds one JSON object, with {', '.join(names)}; it must be a list of records, or have "
            'SQuAD\'s form, which begins {"data": [{"paragraphs": ...'
        )


def _article_rows(where: str, path: Path, article: Any) -> Iterator[Row]:
    for index, paragraph in enumerate(_list(article, "paragraphs", where)):
        place = f"{where}.paragraphs[{index}]"
        questions = _list(paragraph, "qas", place)
        for count, question in enumerate(questions):
            held = dict(_object(question, f"{place}.qas[{count}]"))
            name = held.get("id")
            held |= {"context": paragraph.get("context"), "title": article.get("title", paragraph.get("title", ""))}
            yield Row(f"{path}, question {name}" if name is not None else f"{place}.qas[{count}]", held)


def table_rows(path: Path, delimiter: str, header: bool) -> Iterator[Row]:
    """A row of each line of a table; without a header its columns are called "0", "1", ...

    Raises:
        DataError: a line has more or fewer columns than the first, or is no row; with its number.
    """
    csv.field_size_limit(max(LONGEST_LINE, csv.field_size_limit()))
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    # A quoted cell may hold line ends, so csv gets the lines with theirs.
    reader = csv.reader(
        (line + "\n" for _, line in text_lines(path)), delimiter=delimiter, quoting=quoting, strict=True
    )
    names: list[str] | None = None
    begun = 1
    try:
        for cells in reader:
            begun, place = reader.line_num + 1, f"{path}, line {begun}"
            if not cells:
                continue
            if names is None:
                names = [cell.strip() for cell in cells] if header else [str(number) for number in range(len(cells))]
                if header:
                    continue
            if len(cells) != len(names):
                raise DataError(
                    f"{place} has {len(cells)} columns, but the file began with {len(names)}. Mend the line: a shifted "
                    "column would count the wrong text"
                )
            yield Row(place, dict(zip(names, cells, strict=True)))
    except csv.Error as problem:
        raise DataError(f"{path}, line {reader.line_num} is not a row of a table: {problem}. Mend the line") from None


def aligned_rows(paths: Sequence[Path]) -> Iterator[Row]:
    """Line i of all files together: the first holds the sources, the others a target each.

    Raises:
        DataError: one has more lines than another.
    """
    streams = [text_lines(path) for path in paths]
    number = 0
    while True:
        number += 1
        lines = [next(stream, None) for stream in streams]
        ended = [path for path, line in zip(paths, lines, strict=True) if line is None]
        if len(ended) == len(paths):
            return
        if ended:
            longer = next(path for path, line in zip(paths, lines, strict=True) if line is not None)
            raise DataError(
                f"{ended[0]} ends before line {number}, but {longer} goes on. Line i of one file belongs to line i of "
                "the other: find the line that is missing"
            )
        texts = [line[1] for line in lines if line is not None]
        yield Row(f"{paths[0]}, line {number}", {"source": texts[0], "target": texts[1:]})


def parquet_rows(path: Path) -> Iterator[Row]:
    """Each row of a parquet file, a batch at a time.

    Raises:
        ConfigError: the extra is not installed.
        DataError: it is no parquet.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(
            f"{path} is parquet, which needs pyarrow: install guiju with the extra, pip install 'guiju[parquet]'"
        ) from None
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=256, use_threads=False):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}, row {number}", values)
    except (pyarrow.ArrowException, OSError) as problem:
        raise DataError(f"{path} is not valid parquet: {problem}; fetch it again") from None


def _parsed(text: str, place: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        what = problem.msg if isinstance(problem, json.JSONDecodeError) else str(problem) or "nested too deeply"
        raise DataError(f"{place} is not valid JSON: {what}. Mend it: skipping it would change the figures") from None


def _object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{place} holds {type(value).__name__}; it must be an object with named fields")
    return value


def _list(value: object, name: str, place: str) -> list[Any]:
    held = value.get(name) if isinstance(value, dict) else None
    if not isinstance(held, list):
        raise DataError(f"{place} has no list {name!r}; SQuAD's form is data, paragraphs, qas")
    return held
