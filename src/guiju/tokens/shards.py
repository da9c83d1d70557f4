"""Documents as token ids on disk: plain little-endian integers, mapped into memory, with an index beside them.

A document is its text's tokens and one end-of-text token after them; documents stand one after the other, and may go
on in the next file. Folder: index.json, tokens-00000.bin ..., documents.bin (int64: 0, then the end of each
document), ids.jsonl (a document's id a line, in the same order).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from guiju.errors import DataError, ModelError
from guiju.storage import folder_atomic, sha256_bytes, sha256_file, write_bytes
from guiju.tokens.tokenizer import Tokenizer

FORMAT = 1
DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
BOUNDARY = np.dtype("<i8")
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of token ids."""

    file: str
    tokens: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """What a folder of token files holds."""

    dtype: str
    tokenizer: str
    """SHA-256 of the tokenizer.json that made the ids."""
    vocab_size: int
    end_of_text: int
    tokens: int
    """Text tokens and one end-of-text token a document."""
    documents: int
    text_bytes: int
    """UTF-8 bytes of all texts."""
    shards: tuple[Shard, ...]
    documents_sha256: str
    ids_sha256: str
    format: int = FORMAT

    @property
    def digest(self) -> str:
        """SHA-256 over the index: it changes with any token, boundary, id or tokenizer."""
        return sha256_bytes(_plain(self))


def write_shards(
    documents: Iterable[tuple[str, str]], tokenizer: Tokenizer, folder: Path, *, shard_tokens: int = 1 << 26
) -> ShardIndex:
    """Tokenize documents into a folder, which appears whole or not at all.

    Args:
        documents: (id, text) pairs, read once; memory stays bounded.
        shard_tokens: most tokens a file holds.
    Raises:
        DataError: there is no document with text.
        ModelError: the tokenizer has no end-of-text token.
    """
    if tokenizer.eos_id is None:
        raise ModelError(
            "this tokenizer has no eos_token, so no token can end a document; name one in tokenizer_config.json"
        )
    dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
    with folder_atomic(Path(folder)) as made:
        ends, ids, text_bytes = [0], hashlib.sha256(), 0
        with _ShardWriter(made, DTYPES[dtype], shard_tokens) as writer, (made / "ids.jsonl").open("wb") as names:
            for name, text, tokens in _encoded(documents, tokenizer):
                writer.append([*tokens, tokenizer.eos_id])
                ends.append(writer.tokens)
                text_bytes += len(text.encode())
                line = (json.dumps(name, ensure_ascii=False) + "\n").encode()
                ids.update(line)
                names.write(line)
        if text_bytes == 0:
            raise DataError("no document holds text, so there is nothing to tokenize; see the corpus decisions")
        boundaries = np.asarray(ends, dtype=BOUNDARY).tobytes()
        write_bytes(made / "documents.bin", boundaries)
        index = ShardIndex(
            dtype=dtype,
            tokenizer=tokenizer.digest,
            vocab_size=tokenizer.vocab_size,
            end_of_text=tokenizer.eos_id,
            tokens=writer.tokens,
            documents=len(ends) - 1,
            text_bytes=text_bytes,
            shards=tuple(writer.done),
            documents_sha256=sha256_bytes(boundaries),
            ids_sha256=ids.hexdigest(),
        )
        write_bytes(made / "index.json", _plain(index))
    return index


