"""Tensors in safetensors files, one or several: their names and shapes are known before a byte is loaded; written as a
stream.

Format: 8 bytes little-endian header length, a JSON header of types, shapes and offsets, then the data.
Source: https://github.com/huggingface/safetensors, "Format"; its reader is the oracle in the tests. Read by ourselves,
because header and data then come from one open file, a key that stands twice is noticed, and nothing is mapped that
another program could cut off meanwhile.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch
from torch import Tensor

from guiju.device import memory_available
from guiju.errors import ModelError, StorageError
from guiju.storage import open_atomic, open_foreign, read_foreign, require_plain_folder

ONE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"
_LARGEST_JSON = 2 << 20  # bytes; a config has thousands, and one with names of 10,000 classes less than a million
_LARGEST_INDEX = 16 << 20  # the index of a model of 100,000 tensors has about ten million
_LARGEST_HEADER = 8 << 20  # of one file
_MOST_PARTS = 1_000_000  # objects and lists of a JSON file: each takes fifty times the room that it is written in
_MOST_AXES = 8
_LARGE = 16 << 20  # bytes of a tensor, from which on it is asked whether there is room for it
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CODES = {
    **{dtype: code for code, dtype in _FLOATS.items()},
    **{torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.int32: "I32"},
    torch.int64: "I64",
}
"""The names of types that are written."""
_BITS = {
    **{"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64, "C64": 64},
    **{"F16": 16, "BF16": 16, "F32": 32, "F64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
    **{"F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E5M2FNUZ": 8, "F8_E4M3FNUZ": 8},
}


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies."""

    path: Path
    file: BinaryIO
    start: int
    size: int
    code: str


