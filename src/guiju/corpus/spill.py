"""What does not fit into memory: texts, decisions and band keys on disk, and a few bytes a document here."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from guiju.corpus.preparing import Prepared
from guiju.corpus.shingles import UInt64s


class Spill:
    """Takes prepared batches in order. A survivor is a document that no rule has dropped; it has its own count."""

    def __init__(self, folder: Path, source_names: tuple[str, ...]) -> None:
        folder.mkdir()
        self.source_names = source_names
        self.texts_path = folder / "texts.jsonl"
        self.decisions_path = folder / "decisions.jsonl"
        self.keys_path = folder / "keys.u64"
        self._texts = self.texts_path.open("wb")
        self._decisions = self.decisions_path.open("wb")
        self._keys = self.keys_path.open("wb")
        self.documents = 0
        self.by_source: Counter[int] = Counter()
        self.lengths = array("L")
        self.numbers = array("L")
        """For each survivor, its number among all documents."""
        self.sources = array("L")
        self.within = array("L")
        """For each survivor, its number within its source."""
        self.languages = array("H")
        self.characters = array("L")
        self.text_bytes = array("L")
        self.language_names: list[str] = []
        self._digests = array("Q")
        self.counts: Counter[str] = Counter()
        self.contaminated: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.read_bytes = 0

    def add(self, names: list[tuple[int, int]], batch: Prepared) -> None:
        """Args: names: for each document of the batch its source's number, and its own within the source."""
        for source, _ in names:
            self.by_source[source] += 1
        for decision in batch.decisions:
            self._decisions.write(decision + b"\n")
        for place, text, language in zip(batch.survivors, batch.texts, batch.languages, strict=True):
            self._texts.write(text)
            self.lengths.append(len(text))
            self.numbers.append(self.documents + place)
            source, within = names[place]
            self.sources.append(source)
            self.within.append(within)
            if language not in self.language_names:
                self.language_names.append(language)
            self.languages.append(self.language_names.index(language))
        self.characters.extend(batch.characters)
        self.text_bytes.extend(batch.text_bytes)
        self._digests.frombytes(bytes(batch.digests))
        self._keys.write(batch.keys.tobytes())
        self.documents += len(batch.decisions)
        self.counts.update(batch.counts)
        self.contaminated.update(batch.contaminated)
        for stage, seconds in batch.seconds.items():
            self.seconds[stage] += seconds
        self.read_bytes += batch.read_bytes

    def finish(self) -> None:
        """Nothing comes any more; what was added can be read from the files."""
        for file in (self._texts, self._decisions, self._keys):
            file.close()

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def name(self, survivor: int) -> str:
        """A survivor's id."""
        return f"{self.source_names[self.sources[survivor]]}-{self.within[survivor]}"

    @property
    def survivors(self) -> int:
        return len(self.lengths)

    @property
    def digests(self) -> UInt64s:
        return np.array(self._digests, np.uint64).reshape(-1, 2)

    def offsets(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Where each survivor's line begins in the texts, and how long it is."""
        lengths = np.array(self.lengths, np.int64)
        offsets = np.zeros_like(lengths)
        np.cumsum(lengths[:-1], out=offsets[1:])
        return offsets, lengths