class TokenData:
    """The tokens of a folder, read where they lie."""

    def __init__(self, folder: Path, index: ShardIndex) -> None:
        self.folder = folder
        self.index = index
        dtype = DTYPES[index.dtype]
        self._shards = [
            np.memmap(folder / shard.file, dtype=dtype, mode="r", shape=(shard.tokens,)) for shard in index.shards
        ]
        self._starts = np.cumsum([0, *(shard.tokens for shard in index.shards)])
        self._ends = np.memmap(folder / "documents.bin", dtype=BOUNDARY, mode="r", shape=(index.documents + 1,))

    @classmethod
    def open(cls, folder: Path, tokenizer_digest: str, *, verify: bool = True) -> TokenData:
        """Open a folder that `write_shards` made.

        Args:
            tokenizer_digest: of the tokenizer whose ids the caller means.
            verify: recompute every file's SHA-256 first; reads all of it once.
        Raises:
            DataError: the folder is missing, damaged, or its ids come from another tokenizer.
        """
        folder = Path(folder)
        index = _read_index(folder)
        if index.tokenizer != tokenizer_digest:
            raise DataError(
                f"{folder} was written with tokenizer {index.tokenizer[:12]}, but {tokenizer_digest[:12]} is given: "
                "its ids would mean other text. Tokenize the corpus again, or give the tokenizer it was written with."
            )
        wanted: list[tuple[str, int | None, str]] = [
            (shard.file, shard.tokens * DTYPES[index.dtype].itemsize, shard.sha256) for shard in index.shards
        ]
        wanted.append(("documents.bin", (index.documents + 1) * BOUNDARY.itemsize, index.documents_sha256))
        wanted.append(("ids.jsonl", None, index.ids_sha256))
        for name, size, digest in wanted:
            file = folder / name
            sized = file.is_file() and size in (None, file.stat().st_size)
            if not sized or (verify and sha256_file(file) != digest):
                raise DataError(
                    f"{file} is missing or is not what {folder / 'index.json'} names; tokenize the corpus again"
                )
        return cls(folder, index)

    @property
    def tokens(self) -> int:
        """Text tokens and one end-of-text token a document."""
        return self.index.tokens

    @property
    def documents(self) -> int:
        """How many documents."""
        return self.index.documents

    @property
    def document_ends(self) -> Ids:
        """(documents + 1,): 0, then where each document ends in the stream, its end-of-text token included."""
        return np.asarray(self._ends, dtype=np.int64)

    def read(self, start: int, stop: int) -> Ids:
        """Tokens start (inclusive) to stop (exclusive) of the stream."""
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"tokens {start} to {stop} of {self.tokens}")
        out = np.empty(stop - start, dtype=np.int64)
        shard = int(np.searchsorted(self._starts, start, side="right")) - 1
        filled = 0
        while filled < len(out):
            offset = start + filled - int(self._starts[shard])
            part = self._shards[shard][offset : offset + len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            shard += 1
        return out

    def document(self, position: int) -> Ids:
        """Tokens of one document, its end-of-text token last."""
        return self.read(int(self._ends[position]), int(self._ends[position + 1]))

    def byte_sizes(self, bytes_per_token: Sequence[int]) -> Sequence[float]:
        """By id, how many bytes of these texts a token stands for, so that all together have as many as the texts.

        The bytes that tokens stand for add up to those of the texts where a vocabulary changes no text; there the
        sizes come back as they are. Elsewhere (lower case, spaces that are added or dropped, unknown characters) each
        is stretched by the same factor: bits per byte are then bits per byte of the texts as they were written.

        Args:
            bytes_per_token: the tokenizer's own, by id.
        """
        sizes = np.asarray(bytes_per_token, dtype=np.int64)
        step = 1 << 22
        counted = sum(
            int(sizes[self.read(start, min(start + step, self.tokens))].sum()) for start in range(0, self.tokens, step)
        )
        if counted in (0, self.index.text_bytes):
            return bytes_per_token
        stretched: list[float] = (sizes * (self.index.text_bytes / counted)).tolist()
        return stretched

    def document_ids(self) -> Iterator[str]:
        """Ids of the documents, in order."""
        with (self.folder / "ids.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


class _ShardWriter:
    """Appends tokens to numbered files, each hashed as it is written."""

    def __init__(self, folder: Path, dtype: np.dtype[Any], shard_tokens: int) -> None:
        assert shard_tokens > 0
        self.tokens = 0
        self._folder, self._dtype, self._limit = folder, dtype, shard_tokens
        self.done: list[Shard] = []
        self._file: BinaryIO | None = None
        self._hash, self._here = hashlib.sha256(), 0

    def __enter__(self) -> _ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish()

    def append(self, ids: list[int]) -> None:
        values = np.asarray(ids, dtype=self._dtype)
        while len(values):
            if self._file is None:
                self._file = self._path().open("wb")
            part = values[: self._limit - self._here].tobytes()
            self._file.write(part)
            self._hash.update(part)
            count = len(part) // self._dtype.itemsize
            self._here += count
            self.tokens += count
            values = values[count:]
            if self._here == self._limit:
                self._finish()

    def _path(self) -> Path:
        return self._folder / f"tokens-{len(self.done):05d}.bin"

    def _finish(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self.done.append(Shard(file=self._path().name, tokens=self._here, sha256=self._hash.hexdigest()))
        self._file, self._hash, self._here = None, hashlib.sha256(), 0


def _encoded(documents: Iterable[tuple[str, str]], tokenizer: Tokenizer) -> Iterator[tuple[str, str, list[int]]]:
    waiting = iter(documents)
    while group := list(islice(waiting, 256)):
        for (name, text), tokens in zip(group, tokenizer.encode_batch([text for _, text in group]), strict=True):
            yield name, text, tokens


def _plain(index: ShardIndex) -> bytes:
    return (json.dumps(asdict(index), indent=2, sort_keys=True) + "\n").encode()


def _read_index(folder: Path) -> ShardIndex:
    file = folder / "index.json"
    try:
        data = json.loads(file.read_bytes())
        if data["format"] != FORMAT:
            raise DataError(
                f"{file} has format {data['format']}, and this version reads {FORMAT}; tokenize the corpus again"
            )
        shards = tuple(Shard(**shard) for shard in data.pop("shards"))
        index = ShardIndex(shards=shards, **data)
        known = index.dtype in DTYPES and sum(shard.tokens for shard in shards) == index.tokens
        inside = all(Path(shard.file).name == shard.file for shard in shards)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{file} cannot be read as an index of token files ({error}); tokenize the corpus again"
        ) from error
    if not (known and inside):
        raise DataError(f"{file} contradicts itself; tokenize the corpus again")
    return index
