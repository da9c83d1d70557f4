"""Hugging Face folders in and out: config.json, model.safetensors (in one or in shards), generation_config.json.

No pickle is opened and no code of a model is run. What does not fit is refused by name before any weight is loaded.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from guiju.errors import ModelError, StorageError
from guiju.model.config import ModelConfig
from guiju.model.families import HEAD, Border, Family, config_for, config_from
from guiju.model.transformer import Transformer
from guiju.model.weights import ONE_FILE, Weights, open_weights, read_json, write_weights
from guiju.storage import write_json


class SavedTokenizer(Protocol):
    """What a folder keeps of the tokenizer beside the model."""

    @property
    def bos_id(self) -> int | None: ...

    @property
    def eos_id(self) -> int | None: ...

    @property
    def vocab_size(self) -> int: ...

    def save(self, folder: Path) -> None: ...


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    pickles: bool = False,
) -> Transformer:
    """The model of a Hugging Face folder of the GPT-2 or Llama family, ready to be used (in evaluation mode).

    Args:
        pickles: whether PyTorch's .bin files may be read, where there is no safetensors file: see open_weights.
    Raises:
        ModelError: the folder is incomplete, damaged or of another family, or states what is not computed here; a
            tensor is missing, one too many, or of another shape than config.json says.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json, so it is not a Hugging Face folder")
    data = read_json(folder / "config.json")
    family, config = config_from(data, (), str(folder / "config.json"))
    stop_ids = _stop_ids(folder, data, config.vocab_size)
    family, config = config_from(data, stop_ids, str(folder / "config.json"))
    weights = open_weights(folder, pickles=pickles)
    if config.layers > len(weights.shapes):
        raise ModelError(
            f"{folder}: config.json states {config.layers} layers, but the weights are {len(weights.shapes)} tensors "
            f"in all"
        )
    # A body that was saved without its head has no prefix.
    prefix = family.prefix if any(name.startswith(family.prefix) for name in weights.shapes) else ""
    borders = _borders(family, config, prefix)
    with torch.device("meta"):  # shapes alone: nothing is taken for a folder that states more than it holds
        model = Transformer(config)
    _require_tensors(model, borders, weights, family)
    state: dict[str, Tensor] = {}
    for border in borders:
        tensor = weights.load(border.theirs, dtype, torch.device(device))
        parts = [model.get_parameter(name).shape[0] for name in border.ours]
        rows = torch.split(tensor.T if border.transposed else tensor, parts)
        for name, part in zip(border.ours, rows, strict=True):
            state[name] = part.contiguous()
    _require_tied_head(config, weights, state)
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(True).eval()


def save_model(model: Transformer, folder: Path, tokenizer: SavedTokenizer | None = None) -> None:
    """Write a Hugging Face folder that transformers opens with equal logits.

    Args:
        folder: is made where it does not exist; files of the same names are replaced, others are left.
        tokenizer: is saved beside the weights, and names the ids that begin and end a text.
    Raises:
        ModelError: no published family has the model's shape, or the tokenizer has ids that the model does not know.
        StorageError: the files cannot be written.
    """
    folder = Path(folder)
    if tokenizer is not None and tokenizer.vocab_size > model.config.vocab_size:
        raise ModelError(
            f"the tokenizer has {tokenizer.vocab_size} ids, but the model knows {model.config.vocab_size}: "
            f"they do not belong together"
        )
    family, data = config_for(model.config)
    bos = tokenizer.bos_id if tokenizer is not None else None
    stops = list(model.config.stop_ids)
    if not stops and tokenizer is not None and tokenizer.eos_id is not None:
        stops = [tokenizer.eos_id]
    eos = None if not stops else stops[0] if len(stops) == 1 else stops
    ids = {"bos_token_id": bos, "eos_token_id": eos}
    padding = {"pad_token_id": stops[-1]} if stops else {}  # transformers pads several sequences, and asks by what
    config = {"architectures": [family.architecture], "model_type": family.model_type, **data, **ids}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StorageError(f"{folder} cannot be made: {problem.strerror}. Choose another folder") from None
    write_weights(folder / ONE_FILE, _foreign_tensors(model, family))
    write_json(folder / "generation_config.json", {**ids, **padding})
    write_json(folder / "config.json", config)
    if tokenizer is not None:
        tokenizer.save(folder)


