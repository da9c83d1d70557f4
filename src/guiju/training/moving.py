"""A run's tensors into a snapshot and back: weights that move, optimizer memory, random generators.

What does not move is not saved: frozen weights, and buffers, which no training here changes. A digest of both says
whether a checkpoint belongs to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from guiju.model import AnyModel
from guiju.training.optimizer import optimizer_tensors, restore_optimizer
from guiju.training.selection import still_tensors, trainable


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
    """Put back the weights that move, and what `memory_tensors` gave."""
    for name, tensor in trainable(model).items():
        tensor.copy_(weights[name])
    restore_optimizer(model, optimizer, dict(memory))
    restore_random(memory, device)


def still_digest(model: AnyModel) -> str:
    """SHA-256 of all that does not move, by name; empty where everything does."""
    still = still_tensors(model)
    if not still:
        return ""
    made = hashlib.sha256()
    for name, tensor in sorted(still.items()):
        made.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        made.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return made.hexdigest()


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
