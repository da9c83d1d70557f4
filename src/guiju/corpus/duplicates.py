"""Which documents repeat others: equal texts by digest, alike ones by MinHash bands, confirmed by true Jaccard.

Documents are numbered in the order of the recipe's sources. A document is dropped when an earlier one that is kept is
equal, or at least as alike as the threshold; so whatever is dropped has a kept document that stands for it, and which
is kept depends on order alone. Candidates form groups that share no candidate with one another, and each group is
settled apart, so that processes can share the work without changing the outcome.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from guiju.corpus.settings import DuplicateSettings
from guiju.corpus.shingles import Int64s, UInt64s, jaccard, shingles_of

_BANDS_AT_ONCE = 4
_MOST_IN_BUCKET = 128
_MOST_COMPARED = 64
_GROUP_BYTES = 2 << 20
_CACHE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Group:
    """Documents that may repeat one another, with where their lines lie and their band keys."""

    documents: Int64s
    offsets: Int64s
    lengths: Int64s
    keys: UInt64s


@dataclass(slots=True)
class Settled:
    """What came of some groups."""

    dropped: list[tuple[int, int, float]] = field(default_factory=list)
    """(document, the kept one that it repeats, similarity)"""
    alike: list[tuple[int, int, float]] = field(default_factory=list)
    """Pairs of kept documents that reach the split's threshold."""
    compared: int = 0
    passed_over: int = 0
    """Comparisons left out because a document had more candidates than are compared."""


