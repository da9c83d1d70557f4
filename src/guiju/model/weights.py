"""Tensors in safetensors files, one or several: their names and shapes are known before a byte is loaded; written as a
stream."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from guiju.errors import ModelError
from guiju.storage import open_atomic

ONE_FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_FLOATS = {"F64", "F32", "F16", "BF16"}
_CODES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


class Weights:
    """The tensors of a folder, found by name; none is loaded until it is asked for."""

    def __init__(self, folder: Path) -> None:
        """Read the headers of model.safetensors, or of the shards that its index names.

        Raises:
            ModelError: a file is missing or damaged, a shard lies elsewhere, or index and shards disagree.
        """
        self.folder = folder
        self._files: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Name -> shape of every tensor."""
        if (folder / ONE_FILE).is_file():
            self._read_header(folder / ONE_FILE)
        elif (folder / INDEX).is_file():
            self._read_shards(folder / INDEX)
        else:
            _refuse_folder(folder)

    def load(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        """One tensor, in memory of its own."""
        with safe_open(self._files[name], framework="pt") as file:
            return file.get_tensor(name).to(device=device, dtype=dtype, copy=True)  # type: ignore[no-any-return]

    def _read_shards(self, index: Path) -> None:
        places = read_json(index).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(shard, str) for shard in places.values()):
            raise ModelError(f"{index} has no weight_map of tensor names to files")
        for shard in sorted(set(places.values())):
            if not re.fullmatch(r"[\w.-]+\.safetensors", shard):
                raise ModelError(f"{index} names the file {shard!r}; shards must be .safetensors files beside it")
            self._read_header(self.folder / shard)
        for name, shard in places.items():
            if self._files.get(name) != self.folder / shard:
                raise ModelError(f"{index} says that {name} is in {shard}, but it is not. The folder is not whole")
        beyond = sorted(set(self._files) - set(places))
        if beyond:
            raise ModelError(f"{self._files[beyond[0]]} holds {beyond[0]}, which {index.name} does not name")

    def _read_header(self, path: Path) -> None:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 -- a handle, not a dict
                    part = file.get_slice(name)
                    if part.get_dtype() not in _FLOATS:
                        raise ModelError(
                            f"tensor {name} in {path} is of type {part.get_dtype()}; only {', '.join(sorted(_FLOATS))} "
                            f"are read. Save the model without quantisation"
                        )
                    if name in self._files:
                        raise ModelError(f"tensor {name} is both in {self._files[name].name} and in {path.name}")
                    self._files[name] = path
                    self.shapes[name] = tuple(part.get_shape())
        except (SafetensorError, OSError) as problem:
            raise ModelError(f"{path} is missing or damaged: {problem}. Copy or download it again") from None


def _refuse_folder(folder: Path) -> NoReturn:
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise ModelError(
            f"{folder} holds its weights as a pickle, which can run code when it is opened, so it is not. "
            f"Convert them to {ONE_FILE} where you trust them (save_pretrained of transformers does)"
        )
    raise ModelError(f"{folder} has no {ONE_FILE} and no {INDEX}, so there are no weights to load")


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, tensor by tensor, so that no second copy of the model is held; same in, same bytes.

    Format: 8 bytes little-endian header length, a JSON header of types, shapes and offsets, then the data.
    Source: https://github.com/huggingface/safetensors, "Format".
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in sorted(tensors.items()):
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _CODES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # data starts at a multiple of 8, as the format asks
    with open_atomic(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in sorted(tensors.items()):
            file.write(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def read_json(path: Path) -> dict[str, object]:
    """The object that a JSON file holds.

    Raises:
        ModelError: the file is missing, is no JSON object, or holds a key twice, of which readers take either one.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        data = dict(pairs)
        if len(data) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ModelError(f"{path} holds the key {twice!r} twice, so it cannot be known which one counts")
        return data

    try:
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)
    except OSError as problem:
        raise ModelError(f"{path} cannot be read: {problem.strerror}") from None
    except (ValueError, RecursionError) as problem:
        raise ModelError(f"{path} is not valid JSON: {problem}") from None
    if not isinstance(data, dict):
        raise ModelError(f"{path} must hold a JSON object, not {type(data).__name__}")
    return data
