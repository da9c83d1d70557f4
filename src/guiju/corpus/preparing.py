"""One document at a time, in whichever process: repaired, judged, masked, and boiled down to a few digests.

What comes out depends on the document and the settings alone, so that the number of processes changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

try:  # TEMPORARY until contamination.py lands
    from guiju.corpus.contamination import NgramIndex
except ImportError:
    NgramIndex = None
from guiju.corpus.personal_data import find_personal_data, mask_personal_data
from guiju.corpus.quality import Languages, check_length, check_quality, check_repetition
from guiju.corpus.repair import (
    Applied,
    normalise,
    repair_mojibake,
    repair_surrogates,
    strip_boilerplate,
    strip_controls,
    tidy_whitespace,
)
from guiju.corpus.settings import CorpusSettings
from guiju.corpus.shingles import UInt64s, band_keys, distinct, shingle_hashes, token_hashes


@dataclass(frozen=True, slots=True)
class Task:
    """A document on its way to a worker."""

    source: int
    number: int
    """Within the source, from 1."""
    file: int
    place: int
    text: str | None
    size_bytes: int
    sha256: str


@dataclass(slots=True)
class Prepared:
    """What is left of a batch of documents; those that go on are the survivors."""

    decisions: list[bytes] = field(default_factory=list)
    """A JSON object for each document, without its side of the split."""
    survivors: list[int] = field(default_factory=list)
    """Places in the batch."""
    texts: list[bytes] = field(default_factory=list)
    """A JSON line for each survivor, as the corpus holds it."""
    languages: list[str] = field(default_factory=list)
    characters: list[int] = field(default_factory=list)
    text_bytes: list[int] = field(default_factory=list)
    digests: UInt64s = field(default_factory=lambda: np.zeros((0, 2), np.uint64))
    keys: UInt64s = field(default_factory=lambda: np.zeros((0, 0), np.uint64))
    counts: Counter[str] = field(default_factory=Counter)
    contaminated: Counter[str] = field(default_factory=Counter)
    """Evaluation items that a document held, by name."""
    seconds: Counter[str] = field(default_factory=Counter)
    read_bytes: int = 0


@dataclass(frozen=True)
class Preparation:
    """All that a worker needs to know."""

    settings: CorpusSettings
    file_names: tuple[tuple[str, ...], ...]
    repeated: tuple[frozenset[str], ...]
    """For each source, the lines at the edge of many of its documents."""
    evaluation: tuple[Path, ...]


class Preparer:
    """Prepares documents; made once in each process."""

    def __init__(self, preparation: Preparation) -> None:
        self._given = preparation
        self._settings = preparation.settings
        self._sources = preparation.settings.sources
        self._languages = Languages() if self._settings.cleaning.detect_language else None
        self._index = NgramIndex.from_files(*preparation.evaluation) if preparation.evaluation else None

    def prepare(self, tasks: Iterable[Task]) -> Prepared:
        batch = Prepared()
        shingles: list[UInt64s] = []
        digests: list[bytes] = []
        for place, task in enumerate(tasks):
            outcome = _Outcome(task.text or "", batch.seconds)
            if task.text is None:
                limit = self._settings.max_document_bytes
                why = f"{task.size_bytes} bytes are more than corpus.max_document_bytes ({limit})"
                outcome.dropped = Applied("too-large", why, {"size_bytes": task.size_bytes})
            else:
                self._judge(outcome, task, batch)
            batch.read_bytes += task.size_bytes or outcome.bytes_before
            batch.decisions.append(self._decision(task, outcome))
            if outcome.dropped is None:
                batch.survivors.append(place)
                batch.languages.append(outcome.language)
                batch.characters.append(len(outcome.text))
                batch.text_bytes.append(outcome.bytes_after)
                batch.texts.append(self._line(task, outcome))
                shingles.append(outcome.distinct)
                digests.append(bytes.fromhex(outcome.after)[:16])
        near = self._settings.duplicates
        with outcome_time(batch.seconds, "signatures"):
            batch.keys = band_keys(shingles, near.permutations, near.bands, near.seed)
        batch.digests = np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)
        return batch

    def _judge(self, outcome: _Outcome, task: Task, batch: Prepared) -> None:
        """Every rule in its order; the first that drops the document ends it."""
        cleaning, source = self._settings.cleaning, self._sources[task.source]
        outcome.take("surrogates", repair_surrogates)
        if cleaning.repair_mojibake:
            outcome.take("mojibake", repair_mojibake)
        if cleaning.normalise:
            outcome.take("nfc", normalise)
        if cleaning.strip_controls:
            outcome.take("controls", strip_controls)
        if cleaning.tidy_whitespace:
            outcome.take("whitespace", tidy_whitespace)
        if cleaning.strip_boilerplate:
            repeated = self._given.repeated[task.source]
            outcome.take("boilerplate", lambda text: strip_boilerplate(text, repeated))
        if outcome.drop("length", lambda text: check_length(text, cleaning)):
            return
        if self._languages is not None:
            with outcome_time(batch.seconds, "language"):
                outcome.language, outcome.dropped = self._languages.detect(
                    outcome.text, source.languages, cleaning.language_confidence
                )
            if outcome.dropped:
                return
        else:
            outcome.language = source.languages[0] if source.languages else "und"
        if outcome.drop("quality", lambda text: check_quality(text, cleaning)):
            return
        self._mask(outcome, batch)
        with outcome_time(batch.seconds, "shingles"):
            shingles = shingle_hashes(token_hashes(outcome.text), self._settings.duplicates.shingle)
            outcome.distinct = distinct(shingles)
        if outcome.drop("quality", lambda _: check_repetition(shingles, outcome.distinct, cleaning)):
            return
        outcome.drop("contamination", lambda text: self._contamination(text, batch))

    def judge(self, source: str, text: str) -> dict[str, bool]:
        """For each rule, whether a finished text stands before it once more: nothing to drop, mend or mask."""
        cleaning = self._settings.cleaning
        number = [one.name for one in self._sources].index(source)
        expected = self._sources[number].languages
        shingles = shingle_hashes(token_hashes(text), self._settings.duplicates.shingle)
        verdicts = {
            "length": check_length(text, cleaning) is None,
            "quality": check_quality(text, cleaning) is None
            and check_repetition(shingles, distinct(shingles), cleaning) is None,
        }
        if cleaning.repair_mojibake:
            verdicts["mojibake"] = repair_mojibake(text) is None
        if cleaning.normalise:
            verdicts["nfc"] = normalise(text) is None
        if cleaning.strip_controls:
            verdicts["controls"] = strip_controls(text) is None
        if cleaning.strip_boilerplate:
            verdicts["boilerplate"] = strip_boilerplate(text, self._given.repeated[number]) is None
        if self._languages is not None:
            verdicts["language"] = self._languages.detect(text, expected, cleaning.language_confidence)[1] is None
        if self._settings.personal_data:
            verdicts["personal-data"] = not find_personal_data(text, self._settings.personal_data)
        if self._index is not None:
            verdicts["contamination"] = self._index.overlap(text) is None
        return verdicts

    def _mask(self, outcome: _Outcome, batch: Prepared) -> None:
        """Mask personal data, and look again at what is left."""
        kinds = self._settings.personal_data
        if not kinds:
            return
        batch.counts["personal-data scanned"] += 1
        with outcome_time(batch.seconds, "personal-data"):
            masked, spans = mask_personal_data(outcome.text, kinds)
        if not spans:
            return
        outcome.text = masked
        found = Counter(span.kind for span in spans)
        what = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
        outcome.changes.append(Applied("personal-data", f"masked: {what}", dict(sorted(found.items()))))
        batch.counts["personal-data documents"] += 1
        for kind, count in found.items():
            batch.counts[f"personal-data found {kind}"] += count
        with outcome_time(batch.seconds, "personal-data"):
            left = find_personal_data(masked, kinds)
        for span in left:
            batch.counts[f"personal-data left {span.kind}"] += 1
        batch.counts["personal-data documents left"] += bool(left)

    def _contamination(self, text: str, batch: Prepared) -> Applied | None:
        if self._index is None:
            return None
        overlap = self._index.overlap(text)
        if overlap is None:
            return None
        batch.contaminated.update(overlap.items)
        named = sorted(overlap.items)
        return Applied(
            "contamination",
            f"shares a run of {overlap.size} tokens with {named[0]}" + (" and more" if len(named) > 1 else ""),
            {"items": named[:10], "items_in_all": len(named)},
        )

    def _decision(self, task: Task, outcome: _Outcome) -> bytes:
        source = self._sources[task.source]
        verdict = "dropped" if outcome.dropped else "changed" if outcome.changes else "kept"
        applied = [*outcome.changes, *([outcome.dropped] if outcome.dropped else [])]
        decision = {
            "id": f"{source.name}-{task.number}",
            "source": source.name,
            "file": self._given.file_names[task.source][task.file],
            "position": task.place,
            "language": outcome.language or None,
            "verdict": verdict,
            "rules": [one.to_json() for one in applied],
            "before": task.sha256 or outcome.before,
            "after": None if outcome.dropped else outcome.after,
            "characters_before": None if task.text is None else outcome.characters_before,
            "characters_after": None if outcome.dropped else len(outcome.text),
        }
        return json.dumps(decision, ensure_ascii=False, separators=(",", ":")).encode()

    def _line(self, task: Task, outcome: _Outcome) -> bytes:
        source = self._sources[task.source].name
        line = {"id": f"{source}-{task.number}", "source": source, "language": outcome.language, "text": outcome.text}
        return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


class _Outcome:
    """A document between its rules."""

    def __init__(self, text: str, seconds: Counter[str]) -> None:
        raw = text.encode("utf-8", "surrogatepass")
        self.before = hashlib.sha256(raw).hexdigest()
        self.bytes_before = len(raw)
        self.characters_before = len(text)
        self.text = text
        self.language = ""
        self.changes: list[Applied] = []
        self.dropped: Applied | None = None
        self.distinct: UInt64s = np.zeros(0, np.uint64)
        self._seconds = seconds
        self._encoded: bytes | None = None

    def take(self, stage: str, rule: Callable[[str], tuple[str, Applied] | None]) -> None:
        with outcome_time(self._seconds, stage):
            changed = rule(self.text)
        if changed is not None:
            self.text, applied = changed
            self.changes.append(applied)

    def drop(self, stage: str, rule: Callable[[str], Applied | None]) -> bool:
        with outcome_time(self._seconds, stage):
            self.dropped = rule(self.text)
        return self.dropped is not None

    @property
    def after(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest() if self.changes else self.before

    @property
    def bytes_after(self) -> int:
        return len(self.text.encode()) if self.changes else self.bytes_before


@contextmanager
def outcome_time(seconds: Counter[str], stage: str) -> Iterator[None]:
    """Adds the time of the block to a stage's."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds[stage] += time.perf_counter() - began  # type: ignore[assignment]


_preparer: Preparer | None = None


def start_worker(preparation: Preparation) -> None:
    """What a worker process does first."""
    global _preparer
    _preparer = Preparer(preparation)


def prepare_in_worker(tasks: list[Task]) -> Prepared:
    assert _preparer is not None, "start_worker was not called"
    return _preparer.prepare(tasks)


def judge_in_worker(document: dict[str, str]) -> dict[str, bool]:
    assert _preparer is not None, "start_worker was not called"
    return _preparer.judge(document["source"], document["text"])