class Weights:
    """The tensors of a folder, found by name; none is loaded until it is asked for."""

    def __init__(self, folder: Path, files: Mapping[Path, BinaryIO], index: Path | None = None) -> None:
        """Read the headers.

        Args:
            folder: where they are said to be from.
            files: each open file under its name; they are closed with this.
            index: the file that says which tensor is in which file, where there is one; it must agree.
        Raises:
            ModelError: a file is damaged, a tensor is there twice, or index and files disagree.
        """
        self.folder = folder
        self._files = files
        self._places: dict[str, _Place] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Name -> shape of every tensor."""
        self.metadata: dict[str, str] = {}
        """Texts that the files keep beside the tensors."""
        try:
            for path, file in files.items():
                self._add(path, file)
            if index is not None:
                self._require_index(index)
            self._require_memory()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files; nothing can be loaded any more."""
        for file in self._files.values():
            file.close()

    def __del__(self) -> None:
        self.close()

    def load(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        """One tensor, in memory of its own.

        Raises:
            ModelError: it is of a type that is not read, or its file cannot be read any more.
        """
        place = self._places[name]
        if place.code not in _FLOATS:
            raise ModelError(
                f"tensor {name} in {place.path} is of type {place.code}; only {', '.join(sorted(_FLOATS))} are read. "
                f"Save the model without quantisation"
            )
        if place.size > _LARGE and place.size > (available := memory_available()):
            raise ModelError(
                f"tensor {name} in {place.path} takes {place.size / 1e9:,.1f} GB, but only {available / 1e9:,.1f} GB "
                f"of memory are left"
            )
        data = torch.empty(place.size, dtype=torch.uint8)
        try:
            place.file.seek(place.start)
            count = place.file.readinto(data.numpy().data)  # type: ignore[attr-defined]
        except OSError as problem:
            raise ModelError(f"{place.path} cannot be read: {problem.strerror}") from None
        if count != place.size:
            raise ModelError(f"{place.path} was cut off while tensor {name} was read: {count} of {place.size} bytes")
        return data.view(_FLOATS[place.code]).view(self.shapes[name]).to(device=device, dtype=dtype)

    def _add(self, path: Path, file: BinaryIO) -> None:
        found, metadata = _read_header(path, file)
        self.metadata.update(metadata)
        for name, (place, shape) in found.items():
            if name in self._places:
                raise ModelError(f"tensor {name} is both in {self._places[name].path.name} and in {path.name}")
            self._places[name], self.shapes[name] = place, shape

    def _require_index(self, index: Path) -> None:
        listed = read_index(index, "")
        for name, shard in listed.items():
            if name not in self._places or self._places[name].path.name != shard:
                raise ModelError(f"{index} says that {name} is in {shard}, but it is not. The folder is not whole")
        beyond = sorted(set(self._places) - set(listed))
        if beyond:
            raise ModelError(f"{self._places[beyond[0]].path} holds {beyond[0]}, which {index.name} does not name")

    def _require_memory(self) -> None:
        size, available = sum(place.size for place in self._places.values()), memory_available()
        available += sum(memory_available(torch.device("cuda", number)) for number in range(torch.cuda.device_count()))
        if size > available:
            raise ModelError(
                f"{self.folder} states {size / 1e9:,.1f} GB of weights, but only {available / 1e9:,.1f} GB of memory "
                f"are free"
            )


def open_weights(folder: Path, *, pickles: bool = False) -> Weights:
    """The weights of a Hugging Face folder: model.safetensors, or the shards that its index names.

    Args:
        pickles: where the folder has no safetensors file, read pytorch_model.bin, or its shards, by
            guiju.model.pickled: in a process that can do nothing but hand back tensors.
    Raises:
        ModelError: a file is missing or damaged, lies elsewhere, is a pickle and `pickles` is false, or does not agree
            with the index.
    """
    folder = Path(folder)
    try:
        require_plain_folder(folder)
    except StorageError as problem:
        raise ModelError(f"{folder} is not read: {problem}") from None
    if _is_there(folder / ONE_FILE):
        return Weights(folder, open_all([folder / ONE_FILE]))
    if _is_there(folder / INDEX):
        shards = sorted(set(read_index(folder / INDEX, ".safetensors").values()))
        return Weights(folder, open_all([folder / name for name in shards]), folder / INDEX)
    if pickles and any(_is_there(folder / name) for name in (PICKLE, PICKLE_INDEX)):
        from guiju.model.pickled import open_pickled  # it imports from here

        return open_pickled(folder)
    _refuse_folder(folder)


def weight_files(folder: Path, *, pickles: bool = False) -> list[str]:
    """Names of the files that hold a folder's weights, whether they are there or not; empty where it says of none.

    Raises:
        ModelError: an index is malformed, or names a file elsewhere.
    """
    kinds = [(ONE_FILE, INDEX, ".safetensors")] + ([(PICKLE, PICKLE_INDEX, ".bin")] if pickles else [])
    for one, index, suffix in kinds:
        if _is_there(folder / one):
            return [one]
        if _is_there(folder / index):
            return sorted({index, *read_index(folder / index, suffix).values()})
    return []


def open_all(paths: Iterable[Path]) -> dict[Path, BinaryIO]:
    """Every file, open; none, where one cannot be opened.

    Raises:
        ModelError: one cannot be.
    """
    opened: dict[Path, BinaryIO] = {}
    for path in paths:
        try:
            opened[path] = open_foreign(path)
        except StorageError as problem:
            for file in opened.values():
                file.close()
            raise ModelError(f"{path.name} is missing or damaged: {problem}") from None
    return opened


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def read_index(path: Path, suffix: str) -> dict[str, str]:
    """Tensor -> the file that holds it, out of an index.

    Raises:
        ModelError: it is malformed, or names a file that is not beside it or does not end in `suffix`.
    """
    places = read_json(path, _LARGEST_INDEX).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(shard, str) for shard in places.values()):
        raise ModelError(f"{path} has no weight_map of tensor names to files")
    for shard in sorted(set(places.values())):
        if not re.fullmatch(r"[\w.-]{1,200}" + re.escape(suffix), shard, re.ASCII) or shard in (".", ".."):
            raise ModelError(f"{path} names the file {shard[:200]!r}; shards must be {suffix} files beside it")
    return places


def _read_header(path: Path, file: BinaryIO) -> tuple[dict[str, tuple[_Place, tuple[int, ...]]], dict[str, str]]:
    """Every tensor's place and shape, and the texts beside them.

    Raises:
        ModelError: the header is none, or does not describe the bytes after it one by one.
    """
    whole = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if whole < 10 or length > whole - 8:
        raise _damaged(path, f"it is {whole} bytes long, but states a header of {length} bytes")
    if length > _LARGEST_HEADER:
        raise _damaged(path, f"its header is {length} bytes long; at most {_LARGEST_HEADER} are read")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise _damaged(path, f"its header begins with {text[:8]!r}, not with {{")
    header = parse_json(text, f"the header of {path}")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(path, "its __metadata__ is not made of texts")
    found: dict[str, tuple[_Place, tuple[int, ...]]] = {}
    for name, entry in header.items():
        if not name.isprintable():
            raise _damaged(path, f"a tensor's name is {name[:200]!r}")
        code, shape, begin, end = _read_entry(path, name, entry)
        found[name] = _Place(path, file, 8 + length + begin, end - begin, code), shape
    reached = 8 + length
    for name, (place, _) in sorted(found.items(), key=lambda item: (item[1][0].start, item[1][0].size)):
        if place.start != reached:
            raise _damaged(path, f"tensor {name} begins at byte {place.start}, where byte {reached} is the next")
        reached += place.size
    if reached != whole:
        raise _damaged(path, f"its tensors end at byte {reached}, but it is {whole} bytes long")
    return found, metadata


