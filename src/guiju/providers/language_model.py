"""A model with its tokenizer, under the name that the user gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from guiju.errors import ConfigError, ModelError
from guiju.generation import (
    Generation,
    Precision,
    Runner,
    RunnerName,
    SamplingSettings,
    Score,
    Sequence,
    generate,
    open_runner,
    require_known,
    score,
    score_each,
)
from guiju.model import AnyModel, Transformer
from guiju.storage import sha256_bytes, sha256_file
from guiju.tokens import Tokenizer

if TYPE_CHECKING:
    from guiju.providers.hub import Download


@dataclass(frozen=True)
class LanguageModel:
    """What continues and scores text. `load` makes one out of a model reference."""

    reference: str
    model: AnyModel
    tokenizer: Tokenizer
    files: tuple[Path, ...]
    """The files that it was read from."""
    downloads: tuple[Download, ...] = ()
    """What was fetched for it now, from where."""
    _opened: dict[tuple[str, str, bool], Runner] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def continues(self) -> bool:
        """Whether a text goes on from its prompt; beside an encoder it stands for itself, as a translation does."""
        return self.model.config.kind != "encoder-decoder"

    @property
    def decoder(self) -> Transformer:
        """The model, where only one that goes on with a text will do.

        Raises:
            ModelError: it is an encoder, or has one.
        """
        if not isinstance(self.model, Transformer):
            raise ModelError(
                f"{self.reference} holds an {self.model.config.kind}, but only a decoder will do here: a model that "
                f"goes on with a text, such as GPT-2 or Llama"
            )
        return self.model

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of the files: the same model has the same, wherever it lies."""
        lines = sorted(f"{path.name}\0{sha256_file(path)}\n" for path in self.files)
        return sha256_bytes("".join(lines).encode())

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

        What `record`, `logprobs` and `prompt_lookup` mean stands at guiju.generation.generate; `runner` and `precision`
        at guiju.generation.open_runner. The runner stays open for the next call.

        Returns:
            The sequences of one prompt, or a list of such for each of several; the runner and its precision beside.
        """
        require_known(runner, precision)
        try:
            settings = replace(settings or SamplingSettings(), **sampling)
        except TypeError:
            known = ", ".join(SamplingSettings.__dataclass_fields__)
            unknown = sorted(set(sampling) - set(SamplingSettings.__dataclass_fields__))
            raise ConfigError(f"generate knows no setting {', '.join(unknown)}; there are: {known}") from None
        found = generate(
            self.model,
            self.tokenizer,
            [prompts] if isinstance(prompts, str) else prompts,
            settings,
            on_text,
            runner=partial(self._runner, runner, precision, record),
            record=record,
            logprobs=logprobs,
            prompt_lookup=prompt_lookup,
        )
        return Generation(found[0], found.work) if isinstance(prompts, str) else found

    def _runner(self, runner: RunnerName, precision: Precision, record: bool) -> Runner:
        """The runner of these wishes: the one that is open, or a new one in its place."""
        wishes = (runner, precision, record)
        if wishes not in self._opened:
            self._opened.clear()  # first, so that two never take memory at the same time
            self._opened[wishes] = open_runner(self.model, runner=runner, precision=precision, record=record)
        return self._opened[wishes]

    def score(self, texts: Iterable[str]) -> list[Score]:
        """How likely the model finds each text: see guiju.generation.score."""
        return score(self.model, self.tokenizer, texts)

    def score_each(self, texts: Iterable[str]) -> Iterator[Score]:
        """The same, one by one as they are asked for."""
        return score_each(self.model, self.tokenizer, texts)
