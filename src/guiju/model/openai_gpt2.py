"""OpenAI's release of GPT-2, a TensorFlow checkpoint of 2019, in and out without TensorFlow.

A folder holds hparams.json, the checkpoint's files, and the tokenizer as encoder.json and vocab.bpe.
Source: https://github.com/openai/gpt-2, src/model.py (names and shapes) and src/encoder.py (the tokenizer's files).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from guiju.device import memory_available
from guiju.errors import ConfigError, ModelError, StorageError
from guiju.model.config import ModelConfig
from guiju.model.presets import gpt2_config
from guiju.model.tensor_bundle import TensorBundle, write_bundle
from guiju.model.transformer import Transformer
from guiju.model.weights import read_json
from guiju.storage import read_foreign, require_plain_folder, write_bytes, write_text

HPARAMS = "hparams.json"
CHECKPOINT = "checkpoint"
NAME = "model.ckpt"
_LARGEST_TEXT = 1 << 20


@dataclass(frozen=True)
class _Border:
    """A published tensor, and those of ours that it holds one after the other along their outputs."""

    theirs: str
    ours: tuple[str, ...]
    shape: tuple[str, ...]
    """In words of _sizes. Matrices are (1, inputs, outputs): they are convolutions of length 1 there."""


def _linear(theirs: str, inputs: str, outputs: str, *ours: str) -> tuple[_Border, _Border]:
    weights, biases = (tuple(f"layers.{{}}.{name}.{kind}" for name in ours) for kind in ("weight", "bias"))
    return _Border(f"{theirs}/w", weights, ("1", inputs, outputs)), _Border(f"{theirs}/b", biases, (outputs,))


def _norm(theirs: str, ours: str) -> tuple[_Border, _Border]:
    return _Border(f"{theirs}/g", (f"{ours}.weight",), ("width",)), _Border(
        f"{theirs}/b", (f"{ours}.bias",), ("width",)
    )


_BODY = (
    _Border("model/wte", ("embedding.weight",), ("vocab", "width")),
    _Border("model/wpe", ("position_embedding.weight",), ("context", "width")),
    *_norm("model/ln_f", "final_norm"),
)
_LAYER = (
    *_norm("model/h{}/ln_1", "layers.{}.attention_norm"),
    *_linear(
        "model/h{}/attn/c_attn", "width", "3 width", "attention.to_query", "attention.to_key", "attention.to_value"
    ),
    *_linear("model/h{}/attn/c_proj", "width", "width", "attention.to_output"),
    *_norm("model/h{}/ln_2", "layers.{}.mlp_norm"),
    *_linear("model/h{}/mlp/c_fc", "width", "4 width", "mlp.to_hidden"),
    *_linear("model/h{}/mlp/c_proj", "4 width", "width", "mlp.to_output"),
)
# What a training leaves beside the weights: steps, and the state of its optimizer.
_NO_WEIGHT = re.compile(r"(.*/)?(global_step|beta[12]_power|Adam(_\d+)?|counter|_CHECKPOINTABLE_OBJECT_GRAPH)")


def is_openai_gpt2(folder: Path) -> bool:
    """Whether a folder looks like OpenAI's release."""
    return (folder / HPARAMS).is_file() and (folder / CHECKPOINT).is_file()


def openai_gpt2_files(folder: Path) -> list[Path]:
    """The files that its weights are read from, under whatever name `checkpoint` gives them.

    Raises:
        ModelError: `checkpoint` names none.
    """
    name = _checkpoint_name(folder / CHECKPOINT)
    return [
        folder / CHECKPOINT,
        folder / HPARAMS,
        folder / f"{name}.index",
        *sorted(folder.glob(f"{name}.data-*-of-*")),
    ]


