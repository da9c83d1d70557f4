"""llama2.c checkpoints in and out: a header of seven numbers, then all weights in float32.

Source: https://github.com/karpathy/llama2.c, legacy_export in export.py and memory_map_weights in run.c.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import fields
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np
import torch
from torch import Tensor

from guiju.device import memory_available
from guiju.errors import ConfigError, ModelError, StorageError
from guiju.model.config import ModelConfig
from guiju.model.presets import llama_config
from guiju.model.transformer import Transformer
from guiju.storage import open_atomic, open_foreign

_HEADER = struct.Struct("<7i")
_NEWER = 0x616B3432  # "ak42", at the start of later versions of the format
_LARGEST = (1 << 31) - 1
BOS, EOS = 1, 2
_NO_COMPUTATION = ("dropout", "stop_ids", "pad_id", "start_id")


def load_llama2c(path: Path) -> Transformer:
    """The model of a llama2.c checkpoint (legacy layout, float32), ready to be used (in evaluation mode).

    A text begins with id 1, and there is none after another in llama2.c's training: both 1 and 2 end a generation.

    Raises:
        ModelError: the file is none, is cut off or too long, or states a shape that cannot be.
    """
    path = Path(path)
    try:
        with open_foreign(path) as file:
            config = _read_header(path, file)
            parts = _parts(config)
            _require_size(path, file, config, sum(math.prod(shape) for _, shape in parts))
            state = {name: tensor for part in parts for name, tensor in _read(path, file, part, config)}
    except StorageError as problem:
        raise ModelError(str(problem)) from None
    with torch.device("meta"):
        model = Transformer(config)
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(True).eval()


def save_llama2c(model: Transformer, path: Path) -> None:
    """Write a checkpoint that llama2.c's run.c reads.

    Raises:
        ModelError: the model computes what llama2.c does not; the field is named.
        StorageError: the file cannot be written.
    """
    config = model.config
    _require_llama2c(config)
    sizes = (config.width, config.hidden, config.layers, config.heads, config.kv_heads)
    with open_atomic(path) as file:
        file.write(_HEADER.pack(*sizes, config.vocab_size if config.tied else -config.vocab_size, config.context))
        for name, shape in _parts(config):
            if name is None:
                _write(file, rotary_tables(config))
            elif "{}" not in name:
                _write(file, model.get_parameter(f"{name}.weight"))
            else:
                for layer in range(shape[0]):
                    weight = model.get_parameter(f"{name.format(layer)}.weight")
                    _write(file, _reordered(name, weight, config.head_width, to_neighbours=True))


def rotary_tables(config: ModelConfig) -> Tensor:
    """Cosines, then sines, (2, context, head_width / 2): in the file as llama2.c's training computed them; run.c passes
    over them and computes its own."""
    rates = 1.0 / config.rotary_base ** (torch.arange(0, config.head_width, 2).float() / config.head_width)
    angles = torch.outer(torch.arange(config.context).float(), rates)
    return torch.stack([angles.cos(), angles.sin()])


def _parts(config: ModelConfig) -> list[tuple[str | None, tuple[int, ...]]]:
    """What a file holds after its header, in its order: our name (None for the rotary tables) and the shape."""
    layers, width, hidden = config.layers, config.width, config.hidden
    query, key = config.heads * config.head_width, config.kv_heads * config.head_width
    parts: list[tuple[str | None, tuple[int, ...]]] = [
        ("embedding", (config.vocab_size, width)),
        ("layers.{}.attention_norm", (layers, width)),
        ("layers.{}.attention.to_query", (layers, query, width)),
        ("layers.{}.attention.to_key", (layers, key, width)),
        ("layers.{}.attention.to_value", (layers, key, width)),
        ("layers.{}.attention.to_output", (layers, width, query)),
        ("layers.{}.mlp_norm", (layers, width)),
        ("layers.{}.mlp.to_gate", (layers, hidden, width)),
        ("layers.{}.mlp.to_output", (layers, width, hidden)),
        ("layers.{}.mlp.to_hidden", (layers, hidden, width)),
        ("final_norm", (width,)),
        (None, (2, config.context, config.head_width // 2)),
    ]
    return parts if config.tied else [*parts, ("to_logits", (config.vocab_size, width))]


def _read_header(path: Path, file: BinaryIO) -> ModelConfig:
    data = file.read(_HEADER.size)
    if len(data) < _HEADER.size:
        raise ModelError(f"{path} is {len(data)} bytes long, too short for a llama2.c checkpoint's header")
    width, hidden, layers, heads, kv_heads, vocab_size, context = _HEADER.unpack(data)
    if width == _NEWER:
        raise ModelError(
            f"{path} is a llama2.c checkpoint of version {hidden}; this version reads the legacy layout. "
            f"Export it with llama2.c's `export.py --version 0`"
        )
    try:
        return llama_config(
            vocab_size=abs(vocab_size),  # negative where the head is not the embedding
            context=context,
            width=width,
            layers=layers,
            heads=heads,
            kv_heads=kv_heads,
            hidden=hidden,
            tied=vocab_size > 0,
            stop_ids=tuple(token for token in (BOS, EOS) if token < abs(vocab_size)),
        )
    except ConfigError as problem:
        raise ModelError(
            f"{path} is no llama2.c checkpoint: its header states a shape that cannot be. {problem}"
        ) from None


def _require_size(path: Path, file: BinaryIO, config: ModelConfig, numbers: int) -> None:
    expected, actual = _HEADER.size + 4 * numbers, os.fstat(file.fileno()).st_size
    if actual != expected:
        what = "is cut off" if actual < expected else "has bytes to spare"
        raise ModelError(
            f"{path} {what}: by its header (width {config.width}, {config.layers} layers, {config.vocab_size} ids, "
            f"context {config.context}) it must have {expected} bytes, and it has {actual}. Copy or download it again"
        )
    if actual > (available := memory_available()):
        raise ModelError(
            f"{path} states {actual / 1e9:,.1f} GB of weights, but only {available / 1e9:,.1f} GB of memory are free"
        )


def _read(
    path: Path, file: BinaryIO, part: tuple[str | None, tuple[int, ...]], config: ModelConfig
) -> list[tuple[str, Tensor]]:
    """The next part of the file, as weights of ours."""
    name, shape = part
    size = 4 * math.prod(shape)
    if name is None:
        file.seek(size, os.SEEK_CUR)
        return []
    values = np.empty(shape, dtype="<f4")
    if file.readinto(values.reshape(-1).view(np.uint8).data) != size:  # type: ignore[attr-defined]
        raise ModelError(f"{path} was cut off while {name} was read")
    whole = torch.from_numpy(values.astype(np.float32, copy=False))
    if "{}" not in name:
        return [(f"{name}.weight", whole)]
    weights = [_reordered(name, whole[layer], config.head_width, to_neighbours=False) for layer in range(shape[0])]
    return [(f"{name.format(layer)}.weight", weight.clone()) for layer, weight in enumerate(weights)]


def _write(file: IO[bytes], values: Tensor) -> None:
    file.write(values.detach().cpu().float().contiguous().numpy().astype("<f4", copy=False).data)


def _reordered(name: str, weight: Tensor, head_width: int, *, to_neighbours: bool) -> Tensor:
    """llama2.c turns neighbours (x[2i], x[2i+1]) of a head; here (x[i], x[i + D/2]) are turned: reorder the rows."""
    if not name.endswith(("to_query", "to_key")):
        return weight
    pair = (2, head_width // 2) if to_neighbours else (head_width // 2, 2)
    return weight.view(-1, *pair, weight.size(1)).transpose(1, 2).reshape(weight.shape)


def _require_llama2c(config: ModelConfig) -> None:
    """See that run.c computes what this model does: it has one base, one epsilon and one width of a head."""
    for name in ("vocab_size", "context", "width", "layers", "heads", "kv_heads", "hidden"):
        if getattr(config, name) > _LARGEST:
            raise ModelError(f"model.{name} is {getattr(config, name)}; llama2.c's header holds at most {_LARGEST}")
    if config.heads * config.head_width != config.width:
        raise ModelError(
            f"model.head_width is {config.head_width}, but llama2.c has width / heads, which is "
            f"{config.width / config.heads:g}: it cannot hold this model"
        )
    same = llama_config(
        vocab_size=config.vocab_size,
        context=config.context,
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        kv_heads=config.kv_heads,
        hidden=config.hidden,
        tied=config.tied,
    )
    for field in fields(ModelConfig):
        ours, theirs = getattr(config, field.name), getattr(same, field.name)
        if field.name not in _NO_COMPUTATION and ours != theirs:
            raise ModelError(
                f"model.{field.name} is {ours!r}, but llama2.c computes {theirs!r} alone: it cannot hold this model. "
                f"Export it to huggingface or gguf"
            )
