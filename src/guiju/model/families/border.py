"""What a table of a family of published models is made of: tensors, fields, and the shapes that they can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from guiju.errors import ModelError
from guiju.model.config import Activation, Head, ModelConfig
from guiju.model.weights import Weights


@dataclass(frozen=True)
class Border:
    """A published tensor, and those of ours that it holds one after the other along their outputs."""

    theirs: str
    ours: tuple[str, ...]
    form: Literal["same", "transposed", "row"] = "same"
    """"transposed": a matrix kept as (inputs, outputs). "row": a vector kept as (1, n)."""

    def their_shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """The tensor's shape, from those of ours."""
        shape = (sum(part[0] for part in shapes), *shapes[0][1:])
        if self.form == "row":
            return (1, *shape)
        return shape[::-1] if self.form == "transposed" else shape

    def to_theirs(self, parts: Sequence[Tensor]) -> Tensor:
        """The tensor, from ours."""
        whole = parts[0] if len(parts) == 1 else torch.cat(list(parts))
        if self.form == "row":
            return whole[None]
        return whole.T if self.form == "transposed" else whole

    def to_ours(self, tensor: Tensor, rows: Sequence[int]) -> list[Tensor]:
        """Ours, each with so many rows, from the tensor."""
        whole = tensor[0] if self.form == "row" else tensor.T if self.form == "transposed" else tensor
        return [part.contiguous() for part in torch.split(whole, list(rows))]


@dataclass(frozen=True)
class Tensors:
    """All published tensors of a model of one shape."""

    body: tuple[Border, ...]
    head: tuple[Border, ...] = ()
    copies: Mapping[str, str] = field(default_factory=dict)
    """Another name under which a tensor may be kept as well, or alone -> the name in the table."""
    computed: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)
    """Tables that are computed here, but that files may keep -> what they must hold."""
    keeps_computed: bool = False
    """Whether they are written too."""
    kept_copies: tuple[str, ...] = ()
    """Names among `copies` that are written too, for readers that would not look for the other one."""


class Held:
    """The tensors of a folder by the names of a family's table: without the body's prefix, and with today's endings."""

    def __init__(self, weights: Weights, prefix: str, older: Mapping[str, str]) -> None:
        """Raises ModelError where two tensors have the same name in the table."""
        self.weights = weights
        self.prefix = prefix if prefix and any(name.startswith(prefix) for name in weights.shapes) else ""
        self.stored: dict[str, str] = {}
        """Name in the table -> name in the folder."""
        for stored in weights.shapes:
            name = stored.removeprefix(self.prefix)
            for ending, newer in older.items():
                name = name.removesuffix(ending) + newer if name.endswith(ending) else name
            if name in self.stored:
                raise ModelError(f"{weights.folder} holds {name} twice, as {self.stored[name]} and as {stored}")
            self.stored[name] = stored

    def __contains__(self, name: object) -> bool:
        return name in self.stored

    def shape(self, name: str) -> tuple[int, ...]:
        return self.weights.shapes[self.stored[name]]

    def load(self, name: str, dtype: torch.dtype, device: torch.device) -> Tensor:
        return self.weights.load(self.stored[name], dtype, device)

    def are_equal(self, one: str, other: str) -> bool:
        """Whether two tensors hold the same numbers."""
        if self.shape(one) != self.shape(other):
            return False
        cpu = torch.device("cpu")
        return torch.equal(self.load(one, torch.float32, cpu), self.load(other, torch.float32, cpu))


def _unchanged(config: ModelConfig, held: Held) -> ModelConfig:
    return config


@dataclass(frozen=True)
class Family:
    """What a kind of published model calls things, and which of our shapes it can hold."""

    model_type: str

    heads: Mapping[str, Head]
    """Name of their class -> the head that it has; the first one of a head is written."""

    default: str
    """The class of a config.json that names none."""

    prefix: str
    """Stands before the body's tensors; absent where the body was saved without its head."""

    fixed: Mapping[str, tuple[object, ...]]
    """Their field -> values under which the computation is the one done here; the first one is the default."""

    required: Mapping[str, tuple[object, ...]]
    """Our field -> the values that the family can hold; a field that is neither here nor in `free` has its default."""

    free: frozenset[str]
    """Our fields that the family can hold any value of."""

    read: Callable[[Fields, Head], ModelConfig]
    """config.json -> our shape, without the ids that end a text."""

    write: Callable[[ModelConfig], dict[str, object]]
    """Our shape -> config.json, without token ids."""

    tensors: Callable[[ModelConfig], Tensors]

    left_out: str = r"(?!)"
    """Pattern of tensors, without the prefix, that are none of the model's weights, or of a head that is not read."""

    older: Mapping[str, str] = field(default_factory=dict)
    """Ending of a tensor's name in old files -> today's."""

    also_required: Callable[[ModelConfig], str | None] = lambda config: None
    """What, beyond single fields, keeps a shape from the family, in words."""

    settle: Callable[[ModelConfig, Held], ModelConfig] = _unchanged
    """Shape by config.json, and the weights -> the shape, where only the weights tell."""

    def architecture(self, head: Head) -> str:
        """Their class that has this head."""
        return next(name for name, other in self.heads.items() if other == head)

    def misfits(self, config: ModelConfig) -> list[str]:
        """Why a shape is none of the family's; nothing where it is one."""
        problems = []
        for ours in fields(ModelConfig):
            if ours.name in self.free or ours.name in ALWAYS_FREE:
                continue
            allowed, value = self.required.get(ours.name, (ours.default,)), getattr(config, ours.name)
            if value not in allowed:
                problems.append(f"model.{ours.name} is {value!r}, but {self.model_type} has {_listed(allowed)}")
        beyond = self.also_required(config)
        if beyond is not None and not problems:
            problems.append(beyond)
        return problems


