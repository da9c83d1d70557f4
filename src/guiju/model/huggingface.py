"""Hugging Face folders in and out: config.json, model.safetensors (in one or in shards), generation_config.json.

No pickle is opened unasked and no code of a model is run. What does not fit is refused by name before any weight is
loaded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, overload

import torch
from torch import Tensor

from guiju.device import give_memory_back
from guiju.errors import ConfigError, ModelError, StorageError
from guiju.model.building import AnyModel, build_model
from guiju.model.config import ModelConfig
from guiju.model.families import Family, Held, Tensors, config_for, config_from
from guiju.model.generation_config import generation_fields, generation_names
from guiju.model.lora import lora_layers
from guiju.model.transformer import Transformer
from guiju.model.weights import INDEX, ONE_FILE, open_weights, read_json, write_weights
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


@overload
def load_model(
    folder: Path,
    *,
    dtype: torch.dtype = ...,
    device: torch.device | str = ...,
    pickles: bool = ...,
    kind: Literal["decoder"],
) -> Transformer: ...


@overload
def load_model(
    folder: Path,
    *,
    dtype: torch.dtype = ...,
    device: torch.device | str = ...,
    pickles: bool = ...,
    kind: None = ...,
) -> AnyModel: ...


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    pickles: bool = False,
    kind: Literal["decoder"] | None = None,
) -> AnyModel:
    """The model of a Hugging Face folder of a family in guiju.model.families, ready to be used (in evaluation mode).

    Args:
        pickles: whether PyTorch's .bin files may be read, where there is no safetensors file: see open_weights.
        kind: "decoder" where only a model that continues text will do.
    Raises:
        ModelError: the folder is incomplete, damaged, or of another family or kind, or states what is not computed
            here; a tensor is missing, one too many, or of another shape than config.json says.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json, so it is not a Hugging Face folder")
    data = read_json(folder / "config.json")
    family, config = config_from(data, str(folder / "config.json"))
    if kind is not None and config.kind != kind:
        raise ModelError(
            f"{folder} holds an {config.kind} ({family.model_type}), but a {kind} is wanted: a model that goes on with "
            f"a text, such as GPT-2 or Llama"
        )
    if kind is not None and config.head != "vocabulary":
        raise ModelError(
            f"{folder} holds a {config.kind} with the head {config.head} ({', '.join(config.labels[:10])}), which says "
            f"no tokens, but a model that goes on with a text is wanted"
        )
    stop_ids = _stop_ids(folder, data, config.vocab_size)
    config = replace(config, stop_ids=stop_ids, **generation_fields(folder, data, config))
    with closing(open_weights(folder, pickles=pickles)) as weights:
        held = Held(weights, family.prefix, family.older)
        return _with_weights(folder, family, config, held, dtype, torch.device(device))


def _with_weights(
    folder: Path, family: Family, config: ModelConfig, held: Held, dtype: torch.dtype, device: torch.device
) -> AnyModel:
    layers = config.layers + (config.encoder_layers or 0)
    if layers > len(held.stored):
        raise ModelError(
            f"{folder}: config.json states {layers} layers, but the weights are {len(held.stored)} tensors in all"
        )
    config = family.settle(config, held)
    with torch.device("meta"):  # shapes alone: nothing is taken for a folder that states more than it holds
        model = build_model(config)
    tensors = family.tensors(config)
    _require_tensors(model, tensors, held, family, folder)
    model.load_state_dict(_our_tensors(model, tensors, held, dtype, device), assign=True)
    give_memory_back()
    return model.requires_grad_(True).eval()


