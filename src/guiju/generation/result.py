"""What a generation gives back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from guiju.generation.logprobs import TokenLogprob

T = TypeVar("T")


@dataclass(frozen=True)
class Sequence:
    """One continuation, without its prompt."""

    text: str
    """Up to a stop text; special tokens have none."""

    ids: tuple[int, ...]
    """Every token that was generated, the one that ended it included; empty where a remote model does not say."""

    finish_reason: Literal["stop", "length", "filtered"]
    """"stop": the text came to its end, or to a stop text. "length": the limit was reached. "filtered": a remote
    model's own filter cut it."""

    seed: int | None
    """Gives the same again, at the same place among its prompt's sequences; None where there was no chance in it."""

    logprobs: tuple[TokenLogprob, ...] | None = None
    """Of each of `ids`, where they were asked for."""

    score: float | None = None
    """Of beam search: the sum of the log-probabilities over the number of ids to the power of length_penalty."""

    pieces: tuple[str, ...] | None = None
    """The tokens of `logprobs` as text, where a remote model names them so, and no ids."""


@dataclass(frozen=True)
class Work:
    """How a generation was computed."""

    runner: str
    """Which program ran the model: "torch" or "openvino"."""

    precision: str
    """The weights': "float32", "bfloat16", "int8" or "int4"."""

    arithmetic: str
    """What such weights are multiplied in: "float32" or "bfloat16"."""

    record: bool
    """Whether the answers are bit for bit those that each request has alone."""

    steps: int
    """Passes over the weights."""

    read: int
    """Tokens that were computed: of prompts (shared beginnings once), and generated ones."""

    drafted: int = 0
    """Tokens that prompt lookup guessed."""

    accepted: int = 0
    """Of those, tokens that were right."""

    @property
    def acceptance(self) -> float | None:
        """Share of the guesses that were right; None where nothing was guessed."""
        return self.accepted / self.drafted if self.drafted else None


class Generation(list[T]):
    """The sequences of a prompt, or a list of such for each of several; and how they came about."""

    def __init__(self, sequences: Iterable[T], work: Work) -> None:
        super().__init__(sequences)
        self.work = work

    @property
    def runner(self) -> str:
        return self.work.runner

    @property
    def precision(self) -> str:
        return self.work.precision

    @property
    def acceptance(self) -> float | None:
        """Share of prompt lookup's guesses that were right; None where nothing was guessed."""
        return self.work.acceptance
