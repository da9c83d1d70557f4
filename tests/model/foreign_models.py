"""Tiny random models: ours, and those of transformers of every family that is read and written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers

from guiju.model import ModelConfig, build_model

VOCABULARY, CONTEXT = 97, 80


def made(name: str, fields: dict[str, Any], seed: int = 0) -> Any:
    """A model of a class of transformers, with weights large enough for tolerances to mean something."""
    torch.manual_seed(seed)
    kind = getattr(transformers, name)
    model = kind(kind.config_class(**fields))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.15)
        for name, buffer in model.named_buffers():
            if name == "final_logits_bias":
                buffer.add_(torch.randn_like(buffer))
    return model.eval()


def saved(model: Any, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, **options)
    return folder


def edit(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def ids(rows: int = 3, length: int = 24, seed: int = 1, least: int = 3) -> torch.Tensor:
    """Random ids, none of them special."""
    return torch.randint(least, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def padding(lengths: list[int], length: int, left: bool = False) -> torch.Tensor:
    """(B, T), True where a token is real."""
    places = torch.arange(length)
    real = places < torch.tensor(lengths)[:, None]
    return real.flip(1) if left else real


def lively(config: ModelConfig, seed: int = 0) -> Any:
    """A model whose weights are large enough for its logits to differ by whole numbers: tolerances mean something."""
    torch.manual_seed(seed)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return model.eval()
