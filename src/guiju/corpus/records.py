"""Records with fields (JSON, tables, parquet) turned into documents: which fields, joined how, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from guiju.corpus.settings import SourceSettings
from guiju.errors import ConfigError, DataError

_SPACE = " \t\r\n"


class FieldReader:
    """Takes a document's text out of records, by the fields that the recipe names."""

    def __init__(self, source: SourceSettings, path: Path) -> None:
        self.source = source
        self.path = path
        self._ways = [(name, tuple(name.split("."))) for name in source.fields]
        self._unseen = set(source.fields)
        self._records = 0

    def text(self, record: object, place: int) -> str:
        """The fields' values, one a line.

        Raises:
            DataError: the record has none of the fields, or one that holds no text.
        """
        self._records += 1
        if isinstance(record, str) and self.source.text_fields == "text":
            self._unseen.clear()
            return record
        if not isinstance(record, dict):
            raise DataError(
                f"{self.path} record at {place} is {type(record).__name__}, not an object with fields; "
                f"corpus.sources.{self.source.name}.records may have to lead to the list of records"
            )
        lines: list[str] = []
        found = False
        for name, way in self._ways:
            value = record[name] if name in record else _inward(record, way)
            if value is _NOTHING:
                continue
            found = True
            self._unseen.discard(name)
            lines.extend(self._lines(value, name, place))
        if not found:
            known = ", ".join(map(str, list(record)[:12]))
            raise DataError(
                f"{self.path} record at {place} has no field {' or '.join(self.source.fields)}; it has: {known}. "
                f"Name the fields in corpus.sources.{self.source.name}.text_fields"
            )
        return "\n".join(lines)

    def finish(self) -> None:
        """Raises a ConfigError where a named field stood in no record at all: it is misspelt."""
        if self._records and self._unseen:
            name = min(self._unseen)
            raise ConfigError(
                f"corpus.sources.{self.source.name}.text_fields names {name!r}, which no record of {self.path} has"
            )

    def _lines(self, value: object, name: str, place: int) -> Iterator[str]:
        if isinstance(value, str):
            if value:
                yield value
        elif isinstance(value, list | tuple):
            for item in value:
                yield from self._lines(item, name, place)
        elif isinstance(value, bool | dict):
            raise DataError(
                f"{self.path} record at {place}: the field {name!r} holds {type(value).__name__}, not text; "
                f"a dot leads inward, as in {name}.text"
            )
        elif value is not None:
            yield str(value)


_NOTHING = object()


def _inward(record: object, way: tuple[str, ...]) -> object:
    for key in way:
        if not isinstance(record, dict) or key not in record:
            return _NOTHING
        record = record[key]
    return record


def parse_json(text: str, path: Path, line: int) -> object:
    """One line of jsonl.

    Raises:
        DataError: it is no JSON; with file and line.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        what = problem.msg if isinstance(problem, json.JSONDecodeError) else str(problem) or "nested too deeply"
        raise DataError(
            f"{path} line {line} is not valid JSON: {what}. Each line must be one whole object; "
            "mend or remove the line: skipping it in silence would leave the corpus without it"
        ) from None


def json_records(fields: FieldReader, chunks: Iterable[str], limit: int) -> Iterator[tuple[int, str]]:
    """(place, text) of each record of a JSON file: a list is streamed, anything else must fit four times `limit`."""
    way = tuple(part for part in fields.source.records.split(".") if part)
    place = 0
    for item in _json_items(fields.path, chunks, limit):
        for record in _along(item, way, fields):
            place += 1
            yield place, fields.text(record, place)


def _json_items(path: Path, chunks: Iterable[str], limit: int) -> Iterator[object]:
    """The items of a top-level list one by one, or else the file's one value."""
    source = _Buffer(path, chunks)
    source.skip(_SPACE)
    if source.peek() != "[":
        source.fill_all(4 * limit)
        yield source.value(final=True)
        source.expect_end()
        return
    source.position += 1
    source.skip(_SPACE)
    if source.peek() == "]":
        source.position += 1
    else:
        while True:
            yield source.item(limit)
            source.skip(_SPACE)
            mark = source.peek()
            source.position += 1
            if mark == "]":
                break
            if mark != ",":
                source.fail("a comma or the end of the list is missing")
            source.skip(_SPACE)
    source.expect_end()


