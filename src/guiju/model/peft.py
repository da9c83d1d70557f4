"""Adapters in the layout of Hugging Face's PEFT: adapter_config.json and adapter_model.safetensors, both ways.

Where a published layer holds several of ours (GPT-2's c_attn is query, key and value), its one adapter reads the input
once for all: ours are written one beside the other in it, each reaching its own outputs; read, each of ours takes the
part that reaches it.
Axes: R rows (outputs), C columns (inputs), r rank.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guiju.errors import ModelError, StorageError
from guiju.model.building import AnyModel
from guiju.model.families import FAMILIES, Family, config_for
from guiju.model.families.border import Border
from guiju.model.lora import (
    LoraLinear,
    freeze_base,
    linear_layers,
    lora_layers,
    matrix_shape,
    put,
    weights_digest,
    whole_modules,
)
from guiju.model.weights import Weights, open_all, read_json, write_weights
from guiju.storage import require_plain_folder, write_json

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
_OUTER = "base_model.model."
_DIGEST = "guiju_base_sha256"
"""Key in the tensors' metadata, so that the two cannot be parted."""

_TASKS = {
    ("decoder", "vocabulary"): "CAUSAL_LM",
    ("encoder-decoder", "vocabulary"): "SEQ_2_SEQ_LM",
    ("decoder", "classes"): "SEQ_CLS",
    ("encoder", "classes"): "SEQ_CLS",
    ("encoder", "token_classes"): "TOKEN_CLS",
    ("encoder", "span"): "QUESTION_ANS",
    ("encoder", "none"): "FEATURE_EXTRACTION",
}
"""PEFT's name of what a model is for; none for an encoder that guesses tokens."""

