"""Sources to corpus: read, clean, mask, drop what repeats, split, draw for inspection; each document's fate on record.

Texts pass through as a stream. Between the passes they lie on disk, and memory holds some 60 bytes a document.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from guiju.corpus.contamination import NgramIndex
from guiju.corpus.duplicates import (
    Settled,
    candidate_groups,
    equal_documents,
    groups,
    settle,
)
from guiju.corpus.inspecting import inspect_corpus
from guiju.corpus.preparing import Preparation, Task, prepare_in_worker, start_worker
from guiju.corpus.quality import Languages
from guiju.corpus.reading import ByteStream, read_documents
from guiju.corpus.repetition import repeated_lines
from guiju.corpus.reporting import report_of
from guiju.corpus.settings import CorpusSettings
from guiju.corpus.shingles import Int64s
from guiju.corpus.sources import SourceFile, evaluation_paths, input_files, register, source_files
from guiju.corpus.spill import Spill
from guiju.corpus.splitting import sides
from guiju.corpus.workers import Workers, how_many
from guiju.corpus.writing import Fates, write_corpus
from guiju.errors import DataError
from guiju.storage import folder_atomic, require_free_space

Progress = Callable[[int, int, str], None]
"""(done, total, what is being done)"""

_BATCH_CHARACTERS = 1 << 20
_BATCH_DOCUMENTS = 2000


@dataclass(frozen=True, kw_only=True)
class CorpusReport:
    """What a pipeline writes into its ledger, and shows."""

    sources: tuple[dict[str, Any], ...]
    """The licence register: one entry a source, with digests and counts."""
    measurements: tuple[dict[str, Any], ...]
    """Bodies of measurement records."""
    inputs: dict[str, str]
    """SHA-256 of every file that was read."""
    sample: dict[str, Any]
    """The draw for inspection: seed, numbers, digest of the list drawn from."""
    summary: dict[str, Any]
    """As summary.json holds it."""
    line: str
    """The corpus in one line."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Processor seconds by stage (several stages share a pass). No part of the corpus: they differ from run to run."""


def build_corpus(
    settings: CorpusSettings, folder: Path, *, root: Path, progress: Progress | None = None
) -> CorpusReport:
    """Build the corpus that the settings describe in `folder`, which is replaced whole or not at all.

    Args:
        root: where relative paths start.
        progress: called now and then with bytes done, bytes in all, and the stage.
    Raises:
        DataError: a file is missing, damaged, malformed or in another encoding, or no document is left.
        ConfigError: a setting does not fit the sources.
        StorageError: the disk is full.
    """
    root = root.absolute()
    files = tuple(source_files(source, root) for source in settings.sources)
    input_files(settings, root)  # licences and evaluation files are there as well
    if settings.cleaning.detect_language:
        for source in settings.sources:
            Languages().require(source.name, source.languages)
    input_bytes = sum(file.path.stat().st_size for each in files for file in each)
    packed = sum(file.path.stat().st_size for each in files for file in each if file.compression)
    require_free_space(folder, 3 * (input_bytes - packed) + 10 * packed, "building the corpus")
    tell = progress or (lambda done, total, label: None)
    with folder_atomic(folder) as place:
        work = place / "work"
        report = _build(settings, place, work, root, files, input_bytes, tell)
        shutil.rmtree(work)
    return report


def _build(
    settings: CorpusSettings,
    place: Path,
    work: Path,
    root: Path,
    files: tuple[tuple[SourceFile, ...], ...],
    input_bytes: int,
    tell: Progress,
) -> CorpusReport:
    clock = Clock()
    with clock.time("register"):
        entries = [register(source, each, root) for source, each in zip(settings.sources, files, strict=True)]
        evaluation = tuple(path for pattern in settings.evaluation_files for path in evaluation_paths(pattern, root))
    with clock.time("repeated-lines"):
        repeated = tuple(repeated_lines(settings, number, each) for number, each in enumerate(files))
    preparation = Preparation(
        settings=settings,
        file_names=tuple(tuple(file.name for file in each) for each in files),
        repeated=repeated,
        evaluation=evaluation,
    )
    with (
        Spill(work, tuple(source.name for source in settings.sources)) as spill,
        Workers(how_many(settings.processes, input_bytes), start_worker, preparation) as workers,
    ):
        with clock.time("read-and-prepare"):
            _prepare(settings, files, workers, spill, tell, input_bytes)
        with clock.time("duplicates"):
            same, near = _duplicates(settings, spill, workers, tell)
        fates = _fates(settings, spill, same, near)
        if not fates.kept.any():
            raise DataError(_nothing_left(spill))
        with clock.time("write"):
            written = write_corpus(place, spill, fates, tell)
        with clock.time("inspect"):
            sample = inspect_corpus(settings, place, spill, fates, workers, tell)
    result = report_of(settings, place, spill, fates, written, sample, entries, _evaluation(evaluation, spill))
    seconds = {**spill.seconds, **clock.seconds}
    return CorpusReport(**result, seconds=seconds)


def _evaluation(paths: tuple[Path, ...], spill: Spill) -> dict[str, Any]:
    """What there is to say about contamination; empty where no evaluation file is named."""
    if not paths:
        return {}
    index = NgramIndex.from_files(*paths)
    return {
        "files": index.files,
        "size": index.size,
        "items": index.items,
        "items_too_short": index.items_too_short,
        "items_found": len(spill.contaminated),
        "items_left": 0,  # whatever shares a run with an item is dropped, and contamination is the last rule
    }


