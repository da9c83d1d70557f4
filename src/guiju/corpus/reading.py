"""Sources read as streams: never more than a chunk and one document in memory, whatever a file unpacks to."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from guiju.corpus.records import FieldReader, json_records, parquet_records, parse_json, table_records
from guiju.corpus.settings import HEADING_PREFIX, SPLIT_ON_BLANK_LINES, SPLIT_ON_FILE, SourceSettings
from guiju.corpus.sources import SourceFile
from guiju.errors import DataError

_CHUNK = 1 << 20
_LONGEST_HEADING = 1000


@dataclass(frozen=True, slots=True)
class RawDocument:
    """A document as its source holds it."""

    place: int
    """The line (of text and jsonl) or record (of json and tables) that it begins at, from 1."""
    text: str | None
    """None where it is longer than the limit; then `sha256` and `size_bytes` tell what was passed over."""
    size_bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line with its end. A line beyond the limit comes in several parts."""

    number: int
    text: str
    whole: bool
    """It ends here: at a line end, or at the end of the file."""


class ByteStream:
    """A file's bytes, unpacked as they are read; `.position` counts the packed bytes that are done."""

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        try:
            self._raw: BinaryIO = file.path.open("rb")
        except OSError as problem:
            raise DataError(f"{file.path} of source {file.source} cannot be read: {problem.strerror}") from None
        self._stream: BinaryIO = self._raw
        if file.compression == "gzip":
            self._stream = cast(BinaryIO, gzip.GzipFile(fileobj=self._raw))
        elif file.compression == "zstd":
            # A window of at most 128 MiB: a hostile frame may ask for gigabytes.
            opened = zstandard.ZstdDecompressor(max_window_size=1 << 27)
            self._stream = opened.stream_reader(self._raw, read_across_frames=True)

    @property
    def position(self) -> int:
        return self._raw.tell()

    def chunks(self) -> Iterator[bytes]:
        while chunk := self.read(_CHUNK):
            yield chunk

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as problem:
            raise DataError(
                f"{self.file.path} of source {self.file.source} is damaged {self.file.compression}: {problem}; "
                "fetch it again, and compare its checksum with the origin's"
            ) from None
        except OSError as problem:
            raise DataError(f"{self.file.path} of source {self.file.source} cannot be read: {problem}") from None

    def __enter__(self) -> ByteStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._raw.close()


def read_documents(source: SourceSettings, stream: ByteStream, max_bytes: int) -> Iterator[RawDocument]:
    """The documents of one file, in order.

    Args:
        max_bytes: a longer document is passed over: it comes without its text.
    Raises:
        DataError: the file is damaged, is not in the encoding, or is malformed; with file, place and way out.
        ConfigError: an extra is not installed.
    """
    file = stream.file
    if file.format in ("text", "markdown"):
        yield from _text_documents(source, _lines(source, stream, max_bytes, True), max_bytes)
    elif file.format == "jsonl":
        yield from _jsonl_documents(source, stream, max_bytes)
    else:
        fields = FieldReader(source, file.path)
        if file.format == "parquet":
            records = parquet_records(fields)
        elif file.format == "json":
            records = json_records(fields, _decoded(source, stream, translate=False), max_bytes)
        else:
            lines = (_bounded(line, file.path, max_bytes) for line in _lines(source, stream, max_bytes, False))
            records = table_records(fields, lines, "," if file.format == "csv" else "\t", max_bytes)
        for place, text in records:
            yield _document(place, text, max_bytes)
        fields.finish()


def _decoded(source: SourceSettings, stream: ByteStream, translate: bool) -> Iterator[str]:
    """The text in chunks. `translate` turns the line ends of all systems into the one."""
    encoding = source.encoding or "utf-8"
    decoder: codecs.IncrementalDecoder = codecs.getincrementaldecoder(encoding)("strict")
    newlines = io.IncrementalNewlineDecoder(None, translate=True) if translate else None
    done = 0
    first = True
    for chunk in stream.chunks():
        done += len(chunk)
        text = _decode(decoder, chunk, False, done, source, stream.file.path)
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        yield newlines.decode(text) if newlines else text
    tail = _decode(decoder, b"", True, done, source, stream.file.path)
    yield newlines.decode(tail, final=True) if newlines else tail