_HEEDED = frozenset({"lora_alpha", "use_rslora", "alpha_pattern", "lora_dropout", "base_model_name_or_path"})
_IDLE = frozenset(
    {"peft_version", "auto_mapping", "revision", "task_type", "inference_mode", "r", "rank_pattern", "fan_in_fan_out"}
    | {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "eva_config"}
    | {"megatron_core", "qalora_group_size", "runtime_config", "parent_library", "ensure_weight_tying"}
)
"""Fields that the tensors say as well, or that steer training alone."""
_HARMLESS_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the base as it is."""


@dataclass(frozen=True)
class AdapterBase:
    """The model that an adapter was made for."""

    reference: str
    """Where it is found: a run, a folder, a name."""
    digest: str
    """`weights_digest` of it; empty where nobody took it."""
    family: str = ""
    """Its model_type, whose names are written; by default that under which the model would be saved."""


def save_peft(model: AnyModel, folder: Path, base: AdapterBase) -> None:
    """Write the model's adapters, and a head that learned whole, as PEFT reads them beside the base.

    Raises:
        ModelError: the model has no adapter, no published family has its shape, or the base's digest was not taken.
        StorageError: the files cannot be written.
    """
    if not lora_layers(model):
        raise ModelError("the model has no adapter, so there is nothing to save as one; were they merged?")
    if not base.digest:
        raise ModelError(f"an adapter of {base.reference} is saved with the digest of its base; take weights_digest")
    folder = Path(folder)
    made = _Written(model, _families(model, base.family)[0])
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise StorageError(f"{folder} cannot be made: {problem.strerror}. Choose another folder") from None
    write_weights(folder / TENSORS, made.tensors, {_DIGEST: base.digest})
    write_json(folder / CONFIG, made.config(base.reference))


class _Written:
    """A model's adapters by PEFT's names."""

    def __init__(self, model: AnyModel, family: Family) -> None:
        self.model, self.family = model, family
        self.tensors: dict[str, Tensor] = {}
        self.ranks: dict[str, int] = {}
        self.alphas: dict[str, float] = {}
        adapters = lora_layers(model)
        self.dropout = max(adapter.dropout.p for adapter in adapters.values())
        self.transposed = False
        self.modules = _modules(model, family)
        for theirs, border, ours in self.modules:
            parts = [adapters.get(name) for name in ours]
            if any(part is not None for part in parts):
                self.transposed = self.transposed or border.form == "transposed"
                self._add(theirs, parts, [matrix_shape_of(model, name) for name in ours])
        self.whole = [theirs for theirs, _, ours in self.modules if _is_whole(ours, whole_modules(model.config))]
        for theirs, border, ours in self.modules:
            if theirs in self.whole:
                self._add_whole(theirs, border, ours)

    def config(self, reference: str) -> dict[str, Any]:
        """adapter_config.json."""
        rank = Counter(self.ranks.values()).most_common(1)[0][0]
        alpha = Counter(self.alphas[name] for name, own in self.ranks.items() if own == rank).most_common(1)[0][0]
        ranks = {name: own for name, own in self.ranks.items() if own != rank}
        alphas = {name: _plain(own) for name, own in self.alphas.items() if own != alpha}
        return {
            "peft_type": "LORA",
            "task_type": _TASKS.get((self.model.config.kind, self.model.config.head)),
            "base_model_name_or_path": reference,
            "inference_mode": True,
            "r": rank,
            "lora_alpha": _plain(alpha),
            "lora_dropout": self.dropout,
            "rank_pattern": ranks,
            "alpha_pattern": alphas,
            "target_modules": self._targets(),
            "modules_to_save": sorted({_first_part(name, self.family) for name in self.whole}) or None,
            "fan_in_fan_out": self.transposed,
            "bias": "none",
            "use_rslora": False,
            "use_dora": False,
            "init_lora_weights": True,
        }

    def _add(self, theirs: str, parts: list[LoraLinear | None], shapes: list[tuple[int, int]]) -> None:
        """One adapter of theirs, out of those of ours that it holds."""
        present = [part for part in parts if part is not None]
        first = present[0]
        # What was read from one adapter reads its input alike for all: it is written as one again.
        shared = all(part.scale == first.scale and torch.equal(part.down, first.down) for part in present[1:])
        down = first.down if shared else torch.cat([part.down * (part.scale / first.scale) for part in present])
        up = first.up.new_zeros(sum(rows for rows, _ in shapes), len(down))
        row = column = 0
        for part, (rows, _) in zip(parts, shapes, strict=True):
            if part is not None:
                up[row : row + rows, column : column + part.rank] = part.up.detach()
                column += 0 if shared else part.rank
            row += rows
        self.tensors[f"{_OUTER}{theirs}.lora_A.weight"] = down.detach().float()
        self.tensors[f"{_OUTER}{theirs}.lora_B.weight"] = up.detach().float()
        self.ranks[theirs], self.alphas[theirs] = len(down), first.scale * len(down)

    def _add_whole(self, theirs: str, border: Border, ours: tuple[str, ...]) -> None:
        for kind in ("weight", "bias"):
            held = [getattr(self.model.get_submodule(name), kind, None) for name in ours]
            tensors = [tensor.detach().float() for tensor in held if tensor is not None]
            if tensors:
                whole = border.to_theirs(tensors) if kind == "weight" else torch.cat(tensors)
                self.tensors[f"{_OUTER}{theirs}.{kind}"] = whole

    def _targets(self) -> list[str]:
        """The modules with an adapter: by what stands after a layer's number, where that says no other, too."""
        adapted, every = set(self.ranks), [theirs for theirs, _, _ in self.modules]
        targets: set[str] = set()
        for name in adapted:
            end = re.split(r"\.\d+\.", name)[-1]
            alike = {other for other in every if other == end or other.endswith(f".{end}")}
            targets.add(end if alike <= adapted else name)
        return sorted(targets)


