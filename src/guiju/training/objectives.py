"""What training asks of a model, by name. The loop knows no more of a shape or a head than is said here.

The ways themselves stand in token_objectives.py, label_objectives.py and preferences.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from guiju.errors import ConfigError
from guiju.model import ModelConfig
from guiju.tokens import Batch
from guiju.training.label_objectives import Classes, Extractive, TokenClasses
from guiju.training.preferences import Preferences
from guiju.training.settings import TrainingSettings
from guiju.training.token_objectives import Answers, Hidden, MaskedTokens, NextToken, SequenceToSequence, Tokens

FOR_KIND = {
    ("decoder", "vocabulary"): ("next-token", "answers", "preferences"),
    ("encoder", "vocabulary"): ("masked-tokens",),
    ("encoder-decoder", "vocabulary"): ("spans", "pairs"),
    ("decoder", "classes"): ("classes",),
    ("encoder", "classes"): ("classes",),
    ("encoder", "token_classes"): ("token-classes",),
    ("encoder", "span"): ("extractive",),
}
"""Objectives of each kind of model by its head; the first is what "auto" means."""

USUAL_SMOOTHING = {"spans": 0.1, "pairs": 0.1}
"""What label_smoothing is where nothing else is asked for; 0 for the other objectives."""

UNSMOOTHED = ("extractive",)
"""Objectives that know no smoothing: what a row can choose among are its own tokens."""


class Objective(Protocol):
    """A way to learn."""

    @property
    def widths_vary(self) -> bool:
        """Whether batches come in many sizes."""

    @property
    def unit(self) -> str:
        """What is counted: every token that is read is a target, or only some are."""

    @property
    def rows_together(self) -> int:
        """How many rows of a batch belong together."""

    def loss(self, model: Any, hidden: Hidden, batch: Batch) -> Tensor:
        """Sum over what is learned in the batch: two batches together have the sum of their losses."""

    def weigh(self, batch: Batch) -> float:
        """How much that is: the losses of a step are divided by the sum over its batches."""

    def check(self, batches: Sequence[Batch]) -> None:
        """Whether the masks and targets of a step's batches do what they are for.

        Raises:
            TrainingError: a mask is empty or all ones, a label is none of the head's, or the model can read off what it
                is to guess.
        """


def objective_name(settings: TrainingSettings, config: ModelConfig) -> str:
    """What `training.objective` comes to for a model of this kind.

    Raises:
        ConfigError: a model of this kind, or with this head, cannot learn so.
    """
    able = FOR_KIND.get((config.kind, config.head), ())
    if settings.objective == "auto" and able:
        return able[0]
    if settings.objective in able:
        return settings.objective
    needed = sorted({(kind, head) for (kind, head), names in FOR_KIND.items() if settings.objective in names})
    others = {head for kind, head in needed if kind == config.kind}
    if not able or (others and settings.objective != "auto"):
        wanted = " or ".join(sorted(others)) or "vocabulary"
        raise ConfigError(
            f"training.objective is {settings.objective}, but model.head is {config.head}, "
            f"{'which learns by ' + ' or '.join(able) if able else 'which says nothing that could be learned'}; give "
            f"the model the head {wanted} first"
        )
    kinds = ", ".join(f"{kind} {' or '.join(names)}" for (kind, head), names in FOR_KIND.items() if head == config.head)
    raise ConfigError(
        f"training.objective is {settings.objective}, but the model is of the kind {config.kind}, which learns by "
        f"{' or '.join(able)} ({kinds}). Leave it out, or take another model.shape"
    )


def make_objective(settings: TrainingSettings, config: ModelConfig) -> Objective:
    """The objective of a run; see `objective_name`."""
    name = objective_name(settings, config)
    asked = settings.label_smoothing
    smoothing = USUAL_SMOOTHING.get(name, 0.0) if asked is None else asked
    if smoothing and name in UNSMOOTHED:
        raise ConfigError(f"training.label_smoothing is {smoothing}, but the objective {name} knows none; leave it out")
    if name in ("classes", "token-classes"):
        make = Classes if name == "classes" else TokenClasses
        return make(labels=config.labels, label_smoothing=smoothing)
    if name == "extractive":
        return Extractive()
    if name == "preferences":
        return Preferences(beta=settings.preference_beta, label_smoothing=smoothing)
    makes: dict[str, type[Tokens]] = {"next-token": NextToken, "answers": Answers, "masked-tokens": MaskedTokens}
    return makes.get(name, SequenceToSequence)(smoothing)
