"""Low-rank adapters (LoRA, arXiv:2106.09685): a frozen matrix W becomes W + scale * up down, of which only the two thin
matrices learn. The frozen ones may have 8 or 4 bits (QLoRA, arXiv:2305.14314).

Axes: R rows (outputs), C columns (inputs), r rank.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guiju.errors import ConfigError, ModelError
from guiju.model.blocks import Layer
from guiju.model.building import AnyModel
from guiju.model.config import ModelConfig
from guiju.model.quantized import RoundedLinear

ALL = "all"
HEADS = {
    "vocabulary": (),
    "classes": ("pooler", "to_labels"),
    "token_classes": ("to_labels",),
    "span": ("to_span",),
    "none": (),
}
"""Modules that learn whole beside an adapter, by the head that they belong to: a new head has nothing to adapt."""


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Which matrices are adapted, and how much room each adapter has."""

    rank: int = 8
    """Inner length of the two thin matrices."""

    alpha: float = 16.0
    """What they add is multiplied by alpha / rank."""

    dropout: float = 0.0
    """Share of the values that an adapter reads which are set to zero in training."""

    layers: tuple[str, ...] = ("to_query", "to_value")
    """Names, or ends of names, of the linear layers that are adapted, such as "to_query", "mlp.to_output"; "all" is
    each of them."""

    rslora: bool = False
    """Whether the root of the rank divides alpha, and not the rank itself (arXiv:2312.03732)."""

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or isinstance(self.rank, bool) or self.rank < 1:
            raise ConfigError(f"lora.rank is {self.rank!r}; it must be a whole number of at least 1")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ConfigError(f"lora.alpha is {self.alpha}; it must be more than 0, or the adapter would do nothing")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"lora.dropout is {self.dropout}; it must be at least 0 and less than 1")
        if not self.layers:
            raise ConfigError("lora.layers names no layer, so nothing would be adapted; leave it out, or name some")

    @property
    def scale(self) -> float:
        """What an adapter's product is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class LoraLinear(nn.Module):
    """A linear layer that does not move, and an adapter beside it that does."""

    def __init__(self, base: nn.Linear | RoundedLinear, down: Tensor, up: Tensor, scale: float, dropout: float) -> None:
        """`down` is (r, C), `up` (R, r)."""
        super().__init__()
        self.base, self.scale = base, scale
        self.down, self.up = nn.Parameter(down), nn.Parameter(up)
        self.dropout = nn.Dropout(dropout)
        self.active = True

    @classmethod
    def fresh(cls, base: nn.Linear | RoundedLinear, settings: LoraSettings) -> LoraLinear:
        """One that changes nothing yet: `up` is zero; `down` is drawn as PEFT draws it, from torch's generator."""
        rows, columns = matrix_shape(base)
        place = base.codes.device if isinstance(base, RoundedLinear) else base.weight.device
        down, up = torch.empty(settings.rank, columns, device=place), torch.zeros(rows, settings.rank, device=place)
        nn.init.kaiming_uniform_(down, a=math.sqrt(5))
        return cls(base, down, up, settings.scale, settings.dropout)

    @property
    def rank(self) -> int:
        return self.down.size(0)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., R)"""
        found: Tensor = self.base(x)
        if not self.active:
            return found
        read = self.dropout(x).to(self.down.dtype)
        added = F.linear(F.linear(read, self.down), self.up)
        return found + (added * self.scale).to(found.dtype)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer that computes the same; of a rounded one, its weights written out, for the sum would not fit
        its few bits."""
        base = self.base
        weight = base.weight() if isinstance(base, RoundedLinear) else base.weight
        wide = torch.promote_types(weight.dtype, self.up.dtype)
        total = (weight.to(wide) + self.scale * (self.up.to(wide) @ self.down.to(wide))).to(weight.dtype)
        return _linear(total, base.bias)


def _linear(weight: Tensor, bias: nn.Parameter | None) -> nn.Linear:
    """A layer of these weights: (R, C), (R,)."""
    with torch.device("meta"):
        made = nn.Linear(weight.size(1), weight.size(0), bias=bias is not None)
    made.weight = nn.Parameter(weight)
    if bias is not None:
        made.bias = bias
    return made


def matrix_shape(linear: nn.Linear | RoundedLinear) -> tuple[int, int]:
    """(R, C)"""
    if isinstance(linear, RoundedLinear):
        return linear.rows, linear.columns
    return linear.out_features, linear.in_features


