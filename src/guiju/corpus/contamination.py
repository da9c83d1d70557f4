"""Contamination: whether a document holds a run of 13 tokens that also stands in an evaluation item.

Tokens are words, and single characters in scripts without spaces such as Chinese; case and punctuation do not count.
Every 7th place of a document is looked up as the hash of the 7 tokens there: a shared run of 13 covers such a place
whole, wherever it begins. From there the run is traced token by token, so that no collision can accuse a document.
Source: Brown et al. 2020, Language Models are Few-Shot Learners (arXiv:2005.14165), appendix C.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt
import zstandard

from guiju.errors import DataError
from guiju.storage import sha256_bytes

SIZE = 13
_MOST_BYTES = 1 << 30  # of one evaluation file, unpacked: it is held in memory by every process
Int64s = npt.NDArray[np.int64]

# Thai, Lao, Burmese, Khmer, kana and Han are written without spaces: there a token is a character.
_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_TOKEN = re.compile(rf"[^\W_{_ALONE}]+|[{_ALONE}]")
_ASCII_TOKEN = re.compile(r"[a-z0-9]+")
_HEADER_CELL = re.compile(r"[^\W\d][\w .-]{0,39}")
_IDS = ("id", "task_id", "_id", "qid", "uid", "example_id")


@dataclass(frozen=True)
class Overlap:
    """What a document shares with evaluation items."""

    items: frozenset[str]
    """Names of the items: file, then id or number."""
    size: int
    """Tokens a shared run has."""
    count: int
    """Places in the document where a shared run begins."""
    gram: str
    """The first shared run, its tokens joined by spaces."""


class NgramIndex:
    """The runs of all texts of all evaluation items."""

    def __init__(self, items: Iterable[tuple[str, list[str]]], size: int = SIZE) -> None:
        """
        Args:
            items: name and texts of each; a run never reaches from one text into the next.
            size: tokens a run has.
        """
        assert size >= 1
        self.size = size
        self.items = 0
        """Items that are long enough to be looked for."""
        self.items_too_short = 0
        """Items none of whose texts has `size` tokens: nothing can be said about them."""
        self.files: dict[str, str] = {}
        """SHA-256 of each file that was read, by name."""
        # A run of `size` covers `_seed` tokens that begin at a multiple of `_stride`.
        self._seed = (size + 1) // 2
        self._stride = size - self._seed + 1
        self._names: list[str] = []
        self._vocabulary: dict[str, int] = {}
        ids: list[array[int]] = []
        hashes, starts = array("q"), array("q", [0])
        seen: Counter[str] = Counter()
        for name, texts in items:
            seen[name] += 1
            long_enough = [tokens for tokens in map(tokens_of, texts) if len(tokens) >= size]
            for tokens in long_enough:
                ids.append(array("i", [self._vocabulary.setdefault(one, len(self._vocabulary)) for one in tokens]))
                hashes.extend(self._hash(tokens, place) for place in range(len(tokens) - self._seed + 1))
                starts.append(starts[-1] + len(tokens))
                self._names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
            self.items += bool(long_enough)
            self.items_too_short += not long_enough
        # All texts' tokens in one row, where text i begins at starts[i]; for each hash, in order, its place in the row.
        self._starts = np.array(starts)
        self._ids = np.concatenate([np.zeros(0, np.int32), *ids])
        places = [np.arange(start, stop - self._seed + 1) for start, stop in pairwise(starts)]
        unordered = np.array(hashes, np.int64)
        order = np.argsort(unordered, kind="stable")
        self._hashes: Int64s = unordered[order]
        self._places: Int64s = np.concatenate([np.zeros(0, np.int64), *places])[order]
        # A table answers most questions without a search: whether any hash has these lowest bits.
        bits = min(26, max(16, (16 * len(hashes)).bit_length()))
        table = np.zeros(1 << bits, np.uint8)
        table[self._hashes & (len(table) - 1)] = 1
        self._table = table.tobytes()

    @classmethod
    def from_files(cls, *paths: Path, size: int = SIZE, fields: Iterable[str] | None = None) -> NgramIndex:
        """An index of evaluation files: jsonl, json (SQuAD's shape as well), csv, tsv, txt, md; plain, .gz or .zst.

        Args:
            fields: names of the fields whose texts count, at any depth; all texts without it.
        Raises:
            DataError: a file is missing, damaged, malformed, of unknown form, or holds nothing to look for.
        """
        names = _short_names(paths)
        wanted = frozenset(fields) if fields is not None else None
        digests: dict[str, str] = {}

        def all_items() -> Iterator[tuple[str, list[str]]]:
            for path in paths:
                content = _content(path, digests, names[path])
                found = False
                for item, texts in _items(path, content, wanted):
                    found = found or bool(texts)
                    yield f"{names[path]}:{item}", texts
                if not found:
                    raise DataError(
                        f"evaluation file {path} holds no text"
                        + (f" in the fields {', '.join(sorted(wanted))}" if wanted is not None else "")
                        + "; without it nothing could be said about contamination"
                    )

        index = cls(all_items(), size)
        index.files = digests
        return index

    def __reduce__(self) -> NoReturn:
        # Python salts hash() in each process: an index that came from another one would find nothing, silently.
        raise TypeError("an NgramIndex cannot be sent to another process; make it there with NgramIndex.from_files")

    def overlap(self, text: str) -> Overlap | None:
        """What a document shares with evaluation items; none where it shares nothing."""
        tokens = tokens_of(text)
        table, mask, seed = self._table, len(self._table) - 1, self._seed
        shared: set[int] = set()
        names: set[str] = set()
        for place in range(0, len(tokens) - seed + 1, self._stride):
            # What _hash does, without the call: this line is where the time goes.
            if table[hash(" ".join(tokens[place : place + seed])) & mask]:
                for run_start, name in self._runs_about(tokens, place):
                    shared.add(run_start)
                    names.add(name)
        if not shared:
            return None
        first = min(shared)
        return Overlap(frozenset(names), self.size, len(shared), " ".join(tokens[first : first + self.size]))

    def _runs_about(self, tokens: list[str], place: int) -> Iterator[tuple[int, str]]:
        """Where shared runs begin that cover the seed at `place`, each with the item that holds it."""
        sought = self._hash(tokens, place)
        low, high = (int(np.searchsorted(self._hashes, sought, side)) for side in ("left", "right"))
        if low == high:
            return
        reach = self.size - self._seed
        first = max(0, place - reach)
        here = [self._vocabulary.get(token, -1) for token in tokens[first : place + self.size]]
        for there in self._places[low:high].tolist():
            number = int(np.searchsorted(self._starts, there, "right")) - 1
            # The same stretch of the item's text: as far left and right as both texts go.
            back = min(place - first, there - int(self._starts[number]))
            end = min(there - back + len(here), int(self._starts[number + 1]))
            item = self._ids[there - back : end].tolist()
            mine = here[place - first - back :][: len(item)]
            for start in range(len(item) - self.size + 1):
                if item[start : start + self.size] == mine[start : start + self.size]:
                    yield place - back + start, self._names[number]

    def _hash(self, tokens: list[str], place: int) -> int:
        return hash(" ".join(tokens[place : place + self._seed]))


def tokens_of(text: str) -> list[str]:
    """Words and single characters, in lower case, without punctuation."""
    lowered = text.lower()
    return (_ASCII_TOKEN if lowered.isascii() else _TOKEN).findall(lowered)


def _short_names(paths: Iterable[Path]) -> dict[Path, str]:
    """The file's name, or folder and name where two share a name."""
    paths = list(paths)
    counts = Counter(path.name for path in paths)
    return {path: path.name if counts[path.name] == 1 else f"{path.parent.name}/{path.name}" for path in paths}


def _content(path: Path, digests: dict[str, str], name: str) -> str:
    try:
        raw = path.read_bytes()
    except OSError as problem:
        raise DataError(f"evaluation file {path} cannot be read: {problem.strerror}; correct the path") from None
    digests[name] = sha256_bytes(raw)
    try:
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(raw)) as stream:
                raw = stream.read(_MOST_BYTES + 1)
        elif path.suffix == ".zst":
            with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(raw)) as stream:
                raw = stream.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as problem:
        raise DataError(f"evaluation file {path} is damaged: {problem}; fetch it again") from None
    if len(raw) > _MOST_BYTES:
        raise DataError(f"evaluation file {path} holds more than {_MOST_BYTES} bytes; split it, or name a part of it")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DataError(f"evaluation file {path} is not UTF-8 (byte {problem.start}); convert it") from None


