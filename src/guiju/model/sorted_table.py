"""The sorted table of names and values that a TensorFlow checkpoint's index is: LevelDB's format, frozen since 2011.

A file is a row of blocks and a footer. A block holds names in ascending order, each written as what it shares with the
one before and what is new, then the offsets of names written in full (which only a search needs). Behind each block
stand its compression (one byte) and a checksum. The footer names the block that names the others.
Sources: leveldb, doc/table_format.md; tensorflow/core/lib/io/{format,block,table_builder}.cc.

Nothing is believed: every length is held against what is there before a byte is taken, and what a small file could
unfold to is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from guiju.errors import ModelError, StorageError
from guiju.model.crc32c import masked_crc32c
from guiju.storage import read_foreign

MAX_FILE_BYTES = 8 << 20
MAX_NAME_BYTES = 512
"""Names share beginnings, so a short file could spell out very many long ones."""

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TRAILER = 5
_BLOCK_BYTES = 256 << 10
_RESTART_EVERY = 16


class WireError(ValueError):
    """Bytes end too early, or state a length that is not there."""


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """An unsigned number of seven bits a byte, and the place behind it."""
    value = 0
    for shift in range(0, 64, 7):
        if place >= len(data):
            raise WireError("a number is cut off")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, place
    raise WireError("a number is longer than 64 bits")


def varint(value: int) -> bytes:
    """The same, written."""
    assert 0 <= value < 1 << 64
    data = bytearray()
    while value >= 0x80:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])


def read_table(path: Path) -> dict[bytes, bytes]:
    """Every name with its value, in the file's order.

    Raises:
        ModelError: the file is none, cut off, damaged, compressed, or larger than an index of names can be.
    """
    try:
        data = read_foreign(path, MAX_FILE_BYTES)
    except StorageError as problem:
        raise ModelError(str(problem)) from None
    if len(data) < _FOOTER:
        raise ModelError(f"{path} is {len(data)} bytes long, too short for an index of tensors. Copy it again")
    footer = data[-_FOOTER:]
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise ModelError(
            f"{path} is no index of a TensorFlow checkpoint, or is cut off: it does not end in the magic number "
            f"{_MAGIC:#x}. Copy it again"
        )
    try:
        return _read_blocks(data, footer)
    except WireError as problem:
        raise ModelError(f"{path} is damaged: {problem}. Copy or download it again") from None


def _read_blocks(data: bytes, footer: bytes) -> dict[bytes, bytes]:
    statistics, place = _read_handle(footer, 0)  # which TensorFlow leaves empty
    index, _ = _read_handle(footer, place)
    _block(data, *statistics)
    found: dict[bytes, bytes] = {}
    before, end = b"", 0
    for last, value in _entries(_block(data, *index)):
        handle, _ = _read_handle(value, 0)
        if handle[0] < end:  # in order and apart, so that no block is read twice
            raise WireError(f"its block at byte {handle[0]} lies over the one before, which ends at {end}")
        end = sum(handle) + _TRAILER
        for name, entry in _entries(_block(data, *handle)):
            if found and name <= before:
                raise WireError(f"the name {name!r} does not stand in order after {before!r}")
            if name > last:
                raise WireError(f"the name {name!r} stands in a block that is said to end with {last!r}")
            before = name
            found[name] = entry
    return found


def _read_handle(data: bytes, place: int) -> tuple[tuple[int, int], int]:
    """A block's offset and size."""
    offset, place = read_varint(data, place)
    size, place = read_varint(data, place)
    return (offset, size), place


def _block(data: bytes, offset: int, size: int) -> bytes:
    if offset + size + _TRAILER > len(data) - _FOOTER:
        raise WireError(
            f"a block of {size} bytes at byte {offset} would end beyond the {len(data) - _FOOTER} bytes of blocks"
        )
    content, trailer = data[offset : offset + size], data[offset + size : offset + size + _TRAILER]
    if masked_crc32c(data[offset : offset + size + 1]) != int.from_bytes(trailer[1:], "little"):
        raise WireError(f"the checksum of its block at byte {offset} does not fit")
    if trailer[0] != 0:
        kind = "snappy" if trailer[0] == 1 else f"kind {trailer[0]}"
        raise WireError(
            f"its block at byte {offset} is compressed ({kind}), which TensorFlow's own checkpoints are not; load and "
            f"save it with TensorFlow once"
        )
    return content


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if len(block) < 4 or end < 0:
        raise WireError(f"a block of {len(block)} bytes cannot hold {restarts} restart points")
    place, name = 0, b""
    while place < end:
        shared, place = read_varint(block, place)
        added, place = read_varint(block, place)
        length, place = read_varint(block, place)
        if shared > len(name):
            raise WireError(f"a name shares {shared} bytes with one of {len(name)}")
        if shared + added > MAX_NAME_BYTES:
            raise WireError(f"a name is {shared + added} bytes long; at most {MAX_NAME_BYTES} are read")
        if place + added + length > end:
            raise WireError(f"a name of {added} new bytes and a value of {length} do not fit their block")
        name = name[:shared] + block[place : place + added]
        place += added
        yield name, block[place : place + length]
        place += length


def table_bytes(values: Mapping[bytes, bytes]) -> bytes:
    """The file that holds these names and values."""
    file = bytearray()
    index: list[tuple[bytes, bytes]] = []
    part: list[tuple[bytes, bytes]] = []
    size = 0
    for name, value in sorted(values.items()):
        part.append((name, value))
        size += len(name) + len(value)
        if size >= _BLOCK_BYTES:
            index.append((name, _append(file, part, _RESTART_EVERY)))
            part, size = [], 0
    if part:
        index.append((part[-1][0], _append(file, part, _RESTART_EVERY)))
    handles = _append(file, [], 1) + _append(file, index, 1)
    return bytes(file) + handles.ljust(_FOOTER - 8, b"\0") + _MAGIC.to_bytes(8, "little")


def _append(file: bytearray, entries: list[tuple[bytes, bytes]], restart_every: int) -> bytes:
    """Write a block at the file's end; its handle."""
    block, restarts, before = bytearray(), [0], b""
    for number, (name, value) in enumerate(entries):
        shared = 0
        if number % restart_every == 0:
            restarts += [len(block)] if number else []
        else:
            while shared < min(len(name), len(before)) and name[shared] == before[shared]:
                shared += 1
        block += varint(shared) + varint(len(name) - shared) + varint(len(value)) + name[shared:] + value
        before = name
    for restart in (*restarts, len(restarts)):
        block += restart.to_bytes(4, "little")
    handle = varint(len(file)) + varint(len(block))
    content = bytes(block) + b"\0"  # not compressed
    file += content + masked_crc32c(content).to_bytes(4, "little")
    return handle