def _decode(
    decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool, done: int, source: SourceSettings, path: Path
) -> str:
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as problem:
        offset = done - len(problem.object) + problem.start
        byte = problem.object[problem.start]
        what = f"{path} of source {source.name} is not {source.encoding or 'UTF-8'}: byte {offset} is 0x{byte:02x}"
        if source.encoding:
            raise DataError(f"{what} ({problem.reason}); the encoding that the recipe names is another") from None
        hint = "utf-16" if offset == 0 and problem.object[:2] in (b"\xff\xfe", b"\xfe\xff") else "gb18030"
        raise DataError(
            f"{what} ({problem.reason}). Guessing would put wrong characters into the corpus: say which encoding it "
            f"is, such as `encoding: {hint}` in corpus.sources.{source.name}"
        ) from None
    except UnicodeError as problem:
        raise DataError(f"{path} of source {source.name} is not {source.encoding}: {problem}") from None


def _lines(source: SourceSettings, stream: ByteStream, limit: int, translate: bool) -> Iterator[Line]:
    number = 1
    parts: list[str] = []
    held = 0
    for chunk in _decoded(source, stream, translate):
        pieces = chunk.split("\n")
        for piece in pieces[:-1]:
            yield Line(number, "".join(parts) + piece + "\n" if parts else piece + "\n", True)
            parts.clear()
            held = 0
            number += 1
        if pieces[-1]:
            parts.append(pieces[-1])
            held += len(pieces[-1])
        if held > limit:
            yield Line(number, "".join(parts), False)
            parts.clear()
            held = 0
    if parts:
        yield Line(number, "".join(parts), True)


def _bounded(line: Line, path: Path, limit: int) -> str:
    if not line.whole:
        raise DataError(
            f"{path} line {line.number} is longer than {limit} bytes, more than a document may hold; "
            "raise corpus.max_document_bytes if that is meant"
        )
    return line.text


class _Assembly:
    """One document in the making; beyond the limit only its digest and size go on."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.place = 0
        self._parts: list[str] = []
        self._size = 0
        self._digest: hashlib._Hash | None = None

    def add(self, place: int, text: str) -> None:
        if not self._size:
            self.place = place
        self._size += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        if self._digest is not None:
            self._digest.update(text.encode("utf-8", "surrogatepass"))
            return
        self._parts.append(text)
        if self._size > self.limit:
            self._digest = hashlib.sha256("".join(self._parts).encode("utf-8", "surrogatepass"))
            self._parts.clear()

    def take(self) -> RawDocument | None:
        """The document, unless nothing but white space came together; and begin anew."""
        size, digest, text = self._size, self._digest, "".join(self._parts)
        self._size, self._digest = 0, None
        self._parts.clear()
        if digest is not None:
            return RawDocument(self.place, None, size, digest.hexdigest())
        text = text.removesuffix("\n")
        return RawDocument(self.place, text) if text.strip() else None


def _text_documents(source: SourceSettings, lines: Iterator[Line], limit: int) -> Iterator[RawDocument]:
    split = source.split_on
    heading = re.compile(split.removeprefix(HEADING_PREFIX)) if split.startswith(HEADING_PREFIX) else None
    marker = split.strip()
    assembly = _Assembly(limit)
    continued = False
    for line in lines:
        ends = begins = False
        if split == SPLIT_ON_FILE or continued or not line.whole:
            pass
        elif split == SPLIT_ON_BLANK_LINES:
            ends = not line.text.strip()
        elif heading is not None:
            begins = len(line.text) <= _LONGEST_HEADING and heading.match(line.text) is not None
        else:
            ends = len(line.text) <= len(marker) + 64 and line.text.strip() == marker
        continued = not line.whole
        if (ends or begins) and (document := assembly.take()):
            yield document
        if not ends:
            assembly.add(line.number, line.text)
    if document := assembly.take():
        yield document


def _jsonl_documents(source: SourceSettings, stream: ByteStream, limit: int) -> Iterator[RawDocument]:
    fields = FieldReader(source, stream.file.path)
    long = _Assembly(limit)
    continued = False
    for line in _lines(source, stream, limit, translate=False):
        if continued or not line.whole:
            long.add(line.number, line.text)
            continued = not line.whole
            if line.whole and (document := long.take()):
                yield document
        elif line.text.strip():
            yield _document(
                line.number, fields.text(parse_json(line.text, stream.file.path, line.number), line.number), limit
            )
    if document := long.take():
        yield document
    fields.finish()


def _document(place: int, text: str, limit: int) -> RawDocument:
    size = 0 if len(text) * 4 <= limit else len(text.encode("utf-8", "surrogatepass"))
    if size <= limit:
        return RawDocument(place, text)
    return RawDocument(place, None, size, hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
