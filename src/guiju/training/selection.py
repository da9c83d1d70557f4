"""Which weights move, and how fast each: by patterns of their names, and by the layer that they stand in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase

from torch import Tensor, nn

from guiju.errors import ConfigError, TrainingError
from guiju.model import ModelConfig
from guiju.training.settings import TrainingSettings

_LAYER = re.compile(r"(?:(encoder|decoder)\.)?layers\.(\d+)\.")
_BELOW = re.compile(r"(?:(encoder|decoder)\.)?(?:\w*embedding\w*|relative_bias)\.")


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that move, by name; a tied weight stands once.

    Raises:
        TrainingError: there is none.
    """
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not found:
        raise TrainingError("no weight of the model is trainable, so training would do nothing; unfreeze some")
    return found


def still_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What does not move, by name: frozen weights, and buffers that belong to a model's state."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    buffers = {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if name not in weights}
    return {name: weight for name, weight in model.named_parameters() if not weight.requires_grad} | buffers


@contextmanager
def only_selected(model: nn.Module, settings: TrainingSettings) -> Iterator[None]:
    """While this lasts, only those weights are trainable that `train` and `freeze` leave so.

    Raises:
        ConfigError: a pattern names no weight, or only frozen ones.
        TrainingError: no weight is left.
    """
    weights = trainable(model)
    for name in ("train", "freeze"):
        _require_matches(name, getattr(settings, name), weights, model)
    stopped = [weight for name, weight in weights.items() if not _moves(name, settings)]
    try:
        for weight in stopped:
            weight.requires_grad_(False)
        if len(stopped) == len(weights):
            raise TrainingError(
                f"training.train {list(settings.train)} and training.freeze {list(settings.freeze)} leave no weight "
                "that moves, so training would do nothing; freeze less"
            )
        yield
    finally:
        for weight in stopped:
            weight.requires_grad_(True)


def rate_shares(names: Sequence[str], config: ModelConfig, decay: float) -> dict[str, float]:
    """The learning rate of each weight as a share of the whole: 1 for the head, and `decay` times as much for each
    layer below it. An encoder stands below its decoder, embeddings below both."""
    top = (config.encoder_layers or 0) + config.layers + 1
    return {name: decay ** (top - _depth(name, config)) for name in names}


def _depth(name: str, config: ModelConfig) -> int:
    """How many steps a weight stands above the embeddings."""
    of_encoder = config.encoder_layers or 0
    match = _LAYER.match(name)
    if match is not None:
        return int(match[2]) + 1 + (of_encoder if match[1] == "decoder" else 0)
    if _BELOW.match(name) is not None:
        return 0
    if name.startswith("encoder."):  # its last norm
        return of_encoder
    return of_encoder + config.layers + 1


def _moves(name: str, settings: TrainingSettings) -> bool:
    wanted = not settings.train or any(fnmatchcase(name, pattern) for pattern in settings.train)
    return wanted and not any(fnmatchcase(name, pattern) for pattern in settings.freeze)


def _require_matches(setting: str, patterns: Sequence[str], weights: dict[str, nn.Parameter], model: nn.Module) -> None:
    for pattern in patterns:
        if any(fnmatchcase(name, pattern) for name in weights):
            continue
        every = [name for name, _ in model.named_parameters()]
        if any(fnmatchcase(name, pattern) for name in every):
            why = "which names frozen weights only, as those under LoRA are"
        else:
            why = "which names no weight of the model"
        shown = ", ".join(list(weights)[:6])
        raise ConfigError(f"training.{setting} has {pattern!r}, {why}. Weights that can move are {shown} and so on")