def _read_entry(path: Path, name: str, entry: object) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape, and first and last byte of a tensor, which agree with each other."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise _damaged(path, f"tensor {name} is not described by dtype, shape and data_offsets")
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _BITS:
        raise _damaged(path, f"tensor {name} has the unknown dtype {str(code)[:50]!r}")
    if not _are_sizes(shape) or len(shape) > _MOST_AXES:
        raise _damaged(path, f"tensor {name} has the shape {str(shape)[:200]}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise _damaged(path, f"tensor {name} has the data_offsets {str(offsets)[:200]}")
    bits = math.prod(shape) * _BITS[code]
    if bits % 8 or offsets[1] - offsets[0] != bits // 8:
        raise _damaged(
            path,
            f"tensor {name} of shape {tuple(shape)} and dtype {code} takes {bits / 8:g} bytes, but its data_offsets "
            f"are {offsets[0]} and {offsets[1]}",
        )
    return code, tuple(shape), offsets[0], offsets[1]


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 63 for number in value
    )


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"{path} is missing or damaged: {why}. Copy or download it again")


def _refuse_folder(folder: Path) -> NoReturn:
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise ModelError(
            f"{folder} holds its weights as a pickle, which can run code when it is opened, so it is not. "
            f"Where you know who made it, allow it (--allow-pickle; pickles=True in Python): it is then read in a "
            f"process that can do nothing but hand back tensors. Or convert it to {ONE_FILE} "
            f"(save_pretrained of transformers does)"
        )
    raise ModelError(f"{folder} has no {ONE_FILE} and no {INDEX}, so there are no weights to load")


def write_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file, tensor by tensor, so that no second copy of the model is held; same in, same bytes.

    Args:
        metadata: texts to keep beside the tensors.
    """
    with open_atomic(path) as file:
        stream_weights(file, tensors, metadata)


def stream_weights(file: Any, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """The same into an open binary file."""
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    offset = 0
    for name, tensor in sorted(tensors.items()):
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data starts at a multiple of 8, as the format asks
    file.write(len(text).to_bytes(8, "little") + text)
    for _, tensor in sorted(tensors.items()):
        file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def read_json(path: Path, largest_bytes: int = _LARGEST_JSON) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        ModelError: the file is missing, larger than any such file, no JSON object, or as parse_json says.
    """
    try:
        data = read_foreign(path, largest_bytes)
    except StorageError as problem:
        raise ModelError(str(problem)) from None
    return parse_json(data, str(path))


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """The object that JSON text holds.

    Raises:
        ModelError: it is no JSON object, is made of too many parts, holds a key twice, of which readers take either
            one, or a number that JSON does not have (NaN, Infinity) or that is too large for one.
    """
    parts = data.count(b"{") + data.count(b"[")
    if parts > _MOST_PARTS:
        raise ModelError(f"{where} is made of {parts:,} objects and lists; at most {_MOST_PARTS:,} are read")

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise ModelError(f"{where} holds the key {twice[:200]!r} twice, so it cannot be known which one counts")
        return found

    def finite(text: str) -> float:
        if not math.isfinite(number := float(text)):
            raise ModelError(f"{where} holds the number {text[:50]}, which no number here can be")
        return number

    def whole(text: str) -> float:
        return -0.0 if text == "-0" else int(text)  # the safetensors library too takes -0 for no whole number

    hooks: Any = {"object_pairs_hook": unique, "parse_float": finite, "parse_constant": finite, "parse_int": whole}
    try:
        found = json.loads(data.decode("utf-8"), **hooks)
    except (ValueError, RecursionError) as problem:
        raise ModelError(f"{where} is not valid JSON: {str(problem)[:300]}") from None
    if not isinstance(found, dict):
        raise ModelError(f"{where} must hold a JSON object, not {type(found).__name__}")
    return found