def _items(path: Path, content: str, fields: frozenset[str] | None) -> Iterator[tuple[str, list[str]]]:
    form = (path.with_suffix("") if path.suffix in (".gz", ".zst") else path).suffix.lower()
    if form == ".jsonl":
        rows = [line for line in content.split("\n") if line.strip()]
        for number, row in enumerate(rows):
            yield _record(number, _json(path, row, f", row {number + 1},"), fields)
    elif form == ".json":
        for number, record in enumerate(_records(_json(path, content, ""))):
            yield _record(number, record, fields)
    elif form in (".csv", ".tsv"):
        yield from _table(path, content, "," if form == ".csv" else "\t", fields)
    elif form in (".txt", ".md", ".text"):
        # Paragraphs where there are any, or else lines: sets such as parallel texts hold an item a line.
        parts = re.split(r"\n[ \t]*\n", content.replace("\r\n", "\n"))
        for number, part in enumerate(parts if len(parts) > 2 else content.splitlines()):
            if part.strip():
                yield str(number), [part]
    else:
        raise DataError(
            f"evaluation file {path} is of unknown form {form or '(no ending)'!r}; "
            "known are jsonl, json, csv, tsv, txt and md, plain, .gz or .zst"
        )


def _json(path: Path, text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as problem:
        raise DataError(f"evaluation file {path}{where} is not JSON: {problem}") from None


def _records(loaded: Any) -> Iterator[Any]:
    """The items of a JSON file: paragraphs in SQuAD's shape, the elements of a list, or of the lists in an object."""
    if isinstance(loaded, dict):
        lists = [value for value in loaded.values() if isinstance(value, list)]
        if not lists:
            yield from loaded.values() if all(isinstance(value, dict) for value in loaded.values()) else (loaded,)
        for values in lists:
            yield from _records(values)
    elif isinstance(loaded, list):
        for value in loaded:
            if isinstance(value, dict) and isinstance(value.get("paragraphs"), list):
                yield from value["paragraphs"]
            else:
                yield value
    else:
        yield loaded


def _record(number: int, record: Any, fields: frozenset[str] | None) -> tuple[str, list[str]]:
    named = (
        next((record[key] for key in _IDS if isinstance(record.get(key), (str, int))), number)
        if isinstance(record, dict)
        else number
    )
    return str(named), list(_texts(record, fields, fields is None))


def _texts(value: Any, fields: frozenset[str] | None, chosen: bool) -> Iterator[str]:
    if isinstance(value, str):
        if chosen:
            yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, fields, chosen or (fields is not None and key in fields))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, fields, chosen)


def _table(path: Path, content: str, delimiter: str, fields: frozenset[str] | None) -> Iterator[tuple[str, list[str]]]:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    try:
        rows = [
            row for row in csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, quoting=quoting) if row
        ]
    except csv.Error as problem:
        raise DataError(f"evaluation file {path} is malformed: {problem}") from None
    header = rows[0] if rows and all(_HEADER_CELL.fullmatch(cell) for cell in rows[0]) else None
    for number, row in enumerate(rows[1:] if header else rows):
        names = header or [str(column) for column in range(len(row))]
        yield (
            str(number),
            [
                cell
                for column, cell in enumerate(row)
                if fields is None or (column < len(names) and names[column] in fields)
            ],
        )
