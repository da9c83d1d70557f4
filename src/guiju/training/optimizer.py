"""AdamW (arXiv:1711.05101) with its two groups, and its memory as named tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from guiju.errors import TrainingError
from guiju.training.settings import TrainingSettings

MEMORY = ("exp_avg", "exp_avg_sq", "step")


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that move, by name; a tied weight stands once."""
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not found:
        raise TrainingError("no weight of the model is trainable, so training would do nothing; unfreeze some")
    return found


def is_decayed(name: str, parameter: Tensor) -> bool:
    """Whether weight decay pulls a weight: matrices only, and no embeddings.

    A norm's scale and a bias have no reason to be small, and a rare token's embedding would shrink in every step in
    which the token does not occur.
    """
    return parameter.ndim >= 2 and "embedding" not in name


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW over the trainable weights, in one fused kernel."""
    weights = trainable(model)
    decayed = [parameter for name, parameter in weights.items() if is_decayed(name, parameter)]
    others = [parameter for name, parameter in weights.items() if not is_decayed(name, parameter)]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], settings.learning_rate, betas=betas, fused=True
    )


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's memory as "exp_avg.NAME" and so on; empty before the first update."""
    return {
        f"{part}.{name}": optimizer.state[parameter][part]
        for name, parameter in trainable(model).items()
        if parameter in optimizer.state
        for part in MEMORY
    }


def restore_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave. The copies are new tensors, aligned as torch aligns its own."""
    for name, parameter in trainable(model).items():
        if f"step.{name}" in tensors:
            optimizer.state[parameter] = {
                part: tensors[f"{part}.{name}"].clone().to(parameter.device if part != "step" else "cpu")
                for part in MEMORY
            }