def save_model(
    model: AnyModel, folder: Path, tokenizer: SavedTokenizer | None = None, *, max_shard_bytes: int | None = None
) -> None:
    """Write a Hugging Face folder that transformers opens with equal logits.

    Args:
        folder: is made where it does not exist; files of the same names are replaced, others are left.
        tokenizer: is saved beside the weights, and names the ids that begin and end a text.
        max_shard_bytes: weights are spread over files of at most so many bytes (a larger tensor has one of its own).
    Raises:
        ModelError: no published family has the model's shape, or the tokenizer has ids that the model does not know.
        ConfigError: max_shard_bytes is less than 1.
        StorageError: the files cannot be written.
    """
    folder = Path(folder)
    if tokenizer is not None and tokenizer.vocab_size > model.config.vocab_size:
        raise ModelError(
            f"the tokenizer has {tokenizer.vocab_size} ids, but the model knows {model.config.vocab_size}: "
            f"they do not belong together"
        )
    if max_shard_bytes is not None and max_shard_bytes < 1:
        raise ConfigError(f"max_shard_bytes is {max_shard_bytes}; it must be at least 1")
    if lora_layers(model):
        raise ModelError(
            "the model has adapters beside its weights, which a folder of weights would not hold; merge them first "
            "(merge_lora), or save them by themselves (save_peft)"
        )
    family, data = config_for(model.config)
    ids, padding = _token_ids(model.config, tokenizer)
    architecture = family.architecture(model.config.head)
    config = {"architectures": [architecture], "model_type": family.model_type, **ids, **data}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StorageError(f"{folder} cannot be made: {problem.strerror}. Choose another folder") from None
    _write_tensors(folder, _their_tensors(model, family), max_shard_bytes)
    if model.config.head == "vocabulary" and model.config.kind != "encoder":
        write_json(folder / "generation_config.json", {**ids, **padding, **generation_names(model.config)})
    write_json(folder / "config.json", config)
    if tokenizer is not None:
        tokenizer.save(folder)


