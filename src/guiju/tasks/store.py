"""Samples on disk: a line each, written when it is there, so that whatever stops a run loses none of them. In memory is
where each of them begins."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from guiju.errors import ConfigError, DataError, StorageError
from guiju.storage import explain_failure, open_atomic, sync_folder, write_json
from guiju.tasks.identity import IdIndex, record_digest, text_digest
from guiju.tasks.records import CodeProblem, Labelled, Message, Pair, Question, Record
from guiju.tasks.samples import Sample

SAMPLES, ASKED, RESULT, TABLE = "samples.jsonl", "asked.json", "result.json", "samples.html"

_KINDS: Mapping[str, type[Record]] = {kind.__name__: kind for kind in (CodeProblem, Labelled, Pair, Question)}


class _Lines:
    """Lines of samples in an open file, which is closed with the last who reads it."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.file, self.name = file, name
        weakref.finalize(self, file.close)

    def sample(self, place: int) -> Sample:
        self.file.seek(place)
        return _sample_of_line(self.file.readline(), f"{self.name}, byte {place}")


class KeptSamples:
    """Samples that lie in a file, in an order of their own; each is read when it is asked for."""

    def __init__(self, lines: _Lines, places: Any) -> None:
        """
        Args:
            places: (n,) the bytes at which they begin.
        """
        self._lines, self._places = lines, np.asarray(places, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> Sample:
        return self._lines.sample(int(self._places[number]))

    def __iter__(self) -> Iterator[Sample]:
        return (self._lines.sample(place) for place in map(int, self._places))

    def chosen(self, numbers: Any) -> KeptSamples:
        """Those of the numbers, in their order."""
        return KeptSamples(self._lines, self._places[np.asarray(numbers, dtype=np.int64)])


class SampleSpool:
    """Samples in a nameless file, gone with the last who reads it: for an evaluation that names no folder."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the last who reads it
        self._lines = _Lines(self._file, "the samples")
        self._end = 0

    def add(self, sample: Sample) -> int:
        """Put a sample behind the others; returns its place."""
        place = self._end
        self._end += self._file.write(_line_of_sample(sample))
        return place

    def kept(self, places: Any) -> KeptSamples:
        self._file.flush()
        return KeptSamples(self._lines, places)


class SampleLog:
    """The samples of one evaluation, in a folder. One process at a time may add to it."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Open the log, or go on with the one that is there.

        Args:
            identity: who is asked what and how; a folder that holds another's samples is refused.
        Raises:
            ConfigError: the folder holds the samples of something else, or another process adds to them now.
            DataError: a line that was there is damaged.
            StorageError: the folder cannot be written.
        """
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.folder / SAMPLES, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as problem:
            raise explain_failure(problem, self.folder) from None
        try:
            self._lock()
            self._claim(identity)
            self.held, end = _scanned(self.folder / SAMPLES)
            """Of the samples that were there: the digests of their ids and of their records, and their places."""
            if end < os.fstat(self._file).st_size:  # a last line that a kill cut was never finished
                os.ftruncate(self._file, end)
        except BaseException:
            os.close(self._file)
            raise

    def add(self, sample: Sample) -> int:
        """Put a sample behind the others; once this returns its place, neither a kill nor a power cut takes it away.

        Raises:
            StorageError: it could not be written.
        """
        line = _line_of_sample(sample)
        begin = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as problem:
            os.ftruncate(self._file, begin)
            raise explain_failure(problem, self.folder / SAMPLES) from None
        return begin

    def kept(self, places: Any) -> KeptSamples:
        """The samples at these places. They can be read when the log is closed, too."""
        return KeptSamples(_opened(self.folder / SAMPLES), places)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                f"{self.folder} is being written by another process. Wait for it, or give another folder with --out"
            ) from None

    def _claim(self, identity: Mapping[str, Any]) -> None:
        place = self.folder / ASKED
        if not place.exists():
            if os.fstat(self._file).st_size:
                raise ConfigError(f"{self.folder} holds samples, but no {ASKED} that says of what. Give another --out")
            write_json(place, dict(identity))
            sync_folder(self.folder)
            return
        require_same(self.folder, identity)

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def require_same(folder: Path, identity: Mapping[str, Any]) -> None:
    """Raise ConfigError where a folder holds samples of another evaluation than this one."""
    if not (folder / ASKED).exists():
        return
    held = _read_json(folder / ASKED)
    # The model's digest says which it is; the same one may have been moved since.
    changed = [name for name in {**held, **identity} if held.get(name) != identity.get(name) and name != "model"]
    if changed:
        name = changed[0]
        raise ConfigError(
            f"{folder} holds samples of another evaluation: its {name} is {held.get(name)!r}, and now it is "
            f"{identity.get(name)!r}. Mixed, they would be nobody's figures: give another folder with --out"
        )


def write_samples(folder: Path, identity: Mapping[str, Any], samples: Iterable[Sample]) -> KeptSamples:
    """All samples in one go, where nobody had to be asked for them; what was there stays until they are all there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise explain_failure(problem, folder) from None
    places, end = array("q"), 0
    with open_atomic(folder / SAMPLES) as file:
        for sample in samples:
            places.append(end)
            end += file.write(_line_of_sample(sample))
        write_json(folder / ASKED, dict(identity))
    return KeptSamples(_opened(folder / SAMPLES), places)


@dataclass(frozen=True)
class EvaluatedFolder:
    """What an evaluation has written."""

    folder: Path
    asked: Mapping[str, Any]
    """Who was asked what and how."""
    samples: KeptSamples
    digests: array[int]
    """text_digest of each sample's id, and record_digest of its record in `contents`."""
    contents: array[int]

    @cached_property
    def ids(self) -> IdIndex:
        return IdIndex(self.digests)


def read_samples(folder: Path) -> EvaluatedFolder:
    """The samples of a folder that an evaluation has written.

    Raises:
        DataError: there is none, or it is damaged.
    """
    if not (folder / ASKED).is_file() or not (folder / SAMPLES).is_file():
        raise DataError(
            f"{folder} holds no evaluation ({ASKED} and {SAMPLES}); give a folder that guiju eval has written"
        )
    (digests, contents, places), _ = _scanned(folder / SAMPLES)
    return EvaluatedFolder(
        folder, _read_json(folder / ASKED), KeptSamples(_opened(folder / SAMPLES), places), digests, contents
    )


def _opened(path: Path) -> _Lines:
    return _Lines(path.open("rb"), str(path))


def _scanned(path: Path) -> tuple[tuple[array[int], array[int], array[int]], int]:
    """Of each sample the digests of its id and of its record, and its place; and where the last whole line ends."""
    ids, contents, places = array("Q"), array("Q"), array("q")
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            record = _sample_of_line(line, f"{path}, line {number}").record
            ids.append(text_digest(record.id))
            contents.append(record_digest(record))
            places.append(end)
            end += len(line)
    return (ids, contents, places), end


def _line_of_sample(sample: Sample) -> bytes:
    return json.dumps(sample_to_json(sample), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def sample_to_json(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.record.id,
        "status": sample.status,
        "prediction": sample.prediction,
        "details": dict(sample.details),
        "kind": type(sample.record).__name__,
        "record": {name: _plain(getattr(sample.record, name)) for name in sample.record.__dataclass_fields__},
    }


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _sample_of_line(line: bytes, place: str) -> Sample:
    try:
        held = json.loads(line.decode("utf-8", "surrogatepass"))
        kind = _KINDS[held["kind"]]
        fields = {name: _frozen(value) for name, value in held["record"].items()}
        return Sample(kind(**fields), held["prediction"], held["status"], held["details"])
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise DataError(
            f"{place} is no sample of an evaluation ({problem}). Take the folder away and ask anew"
        ) from None


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(Message(**one) if isinstance(one, dict) else one for one in value)
    return value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise StorageError(f"{path} cannot be read: {problem}") from None
    if not isinstance(held, dict):
        raise StorageError(f"{path} holds no object")
    return held
