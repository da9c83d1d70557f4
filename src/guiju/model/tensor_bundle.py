"""TensorFlow checkpoints (version 2, frozen since 2016) in and out, without TensorFlow.

`NAME.index` is a sorted table: under the empty name a header, under each tensor's name its type, shape, and where it
lies in which data file; `NAME.data-00000-of-00001` holds the raw numbers.
Sources: tensorflow/core/util/tensor_bundle/tensor_bundle.cc, tensorflow/core/protobuf/tensor_bundle.proto.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from guiju.errors import ModelError, StorageError
from guiju.model.crc32c import masked_crc32c
from guiju.model.sorted_table import WireError, read_table, read_varint, table_bytes, varint
from guiju.storage import open_atomic, open_foreign, write_bytes

_BFLOAT16 = 14
# Numbers of tensorflow/core/framework/types.proto.
_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("<u1"),
    5: np.dtype("<i2"),
    6: np.dtype("<i1"),
    9: np.dtype("<i8"),
    _BFLOAT16: np.dtype("<u2"),  # the upper halves of float32
    17: np.dtype("<u2"),
    19: np.dtype("<f2"),
    22: np.dtype("<u4"),
    23: np.dtype("<u8"),
}
_CODES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}
_NAMES = {7: "string", 8: "complex64", 18: "complex128", 20: "resource", 21: "variant"}
_MAX_SHARDS = 99999  # the names have five digits
_MAX_DIMENSIONS = 16
_MAX_NUMBERS = 1 << 48
"""Of a tensor's dimensions but those that are 0."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies, and what it is."""

    type: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size_bytes: int
    checksum: int
    sliced: bool
    """Whether it is stored in several parts under other names."""


