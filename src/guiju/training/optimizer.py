"""AdamW (arXiv:1711.05101) with its groups, and its memory as named tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from guiju.model import AnyModel
from guiju.training.selection import rate_shares, trainable
from guiju.training.settings import TrainingSettings

MEMORY = ("exp_avg", "exp_avg_sq", "step")


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay pulls a weight: matrices only, and no embeddings.

    A norm's scale and a bias have no reason to be small, and a rare token's embedding would shrink in every step in
    which the token does not occur.
    """
    return parameter.ndim >= 2 and "embedding" not in name


def make_optimizer(model: AnyModel, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW over the trainable weights, in one fused kernel a group: decayed or not, and for each share of the rate."""
    weights = trainable(model)
    shares = rate_shares(list(weights), model.config, settings.layer_rate_decay)
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    for decays in (True, False):
        for name, parameter in weights.items():
            if is_decayed(name, parameter) == decays:
                decay = settings.weight_decay if decays else 0.0
                group = groups.setdefault(
                    (decays, shares[name]), {"params": [], "weight_decay": decay, "rate_share": shares[name]}
                )
                group["params"].append(parameter)
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(list(groups.values()), settings.learning_rate, betas=betas, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next update: each group has its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_share"]


def optimizer_tensors(model: AnyModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's memory as "exp_avg.NAME" and so on; empty before the first update."""
    return {
        f"{part}.{name}": optimizer.state[parameter][part]
        for name, parameter in trainable(model).items()
        if parameter in optimizer.state
        for part in MEMORY
    }


def restore_optimizer(model: AnyModel, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave. The copies are new tensors, aligned as torch aligns its own."""
    for name, parameter in trainable(model).items():
        if f"step.{name}" in tensors:
            optimizer.state[parameter] = {
                part: tensors[f"{part}.{name}"].clone().to(parameter.device if part != "step" else "cpu")
                for part in MEMORY
            }
