"""How a model is trained, and the learning rate that follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from guiju.errors import ConfigError

ObjectiveName = Literal[
    "auto",
    "next-token",
    "masked-tokens",
    "spans",
    "pairs",
    "answers",
    "preferences",
    "classes",
    "token-classes",
    "extractive",
]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """One run of training."""

    objective: ObjectiveName = "auto"
    """What is to be learned: "next-token" (a decoder), "masked-tokens" (an encoder), "spans" cut out of plain text, or
    "pairs" of a source and a target (an encoder-decoder). To tune: "answers" and "preferences" (a decoder), or what a
    head beside the vocabulary says: "classes", "token-classes", "extractive". "auto" is the first of these that the
    model's shape and head can."""

    label_smoothing: float | None = None
    """Share of the model's belief that is to be spread evenly over all tokens; by default 0.1 for an encoder-decoder
    (arXiv:1706.03762), else 0. The training log holds the smoothed loss; evaluations never smooth. With "preferences":
    the share of them that are held to be wrong."""

    preference_beta: float = 0.1
    """With "preferences": how firmly the model is held to what it was before (arXiv:2305.18290)."""

    train: tuple[str, ...] = ()
    """Patterns of the names of weights that move, such as "layers.11.*" or "*norm*"; empty is all. What a model keeps
    frozen of itself, as under LoRA, stays so."""

    freeze: tuple[str, ...] = ()
    """Patterns of the names of weights that do not move."""

    layer_rate_decay: float = 1.0
    """The learning rate of each layer as a share of that of the layer above it; the head has the whole rate, and
    embeddings the smallest (arXiv:1801.06146)."""

    steps: int = 300
    """Updates of the weights."""

    batch: int = 8
    """Rows in one forward and backward pass."""

    accumulate: int = 1
    """Passes whose gradients make one update; each token weighs the same, whichever pass it is in."""

    learning_rate: float = 1e-3
    """The highest learning rate, reached when warm-up ends."""

    warmup_steps: int = 20
    """Steps over which the learning rate rises from near 0."""

    schedule: Literal["cosine", "wsd"] = "cosine"
    """After warm-up: "cosine" falls along half a cosine; "wsd" stays, then falls straight over the last
    `decay_share`."""

    final_share: float = 0.1
    """The last step's learning rate, as a share of the highest."""

    decay_share: float = 0.2
    """With "wsd": the share of all steps over which the learning rate falls."""

    beta1: float = 0.9
    """AdamW's memory of gradients."""

    beta2: float = 0.95
    """AdamW's memory of squared gradients."""

    weight_decay: float = 0.1
    """Pull of weight matrices towards 0; norms, biases and embeddings are not pulled."""

    clip_norm: float = 1.0
    """Gradients longer than this are shortened to it."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What matrix products are computed in; "auto" measures which is faster here. Weights stay float32."""

    compile: bool = False
    """Compile the model with torch.compile; needs a C++ compiler, and goes on without where there is none."""

    activation_checkpointing: bool = False
    """Keep each layer's input only, and compute the rest again when gradients need it: less memory, more time."""

    evaluate_every: int = 100
    """Steps between evaluations; the last step is always evaluated. 0: at the end only."""

    checkpoint_every: int = 100
    """Steps between checkpoints; the last step always has one. 0: at the end only."""

    keep: int = 2
    """How many checkpoints stay; older ones go when a newer one is safe."""

    seed: int = 0
    """Seed of dropout. The order of the data and the first weights have seeds of their own."""

    max_skipped: int = 10
    """Steps in all that may be skipped because their loss or gradient is not a finite number."""

    device: str = "auto"
    """Where to train: "auto", "cpu", "cuda"."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "keep"):
            self._require(name, getattr(self, name) >= 1, "it counts something, so 1 or more")
        for name in ("warmup_steps", "evaluate_every", "checkpoint_every", "max_skipped", "weight_decay"):
            self._require(name, getattr(self, name) >= 0, "it cannot be negative")
        for name in ("learning_rate", "clip_norm", "preference_beta"):
            value = getattr(self, name)
            self._require(
                name, value > 0 and math.isfinite(value), "it must be more than 0, or nothing would be learned"
            )
        for name in ("beta1", "beta2"):
            self._require(name, 0 <= getattr(self, name) < 1, "it must be at least 0 and less than 1")
        for name in ("final_share", "decay_share"):
            self._require(name, 0 <= getattr(self, name) <= 1, "it is a share, from 0 to 1")
        if self.label_smoothing is not None:
            self._require("label_smoothing", 0 <= self.label_smoothing < 1, "it is a share, at least 0 and less than 1")
            wrong = self.objective == "preferences" and self.label_smoothing >= 0.5
            self._require("label_smoothing", not wrong, "with half of the preferences held to be wrong none is left")
        self._require("layer_rate_decay", 0 < self.layer_rate_decay <= 1, "it is a share, more than 0 and at most 1")
        for name in ("train", "freeze"):
            patterns = getattr(self, name)
            fine = isinstance(patterns, tuple) and all(isinstance(pattern, str) and pattern for pattern in patterns)
            self._require(name, fine, "it is a list of patterns of names, such as layers.0.*")
        self._require(
            "warmup_steps", self.warmup_steps < self.steps, f"it must be less than steps, which is {self.steps}"
        )
        for name, choices in (
            ("objective", get_args(ObjectiveName)),
            ("schedule", ("cosine", "wsd")),
            ("dtype", ("auto", "float32", "bfloat16")),
        ):
            self._require(name, getattr(self, name) in choices, f"it can be {', '.join(choices)}")

    def _require(self, name: str, holds: bool, why: str) -> None:
        if not holds:
            raise ConfigError(f"training.{name} is {getattr(self, name)!r}; {why}")


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """The learning rate of a step, counted from 0.

    Source: warm-up and cosine as in Loshchilov and Hutter 2017 (arXiv:1608.03983); warm-up, stable, decay:
    arXiv:2404.06395.
    """
    highest, warmup, last = settings.learning_rate, settings.warmup_steps, settings.steps - 1
    if step < warmup:
        return highest * (step + 1) / warmup
    lowest = highest * settings.final_share
    if settings.schedule == "cosine":
        done = (step - warmup) / max(last - warmup, 1)
        return lowest + (highest - lowest) * (1 + math.cos(math.pi * done)) / 2
    decay = max(1, round(settings.decay_share * settings.steps)) if settings.decay_share else 0
    left = last - step
    return highest if left >= decay else lowest + (highest - lowest) * left / decay