class TensorBundle:
    """The tensors of a checkpoint, found by name; none is loaded until it is asked for."""

    def __init__(self, prefix: Path) -> None:
        """Read the index.

        Args:
            prefix: folder and name without ending, such as `124M/model.ckpt`.
        Raises:
            ModelError: the index is damaged, or names what the data files do not hold.
        """
        self.prefix = prefix
        self.index = prefix.with_name(prefix.name + ".index")
        values = read_table(self.index)
        self.shards = self._read_header(values.pop(b"", None))
        self.entries: dict[str, Entry] = {}
        for key, value in values.items():
            if not key.startswith(b"\0"):  # a slice of a tensor that has an entry of its own
                name = self._read_name(key)
                self.entries[name] = self._read_entry(name, value)
        self._require_places()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor."""
        return {name: entry.shape for name, entry in self.entries.items()}

    def file(self, shard: int) -> Path:
        """The data file of a number."""
        return self.prefix.with_name(f"{self.prefix.name}.data-{shard:05d}-of-{self.shards:05d}")

    def load(self, name: str) -> NDArray[Any]:
        """One tensor, in memory of its own; bfloat16 comes as float32.

        Raises:
            ModelError: there is none, it is of no type of numbers, in slices, or damaged.
        """
        if name not in self.entries:
            raise ModelError(f"{self.index} names no tensor {name}")
        entry = self.entries[name]
        if entry.type not in _TYPES:
            kind = _NAMES.get(entry.type, f"number {entry.type}")
            raise ModelError(f"tensor {name} in {self.index} is of type {kind}; only plain numbers are read")
        if entry.sliced:
            raise ModelError(
                f"tensor {name} in {self.index} is stored in slices (a partitioned variable), which are not read. "
                f"Save it whole with TensorFlow"
            )
        data = np.empty(entry.size_bytes, dtype=np.uint8)  # no more than the file has: see _require_places
        path = self.file(entry.shard)
        with _open(path) as file:
            try:
                file.seek(entry.offset)
                read = file.readinto(data.data)  # type: ignore[attr-defined]
            except OSError as problem:
                raise ModelError(f"{path} cannot be read: {problem.strerror}") from None
        if read != entry.size_bytes:
            raise ModelError(f"{path} ends within tensor {name}: {read} of {entry.size_bytes} bytes are there")
        if (found := masked_crc32c(data)) != entry.checksum:
            raise ModelError(
                f"tensor {name} in {path} is damaged: its checksum is {found:#010x}, but {self.index.name} has "
                f"{entry.checksum:#010x}. Copy or download the files again"
            )
        numbers = data.view(_TYPES[entry.type]).reshape(entry.shape)
        return (numbers.astype("<u4") << 16).view("<f4") if entry.type == _BFLOAT16 else numbers

    def _read_header(self, value: bytes | None) -> int:
        """How many data files there are."""
        if value is None:
            raise ModelError(f"{self.index} has no header, so it is no index of a TensorFlow checkpoint")
        try:
            fields = dict(_fields(value))
        except WireError as problem:
            raise ModelError(f"{self.index} has a header that cannot be read: {problem}") from None
        shards = fields.get(1, 0)
        if not isinstance(shards, int) or not 1 <= shards <= _MAX_SHARDS:
            raise ModelError(f"{self.index} states {shards!r} data files; it must be 1 to {_MAX_SHARDS}")
        if fields.get(2, 0) != 0:
            raise ModelError(f"{self.index} says that its numbers are big-endian, which are not read")
        return shards

    def _read_name(self, key: bytes) -> str:
        try:
            return key.decode()
        except UnicodeDecodeError:
            raise ModelError(f"{self.index} names a tensor {key!r}, which is not UTF-8") from None

    def _read_entry(self, name: str, value: bytes) -> Entry:
        single: dict[int, int | bytes] = {}
        sliced = False
        try:
            for number, found in _fields(value):
                if number == 7:
                    sliced = True
                elif isinstance(found, int) is (number != 2) and 1 <= number <= 6:
                    single[number] = found
                else:
                    raise WireError(f"field {number} of {found!r}")
            shape = _read_shape(single.get(2, b""))
        except WireError as problem:
            raise ModelError(f"{self.index}: the entry of tensor {name} cannot be read: {problem}") from None
        numbers = {number: found for number, found in single.items() if isinstance(found, int)}
        type_, shard, offset, size, checksum = (numbers.get(number, 0) for number in (1, 3, 4, 5, 6))
        if shard >= self.shards:
            raise ModelError(f"{self.index}: tensor {name} is in data file {shard}, but there are {self.shards}")
        if type_ in _TYPES and not sliced and math.prod(shape) * _TYPES[type_].itemsize != size:
            raise ModelError(
                f"{self.index}: tensor {name} of shape {shape} takes {math.prod(shape) * _TYPES[type_].itemsize} "
                f"bytes, but {size} are stated"
            )
        return Entry(type_, shape, shard, offset, size, checksum, sliced)

    def _require_places(self) -> None:
        """Every tensor lies within its file, and none over another: so all together are no larger than the files."""
        places = sorted((entry.shard, entry.offset, entry.size_bytes, name) for name, entry in self.entries.items())
        sizes = {shard: _size(self.file(shard)) for shard in {place[0] for place in places}}
        before: tuple[int, int, str] = (-1, 0, "")
        for shard, offset, size, name in places:
            if size == 0:
                continue
            if offset + size > sizes[shard]:
                raise ModelError(
                    f"{self.file(shard)} is {sizes[shard]} bytes long, but tensor {name} is said to be {size} bytes at "
                    f"byte {offset}. It is cut off, or the index belongs to another checkpoint"
                )
            if before[0] == shard and offset < before[1]:
                raise ModelError(f"{self.index}: tensors {before[2]} and {name} lie over each other")
            before = (shard, offset + size, name)


def _open(path: Path) -> BinaryIO:
    try:
        return open_foreign(path)
    except StorageError as problem:
        raise ModelError(str(problem)) from None


def _size(path: Path) -> int:
    with _open(path) as file:
        return os.fstat(file.fileno()).st_size


def write_bundle(prefix: Path, tensors: Iterable[tuple[str, NDArray[Any]]]) -> None:
    """Write tensors, one after the other as they come, as a checkpoint of one data file.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
    """
    values = {b"": bytes([0x08, 1, 0x1A, 2, 0x08, 1])}  # one data file; little-endian; version 1 of the format
    offset = 0
    with open_atomic(prefix.with_name(f"{prefix.name}.data-00000-of-00001")) as file:
        for name, tensor in tensors:
            assert name
            assert name.encode() not in values
            code = _CODES[tensor.dtype.name]
            data = np.ascontiguousarray(tensor, dtype=_TYPES[code]).reshape(-1).view(np.uint8)
            file.write(data.data)
            dimensions = b"".join(b"\x12" + _sized(b"\x08" + varint(size)) for size in tensor.shape)
            values[name.encode()] = (
                b"\x08" + varint(code) + b"\x12" + _sized(dimensions) + b"\x20" + varint(offset) + b"\x28"
                + varint(data.size) + b"\x35" + masked_crc32c(data).to_bytes(4, "little")
            )  # fmt: skip
            offset += data.size
    write_bytes(prefix.with_name(prefix.name + ".index"), table_bytes(values))


def _sized(data: bytes) -> bytes:
    return varint(len(data)) + data


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protobuf message (protobuf.dev/programming-guides/encoding)."""
    place = 0
    while place < len(data):
        tag, place = read_varint(data, place)
        kind = tag & 7
        if kind == 0:
            value, place = read_varint(data, place)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, place = read_varint(data, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise WireError(f"field {tag >> 3} is of kind {kind}, which there is not")
        if place + size > len(data):
            raise WireError(f"field {tag >> 3} of {size} bytes is cut off")
        part = data[place : place + size]
        place += size
        yield tag >> 3, part if kind == 2 else int.from_bytes(part, "little")


def _read_shape(value: int | bytes) -> tuple[int, ...]:
    assert isinstance(value, bytes)
    shape: list[int] = []
    for number, found in _fields(value):
        if number != 2 or not isinstance(found, bytes):
            raise WireError("its shape is not known" if number == 3 else f"field {number} in its shape")
        size = dict(_fields(found)).get(1, 0)
        if not isinstance(size, int) or size >= 1 << 63:
            shown = size - (1 << 64) if isinstance(size, int) else size
            raise WireError(f"dimension {len(shape)} is {shown!r}")
        shape.append(size)
        if len(shape) > _MAX_DIMENSIONS:
            raise WireError(f"it has more than {_MAX_DIMENSIONS} dimensions")
    if math.prod(size or 1 for size in shape) > _MAX_NUMBERS:
        raise WireError(f"its shape {tuple(shape)} is larger than any checkpoint")
    return tuple(shape)