def add_lora(model: AnyModel, settings: LoraSettings) -> None:
    """Freeze a model and put an adapter beside each linear layer that the settings name, in place.

    A head other than the vocabulary's, which a base does not bring, stays whole and learns. New weights are drawn from
    torch's global generator.

    Raises:
        ConfigError: a name fits no linear layer of the model.
        ModelError: the model has adapters already.
    """
    if lora_layers(model):
        raise ModelError("the model has adapters already; merge them first (merge_lora)")
    linears = linear_layers(model)
    chosen = {name for name in linears if any(_fits(name, wanted) for wanted in settings.layers)}
    for wanted in settings.layers:
        if not any(_fits(name, wanted) for name in linears):
            ends = sorted({name.rpartition("layers.")[2].partition(".")[2] for name in linears})
            raise ConfigError(
                f"lora.layers has {wanted!r}, but the model's linear layers are {', '.join(ends)}; name one of them, "
                f"its end, or {ALL}"
            )
    freeze_base(model)
    for name in linears:  # in the model's order, so that the same seed gives the same weights
        if name in chosen:
            put(model, name, LoraLinear.fresh(linears[name], settings))


def merge_lora(model: AnyModel) -> AnyModel:
    """Make adapters part of the matrices beside which they stand, in place; all weights are trainable again, those of
    rounded layers without an adapter too, which are written out.

    Raises:
        ModelError: the model has no adapter.
    """
    adapters = lora_layers(model)
    if not adapters:
        raise ModelError("the model has no adapter, so there is nothing to merge; was it loaded?")
    for name, adapter in adapters.items():
        put(model, name, adapter.merged())
    for name, module in list(model.named_modules()):
        if isinstance(module, RoundedLinear):
            put(model, name, _linear(module.weight(), module.bias))
    return model.requires_grad_(True)


@contextmanager
def without_lora(model: AnyModel) -> Iterator[None]:
    """While this lasts, the model computes what its base does."""
    adapters = [adapter for adapter in lora_layers(model).values() if adapter.active]
    for adapter in adapters:
        adapter.active = False
    try:
        yield
    finally:
        for adapter in adapters:
            adapter.active = True


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """The model's adapters, by the names of the linear layers whose place they take."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def linear_layers(model: nn.Module) -> dict[str, nn.Linear | RoundedLinear]:
    """The linear layers that can be adapted, by name: those of the blocks."""
    return {
        f"{place}.{name}": module
        for place, layer in model.named_modules()
        if isinstance(layer, Layer)
        for name, module in layer.named_modules()
        if isinstance(module, (nn.Linear, RoundedLinear))
    }


def freeze_base(model: AnyModel) -> None:
    """Freeze all but a head that learns whole."""
    model.requires_grad_(False)
    for name in whole_modules(model.config):
        model.get_submodule(name).requires_grad_(True)


def whole_modules(config: ModelConfig) -> tuple[str, ...]:
    """Modules of a model of this shape that learn whole beside an adapter."""
    return tuple(name for name in HEADS[config.head] if name != "pooler" or config.pooler)


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of that name."""
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, module)


@torch.no_grad()
def weights_digest(model: AnyModel) -> str:
    """SHA-256 of the weights that an adapter stands beside: all but adapters, and heads that learn whole.

    It is the same in whatever format, precision of files aside, the weights were kept, and whether there are adapters
    or not.

    Raises:
        ModelError: the weights were rounded to few bits; take the digest before that.
    """
    left_out = tuple(f"{name}." for name in whole_modules(model.config))
    adapters = tuple(f"{name}.{part}" for name in lora_layers(model) for part in ("down", "up"))
    made = hashlib.sha256()
    for name, tensor in sorted(_by_plain_name(model, adapters)):
        if not name.startswith(left_out or ("\0",)):
            made.update(f"{name} {list(tensor.shape)}\n".encode())
            made.update(tensor.detach().float().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return made.hexdigest()


def _by_plain_name(model: AnyModel, without: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """Parameters by the names that they have without adapters."""
    if any(isinstance(module, RoundedLinear) for module in model.modules()):
        raise ModelError(
            "the model's weights were rounded to few bits, so they are no longer the base's; take its digest before it "
            "is rounded"
        )
    unwanted = set(without)
    for name, parameter in model.named_parameters():
        if name not in unwanted:
            yield name.replace(".base.", "."), parameter


def _fits(name: str, wanted: str) -> bool:
    return wanted == ALL or name == wanted or name.endswith(f".{wanted}")
