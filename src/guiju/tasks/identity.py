"""Which record is which, of more than memory holds: a few bytes each, and the texts stay in their files."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable

import numpy as np

from guiju.tasks.records import Record


def text_digest(text: str) -> int:
    """64 bits of BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def record_digest(record: Record) -> int:
    """Of everything that a record holds but its place; records that are equal have the same."""
    hasher = hashlib.blake2b(digest_size=8)
    for name in record.__dataclass_fields__:
        value = getattr(record, name) if name != "place" else ""
        data = (value if isinstance(value, str) else repr(value)).encode("utf-8", "surrogatepass")
        hasher.update(b"%d " % len(data))  # so that no text runs over into the next field
        hasher.update(data)
    return int.from_bytes(hasher.digest(), "little")


class IdIndex:
    """Numbers by id, 16 bytes each. Among ten million ids two share a digest with a chance of three in a million: where
    that matters, who asks compares the ids themselves."""

    def __init__(self, digests: array[int]) -> None:
        """
        Args:
            digests: text_digest of each id, in the order of the numbers.
        """
        held = np.array(digests, dtype=np.uint64)
        self._numbers = np.argsort(held, kind="stable")
        self._digests = held[self._numbers]

    def find(self, id: str) -> int | None:
        """The number of an id, the last of several; None where it is not there."""
        return self.find_digest(text_digest(id))

    def find_digest(self, digest: int) -> int | None:
        place = int(np.searchsorted(self._digests, np.uint64(digest), side="right")) - 1
        return int(self._numbers[place]) if place >= 0 and int(self._digests[place]) == digest else None

    def repeated(self) -> set[int]:
        """Digests that stand more than once."""
        return set(self._digests[1:][self._digests[1:] == self._digests[:-1]].tolist())


def first_repeat(named: Iterable[tuple[str, str]], suspects: set[int]) -> tuple[str, str, str] | None:
    """The first id that comes a second time, its place, and the place where it came before.

    Args:
        named: ids with their places.
        suspects: digests among which it must be.
    """
    seen: dict[str, str] = {}
    for id, place in named:
        if text_digest(id) in suspects:
            if id in seen:
                return id, place, seen[id]
            seen[id] = place
    return None
