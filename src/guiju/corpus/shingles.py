"""Texts as sets of shingles, and their MinHash signatures: how alike two documents are, at the price of a few arrays.

A token is a word, or one Chinese, Japanese or Thai character; a shingle is a run of tokens. So Chinese is compared by
characters, English by words, and a mixed text by both. Case and punctuation do not count.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import rensa

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]

_SEPARATOR, _WORD, _ALONE = 0, 1, 2
_ALONE_RANGES = (
    (0x0E00, 0x0EFF),  # Thai and Lao are written without spaces
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # kana
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
_LONGEST = 256  # positions in a word that have a weight of their own


@cache
def _classes() -> npt.NDArray[np.uint8]:
    """The class of every code point."""
    table = np.zeros(0x110000, np.uint8)
    table[:0x20000] = np.fromiter((chr(code).isalnum() for code in range(0x20000)), np.uint8, 0x20000)
    for low, high in ((0x0300, 0x036F), (0x0900, 0x0DFF)):  # marks that belong to the letter before
        table[low : high + 1] = _WORD
    for low, high in _ALONE_RANGES:
        table[low : high + 1] = _ALONE
    return table


@cache
def _weights() -> UInt64s:
    """Odd random multipliers, one for each position."""
    return np.random.default_rng(0x6775696A75).integers(0, 2**64, _LONGEST, np.uint64) | np.uint64(1)


def _mixed(values: UInt64s) -> UInt64s:
    """The finaliser of splitmix64 (Steele et al. 2014): every bit of a value changes every bit of the result."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64s = values ^ (values >> np.uint64(31))
    return mixed


def token_hashes(text: str) -> UInt64s:
    """A hash of every token, in order."""
    return tokens_of_all([text])[0]


def shingle_hashes(tokens: UInt64s, size: int) -> UInt64s:
    """A hash of every run of `size` tokens, in order and with repeats; a shorter text is one shingle."""
    return shingles_of_all(tokens, np.array([0, tokens.size]), size)[0]


def tokens_of_all(texts: list[str]) -> tuple[UInt64s, Int64s]:
    """A hash of every token of every text, the same on every machine and in every process.

    Returns:
        The hashes of all texts in order, and (texts + 1,) offsets: text i has hashes[offsets[i]:offsets[i + 1]].
    """
    lowered = [text.lower() for text in texts]
    text_starts = np.cumsum([0, *map(len, lowered)])[:-1]
    joined = "".join(lowered)
    if joined.isascii():
        codes = np.frombuffer(joined.encode("ascii"), np.uint8).astype(np.uint32)
    else:
        codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    classes = _classes()[codes]
    goes_on = np.zeros(codes.size, bool)
    goes_on[1:] = (classes[1:] == _WORD) & (classes[:-1] == _WORD)
    goes_on[text_starts[text_starts < codes.size]] = False
    inside = np.flatnonzero(classes)
    starts = np.flatnonzero(~goes_on[inside])
    offsets = np.append(np.searchsorted(inside[starts], text_starts), starts.size)
    if not starts.size:
        return np.zeros(0, np.uint64), offsets
    lengths = np.diff(starts, append=inside.size)
    positions = np.arange(inside.size) - np.repeat(starts, lengths)
    weighted = (codes[inside].astype(np.uint64) + np.uint64(1)) * _weights()[positions % _LONGEST]
    return _mixed(np.add.reduceat(weighted, starts) + lengths.astype(np.uint64)), offsets


def shingles_of_all(tokens: UInt64s, offsets: Int64s, size: int) -> list[UInt64s]:
    """For each text a hash of every run of `size` tokens, in order and with repeats; a shorter text is one shingle."""
    count = max(0, tokens.size - size + 1)
    combined = np.zeros(count, np.uint64)
    for place in range(size):
        combined += tokens[place : place + count] * _weights()[place]
    combined = _mixed(combined)
    bounds = offsets.tolist()
    shingles: list[UInt64s] = []
    for start, stop in pairwise(bounds):
        if stop - start >= size:
            shingles.append(combined[start : stop - size + 1])
        else:  # the seed is another, so that a text of two tokens is no shingle of a longer one
            few = tokens[start:stop] * _weights()[size : size + stop - start]
            shingles.append(_mixed(np.add.reduce(few, keepdims=True, dtype=np.uint64)))
    return shingles


def shingles_of(text: str, size: int) -> UInt64s:
    """The set of a text's shingles: sorted, without repeats."""
    return distinct(shingle_hashes(token_hashes(text), size))


def distinct(shingles: UInt64s) -> UInt64s:
    """The set: sorted, without repeats."""
    ordered = np.sort(shingles)
    first = np.ones(ordered.size, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def jaccard(first: UInt64s, second: UInt64s) -> float:
    """The true Jaccard similarity of two sets, each given as sorted hashes without repeats."""
    if not first.size or not second.size:
        return 0.0
    small, large = (first, second) if first.size <= second.size else (second, first)
    places = np.searchsorted(large, small)
    shared = int(np.count_nonzero(large[np.minimum(places, large.size - 1)] == small))
    return shared / (first.size + second.size - shared)


def band_keys(shingles: list[UInt64s], permutations: int, bands: int, seed: int) -> UInt64s:
    """(documents, bands) keys: two documents that share one in some column are candidates for near-duplicates."""
    if not shingles:
        return np.zeros((0, bands), np.uint64)
    offsets = np.zeros(len(shingles) + 1, np.uint64)
    np.cumsum([len(part) for part in shingles], out=offsets[1:])
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(shingles), offsets, permutations, seed)
    signatures = np.array(matrix.to_rows(), np.uint64).reshape(len(shingles), bands, permutations // bands)
    keys = np.zeros((len(shingles), bands), np.uint64)
    for place in range(signatures.shape[2]):
        keys += (signatures[:, :, place] + np.uint64(1)) * _weights()[place % _LONGEST]
    return _mixed(keys)
