"""Which files a source names, and the register that says by what right each may be used."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guiju.corpus.settings import CorpusSettings, SourceSettings
from guiju.errors import ConfigError, DataError
from guiju.storage import sha256_file

_FORMATS = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


@dataclass(frozen=True)
class SourceFile:
    """One file of a source."""

    source: str
    name: str
    """As the recipe leads to it: relative to the root where it lies inside."""
    path: Path
    format: str
    compression: str
    """gzip, zstd, or empty"""


def source_files(source: SourceSettings, root: Path) -> tuple[SourceFile, ...]:
    """The files of a source: those of its paths in the order written, those of a glob in the order of their names.

    Raises:
        DataError: a path leads to no file.
        ConfigError: the format cannot be read off a file's name, or does not fit its compression.
    """
    found: dict[Path, SourceFile] = {}
    for pattern in source.paths:
        for path in _expand(source, pattern, root):
            if path not in found:
                name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
                found[path] = SourceFile(source.name, name, path, *_format(source, path))
    return tuple(found.values())


def input_files(settings: CorpusSettings, root: Path) -> dict[str, Path]:
    """Every file that building the corpus reads, by a name that is unique: data, licences, evaluation files.

    Raises:
        DataError: a named file does not exist.
    """
    files: dict[str, Path] = {}
    for source in settings.sources:
        for file in source_files(source, root):
            files[f"{source.name}: {file.name}"] = file.path
        if source.licence_file is not None:
            files[f"{source.name}: licence"] = licence_file(source, root)
    for pattern in settings.evaluation_files:
        for path in evaluation_paths(pattern, root):
            files[f"evaluation: {path.relative_to(root) if path.is_relative_to(root) else path}"] = path
    return files


def licence_file(source: SourceSettings, root: Path) -> Path:
    assert source.licence_file is not None
    path = root / source.licence_file
    if not path.is_file():
        raise DataError(
            f"corpus.sources.{source.name}.licence_file: {path} does not exist; "
            "give the licence's text, or leave the setting out"
        )
    return path


def evaluation_paths(pattern: str, root: Path) -> list[Path]:
    paths = _glob(pattern, root)
    if not paths:
        raise DataError(
            f"corpus.evaluation_files: {root / pattern} does not exist or matches no file; "
            "without it nothing could be said about contamination"
        )
    return paths


def register(source: SourceSettings, files: tuple[SourceFile, ...], root: Path) -> dict[str, object]:
    """A source's line in the licence register, with the digests of its files and of its licence's text."""
    entry: dict[str, object] = {
        "name": source.name,
        "licence": source.licence,
        "licence_file": source.licence_file,
        "licence_sha256": sha256_file(licence_file(source, root)) if source.licence_file else None,
        "origin": source.origin,
        "language": list(source.languages),
        "date": source.date,
        "kind": source.kind,
        "region": source.region,
        "country": source.country,
        "collection_record": source.collection_record,
        "contract": source.contract,
        "consent": source.consent,
        "missing": list(source.missing),
        "accept_without": source.accept_without,
    }
    entry["files"] = [
        {"file": file.name, "size_bytes": file.path.stat().st_size, "sha256": sha256_file(file.path)} for file in files
    ]
    return entry


def _expand(source: SourceSettings, pattern: str, root: Path) -> Iterator[Path]:
    paths = _glob(pattern, root)
    if not paths:
        place = root / pattern
        what = "matches no file" if glob.has_magic(pattern) else "does not exist"
        if place.is_dir():
            what = "is a folder: give a glob of the files in it, such as " + (place / "*.txt").as_posix()
        raise DataError(f"corpus.sources.{source.name}.path: {place} {what}")
    yield from paths


def _glob(pattern: str, root: Path) -> list[Path]:
    place = root / pattern
    if place.is_file():  # a name may hold brackets and yet mean itself
        return [place]
    if not glob.has_magic(pattern):
        return []
    # Path.glob takes no absolute pattern
    found = glob.glob(pattern, root_dir=root, recursive=True)  # noqa: PTH207
    return sorted(path for path in (root / name for name in found) if path.is_file())


def _format(source: SourceSettings, path: Path) -> tuple[str, str]:
    compression = _COMPRESSIONS.get(path.suffix.lower(), "")
    suffix = Path(path.stem).suffix.lower() if compression else path.suffix.lower()
    kind = source.format
    if kind == "auto":
        if suffix not in _FORMATS:
            raise ConfigError(
                f"corpus.sources.{source.name}.format: {path.name} does not tell its format; "
                f"set it to one of {', '.join(sorted(set(_FORMATS.values())))}"
            )
        kind = _FORMATS[suffix]  # type: ignore[assignment]
    if kind == "parquet" and compression:
        raise ConfigError(
            f"corpus.sources.{source.name}.path: {path.name} is parquet inside {compression}, which cannot be read "
            "in parts; unpack it first"
        )
    return kind, compression