def load_peft(model: AnyModel, folder: Path, *, digest: str | None = None) -> AdapterBase:
    """Put the adapters of a PEFT folder beside the model's linear layers, in place; the rest of it is frozen, but for a
    head that learns whole, which takes the folder's weights.

    Args:
        digest: `weights_digest` of the model, where it has few bits by now, so that it cannot be taken any more.
    Returns:
        What the adapter was made for; without a digest, where PEFT wrote it and nobody took one.
    Raises:
        ModelError: the folder is incomplete or damaged, of another method than LoRA or with what is not computed here;
            a tensor has no place in the model or another shape; or the adapter was made for another base.
    """
    folder = Path(folder)
    if lora_layers(model):
        raise ModelError("the model has adapters already; merge them first (merge_lora)")
    config = _read_config(folder)
    with closing(_open_tensors(folder)) as weights:
        _require_base(model, folder, weights, digest, config)
        family = _family_of(model, weights)
        adapters, whole = _read_adapters(model, family, folder, weights, config)
    freeze_base(model)
    linears = linear_layers(model)
    for name, (down, up, scale) in adapters.items():
        place = next(model.parameters()).device
        adapter = LoraLinear(linears[name], down.to(place), up.to(place), scale, float(config.get("lora_dropout", 0.0)))
        put(model, name, adapter.train(model.training))
    with torch.no_grad():
        for name, tensor in whole.items():
            model.get_parameter(name).copy_(tensor)
    reference = str(config.get("base_model_name_or_path") or "")
    return AdapterBase(reference, weights.metadata.get(_DIGEST, ""), family.model_type)


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / CONFIG)
    where = folder / CONFIG
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{where}: peft_type is {config.get('peft_type')!r}; this version reads LORA alone")
    if config.get("bias", "none") != "none":
        raise ModelError(f"{where}: bias is {config['bias']!r}; this version computes adapters that leave biases alone")
    start = config.get("init_lora_weights", True)
    if start not in _HARMLESS_STARTS:
        raise ModelError(
            f"{where}: init_lora_weights is {start!r}, which changes the base as well. Save the adapter with PEFT's "
            "path_initial_model_for_weight_conversion, which makes a plain one of it"
        )
    known = _HEEDED | _IDLE | {"peft_type", "bias", "init_lora_weights"}
    for name in sorted(set(config) - known):
        if config[name]:
            raise ModelError(f"{where}: {name} is {str(config[name])[:80]!r}, which this version does not compute")
    for name, default, below in (("lora_alpha", 8, math.inf), ("lora_dropout", 0.0, 1)):
        value = config.get(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < below:
            raise ModelError(f"{where}: {name} is {value!r}; it must be a number of at least 0 and less than {below}")
    return config


def _open_tensors(folder: Path) -> Weights:
    try:
        require_plain_folder(folder)
    except StorageError as problem:
        raise ModelError(f"{folder} is not read: {problem}") from None
    if not (folder / TENSORS).exists():
        pickled = (folder / "adapter_model.bin").exists()
        why = ". Its adapter_model.bin is a pickle, which can run code when it is opened: save it with PEFT again"
        raise ModelError(f"{folder} has no {TENSORS}, so there is no adapter to load{why if pickled else ''}")
    return Weights(folder, open_all([folder / TENSORS]))


def _require_base(
    model: AnyModel, folder: Path, weights: Weights, digest: str | None, config: Mapping[str, Any]
) -> None:
    wanted = weights.metadata.get(_DIGEST)
    if wanted is None:
        return
    found = weights_digest(model) if digest is None else digest
    if found != wanted:
        raise ModelError(
            f"the adapter in {folder} was made for {config.get('base_model_name_or_path')} with weights of SHA-256 "
            f"{wanted[:12]}, but this model's are {found[:12]}: what it adds would mean nothing here. Load it beside "
            "its own base"
        )


def _read_adapters(
    model: AnyModel, family: Family, folder: Path, weights: Weights, config: Mapping[str, Any]
) -> tuple[dict[str, tuple[Tensor, Tensor, float]], dict[str, Tensor]]:
    """By our names: (down, up, scale) of each adapter; and the weights of modules that were saved whole."""
    places = {theirs: (border, ours) for theirs, border, ours in _modules(model, family)}
    found: dict[str, tuple[Tensor, Tensor, float]] = {}
    whole: dict[str, Tensor] = {}
    known = set()
    cpu = torch.device("cpu")
    adaptable = linear_layers(model)
    for theirs, (border, ours) in places.items():
        pair = [f"{_OUTER}{theirs}.lora_{side}.weight" for side in "AB"]
        if all(name in weights.shapes for name in pair) and all(name in adaptable for name in ours):
            known.update(pair)
            shapes = [matrix_shape_of(model, name) for name in ours]
            _require_shapes(weights, pair, shapes, folder)
            down, up = (weights.load(name, torch.float32, cpu) for name in pair)
            scale = _scale(theirs, len(down), config, folder)
            found.update((name, (*part, scale)) for name, part in _split(ours, down, up, [rows for rows, _ in shapes]))
        if not _is_whole(ours, whole_modules(model.config)):
            continue
        for kind in ("weight", "bias"):
            stored = f"{_OUTER}{theirs}.{kind}"
            if stored in weights.shapes:
                known.add(stored)
                whole.update(_whole_parts(model, border, ours, kind, weights, stored, folder))
    beyond = sorted(set(weights.shapes) - known)
    if beyond:
        raise ModelError(
            f"{folder}: tensor {beyond[0]} of shape {weights.shapes[beyond[0]]} has no place beside this model "
            f"({len(beyond)} such in all). Was the adapter made for a model of another shape or head?"
        )
    if not found:
        raise ModelError(f"{folder} holds no adapter of a linear layer, so it would change nothing")
    return found, whole


def _split(
    ours: tuple[str, ...], down: Tensor, up: Tensor, rows: list[int]
) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """An adapter of theirs as adapters of ours: of each, the part of the inner length that reaches it. One that nothing
    reaches, while something reaches others, is none."""
    for name, part in zip(ours, torch.split(up, rows), strict=True):
        reached = part.any(dim=0)
        if len(ours) == 1 or not up.any():
            yield name, (down.clone(), part.clone())
        elif reached.any():
            kept = reached if int(reached.sum()) < len(reached) else slice(None)
            yield name, (down[kept].clone(), part[:, kept].clone())


def _whole_parts(
    model: AnyModel, border: Border, ours: tuple[str, ...], kind: str, weights: Weights, stored: str, folder: Path
) -> dict[str, Tensor]:
    names = [f"{name}.{kind}" for name in ours]
    shapes = [tuple(model.get_parameter(name).shape) for name in names]
    wanted = border.their_shape(shapes) if kind == "weight" else (sum(shape[0] for shape in shapes),)
    if weights.shapes[stored] != wanted:
        raise ModelError(
            f"{folder}: tensor {stored} has shape {weights.shapes[stored]}, but the model's head takes {wanted}"
        )
    tensor = weights.load(stored, torch.float32, torch.device("cpu"))
    rows = [shape[0] for shape in shapes]
    parts = border.to_ours(tensor, rows) if kind == "weight" else list(torch.split(tensor, rows))
    return dict(zip(names, parts, strict=True))


def _require_shapes(weights: Weights, pair: list[str], shapes: list[tuple[int, int]], folder: Path) -> None:
    (rank, *columns), up = weights.shapes[pair[0]], weights.shapes[pair[1]]
    wanted = (sum(rows for rows, _ in shapes), rank)
    if rank < 1 or columns != [shapes[0][1]] or up != wanted:
        raise ModelError(
            f"{folder}: {pair[0]} has shape {weights.shapes[pair[0]]} and {pair[1]} {up}, but beside this model they "
            f"have (r, {shapes[0][1]}) and ({wanted[0]}, r)"
        )


def _scale(theirs: str, rank: int, config: Mapping[str, Any], folder: Path) -> float:
    """What the adapter of a module is multiplied by."""
    alpha: Any = config.get("lora_alpha", 8)
    patterns = config.get("alpha_pattern") or {}
    for pattern, value in patterns.items() if isinstance(patterns, Mapping) else ():
        if not re.fullmatch(r"\^?[\w.\\]+", pattern):
            raise ModelError(f"{folder / CONFIG}: alpha_pattern has {pattern[:80]!r}; names of modules are followed")
        plain = pattern.removeprefix("^").replace("\\", "")
        if theirs == plain or (theirs.endswith(f".{plain}") and not pattern.startswith("^")):
            alpha = value
            break
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool):
        raise ModelError(f"{folder / CONFIG}: the alpha of {theirs} is {alpha!r}; it must be a number")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _families(model: AnyModel, wanted: str = "") -> list[Family]:
    """The families that can hold the model, first the one under which it would be saved.

    Raises:
        ModelError: there is none, or the wanted one cannot.
    """
    first = config_for(model.config)[0]
    fitting = [first, *(family for family in FAMILIES.values() if family != first and not family.misfits(model.config))]
    found = [family for family in fitting if wanted in ("", family.model_type)]
    if not found:
        names = ", ".join(family.model_type for family in fitting)
        raise ModelError(f"the base is said to be a {wanted}, but this model has the shape of {names}")
    return found


