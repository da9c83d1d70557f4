"""What a model folder's files tell without loading them: parameters out of safetensors headers, and unsafe pickles."""

from __future__ import annotations

import json
import math
import pickletools
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from guiju.errors import ModelError

MAX_HEADER_BYTES = 100_000_000
"""The safetensors format's own limit."""

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill")
"""Suffixes under which the field ships pickles. The content decides; a suffix alone does not."""

INSTRUCTIONS = frozenset(opcode.code for opcode in pickletools.opcodes)
"""What may stand in a pickle after its opening mark."""


def measure_model_folder(folder: Path) -> Iterator[dict[str, Any]]:
    """A `measurement` body for each thing that the files alone tell."""
    yield pickles(folder)
    if any(folder.glob("*.safetensors")):
        yield parameters(folder)


def pickles(folder: Path) -> dict[str, Any]:
    """How many files can run code when they are loaded. Every file is looked into, whatever it is called."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    unsafe = [path.relative_to(folder).as_posix() for path in files if _is_pickle(path)]
    return {
        "measure": "unsafe_pickle_count",
        "what": "files that run code when loaded (pickle), of all files",
        "count": None,
        "n": len(files),
        "value": len(unsafe),
        "unit": "files",
        "sampled": False,
        "details": {"files": unsafe[:100]},
    }


def parameters(folder: Path) -> dict[str, Any]:
    """How many numbers the weights hold, from the safetensors headers.

    Raises:
        ModelError: a header cannot be read.
    """
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in _header(path).items():
            if name == "__metadata__":
                continue
            shape = tensor.get("shape") if isinstance(tensor, dict) else None
            if not isinstance(shape, list) or not all(isinstance(size, int) and size >= 0 for size in shape):
                raise ModelError(f"{path} gives the tensor {name!r} no shape; the file is damaged, fetch it again")
            total += math.prod(shape)
    return {
        "measure": "param_count",
        "what": "numbers in the weights",
        "count": None,
        "n": None,
        "value": total,
        "unit": "parameters",
        "sampled": False,
        "details": {},
    }


def _header(path: Path) -> dict[str, Any]:
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else -1
        if not 0 < length <= min(MAX_HEADER_BYTES, size_bytes - 8):
            raise ModelError(f"{path} is no safetensors file, or is cut off; fetch it again")
        try:
            header = json.loads(file.read(length))
        except ValueError:
            raise ModelError(f"{path} has a header that cannot be read; fetch it again") from None
    if not isinstance(header, dict):
        raise ModelError(f"{path} has a header that holds no tensors; fetch it again")
    return header


def _is_pickle(path: Path) -> bool:
    """A pickle by its first bytes, or a zip archive that holds one, as torch writes."""
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                return any(_archived_pickle(archive, name) for name in archive.namelist())
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as problem:
            way_out = "unpack it, or leave it out"
            raise ModelError(f"{path} is an archive that cannot be looked into ({problem}); {way_out}") from None
    size_bytes = path.stat().st_size
    if size_bytes < 3:
        return False
    with path.open("rb") as file:
        start = file.read(3)
        file.seek(-1, 2)
        end = file.read(1)
    if _begins_as_pickle(start):
        return not _is_safetensors(path)  # whose first bytes are a length, and may be anything
    # Protocols 0 and 1 have no opening mark. They end in a dot; the suffix must say the rest.
    return end == b"." and path.suffix in PICKLE_SUFFIXES


def _archived_pickle(archive: zipfile.ZipFile, name: str) -> bool:
    if name.endswith((".pkl", ".pickle")):
        return True
    with archive.open(name) as member:
        return _begins_as_pickle(member.read(3))


def _begins_as_pickle(start: bytes) -> bool:
    """The opening mark of protocol 2 or later, and an instruction after it.

    What follows is not looked at: torch's older files hold several pickles, and end in raw numbers.
    """
    return len(start) == 3 and start[0] == 0x80 and start[1] in range(2, 6) and chr(start[2]) in INSTRUCTIONS


def _is_safetensors(path: Path) -> bool:
    try:
        _header(path)
    except ModelError:
        return False
    return True