def _prepare(
    settings: CorpusSettings,
    files: tuple[tuple[SourceFile, ...], ...],
    workers: Workers,
    spill: Spill,
    tell: Progress,
    input_bytes: int,
) -> None:
    """The first pass: everything that a document is judged by alone."""
    order: list[tuple[list[tuple[int, int]], int]] = []
    clock = Clock()

    def tasks() -> Iterator[tuple[list[Task]]]:
        for batch, done in _batches(settings, files, clock):
            order.append(([(task.source, task.number) for task in batch], done))
            yield (batch,)

    for prepared in workers.map(prepare_in_worker, tasks()):
        names, done = order.pop(0)
        spill.add(names, prepared)
        tell(done, input_bytes, "reading and cleaning")
    spill.finish()
    spill.seconds.update(clock.seconds)


def _batches(
    settings: CorpusSettings, files: tuple[tuple[SourceFile, ...], ...], clock: Clock
) -> Iterator[tuple[list[Task], int]]:
    """Documents in portions of about a million characters, with the packed bytes read so far."""
    batch: list[Task] = []
    held = done = 0
    for source_number, source in enumerate(settings.sources):
        number = 0
        for file_number, file in enumerate(files[source_number]):
            with ByteStream(file) as stream:
                for document in clock.over("read", read_documents(source, stream, settings.max_document_bytes)):
                    number += 1
                    batch.append(
                        Task(
                            source_number,
                            number,
                            file_number,
                            document.place,
                            document.text,
                            document.size_bytes,
                            document.sha256,
                        )
                    )
                    held += len(document.text or "")
                    if held >= _BATCH_CHARACTERS or len(batch) >= _BATCH_DOCUMENTS:
                        yield batch, done + stream.position
                        batch, held = [], 0
                    if number == source.max_documents:
                        break
            done += file.path.stat().st_size
            if number == source.max_documents:
                break
    if batch:
        yield batch, done


def _duplicates(settings: CorpusSettings, spill: Spill, workers: Workers, tell: Progress) -> tuple[Int64s, Settled]:
    """The second pass, over digests and signatures: what repeats what."""
    same = equal_documents(spill.digests)
    first = same == np.arange(len(same))
    label = candidate_groups(spill.keys_path, settings.duplicates.bands, first)
    offsets, lengths = spill.offsets()
    near = Settled()
    portions = groups(label, spill.keys_path, settings.duplicates.bands, offsets, lengths)
    tasks = ((spill.texts_path, portion, settings.duplicates) for portion in portions)
    total = int((np.bincount(label, minlength=len(label))[label] > 1).sum()) if len(label) else 0
    for settled in workers.map(settle, tasks):
        near.dropped.extend(settled.dropped)
        near.alike.extend(settled.alike)
        near.compared += settled.compared
        near.passed_over += settled.passed_over
        tell(min(near.compared, total), total, "comparing near-duplicates")
    return same, near


def _fates(settings: CorpusSettings, spill: Spill, same: Int64s, near: Settled) -> Fates:
    repeats = np.where(same == np.arange(len(same)), -1, same)
    similarity = np.where(repeats >= 0, 1.0, 0.0).astype(np.float32)
    near_number = np.zeros(len(same), bool)
    for document, kept, alike in near.dropped:
        repeats[document], similarity[document], near_number[document] = kept, alike, True
    # What equals a document that was itself dropped as alike is sent on to the one that is kept.
    stands_for = np.where(repeats >= 0, repeats, np.arange(len(same)))
    repeats = np.where(repeats >= 0, stands_for[stands_for], -1)
    stays = repeats < 0
    return Fates(
        kept=stays,
        repeats=repeats,
        same=same,
        similarity=similarity,
        near=near_number,
        validation=sides(settings, spill, stays, near.alike),
        compared=near.compared,
        passed_over=near.passed_over,
    )


def _nothing_left(spill: Spill) -> str:
    if not spill.documents:
        return "the corpus is empty: the sources hold no document; look at their paths, and at split_on"
    dropped: Counter[str] = Counter()
    with spill.decisions_path.open("rb") as lines:
        for line in lines:
            decision = json.loads(line)
            if decision["verdict"] == "dropped":
                dropped[decision["rules"][-1]["rule"]] += 1
    told = ", ".join(f"{rule} {count}" for rule, count in dropped.most_common())
    return (
        f"the corpus is empty: all {spill.documents} documents were dropped ({told}). "
        "Loosen the rules that dropped most in corpus.cleaning, or look whether the sources are what they should be"
    )


class Clock:
    """Processor seconds by name."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def time(self, name: str) -> _Timing:
        return _Timing(self, name)

    def over(self, name: str, items: Iterator[Any]) -> Iterator[Any]:
        """The items, with the time that making them takes."""
        while True:
            began = time.process_time()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self.seconds[name] += time.process_time() - began
            yield item


class _Timing:
    def __init__(self, clock: Clock, name: str) -> None:
        self._clock, self._name = clock, name

    def __enter__(self) -> None:
        self._began = time.process_time()

    def __exit__(self, *_: object) -> None:
        self._clock.seconds[self._name] += time.process_time() - self._began