def _family_of(model: AnyModel, weights: Weights) -> Family:
    """The family in whose names an adapter's tensors are kept; where none fits, the usual one, which says what is
    missing."""
    families = _families(model)
    names = {name.removeprefix(_OUTER).partition(".lora_")[0] for name in weights.shapes}
    return max(families, key=lambda family: len(names & {theirs for theirs, _, _ in _modules(model, family)}))


def _modules(model: AnyModel, family: Family) -> list[tuple[str, Border, tuple[str, ...]]]:
    """Each published module with a matrix: its name, its border, and the names of our modules that it holds."""
    table = family.tensors(model.config)
    prefix = "" if model.config.head == "none" else family.prefix
    named = [(prefix + border.theirs, border) for border in table.body]
    named += [(border.theirs, border) for border in table.head]
    return [
        (name.removesuffix(".weight"), border, tuple(ours.removesuffix(".weight") for ours in border.ours))
        for name, border in named
        if name.endswith(".weight")
    ]


def matrix_shape_of(model: AnyModel, name: str) -> tuple[int, int]:
    """(R, C) of a linear layer, with an adapter beside it or without."""
    module: Any = model.get_submodule(name)
    return matrix_shape(module.base if isinstance(module, LoraLinear) else module)


def _is_whole(ours: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    return any(name == module for name in ours for module in whole)


def _first_part(theirs: str, family: Family) -> str:
    """The part of a head's name by which PEFT finds it: "classifier" of classifier.dense."""
    return theirs.removeprefix(family.prefix).partition(".")[0]


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) else value
