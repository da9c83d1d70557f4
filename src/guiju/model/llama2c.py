"""llama2.c checkpoints in: a header of seven numbers, then all weights in float32.

Source: https://github.com/karpathy/llama2.c, legacy_export in export.py and memory_map_weights in run.c.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from guiju.errors import ConfigError, ModelError
from guiju.model.config import ModelConfig
from guiju.model.presets import llama_config
from guiju.model.transformer import Transformer

_HEADER = struct.Struct("<7i")
_NEWER = 0x616B3432  # "ak42", at the start of later versions of the format
BOS, EOS = 1, 2


def load_llama2c(path: Path) -> Transformer:
    """The model of a llama2.c checkpoint (legacy layout, float32), ready to be used (in evaluation mode).

    A text begins with id 1, and there is none after another in llama2.c's training: both 1 and 2 end a generation.

    Raises:
        ModelError: the file is none, is cut off or too long, or states a shape that cannot be.
    """
    path = Path(path)
    config = _read_header(path)
    layers, width, hidden = config.layers, config.width, config.hidden
    query, key = config.heads * config.head_width, config.kv_heads * config.head_width
    tables = config.context * (config.head_width // 2)
    # In the file's order; ours, or None for the rotary tables, which are computed here.
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
        (None, (2 * tables,)),
    ]
    if not config.tied:
        parts.append(("to_logits", (config.vocab_size, width)))
    _require_size(path, config, sum(math.prod(shape) for _, shape in parts))
    values = np.memmap(path, dtype="<f4", mode="r", offset=_HEADER.size)
    state: dict[str, Tensor] = {}
    start = 0
    for name, shape in parts:
        size = math.prod(shape)
        if name is not None:
            whole = torch.from_numpy(np.array(values[start : start + size]).reshape(shape))  # a copy: the file may go
            if "{}" not in name:
                state[f"{name}.weight"] = whole
            else:
                for layer in range(layers):
                    state[f"{name.format(layer)}.weight"] = _inside(name, whole[layer], config.head_width)
        start += size
    with torch.device("meta"):
        model = Transformer(config)
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(True).eval()


def _read_header(path: Path) -> ModelConfig:
    try:
        with path.open("rb") as file:
            data = file.read(_HEADER.size)
    except OSError as problem:
        raise ModelError(f"{path} cannot be read: {problem.strerror}") from None
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


def _require_size(path: Path, config: ModelConfig, numbers: int) -> None:
    expected, actual = _HEADER.size + 4 * numbers, path.stat().st_size
    if actual != expected:
        what = "is cut off" if actual < expected else "has bytes to spare"
        raise ModelError(
            f"{path} {what}: by its header (width {config.width}, {config.layers} layers, {config.vocab_size} ids, "
            f"context {config.context}) it must have {expected} bytes, and it has {actual}. Copy or download it again"
        )


def _inside(name: str, weight: Tensor, head_width: int) -> Tensor:
    """llama2.c turns neighbours (x[2i], x[2i+1]) of a head; here (x[i], x[i + D/2]) are turned: reorder the rows."""
    if not name.endswith(("to_query", "to_key")):
        return weight.clone()
    pairs = weight.view(-1, head_width // 2, 2, weight.size(1))  # (heads, D / 2, 2, width)
    return pairs.transpose(1, 2).reshape(weight.shape)
