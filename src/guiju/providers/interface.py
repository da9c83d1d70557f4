"""One interface for every model: a run or folder of ours, one of transformers, an OpenAI-style API, a SavedModel.

`abilities` says what a model can do, by the names of the methods; what it cannot raises ModelError by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from guiju.errors import ConfigError, ModelError
from guiju.generation import (
    ContinuationScore,
    Generation,
    Precision,
    RunnerName,
    SamplingSettings,
    Score,
    Sequence,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from guiju.providers.hub import Download

Ability = Literal["generate", "stream", "score", "score_continuations", "embed", "classify"]

PROMPTS_AT_ONCE = 64
"""As many as a model of this machine writes side by side."""


class LanguageModel(Protocol):
    """What continues, scores or embeds text. `load` makes one out of a model reference."""

    @property
    def reference(self) -> str:
        """The name that the user gave."""

    @property
    def abilities(self) -> frozenset[Ability]: ...

    @property
    def digest(self) -> str:
        """SHA-256 over the names and contents of its files: the same model has the same, wherever it lies. Of a remote
        model, whose weights nobody here can see, over its address and name."""

    @property
    def continues(self) -> bool:
        """Whether a text goes on from its prompt; beside an encoder, or as a chat's answer, it stands for itself."""

    @property
    def downloads(self) -> tuple[Download, ...]:
        """What was fetched for it now, from where."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What `classify` tells apart; empty where it cannot."""

    @overload
    def generate(
        self,
        prompts: str,
        settings: SamplingSettings | None = None,
        *,
        on_text: Callable[[int, str], None] | None = None,
        runner: RunnerName = "auto",
        precision: Precision = "auto",
        record: bool = False,
        logprobs: int | None = None,
        prompt_lookup: int = 0,
        **sampling: Any,
    ) -> Generation[Sequence]: ...

    @overload
    def generate(
        self,
        prompts: list[str],
        settings: SamplingSettings | None = None,
        *,
        on_text: Callable[[int, str], None] | None = None,
        runner: RunnerName = "auto",
        precision: Precision = "auto",
        record: bool = False,
        logprobs: int | None = None,
        prompt_lookup: int = 0,
        **sampling: Any,
    ) -> Generation[list[Sequence]]: ...

    def generate(
        self,
        prompts: str | list[str],
        settings: SamplingSettings | None = None,
        *,
        on_text: Callable[[int, str], None] | None = None,
        runner: RunnerName = "auto",
        precision: Precision = "auto",
        record: bool = False,
        logprobs: int | None = None,
        prompt_lookup: int = 0,
        **sampling: Any,
    ) -> Generation[Sequence] | Generation[list[Sequence]]:
        """Continue a prompt, or each of several; `sampling` are fields of SamplingSettings, laid over `settings`.

        What the others mean stands at guiju.generation.generate. A wish that only some models heed is refused by name
        by the others.

        Returns:
            The sequences of one prompt, or a list of such for each of several; how they came about beside.
        """

    def generate_each(
        self, prompts: Iterable[str], settings: SamplingSettings | None = None, **wishes: Any
    ) -> Iterator[list[Sequence]]:
        """The sequences of each prompt, in order, as soon as they are there: prompts are drawn as they are needed, and
        when an error comes, what was finished before it has been given out."""

    def stream(self, prompt: str, settings: SamplingSettings | None = None, **wishes: Any) -> Iterator[str]:
        """The text of one continuation, piece by piece as it is certain: whole characters, no part of a stop text.
        Whoever stops to listen stops the writing."""

    def score(self, texts: Iterable[str]) -> list[Score]:
        """How likely the model finds each text alone: see guiju.generation.score."""

    def score_each(self, texts: Iterable[str]) -> Iterator[Score]:
        """The same, in order, a batch at a time: texts are drawn as they are needed."""

    def score_continuations(self, pairs: Iterable[tuple[str, str]]) -> list[ContinuationScore]:
        """How likely each (context, continuation) goes on so: see guiju.generation.score_continuations."""

    def score_continuations_each(self, pairs: Iterable[tuple[str, str]]) -> Iterator[ContinuationScore]:
        """The same, in order, a batch at a time: pairs are drawn as they are needed."""

    def embed(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """A vector for each text, (n, width)."""

    def classify(self, texts: Iterable[str], *, stride: int | None = None) -> NDArray[np.float32]:
        """The probability of each of `labels` for each text, (n, labels).

        Args:
            stride: read a text that is longer than the context in windows that begin so many tokens apart, and take
                their mean; None refuses it.
        """

    def piece(self, token: int | str) -> str:
        """A token of `Sequence.ids` or of a log-probability as text, for people."""


def cannot(reference: str, ability: str, why: str) -> ModelError:
    """What is raised for an ability that a model does not have."""
    return ModelError(f"{reference} cannot {ability}: {why}")


def with_sampling(settings: SamplingSettings | None, sampling: dict[str, Any]) -> SamplingSettings:
    """The settings, with single fields laid over them.

    Raises:
        ConfigError: there is no such field; those that there are are named.
    """
    known = SamplingSettings.__dataclass_fields__
    unknown = sorted(set(sampling) - set(known))
    if unknown:
        raise ConfigError(f"generate knows no setting {', '.join(unknown)}; there are: {', '.join(known)}")
    return replace(settings or SamplingSettings(), **sampling)


def in_batches(
    generate: Callable[..., Generation[list[Sequence]]], prompts: Iterable[str], wishes: dict[str, Any]
) -> Iterator[list[Sequence]]:
    """`generate_each` of a model of this machine: so many prompts at a time as it writes side by side."""
    if isinstance(prompts, str):
        raise ConfigError("prompts is one text; give a list of texts")
    waiting: list[str] = []
    for prompt in prompts:
        waiting.append(prompt)
        if len(waiting) == PROMPTS_AT_ONCE:
            yield from generate(waiting, **wishes)
            waiting = []
    if waiting:
        yield from generate(waiting, **wishes)