def equal_documents(digests: UInt64s) -> Int64s:
    """For each document the earliest with the same digest: itself, where it is the first.

    Args:
        digests: (documents, 2)
    """
    first = np.arange(len(digests))
    if not len(digests):
        return first
    order = np.lexsort((digests[:, 1], digests[:, 0]))  # stable: within a run the earliest stands first
    ordered = digests[order]
    begins = np.ones(len(order), bool)
    begins[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first[order] = order[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    return first


def candidate_groups(keys_path: Path, bands: int, wanted: npt.NDArray[np.bool_]) -> Int64s:
    """For each document the earliest of its group: documents linked by a shared band key, directly or by others.

    Args:
        keys_path: (documents, bands) keys, row by row.
        wanted: documents that take part; the others stay alone.
    """
    chosen = np.flatnonzero(wanted)
    label = np.arange(len(wanted))
    for start in range(0, bands, _BANDS_AT_ONCE):
        stop = min(bands, start + _BANDS_AT_ONCE)
        columns = _columns(keys_path, bands, start, stop, len(wanted))[:, chosen]
        for keys in columns:
            order = np.argsort(keys, kind="stable")
            ordered = keys[order]
            same = ordered[1:] == ordered[:-1]
            if same.any():
                label = join(label, chosen[order[:-1][same]], chosen[order[1:][same]])
    return label


def join(label: Int64s, first: Int64s, second: Int64s) -> Int64s:
    """Labels after linking pairs; a label is the smallest number of its group, and labels itself."""
    while True:
        low, high = label[first], label[second]
        apart = low != high
        if not apart.any():
            return label
        first, second, low, high = first[apart], second[apart], low[apart], high[apart]
        label = label.copy()
        np.minimum.at(label, np.maximum(low, high), np.minimum(low, high))
        while True:  # follow each label to its root
            root = label[label]
            if np.array_equal(root, label):
                break
            label = root


def groups(label: Int64s, keys_path: Path, bands: int, offsets: Int64s, lengths: Int64s) -> Iterator[list[Group]]:
    """Groups of two and more, in order, packed into portions of about equal size."""
    sizes = np.bincount(label, minlength=len(label))
    members = np.flatnonzero(sizes[label] > 1)
    members = members[np.argsort(label[members], kind="stable")]
    portion: list[Group] = []
    held = 0
    with keys_path.open("rb") as keys_file:
        for documents in np.split(members, np.flatnonzero(np.diff(label[members])) + 1):
            if not documents.size:
                continue
            keys = np.empty((len(documents), bands), np.uint64)
            for row, document in enumerate(documents.tolist()):
                keys_file.seek(document * bands * 8)
                keys[row] = np.frombuffer(keys_file.read(bands * 8), np.uint64)
            portion.append(Group(documents, offsets[documents], lengths[documents], keys))
            held += int(lengths[documents].sum())
            if held > _GROUP_BYTES:
                yield portion
                portion, held = [], 0
    if portion:
        yield portion


def settle(texts_path: Path, portion: list[Group], settings: DuplicateSettings) -> Settled:
    """Compare the documents of each group, and decide which stay. Runs in any process."""
    settled = Settled()
    with texts_path.open("rb") as texts:
        for group in portion:
            _Comparison(texts, group, settings, settled).run()
    return settled


class _Comparison:
    """One group being settled."""

    def __init__(self, texts: object, group: Group, settings: DuplicateSettings, settled: Settled) -> None:
        self._texts = texts
        self._group = group
        self._settings = settings
        self._settled = settled
        self._sets: OrderedDict[int, UInt64s] = OrderedDict()
        self._held = 0

    def run(self) -> None:
        buckets: defaultdict[int, list[int]] = defaultdict(list)
        documents = self._group.documents.tolist()
        for row, keys in enumerate(self._group.keys.tolist()):
            shared: Counter[int] = Counter()
            for column, key in enumerate(keys):
                shared.update(buckets[key ^ column])
            if self._repeats_a_kept_one(row, shared, documents):
                continue
            for column, key in enumerate(keys):
                bucket = buckets[key ^ column]
                if len(bucket) < _MOST_IN_BUCKET:
                    bucket.append(row)
                else:
                    self._settled.passed_over += 1

    def _repeats_a_kept_one(self, row: int, shared: Counter[int], documents: list[int]) -> bool:
        # The likeliest first; of equals the earlier, so that the outcome does not hang on a dict's order.
        candidates = sorted(shared, key=lambda other: (-shared[other], other))
        self._settled.passed_over += max(0, len(candidates) - _MOST_COMPARED)
        alike: list[tuple[int, float]] = []
        for other in candidates[:_MOST_COMPARED]:
            self._settled.compared += 1
            similarity = jaccard(self._set(other), self._set(row))
            if similarity >= self._settings.threshold:
                self._settled.dropped.append((documents[row], documents[other], similarity))
                return True
            if similarity >= self._settings.split_threshold:
                alike.append((other, similarity))
        self._settled.alike.extend((documents[other], documents[row], similarity) for other, similarity in alike)
        return False

    def _set(self, row: int) -> UInt64s:
        """The shingles of a document, from a bounded cache or anew from its text."""
        found = self._sets.get(row)
        if found is not None:
            self._sets.move_to_end(row)
            return found
        self._texts.seek(int(self._group.offsets[row]))  # type: ignore[attr-defined]
        line = self._texts.read(int(self._group.lengths[row]))  # type: ignore[attr-defined]
        shingles = shingles_of(json.loads(line)["text"], self._settings.shingle)
        self._sets[row] = shingles
        self._held += shingles.nbytes
        while self._held > _CACHE_BYTES and len(self._sets) > 2:
            _, oldest = self._sets.popitem(last=False)
            self._held -= oldest.nbytes
        return shingles


def _columns(path: Path, bands: int, start: int, stop: int, count: int) -> UInt64s:
    """Columns start..stop of the keys, (stop - start, documents), read block by block."""
    columns = np.empty((stop - start, count), np.uint64)
    block = max(1, (4 << 20) // (bands * 8))
    with path.open("rb") as file:
        for begin in range(0, count, block):
            rows = np.frombuffer(file.read(min(block, count - begin) * bands * 8), np.uint64).reshape(-1, bands)
            columns[:, begin : begin + len(rows)] = rows[:, start:stop].T
    return columns
