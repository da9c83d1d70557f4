"""Prompts, ready to be continued: what stands before the texts, how long they may be, and what may come in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guiju.errors import ConfigError, ModelError
from guiju.generation.grammar import Grammar, form_of
from guiju.generation.restriction import Forced, Restriction
from guiju.generation.sequence_to_sequence import Source, first_ids, source_of
from guiju.generation.settings import DEFAULT_NEW_TOKENS, SamplingSettings

if TYPE_CHECKING:
    from guiju.model import AnyModel
    from guiju.tokens import Tokenizer


@dataclass(frozen=True)
class Task:
    """One prompt."""

    number: int
    ids: tuple[int, ...]
    """The prompt's; beside an encoder, the id that its decoder begins with."""

    is_blank: bool
    """Whether none of them stands for text, so that what comes begins one."""

    limit: int
    """New tokens of each text at most."""

    ends: frozenset[int]
    """Ids that end a text."""

    source: Source | None
    forced: Forced
    grammar: Grammar | None

    def restriction(self) -> Restriction | None:
        """A new text's; None where anything may come."""
        form = None if self.grammar is None else self.grammar.begin(self.is_blank)
        free = self.forced.first is None and self.forced.last is None and not self.forced.never
        return None if free and form is None else Restriction(self.forced, form)


def plan(
    model: AnyModel, tokenizer: Tokenizer, prompts: Sequence[str | Sequence[int]], settings: SamplingSettings
) -> list[Task]:
    """What is to be done for each prompt; whatever cannot be is said here, before any work.

    Raises:
        ConfigError: max_length leaves no room after a prompt, or the form cannot be.
        ModelError: the model generates no text; a prompt, or prompt and wanted tokens, exceed its context; it and the
            tokenizer do not fit.
    """
    config = model.config
    if config.kind == "encoder":
        raise ModelError(
            "the model is an encoder alone (such as BERT): it reads texts whole and has no next token, so it continues "
            "none. Take a decoder, or an encoder-decoder"
        )
    if getattr(config, "head", "vocabulary") != "vocabulary":  # another program's facts know no other
        raise ModelError(
            f"the model's head is {config.head}, which says no tokens, so it continues no text. Take a model whose "
            f"head is the vocabulary"
        )
    require_fit(model, tokenizer)
    ends = frozenset() if settings.ignore_eos else stop_ids(model, tokenizer)
    form = form_of(settings)
    grammar = None if form is None else Grammar(form, tokenizer, config.vocab_size, ends)
    special, tasks = tokenizer.special_ids, []
    for number, prompt in enumerate(prompts):
        source = source_of(model, tokenizer, prompt) if config.kind == "encoder-decoder" else None
        ids = prompt_ids(tokenizer, prompt) if source is None else first_ids(model, tokenizer)
        limit = _new_tokens(len(ids), config.context, settings)
        last = None if settings.ignore_eos else config.forced_last_id
        # As in transformers: an id is forced after the token that starts a text, not in the middle of one.
        first = config.forced_first_id if len(ids) == 1 else None
        forced = Forced(limit, first, last, config.never_ids)
        blank = special.issuperset(ids)
        tasks.append(Task(number, tuple(ids), blank, limit, ends, source, forced, grammar))
    return tasks


def prompt_ids(tokenizer: Tokenizer, prompt: str | Sequence[int]) -> list[int]:
    """A prompt's ids, as `generate` reads it."""
    if not isinstance(prompt, str):
        return list(prompt) or [tokenizer.start_id]
    ids = tokenizer.encode(prompt)
    return [*tokenizer.prefix_ids, *ids] if ids else [tokenizer.start_id]


def require_fit(model: AnyModel, tokenizer: Tokenizer) -> None:
    """Raise ModelError where the tokenizer has ids that the model does not know."""
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ModelError(
            f"the tokenizer has {tokenizer.vocab_size} ids, but the model knows {model.config.vocab_size}: they do not "
            f"belong together. Pass the model's own tokenizer"
        )


def stop_ids(model: AnyModel, tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that end a text: the model's own, or else the tokenizer's."""
    if model.config.stop_ids:
        return frozenset(model.config.stop_ids)
    return frozenset() if tokenizer.eos_id is None else frozenset({tokenizer.eos_id})


def _new_tokens(prompt: int, context: int, settings: SamplingSettings) -> int:
    """How many tokens may come after a prompt of so many ids. The last token is written but not read, so it may lie
    one beyond the context."""
    room = context + 1 - prompt
    if room < 1:
        raise ModelError(
            f"the prompt has {prompt} tokens, but the model's context is {context}. Shorten it, or take a model with a "
            f"longer context"
        )
    if settings.max_length is not None:
        wanted = settings.max_length - prompt
        if wanted < 1:
            raise ConfigError(
                f"max_length is {settings.max_length}, but the prompt alone has {prompt} tokens, which it counts. "
                f"Give more, or use max_new_tokens"
            )
    elif settings.max_new_tokens is not None:
        wanted = settings.max_new_tokens
    else:
        return min(DEFAULT_NEW_TOKENS, room)
    if wanted > room:
        raise ModelError(
            f"{wanted} new tokens after a prompt of {prompt} are longer than the model's context of {context}: at most "
            f"{room} fit. Ask for fewer, or shorten the prompt"
        )
    return wanted
