"""CRC-32C (Castagnoli, RFC 3720 appendix B.4), which guards TensorFlow's files, fast enough for whole checkpoints.

A checksum is a remainder of polynomials over two values, so it is linear: a table of words is reduced row by row, all
its columns at once, and the columns are folded together in halves at the end.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78  # bits reversed, as in all common CRC-32C code
_WORDS = 4096  # a row's words, each of four bytes; a power of two
_ROW = 4 * _WORDS
_SHORT = 256  # bytes up to which a plain loop is as fast
_MASK_DELTA = 0xA282EAD8

Words = NDArray[np.uint32]


def masked_crc32c(data: bytes | memoryview | NDArray[np.uint8], start: int = 0) -> int:
    """The checksum as TensorFlow stores it: turned and shifted, so that a checksum of checksums stays one.

    Source: tensorflow/core/lib/hash/crc32c.h, Mask.
    """
    crc = crc32c(data, start)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def crc32c(data: bytes | memoryview | NDArray[np.uint8], start: int = 0) -> int:
    """The checksum of bytes, or of all so far where `start` is that of the bytes before."""
    given = np.frombuffer(data, dtype=np.uint8)
    register = start ^ 0xFFFFFFFF
    if given.size <= _SHORT:
        table = _byte_table()
        for byte in given.tolist():
            register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
        return register ^ 0xFFFFFFFF
    head = given.size % _ROW
    if head < 4 and given.size >= _ROW:  # the register is laid over the first four bytes: keep them together
        head += _ROW
    rows = -(-head // _ROW)
    # Zeros in front change no remainder, so the first bytes may be padded to whole rows.
    first = np.zeros(rows * _ROW, dtype=np.uint8)
    first[len(first) - head :] = given[:head]
    first[len(first) - head : len(first) - head + 4] ^= np.frombuffer(register.to_bytes(4, "little"), dtype=np.uint8)
    state = np.zeros(_WORDS, dtype=np.uint32)
    low, high = _row_tables()
    for part in (first, given[head:]):
        for row in part.view("<u4").reshape(-1, _WORDS):
            state = low.take(state & 0xFFFF) ^ high.take(state >> 16) ^ row
    return _fold(state) ^ 0xFFFFFFFF


def _fold(state: Words) -> int:
    """The remainder of a row of words, with the 32 bits that every checksum is shifted by."""
    while state.size > 1:
        half = state.size // 2
        state = _apply(_advance(4 * half), state[:half]) ^ state[half:]
    return int(_apply(_advance(4), state)[0])


def _apply(columns: Words, values: Words) -> Words:
    """A linear map of 32 bits, given by what it makes of each single bit, on every value."""
    result = np.zeros_like(values)
    for bit in range(32):
        result ^= np.where(values >> bit & 1, columns[bit], 0).astype(np.uint32)
    return result


@cache
def _advance(size_bytes: int) -> Words:
    """The map that so many zero bytes (a power of two) make of the register."""
    if size_bytes > 1:
        half = _advance(size_bytes // 2)
        return _apply(half, half)
    table = _byte_table()
    return np.array([table[(1 << bit) & 0xFF] ^ (1 << bit >> 8) for bit in range(32)], dtype=np.uint32)


@cache
def _row_tables() -> tuple[Words, Words]:
    """What a row's length of zero bytes makes of the register's lower and of its upper half."""
    halves = np.arange(1 << 16, dtype=np.uint32)
    columns = _advance(_ROW)
    return _apply(columns, halves), _apply(columns, halves << np.uint32(16))


@cache
def _byte_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        table.append(byte)
    return table