def _our_tensors(
    model: AnyModel, tensors: Tensors, held: Held, dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for border in (*tensors.body, *tensors.head):
        tensor = held.load(_found(border.theirs, tensors, held), dtype, device)
        parts = border.to_ours(tensor, [model.get_parameter(name).shape[0] for name in border.ours])
        state.update(zip(border.ours, parts, strict=True))
    return state


def _found(name: str, tensors: Tensors, held: Held) -> str:
    """A tensor's own name, or that of a copy where it is kept under that alone."""
    if name in held:
        return name
    return next((copy for copy, original in tensors.copies.items() if original == name and copy in held), name)


def _require_tensors(model: AnyModel, tensors: Tensors, held: Held, family: Family, folder: Path) -> None:
    body = {border.theirs for border in tensors.body}
    for border in (*tensors.body, *tensors.head):
        shape = border.their_shape([tuple(model.get_parameter(name).shape) for name in border.ours])
        name = _found(border.theirs, tensors, held)
        if name not in held:
            shown = held.prefix + name if name in body else name
            raise ModelError(
                f"{folder}: tensor {shown} of shape {shape} is missing from the weights. Does config.json belong to "
                f"them? If so, the folder is not whole: copy or download it again"
            )
        if held.shape(name) != shape:
            raise ModelError(
                f"{folder}: tensor {held.stored[name]} has shape {held.shape(name)}, but by config.json it must have "
                f"{shape}. Take the config.json that belongs to these weights"
            )
    _require_copies(tensors, held, folder)
    _require_computed(tensors, held, folder)
    known = {*body, *(border.theirs for border in tensors.head), *tensors.copies, *tensors.computed}
    beyond = sorted(name for name in held.stored if name not in known and not re.fullmatch(family.left_out, name))
    if beyond:
        config = model.config
        layers = (
            f"{config.layers} layers"
            if config.encoder_layers is None
            else (f"{config.encoder_layers} encoder and {config.layers} decoder layers")
        )
        raise ModelError(
            f"{folder}: tensor {held.stored[beyond[0]]} of shape {held.shape(beyond[0])} has no place in a "
            f"{family.architecture(config.head)} of {layers} ({len(beyond)} such in all). Does config.json belong to "
            f"these weights?"
        )


def _require_copies(tensors: Tensors, held: Held, folder: Path) -> None:
    """What is stored twice although it is one must be the same."""
    for copy, original in tensors.copies.items():
        original = _found(original, tensors, held)
        if copy not in held or copy == original:
            continue
        if held.shape(copy) != held.shape(original):
            raise ModelError(
                f"{folder}: tensor {held.stored[copy]} has shape {held.shape(copy)}, but config.json ties it to "
                f"{held.stored[original]}, which has {held.shape(original)}"
            )
        if not held.are_equal(copy, original):
            raise ModelError(
                f"{folder}: config.json says tie_word_embeddings, but {held.stored[copy]} differs from "
                f'{held.stored[original]}. Set "tie_word_embeddings": false if the weights are right'
            )


def _require_computed(tensors: Tensors, held: Held, folder: Path) -> None:
    """Tables of positions that old files hold must be those that are computed here."""
    for name, table in tensors.computed.items():
        if name not in held:
            continue
        with torch.device("meta"):  # a config that states a billion positions gets none of them computed
            shape = tuple(table().shape)
        if held.shape(name) != shape:
            raise ModelError(
                f"{folder}: tensor {held.stored[name]} has shape {held.shape(name)}, but by config.json it must have "
                f"{shape}. Take the config.json that belongs to these weights"
            )
        found = held.load(name, torch.float32, torch.device("cpu"))
        if not torch.allclose(found, table(), rtol=0, atol=2e-3):  # kept in float16
            raise ModelError(
                f"{folder}: tensor {held.stored[name]} holds other positions than the sines and cosines that are "
                f"computed here"
            )


def _their_tensors(model: AnyModel, family: Family) -> dict[str, Tensor]:
    table, made = family.tensors(model.config), {}
    prefix = "" if model.config.head == "none" else family.prefix
    for border in (*table.body, *table.head):
        name = prefix + border.theirs if border in table.body else border.theirs
        made[name] = border.to_theirs([model.get_parameter(ours).detach().float() for ours in border.ours])
    if table.keeps_computed:
        made.update({prefix + name: computed() for name, computed in table.computed.items()})
    made.update({prefix + name: made[prefix + table.copies[name]] for name in table.kept_copies})
    return made


def _write_tensors(folder: Path, tensors: Mapping[str, Tensor], max_shard_bytes: int | None) -> None:
    """One file, or shards with their index; what an earlier save left in the other form is removed."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in sorted(tensors.items()):
        count = tensor.numel() * tensor.element_size()
        if max_shard_bytes is not None and shards[-1] and size + count > max_shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += count
    if len(shards) == 1:
        write_weights(folder / ONE_FILE, tensors)
        (folder / INDEX).unlink(missing_ok=True)
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_weights(folder / file, shard)
        places.update(dict.fromkeys(shard, file))
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
    (folder / ONE_FILE).unlink(missing_ok=True)


def _token_ids(config: ModelConfig, tokenizer: SavedTokenizer | None) -> tuple[dict[str, object], dict[str, object]]:
    """Ids for config.json, and those that only generation_config.json has."""
    bos = tokenizer.bos_id if tokenizer is not None else None
    stops = list(config.stop_ids)
    if not stops and tokenizer is not None and tokenizer.eos_id is not None:
        stops = [tokenizer.eos_id]
    ids: dict[str, object] = {
        "bos_token_id": bos,
        "eos_token_id": None if not stops else stops[0] if len(stops) == 1 else stops,
    }
    pad = config.pad_id if config.pad_id is not None else getattr(tokenizer, "pad_id", None)
    if config.kind != "decoder" or pad is not None:
        ids["pad_token_id"] = pad
    if config.kind == "encoder-decoder":
        ids["decoder_start_token_id"] = config.start_id
    # transformers pads several sequences, and asks by what.
    return ids, {"pad_token_id": stops[-1]} if stops and pad is None else {}


def _stop_ids(folder: Path, config: Mapping[str, object], vocab_size: int) -> tuple[int, ...]:
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
