"""A model of this machine with its tokenizer: a run, a folder, a file, or what was fetched by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from guiju.errors import ModelError
from guiju.generation import (
    ContinuationScore,
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
    score_continuations,
    score_each,
)
from guiju.model import AnyModel, EncoderDecoder, Transformer
from guiju.providers import vectors
from guiju.providers.interface import Ability, cannot, in_batches, with_sampling
from guiju.providers.streaming import stream_text
from guiju.storage import sha256_bytes, sha256_file
from guiju.tokens import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from guiju.providers.hub import Download


_ABILITIES: dict[str, frozenset[Ability]] = {
    "decoder": frozenset({"generate", "stream", "score", "score_continuations", "embed"}),
    "encoder": frozenset({"embed"}),
    "encoder-decoder": frozenset({"generate", "stream", "score_continuations", "embed"}),
}


@dataclass(frozen=True)
class LocalModel:
    """See guiju.providers.interface.LanguageModel."""

    reference: str
    model: AnyModel
    tokenizer: Tokenizer
    files: tuple[Path, ...]
    """The files that it was read from."""
    downloads: tuple[Download, ...] = ()
    """What was fetched for it now, from where."""
    _opened: dict[tuple[str, str, bool], Runner] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def abilities(self) -> frozenset[Ability]:
        config = self.model.config
        if config.head == "classes":
            return frozenset({"embed", "classify"})
        return _ABILITIES[config.kind]

    @property
    def continues(self) -> bool:
        """Whether a text goes on from its prompt; beside an encoder it stands for itself, as a translation does."""
        return self.model.config.kind != "encoder-decoder"

    @property
    def labels(self) -> tuple[str, ...]:
        """What `classify` tells apart; empty where it cannot."""
        return self.model.config.labels if self.model.config.head == "classes" else ()

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
        """See LanguageModel.generate; `runner` and `precision` stand at guiju.generation.open_runner. The runner stays
        open for the next call."""
        require_known(runner, precision)
        settings = with_sampling(settings, sampling)
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

    def generate_each(
        self, prompts: Iterable[str], settings: SamplingSettings | None = None, **wishes: Any
    ) -> Iterator[list[Sequence]]:
        """See LanguageModel.generate_each."""
        return in_batches(self.generate, prompts, {"settings": settings, **wishes})

    def stream(self, prompt: str, settings: SamplingSettings | None = None, **wishes: Any) -> Iterator[str]:
        """See LanguageModel.stream."""
        wishes = {**wishes, "num_return_sequences": 1}
        return stream_text(lambda on_text: self.generate(prompt, settings, on_text=on_text, **wishes))

    def score(self, texts: Iterable[str]) -> list[Score]:
        """How likely the model finds each text: see guiju.generation.score."""
        return score(self.model, self.tokenizer, texts)

    def score_each(self, texts: Iterable[str]) -> Iterator[Score]:
        """The same, in order, a batch at a time."""
        return score_each(self.model, self.tokenizer, texts)

    def score_continuations(self, pairs: Iterable[tuple[str, str]]) -> list[ContinuationScore]:
        """How likely each (context, continuation) goes on so: see guiju.generation.score_continuations."""
        return list(self.score_continuations_each(pairs))

    def score_continuations_each(self, pairs: Iterable[tuple[str, str]]) -> Iterator[ContinuationScore]:
        """The same, in order, a batch at a time."""
        return score_continuations(self.model, self.tokenizer, pairs)

    def embed(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """A vector for each text, (n, width): see guiju.providers.vectors.embed."""
        return vectors.embed(self.model, self.tokenizer, texts)

    def classify(self, texts: Iterable[str], *, stride: int | None = None) -> NDArray[np.float32]:
        """See LanguageModel.classify.

        Raises:
            ModelError: the model has no head of classes.
        """
        if isinstance(self.model, EncoderDecoder) or "classify" not in self.abilities:
            raise cannot(
                self.reference,
                "classify",
                f"it is a model of kind {self.model.config.kind} with the head {self.model.config.head}, and only one "
                f"with a head of classes gives probabilities of labels. Fine-tune one with `objective: classes`",
            )
        return vectors.classify(self.model, self.tokenizer, texts, stride)

    def piece(self, token: int | str) -> str:
        """A token as text, for people."""
        return token if isinstance(token, str) else self.tokenizer.added_bytes(token).decode(errors="replace")
