"""One document at a time, in whichever process: repaired, judged, masked, and boiled down to a few digests.

What comes out depends on the document and the settings alone, so that the number of processes changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from guiju.corpus.characters import Characters, count_characters
from guiju.corpus.contamination import NgramIndex
from guiju.corpus.personal_data import find_personal_data, mask_personal_data
from guiju.corpus.quality import Languages, check_length, check_longest, check_quality, check_repetition
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
from guiju.corpus.shingles import (
    UInt64s,
    band_keys,
    shingles_of_all,
    tokens_of_all,
)

Repair = Callable[[str], tuple[str, Applied] | None]

_PORTION_CHARACTERS = 1 << 17
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


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
    digests: bytearray = field(default_factory=bytearray)
    """16 bytes for each survivor: the first half of its text's SHA-256."""
    keys: UInt64s = field(default_factory=lambda: np.zeros((0, 0), np.uint64))
    counts: Counter[str] = field(default_factory=Counter)
    contaminated: Counter[str] = field(default_factory=Counter)
    """Evaluation items that a document held, by name."""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Processor seconds by stage."""
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
        self._repairs = [self._repairs_of(repeated) for repeated in preparation.repeated]
        self._index = NgramIndex.from_files(*preparation.evaluation) if preparation.evaluation else None

    def _repairs_of(self, repeated: frozenset[str]) -> list[tuple[str, Repair]]:
        """The rules that mend a source's documents, in order."""
        cleaning = self._settings.cleaning
        rules: list[tuple[str, Repair, bool]] = [
            ("surrogates", repair_surrogates, True),
            ("mojibake", repair_mojibake, cleaning.repair_mojibake),
            ("nfc", normalise, cleaning.normalise),
            ("controls", strip_controls, cleaning.strip_controls),
            ("whitespace", tidy_whitespace, cleaning.tidy_whitespace),
            ("boilerplate", lambda text: strip_boilerplate(text, repeated), cleaning.strip_boilerplate),
        ]
        return [(stage, rule) for stage, rule, runs in rules if runs]

    def prepare(self, tasks: Iterable[Task]) -> Prepared:
        batch = Prepared()
        shingles: list[UInt64s] = []
        for portion in _portions(tasks):
            outcomes = self._judge(portion, batch)
            for task, outcome in zip(portion, outcomes, strict=True):
                batch.read_bytes += task.size_bytes or outcome.bytes_before
                if outcome.dropped is None:
                    batch.survivors.append(len(batch.decisions))
                    batch.languages.append(outcome.language)
                    batch.characters.append(len(outcome.text))
                    batch.text_bytes.append(outcome.bytes_after)
                    batch.texts.append(self._line(task, outcome))
                    batch.digests += bytes.fromhex(outcome.after)[:16]
                    shingles.append(outcome.shingles)
                batch.decisions.append(self._decision(task, outcome))
        near = self._settings.duplicates
        began = time.process_time()
        batch.keys = band_keys(shingles, near.permutations, near.bands, near.seed)
        batch.seconds["signatures"] += time.process_time() - began
        return batch

    def _judge(self, portion: list[Task], batch: Prepared) -> list[_Outcome]:
        """Every rule in its order; the first that drops a document ends it."""
        outcomes = [_Outcome(task.text or "", batch.seconds) for task in portion]
        for task, outcome in zip(portion, outcomes, strict=True):
            if task.text is None:
                limit = self._settings.max_document_bytes
                why = f"{task.size_bytes} bytes are more than corpus.max_document_bytes ({limit})"
                outcome.dropped = Applied("too-large", why, {"size_bytes": task.size_bytes})
            elif not outcome.drop("length", check_longest, outcome.text, self._settings.cleaning):
                for stage, rule in self._repairs[task.source]:
                    outcome.take(stage, rule)
        began = time.process_time()
        counts = count_characters(["" if outcome.dropped else outcome.text for outcome in outcomes])
        batch.seconds["quality"] += time.process_time() - began
        for task, outcome, counted in zip(portion, outcomes, counts, strict=True):
            if outcome.dropped is None:
                self._judge_characters(outcome, task.source, counted)
            if outcome.dropped is None:
                self._mask(outcome, batch)
        self._judge_runs([outcome for outcome in outcomes if outcome.dropped is None], batch)
        return outcomes

    def _judge_characters(self, outcome: _Outcome, source: int, counts: Characters) -> None:
        """Length, language, quality."""
        cleaning, expected = self._settings.cleaning, self._sources[source].languages
        outcome.language = expected[0] if expected else "und"
        if outcome.drop("length", check_length, counts, cleaning):
            return
        if self._languages is not None:
            began = time.process_time()
            outcome.language, outcome.dropped = self._languages.detect(
                outcome.text, counts, expected, cleaning.language_confidence
            )
            outcome.seconds["language"] += time.process_time() - began
        if outcome.dropped is None:
            outcome.drop("quality", check_quality, outcome.text, counts, cleaning)

    def _judge_runs(self, outcomes: list[_Outcome], batch: Prepared) -> None:
        """Repetition within a text, and contamination: by runs of tokens."""
        began = time.process_time()
        tokens, offsets = tokens_of_all([outcome.text for outcome in outcomes])
        shingles = shingles_of_all(tokens, offsets, self._settings.duplicates.shingle)
        batch.seconds["shingles"] += time.process_time() - began
        for outcome, own in zip(outcomes, shingles, strict=True):
            outcome.shingles = own
            outcome.drop("quality", check_repetition, own, self._settings.cleaning)
            if outcome.dropped is None and self._index is not None:
                outcome.drop("contamination", self._contamination, outcome.text, batch)

    def judge(self, documents: list[dict[str, str]]) -> list[dict[str, bool]]:
        """For each rule, whether a finished document stands before it once more: nothing to drop, mend or mask."""
        cleaning = self._settings.cleaning
        numbers = {source.name: number for number, source in enumerate(self._sources)}
        texts = [document["text"] for document in documents]
        shingles = shingles_of_all(*tokens_of_all(texts), self._settings.duplicates.shingle)
        results = []
        for document, counts, own in zip(documents, count_characters(texts), shingles, strict=True):
            text, source = document["text"], numbers[document["source"]]
            verdicts = {stage: rule(text) is None for stage, rule in self._repairs[source]}
            verdicts["length"] = check_length(counts, cleaning) is None
            if self._languages is not None:
                expected, confidence = self._sources[source].languages, cleaning.language_confidence
                verdicts["language"] = self._languages.detect(text, counts, expected, confidence)[1] is None
            found = check_quality(text, counts, cleaning) or check_repetition(own, cleaning)
            verdicts["quality"] = found is None
            if self._settings.personal_data:
                verdicts["personal-data"] = not find_personal_data(text, self._settings.personal_data)
            if self._index is not None:
                verdicts["contamination"] = self._index.overlap(text) is None
            results.append(verdicts)
        return results

    def _mask(self, outcome: _Outcome, batch: Prepared) -> None:
        """Mask personal data, and look again at what is left."""
        kinds = self._settings.personal_data
        if not kinds:
            return
        batch.counts["personal-data scanned"] += 1
        began = time.process_time()
        masked, spans = mask_personal_data(outcome.text, kinds)
        batch.seconds["personal-data"] += time.process_time() - began
        if not spans:
            return
        outcome.text = masked
        found = Counter(span.kind for span in spans)
        what = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
        outcome.changes.append(Applied("personal-data", f"masked: {what}", dict(sorted(found.items()))))
        batch.counts["personal-data documents"] += 1
        for kind, count in found.items():
            batch.counts[f"personal-data found {kind}"] += count
        began = time.process_time()
        left = find_personal_data(masked, kinds)
        batch.seconds["personal-data"] += time.process_time() - began
        for span in left:
            batch.counts[f"personal-data left {span.kind}"] += 1
        batch.counts["personal-data documents left"] += bool(left)

    def _contamination(self, text: str, batch: Prepared) -> Applied | None:
        assert self._index is not None
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
        return _encode(decision).encode()

    def _line(self, task: Task, outcome: _Outcome) -> bytes:
        source = self._sources[task.source].name
        line = {"id": f"{source}-{task.number}", "source": source, "language": outcome.language, "text": outcome.text}
        return _encode(line).encode() + b"\n"


