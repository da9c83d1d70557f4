"""Samples on disk: a line each, written when it is there, so that whatever stops a run loses none of them."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from guiju.errors import ConfigError, DataError, StorageError
from guiju.storage import explain_failure, sync_folder, write_bytes, write_json
from guiju.tasks.records import CodeProblem, Labelled, Message, Pair, Question, Record
from guiju.tasks.samples import Sample

SAMPLES, ASKED, RESULT, TABLE = "samples.jsonl", "asked.json", "result.json", "samples.html"

_KINDS: Mapping[str, type[Record]] = {kind.__name__: kind for kind in (CodeProblem, Labelled, Pair, Question)}


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
            self.samples: dict[str, Sample] = {sample.record.id: sample for sample in self._read()}
        except BaseException:
            os.close(self._file)
            raise

    def add(self, sample: Sample) -> None:
        """Put a sample behind the others; once this returns, neither a kill nor a power cut takes it away.

        Raises:
            StorageError: it could not be written.
        """
        line = json.dumps(sample_to_json(sample), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        begin = os.fstat(self._file).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
            os.fsync(self._file)
        except OSError as problem:
            os.ftruncate(self._file, begin)
            raise explain_failure(problem, self.folder / SAMPLES) from None
        self.samples[sample.record.id] = sample

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

    def _read(self) -> Iterator[Sample]:
        """The samples that are there. A last line that a kill cut is taken away: it was never finished."""
        path = self.folder / SAMPLES
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(self._file, whole)
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            yield _sample_of_line(line, f"{path}, line {number}")

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


def write_samples(folder: Path, identity: Mapping[str, Any], samples: Iterable[Sample]) -> None:
    """All samples at once, where nobody had to be asked for them."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise explain_failure(problem, folder) from None
    write_json(folder / ASKED, dict(identity))
    lines = [json.dumps(sample_to_json(sample), ensure_ascii=False) + "\n" for sample in samples]
    write_bytes(folder / SAMPLES, "".join(lines).encode("utf-8", "surrogatepass"))


def read_samples(folder: Path) -> tuple[dict[str, Any], list[Sample]]:
    """What was asked, and the samples, of a folder that an evaluation has written.

    Raises:
        DataError: there is none, or it is damaged.
    """
    if not (folder / ASKED).is_file() or not (folder / SAMPLES).is_file():
        raise DataError(
            f"{folder} holds no evaluation ({ASKED} and {SAMPLES}); give a folder that guiju eval has written"
        )
    identity = _read_json(folder / ASKED)
    content = (folder / SAMPLES).read_bytes()
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    return identity, [_sample_of_line(line, f"{folder / SAMPLES}, line {n}") for n, line in enumerate(lines, start=1)]


def sample_to_json(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.record.id,
        "status": sample.status,
        "prediction": sample.prediction,
        "details": dict(sample.details),
        "kind": type(sample.record).__name__,
        "record": dataclasses.asdict(sample.record),
    }


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