def load_openai_gpt2(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Transformer:
    """The model of such a folder, ready to be used (in evaluation mode).

    Raises:
        ModelError: a file is missing or damaged, hparams.json states a shape that cannot be, or a tensor is missing,
            one too many, of another type or of another shape than hparams.json says.
    """
    folder = Path(folder)
    try:
        require_plain_folder(folder)
    except StorageError as problem:
        raise ModelError(str(problem)) from None
    config = _read_hparams(folder / HPARAMS)
    bundle = TensorBundle(folder / _checkpoint_name(folder / CHECKPOINT))
    if len(_LAYER) * config.layers > len(bundle.entries):
        raise ModelError(
            f"{folder / HPARAMS} states {config.layers} layers, but {bundle.index.name} names {len(bundle.entries)} "
            f"tensors in all"
        )
    borders = list(_borders(config))
    _require_tensors(config, borders, bundle)  # before a model is made: its sizes may be beyond all memory
    size = sum(bundle.entries[border.theirs].size_bytes for border in borders)
    if size > (available := memory_available()):
        raise ModelError(
            f"{folder} states {size / 1e9:,.1f} GB of weights; {available / 1e9:,.1f} GB of memory are free"
        )
    state: dict[str, torch.Tensor] = {}
    for border in borders:
        numbers = bundle.load(border.theirs)
        if numbers.dtype.kind != "f":
            raise ModelError(f"tensor {border.theirs} in {bundle.index} is of type {numbers.dtype}; weights are floats")
        whole = torch.from_numpy(numbers).to(device=device, dtype=dtype)
        rows = (whole[0].T if whole.dim() == 3 else whole).chunk(len(border.ours))
        state.update((name, part.contiguous()) for name, part in zip(border.ours, rows, strict=True))
    with torch.device("meta"):  # the weights are there already
        model = Transformer(config)
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(True).eval()


def save_openai_gpt2(model: Transformer, folder: Path) -> None:
    """Write checkpoint, model.ckpt.index, model.ckpt.data-00000-of-00001 and hparams.json into a folder.

    Raises:
        ModelError: the shape is not GPT-2's; the field is named.
        StorageError: the files cannot be written.
    """
    config = model.config
    folder = Path(folder)
    require_gpt2_shape(config)
    hparams = {
        "n_vocab": config.vocab_size,
        "n_ctx": config.context,
        "n_embd": config.width,
        "n_head": config.heads,
        "n_layer": config.layers,
    }
    write_bundle(folder / NAME, _foreign_tensors(model))
    write_text(folder / CHECKPOINT, f'model_checkpoint_path: "{NAME}"\nall_model_checkpoint_paths: "{NAME}"\n')
    write_bytes(folder / HPARAMS, json.dumps(hparams, indent=2).encode() + b"\n")


def require_gpt2_shape(config: ModelConfig) -> None:
    """Raise ModelError unless src/model.py of the release, which hparams.json alone steers, computes this model."""
    theirs = gpt2_config(
        vocab_size=config.vocab_size,
        context=config.context,
        width=config.heads * max(1, config.width // config.heads),
        layers=config.layers,
        heads=config.heads,
        dropout=config.dropout,
        stop_ids=config.stop_ids,  # hparams.json has no place for it: the tokenizer's end of text ends a text there
    )
    for name in type(config).__dataclass_fields__:
        value, wanted = getattr(config, name), getattr(theirs, name)
        if value != wanted:
            raise ModelError(
                f"model.{name} is {value!r}, but OpenAI's GPT-2 always has {wanted!r} there, and its hparams.json has "
                f"no field for it: this model cannot be written as one. Take --to huggingface"
            )


def _read_hparams(path: Path) -> ModelConfig:
    data = read_json(path)
    sizes = {}
    for name in ("n_vocab", "n_ctx", "n_embd", "n_layer", "n_head"):
        value = data.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 1 << 31:
            raise ModelError(f"{path}: {name} is {value!r}; it must be a whole number of at least 1")
        sizes[name] = value
    try:
        return gpt2_config(
            vocab_size=sizes["n_vocab"],
            context=sizes["n_ctx"],
            width=sizes["n_embd"],
            layers=sizes["n_layer"],
            heads=sizes["n_head"],
        )
    except ConfigError as problem:
        raise ModelError(f"{path} states a shape that cannot be: {problem}") from None


def _checkpoint_name(path: Path) -> str:
    """What `checkpoint` names, as a file beside it: whoever moved the folder left an old path there."""
    try:
        text = read_foreign(path, _LARGEST_TEXT).decode()
    except StorageError as problem:
        raise ModelError(str(problem)) from None
    except UnicodeDecodeError:
        raise ModelError(f"{path} is not text; it should name the checkpoint's files") from None
    found = re.search(r'^\s*model_checkpoint_path\s*:\s*"((?:[^"\\]|\\.)*)"', text, re.MULTILINE)
    name = found[1].rpartition("/")[2] if found else ""
    if not re.fullmatch(r"[\w][\w.-]*", name, re.ASCII):
        raise ModelError(f'{path} has no line such as model_checkpoint_path: "{NAME}" that names a file beside it')
    return name


def _borders(config: ModelConfig) -> Iterator[_Border]:
    """Every tensor of a model of this shape."""
    yield from _BODY
    for layer in range(config.layers):
        for border in _LAYER:
            ours = tuple(name.format(layer) for name in border.ours)
            yield _Border(border.theirs.format(layer), ours, border.shape)


def _sizes(config: ModelConfig) -> dict[str, int]:
    width = config.width
    return {
        "1": 1,
        "vocab": config.vocab_size,
        "context": config.context,
        "width": width,
        "3 width": 3 * width,
        "4 width": 4 * width,
    }


def _require_tensors(config: ModelConfig, borders: list[_Border], bundle: TensorBundle) -> None:
    shapes, sizes = bundle.shapes, _sizes(config)
    for border in borders:
        shape = tuple(sizes[name] for name in border.shape)
        if border.theirs not in shapes:
            raise ModelError(f"{bundle.index}: tensor {border.theirs} of shape {shape} is missing")
        if shapes[border.theirs] != shape:
            raise ModelError(
                f"{bundle.index}: tensor {border.theirs} has shape {shapes[border.theirs]}, but by {HPARAMS} it must "
                f"have {shape}"
            )
    beyond = sorted(set(shapes) - {border.theirs for border in borders})
    beyond = [name for name in beyond if not _NO_WEIGHT.fullmatch(name)]
    if beyond:
        raise ModelError(
            f"{bundle.index}: tensor {beyond[0]} of shape {shapes[beyond[0]]} has no place in a GPT-2 of "
            f"{config.layers} layers ({len(beyond)} such in all). Does {HPARAMS} belong to these weights?"
        )


def _foreign_tensors(model: Transformer) -> Iterator[tuple[str, NDArray[Any]]]:
    """One after the other, so that no second copy of the model is held."""
    for border in _borders(model.config):
        parts = [model.get_parameter(name).detach().float().cpu().numpy() for name in border.ours]
        whole = np.concatenate(parts) if len(parts) > 1 else parts[0]
        yield border.theirs, whole.T[None] if len(border.shape) == 3 else whole