class _Buffer:
    """A window over the text of a JSON file."""

    def __init__(self, path: Path, chunks: Iterable[str]) -> None:
        self.path = path
        self.text = ""
        self.position = 0
        self._before = 0
        self._chunks = iter(chunks)
        self._decoder = json.JSONDecoder()

    def fill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._before += self.position
                self.text = self.text[self.position :] + chunk
                self.position = 0
                return True
        return False

    def fill_all(self, limit: int) -> None:
        parts, size = [self.text[self.position :]], len(self.text)
        for chunk in self._chunks:
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                raise DataError(
                    f"{self.path} is one JSON value of more than {limit} characters, which would have to lie in memory "
                    "whole; turn it into a list at the top or into jsonl, or raise corpus.max_document_bytes"
                )
        self._before += self.position
        self.text, self.position = "".join(parts), 0

    def skip(self, characters: str) -> None:
        while True:
            while self.position < len(self.text) and self.text[self.position] in characters:
                self.position += 1
            if self.position < len(self.text) or not self.fill():
                return

    def peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def item(self, limit: int) -> object:
        """The value that begins here, with as much more of the file as it takes."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self.text, self.position)
            except (ValueError, RecursionError) as problem:
                held = len(self.text) - self.position
                # Text cut off inside a value fails near its end; an error well before it is a true one.
                cut = not isinstance(problem, json.JSONDecodeError) or problem.pos >= len(self.text) - 16
                unterminated = isinstance(problem, json.JSONDecodeError) and problem.msg.startswith("Unterminated")
                if isinstance(problem, RecursionError) or not (cut or unterminated):
                    self._fail(problem)
                if held > 4 * limit:
                    self.fail(f"a record is longer than {4 * limit} characters; raise corpus.max_document_bytes")
                grown = False
                while len(self.text) - self.position < 2 * held and self.fill():
                    grown = True
                if not grown:
                    self._fail(problem)
                continue
            # A number at the window's end may go on in the next chunk.
            if end == len(self.text) and self.fill():
                continue
            self.position = end
            return value

    def value(self, final: bool) -> object:
        try:
            value, self.position = self._decoder.raw_decode(self.text, self.position)
        except (ValueError, RecursionError) as problem:
            self._fail(problem)
        return value

    def expect_end(self) -> None:
        self.skip(_SPACE)
        if self.peek():
            self.fail("something stands after the end of the value; is it jsonl? Then set format: jsonl")

    def _fail(self, problem: Exception) -> None:
        if isinstance(problem, json.JSONDecodeError):
            self.position = problem.pos
            self.fail(problem.msg)
        self.fail("it is nested too deeply" if isinstance(problem, RecursionError) else str(problem))

    def fail(self, what: str) -> None:
        raise DataError(
            f"{self.path} is not valid JSON at character {self._before + self.position}: {what}. "
            "Fetch it again, or mend it"
        )


def _along(value: object, way: tuple[str, ...], fields: FieldReader) -> Iterator[object]:
    """What lies at the end of a dotted way; lists on it are walked through."""
    if isinstance(value, list):
        for item in value:
            yield from _along(item, way, fields)
    elif not way:
        yield value
    elif isinstance(value, dict) and way[0] in value:
        yield from _along(value[way[0]], way[1:], fields)
    else:
        raise DataError(
            f"{fields.path}: corpus.sources.{fields.source.name}.records is {fields.source.records!r}, "
            f"but there is no {way[0]!r} on that way"
        )


def table_records(fields: FieldReader, lines: Iterable[str], delimiter: str, limit: int) -> Iterator[tuple[int, str]]:
    """(place, text) of each row. Commas follow RFC 4180's quotes; between tabs a quote is a character like others."""
    csv.field_size_limit(max(limit, csv.field_size_limit()))
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, strict=True)
    header: list[str] | None = None
    place = 0
    try:
        for row in reader:
            if not row:
                continue
            if header is None and fields.source.header:
                header = [name.strip() for name in row]
                _check_header(fields, header)
                continue
            place += 1
            names = header if header is not None else [str(number) for number in range(len(row))]
            if len(row) != len(names):
                raise DataError(
                    f"{fields.path} line {reader.line_num} has {len(row)} columns, but the header names {len(names)}; "
                    "mend the line: a shifted column would put the wrong text into the corpus"
                )
            yield place, fields.text(dict(zip(names, row, strict=True)), place)
    except csv.Error as problem:
        raise DataError(
            f"{fields.path} line {reader.line_num} is not a valid table row: {problem}. "
            "Mend the line, or name another format"
        ) from None


def _check_header(fields: FieldReader, header: list[str]) -> None:
    for name in fields.source.fields:
        if name not in header:
            raise DataError(
                f"{fields.path} has no column {name!r}; its header names {', '.join(header[:12])}. Name the columns in "
                f"corpus.sources.{fields.source.name}.text_fields, or set header: false"
            )


def parquet_records(fields: FieldReader) -> Iterator[tuple[int, str]]:
    """(place, text) of each row, a batch of rows at a time."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ConfigError(
            f"{fields.path} is parquet, which needs pyarrow: install guiju with the extra, pip install 'guiju[parquet]'"
        ) from None
    place = 0
    try:
        with pyarrow.parquet.ParquetFile(fields.path) as table:
            known = set(table.schema_arrow.names)
            wanted = sorted({name if name in known else name.split(".")[0] for name in fields.source.fields})
            for name in wanted:
                if name not in known:
                    raise DataError(
                        f"{fields.path} has no column {name!r}; it has {', '.join(sorted(known)[:12])}. "
                        f"Name the columns in corpus.sources.{fields.source.name}.text_fields"
                    )
            for batch in table.iter_batches(batch_size=256, columns=wanted, use_threads=False):
                rows: list[dict[str, Any]] = batch.to_pylist()
                for row in rows:
                    place += 1
                    yield place, fields.text(row, place)
    except (pyarrow.ArrowException, OSError) as problem:
        raise DataError(f"{fields.path} is not valid parquet: {problem}; fetch it again") from None
