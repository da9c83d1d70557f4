"""A seeded permutation that needs no memory: where the n-th item of an epoch lies is computed, not stored.

A Feistel network over the next even power of two, walked until it lands inside. It is the same on every machine and
in every version of every library, which no library's shuffle promises. Source: Black and Rogaway 2002, Ciphers with
arbitrary finite domains.
"""

from __future__ import annotations

ROUNDS = 6
_MASK = (1 << 64) - 1


def permuted(position: int, count: int, seed: int, epoch: int) -> int:
    """The item at `position` in the order that (seed, epoch) gives to `count` items."""
    assert 0 <= position < count
    half = max((count - 1).bit_length() + 1, 2) // 2
    low = (1 << half) - 1
    key = _mix(_mix(seed & _MASK) ^ (epoch & _MASK))
    item = position
    while True:
        left, right = item >> half, item & low
        for turn in range(ROUNDS):
            left, right = right, left ^ (_mix(key ^ _mix(right | turn << 56)) & low)
        item = left << half | right
        if item < count:
            return item


def _mix(value: int) -> int:
    """splitmix64's finalizer: every bit of the result hangs on every bit of the value."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return value ^ value >> 31
