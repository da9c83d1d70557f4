"""Beside an encoder, a prompt is a source text: it is read once, and what is written looks at it in every layer.

A translation or summary begins with the model's start token, not with the prompt. Which ids must stand first or last,
and which never come, is the model's config's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING

from guiju.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from guiju.generation.runner import Runner
    from guiju.model import AnyModel, LayerMemory, Memory
    from guiju.tokens import Tokenizer


class Source:
    """A source text, as the chunks of all sequences that are written of it carry it. The encoder reads it when the
    first of them is computed, so that of many prompts only those under way take memory."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = tuple(ids)
        self.digest = blake2b(repr(self.ids).encode(), digest_size=20).digest()
        """Stands in the names of pages, which hold what was made of this source."""
        self._remember: Callable[[Sequence[int]], Memory] | None = None
        self._memory: Memory | None = None

    def read_by(self, runner: Runner) -> None:
        """Let a runner's encoder read it.

        Raises:
            ConfigError: the runner cannot.
        """
        remember = getattr(runner, "remember", None)
        if remember is None:
            raise ConfigError(f"runner {runner.name} knows no encoder, and this model has one. Take runner torch")
        self._remember = remember

    def layer(self, index: int) -> LayerMemory:
        """See Memory.layer."""
        if self._memory is None:
            assert self._remember is not None
            self._memory = self._remember(self.ids)
        return self._memory.layer(index)

    def forget(self) -> None:
        """All that is written of it is done."""
        self._memory = None


def source_of(model: AnyModel, tokenizer: Tokenizer, prompt: str | Sequence[int]) -> Source:
    """A prompt as a source text: with the tokens before and after it that the tokenizer's layout has. Ids are taken as
    they are: so a caller places special tokens, which no text holds.

    Raises:
        ModelError: it has no token, or more than the encoder has positions for.
    """
    config = model.config
    if isinstance(prompt, str):
        ids = [*tokenizer.prefix_ids, *tokenizer.encode(prompt), *tokenizer.suffix_ids]
    else:
        ids = list(prompt)
    if not ids:
        raise ModelError("the source text is empty, so there is nothing to read. Give a text")
    beyond = next((token for token in ids if not 0 <= token < config.vocab_size), None)
    if beyond is not None:
        raise ModelError(f"the source holds the id {beyond}, but the model's run from 0 to {config.vocab_size - 1}")
    if len(ids) > config.context and config.positions != "relative":
        raise ModelError(
            f"the source text has {len(ids)} tokens, but the model's context is {config.context}. Shorten it, or take "
            f"a model with a longer context"
        )
    return Source(ids)


def first_ids(model: AnyModel, tokenizer: Tokenizer) -> list[int]:
    """What the decoder begins with.

    Raises:
        ModelError: neither config nor tokenizer names it.
    """
    start = model.config.start_id if model.config.start_id is not None else tokenizer.bos_id
    if start is None:
        raise ModelError(
            "the model has an encoder, but its config names no decoder_start_token_id, and its tokenizer no bos_token: "
            "nothing can stand before its text. Name one in config.json"
        )
    return [start]