def _borders(family: Family, config: ModelConfig, prefix: str) -> list[Border]:
    """Every tensor of a model of this shape."""
    borders = [Border(prefix + border.theirs, border.ours, border.transposed) for border in family.body]
    for layer in range(config.layers):
        for border in family.layer:
            ours = tuple(name.format(layer) for name in border.ours)
            borders.append(Border(prefix + border.theirs.format(layer), ours, border.transposed))
    if not config.tied:
        borders.append(Border(HEAD, ("to_logits.weight",)))
    return borders


def _require_tensors(model: Transformer, borders: list[Border], weights: Weights, family: Family) -> None:
    for border in borders:
        shape = _foreign_shape(model, border)
        if border.theirs not in weights.shapes:
            raise ModelError(f"{weights.folder}: tensor {border.theirs} of shape {shape} is missing from the weights")
        if (found := weights.shapes[border.theirs]) != shape:
            raise ModelError(
                f"{weights.folder}: tensor {border.theirs} has shape {found}, but by config.json it must have {shape}"
            )
    known = {border.theirs for border in borders} | {HEAD}
    no_weight = re.compile(rf"({re.escape(family.prefix)})?{family.left_out}")
    beyond = sorted(name for name in weights.shapes if name not in known and not no_weight.fullmatch(name))
    if beyond:
        raise ModelError(
            f"{weights.folder}: tensor {beyond[0]} of shape {weights.shapes[beyond[0]]} has no place in a "
            f"{family.architecture} of {model.config.layers} layers ({len(beyond)} such in all). Does config.json "
            f"belong to these weights?"
        )


def _require_tied_head(config: ModelConfig, weights: Weights, state: dict[str, Tensor]) -> None:
    """A head that is stored although config.json calls it tied must be the embedding."""
    if not config.tied or HEAD not in weights.shapes:
        return
    embedding = state["embedding.weight"]
    shape = weights.shapes[HEAD]
    if shape != tuple(embedding.shape):
        raise ModelError(
            f"{weights.folder}: tensor {HEAD} has shape {shape}, but config.json ties it to the embedding, "
            f"which has {tuple(embedding.shape)}"
        )
    if not torch.equal(weights.load(HEAD, embedding.dtype, embedding.device), embedding):
        raise ModelError(
            f"{weights.folder}: config.json says tie_word_embeddings, but {HEAD} differs from the embedding. "
            f'Set "tie_word_embeddings": false if the weights are right'
        )


def _foreign_shape(model: Transformer, border: Border) -> tuple[int, ...]:
    shapes = [model.get_parameter(name).shape for name in border.ours]
    shape = (sum(part[0] for part in shapes), *shapes[0][1:])
    return tuple(reversed(shape)) if border.transposed else shape


def _foreign_tensors(model: Transformer, family: Family) -> dict[str, Tensor]:
    tensors = {}
    for border in _borders(family, model.config, family.prefix):
        parts = [model.get_parameter(name).detach().float() for name in border.ours]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        tensors[border.theirs] = whole.T if border.transposed else whole
    return tensors


def _stop_ids(folder: Path, config: dict[str, object], vocab_size: int) -> tuple[int, ...]:
    """The ids that end a generation: generation_config.json's, or else config.json's."""
    given = config.get("eos_token_id")
    file = folder / "generation_config.json"
    if file.is_file():
        given = read_json(file).get("eos_token_id", given)
    ids: list[int] = []
    for token in given if isinstance(given, list) else [] if given is None else [given]:
        if not isinstance(token, int) or isinstance(token, bool):
            raise ModelError(f"{folder}: eos_token_id is {given!r}; it must be an id or a list of ids")
        ids.append(token)
    # transformers writes GPT-2's 50256 into models with a smaller vocabulary: an id that cannot come ends nothing.
    return tuple(token for token in ids if 0 <= token < vocab_size)