ALWAYS_FREE = frozenset(
    {"vocab_size", "context", "width", "layers", "heads", "hidden", "dropout"}
    | {"stop_ids", "pad_id", "start_id", "forced_first_id", "forced_last_id", "never_ids"}
)
"""Our fields that every family can hold: sizes, and what steers no computation."""

NEVER: dict[str, tuple[object, ...]] = {
    "quantization_config": (None,),
    "pruned_heads": (None, {}),
    "per_layer_config": (None, {}),
    **dict.fromkeys(("text_config", "text_encoder", "decoder", "generator"), (None,)),  # a config inside the config
}
"""Fields that would change any family: theirs -> values under which the computation is the one done here."""

CAUSAL: dict[str, tuple[object, ...]] = {
    **NEVER,
    "is_causal": (True,),
    **dict.fromkeys(("sliding_window", "attention_chunk_size", "layer_types", "kv_sharing_modes"), (None,)),
}
"""The same for whatever has a decoder: transformers reads them from any config, when it makes masks and caches."""

DECODER_ONLY: dict[str, tuple[object, ...]] = {
    **CAUSAL,
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
}

ACTIVATIONS: dict[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def activation_name(activation: Activation) -> str:
    """The name that transformers has for one of ours; for one with a gate, that of what the gate goes through."""
    inner = {"swiglu": "silu", "geglu": "gelu", "geglu_tanh": "gelu_tanh"}.get(activation, activation)
    return next(name for name, ours in ACTIVATIONS.items() if ours == inner)


def linear(theirs: str, *ours: str, bias: bool, form: Literal["same", "transposed"] = "same") -> tuple[Border, ...]:
    """A linear layer or a norm: its matrix, and its bias where there is one."""
    borders = [Border(f"{theirs}.weight", tuple(f"{name}.weight" for name in ours), form)]
    if bias:
        borders.append(Border(f"{theirs}.bias", tuple(f"{name}.bias" for name in ours)))
    return tuple(borders)


OTHER_HEADS = r"score\.weight"
"""Pattern of a head of classes in the folder of a decoder that is read without it."""


def decoder_head(config: ModelConfig) -> tuple[Border, ...]:
    """A decoder's: a vocabulary's that is not tied, or that of classes."""
    if config.head == "classes":
        return (Border("score.weight", ("to_labels.weight",)),)
    return () if config.tied else (Border("lm_head.weight", ("to_logits.weight",)),)


def with_decoder_head(config: ModelConfig, given: Fields, head: Head) -> ModelConfig:
    """The shape with the head that the folder's class has."""
    return replace(config, head=head, tied=False, labels=given.labels(2)) if head == "classes" else config


def label_fields(config: ModelConfig) -> dict[str, object]:
    """id2label and label2id, where the head has labels."""
    if not config.labels:
        return {}
    names = {str(index): label for index, label in enumerate(config.labels)}
    return {"id2label": names, "label2id": {label: int(index) for index, label in names.items()}}


def for_layers(count: int, *borders: tuple[Border, ...]) -> tuple[Border, ...]:
    """A layer's tensors for each layer, whose number takes the place of `{}`."""
    return tuple(
        Border(border.theirs.format(layer), tuple(name.format(layer) for name in border.ours), border.form)
        for layer in range(count)
        for group in borders
        for border in group
    )


class Fields:
    """A config.json, read field by field with its type checked."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data, self.where = data, where

    def whole(self, name: str, default: int | None = None, *, null: int | None = None, least: int = 1) -> int:
        """A whole number.

        Args:
            default: where the field is absent. null: where it is null; the default, unless given.
        """
        value = self.data.get(name, default)
        value = (default if null is None else null) if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ModelError(f"{self.where}: {name} is {value!r}; it must be a whole number of at least {least}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        value = self.data.get(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ModelError(f"{self.where}: {name} is {value!r}; it must be a number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.data.get(name, default)
        if not isinstance(value, bool):
            raise ModelError(f"{self.where}: {name} is {value!r}; it must be true or false")
        return value

    def id(self, name: str, default: int | None, vocab_size: int) -> int | None:
        """A token's id; None where it is null, or beyond the vocabulary, as transformers' defaults can be."""
        value = self.data.get(name, default)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise ModelError(f"{self.where}: {name} is {value!r}; it must be a token's id or null")
        return value if 0 <= value < vocab_size else None

    def activation(self, name: str, default: str) -> Activation:
        value = self.data.get(name, default)
        if not isinstance(value, str) or value not in ACTIVATIONS:
            raise ModelError(f"{self.where}: {name} is {value!r}; this version computes {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[value]

    def labels(self, default: int) -> tuple[str, ...]:
        """Names of the classes, out of id2label, or else of their number."""
        given = self.data.get("id2label")
        if given is None:
            count = self.whole("num_labels", self.whole("_num_labels", default))
            if count > 10**6:
                raise ModelError(f"{self.where}: num_labels is {count}; at most a million are read")
            return tuple(f"LABEL_{index}" for index in range(count))
        if not isinstance(given, dict) or not all(isinstance(label, str) for label in given.values()):
            raise ModelError(f"{self.where}: id2label is {given!r}; it must be an object of numbers and names")
        numbers = [str(index) for index in range(len(given))]
        if not given or set(given) != set(numbers):
            raise ModelError(f"{self.where}: id2label has the keys {', '.join(given)}; they must be 0, 1, 2, ...")
        return tuple(given[number] for number in numbers)

    def refuse(self, name: str, why: str) -> ModelError:
        """An error about one field, to be raised."""
        return ModelError(f"{self.where}: {name} is {self.data.get(name)!r}; {why}")


def _listed(values: tuple[object, ...]) -> str:
    return " or ".join(repr(value) for value in values)
