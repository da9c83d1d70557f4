"""A run's tensors into a snapshot and back: weights, optimizer memory, random generators."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from guiju.model import AnyModel
from guiju.training.optimizer import optimizer_tensors, restore_optimizer


def model_tensors(model: AnyModel) -> dict[str, Tensor]:
    """Weights and buffers by name; a tied weight stands once."""
    return {**dict(model.named_parameters()), **_saved_buffers(model)}


def memory_tensors(model: AnyModel, optimizer: torch.optim.Optimizer, device: torch.device) -> dict[str, Tensor]:
    """The optimizer's memory and the random generators' states."""
    return {**optimizer_tensors(model, optimizer), **random_states(device)}


@torch.no_grad()
def restore_tensors(
    model: AnyModel,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    weights: Mapping[str, Tensor],
    memory: Mapping[str, Tensor],
) -> None:
    """Put back what `model_tensors` and `memory_tensors` gave."""
    for name, tensor in model_tensors(model).items():
        tensor.copy_(weights[name])
    restore_optimizer(model, optimizer, dict(memory))
    restore_random(memory, device)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """States of the generators that dropout draws from, as bytes."""
    states = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["random.cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Go on drawing from where `random_states` was taken."""
    torch.set_rng_state(states["random.cpu"].clone())
    if device.type == "cuda" and "random.cuda" in states:
        torch.cuda.set_rng_state(states["random.cuda"].clone(), device)


def _saved_buffers(model: AnyModel) -> dict[str, Tensor]:
    """Tensors of the model that are no weights but part of its state."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    return {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if name not in weights}
