"""Random numbers that are computed, not drawn: each hangs on (seed, epoch, row, place, purpose) alone.

What is masked in a row is so the same whenever and wherever the row is read: training that goes on after a kill sees
what it would have seen, with no generator's state to keep. splitmix64 (Steele, Lea and Flood 2014) in whole arrays; no
library's generator is asked, which might draw otherwise in its next version.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]

_WORD = (1 << 64) - 1


def draw_words(seed: int, epoch: int, rows: Numbers, count: int, purpose: int) -> Words:
    """`count` uniform 64-bit words for each of the rows: (rows, count).

    Args:
        purpose: another number gives words that have nothing to do with these.
    """
    key = np.array([seed & _WORD], dtype=np.uint64)
    for part in (epoch, purpose):
        key = _mix(key ^ _mix(np.array([part & _WORD], dtype=np.uint64)))
    of_row = _mix(key ^ _mix(rows.astype(np.uint64)))  # (rows,)
    of_place = _mix(np.arange(count, dtype=np.uint64))  # (count,)
    return _mix(of_row[:, None] ^ of_place[None, :])


def share_as_word(share: float) -> np.uint64:
    """The word below which a uniform one lies with probability `share`."""
    return np.uint64(min(int(share * 2.0**64), _WORD))


def _mix(words: Words) -> Words:
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ words >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ words >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return words ^ words >> np.uint64(31)