class _Outcome:
    """A document between its rules."""

    def __init__(self, text: str, seconds: defaultdict[str, float]) -> None:
        raw = text.encode("utf-8", "surrogatepass")
        self.before = hashlib.sha256(raw).hexdigest()
        self.bytes_before = len(raw)
        self.characters_before = len(text)
        self.text = text
        self.language = ""
        self.changes: list[Applied] = []
        self.dropped: Applied | None = None
        self.shingles: UInt64s = np.zeros(0, np.uint64)
        self.seconds = seconds

    def take(self, stage: str, rule: Repair) -> None:
        began = time.process_time()
        changed = rule(self.text)
        self.seconds[stage] += time.process_time() - began
        if changed is not None:
            self.text, applied = changed
            self.changes.append(applied)

    def drop(self, stage: str, rule: Callable[..., Applied | None], *given: object) -> bool:
        """Apply a rule that may drop the document; whether it did."""
        began = time.process_time()
        self.dropped = rule(*given)
        self.seconds[stage] += time.process_time() - began
        return self.dropped is not None

    @property
    def after(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest() if self.changes else self.before

    @property
    def bytes_after(self) -> int:
        return len(self.text.encode()) if self.changes else self.bytes_before


def _portions(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Documents in portions small enough that arrays over their characters stay small."""
    portion: list[Task] = []
    held = 0
    for task in tasks:
        portion.append(task)
        held += len(task.text or "")
        if held >= _PORTION_CHARACTERS:
            yield portion
            portion, held = [], 0
    if portion:
        yield portion


_preparer: Preparer | None = None


def start_worker(preparation: Preparation) -> None:
    """What a worker process does first."""
    global _preparer
    _preparer = Preparer(preparation)


def prepare_in_worker(tasks: list[Task]) -> Prepared:
    assert _preparer is not None, "start_worker was not called"
    return _preparer.prepare(tasks)


def judge_in_worker(documents: list[dict[str, str]]) -> list[dict[str, bool]]:
    assert _preparer is not None, "start_worker was not called"
    return _preparer.judge(documents)
