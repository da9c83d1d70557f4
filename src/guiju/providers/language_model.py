"""A model with its tokenizer, under the name that the user gave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from guiju.errors import ConfigError
from guiju.generation import SamplingSettings, Score, Sequence, generate, score, score_each
from guiju.model import Transformer
from guiju.storage import sha256_bytes, sha256_file
from guiju.tokens import Tokenizer

if TYPE_CHECKING:
    from guiju.providers.hub import Download


@dataclass(frozen=True)
class LanguageModel:
    """What continues and scores text. `load` makes one out of a model reference."""

    reference: str
    model: Transformer
    tokenizer: Tokenizer
    files: tuple[Path, ...]
    """The files that it was read from."""
    downloads: tuple[Download, ...] = ()
    """What was fetched for it now, from where."""

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
        **sampling: Any,
    ) -> list[Sequence]: ...

    @overload
    def generate(
        self,
        prompts: list[str],
        settings: SamplingSettings | None = None,
        *,
        on_text: Callable[[int, str], None] | None = None,
        **sampling: Any,
    ) -> list[list[Sequence]]: ...

    def generate(
        self,
        prompts: str | list[str],
        settings: SamplingSettings | None = None,
        *,
        on_text: Callable[[int, str], None] | None = None,
        **sampling: Any,
    ) -> list[Sequence] | list[list[Sequence]]:
        """Continue a prompt, or each of several; `sampling` are fields of SamplingSettings, laid over `settings`.

        Returns:
            The sequences of one prompt, or a list of such for each of several.
        """
        try:
            settings = replace(settings or SamplingSettings(), **sampling)
        except TypeError:
            known = ", ".join(SamplingSettings.__dataclass_fields__)
            unknown = sorted(set(sampling) - set(SamplingSettings.__dataclass_fields__))
            raise ConfigError(f"generate knows no setting {', '.join(unknown)}; there are: {known}") from None
        several = [prompts] if isinstance(prompts, str) else prompts
        sequences = generate(self.model, self.tokenizer, several, settings, on_text)
        return sequences[0] if isinstance(prompts, str) else sequences

    def score(self, texts: Iterable[str]) -> list[Score]:
        """How likely the model finds each text: see guiju.generation.score."""
        return score(self.model, self.tokenizer, texts)

    def score_each(self, texts: Iterable[str]) -> Iterator[Score]:
        """The same, one by one as they are asked for."""
        return score_each(self.model, self.tokenizer, texts)
