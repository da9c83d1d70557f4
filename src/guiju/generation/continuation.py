"""Prompts become texts: the engine's tokens as characters, up to a stop text or the end."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from collections.abc import Sequence as Several
from typing import TYPE_CHECKING

from guiju.errors import ConfigError, ModelError
from guiju.generation.engine import Engine
from guiju.generation.requests import Branch, Handle, Request
from guiju.generation.result import Generation, Sequence, Work
from guiju.generation.runner import Runner, open_runner
from guiju.generation.sampling import Chooser
from guiju.generation.settings import DEFAULT_NEW_TOKENS, MAX_LOGPROBS, MAX_LOOKUP, SamplingSettings
from guiju.generation.stream import TextStream

if TYPE_CHECKING:
    from guiju.model import Transformer
    from guiju.tokens import Tokenizer


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Several[str],
    settings: SamplingSettings | None = None,
    on_text: Callable[[int, str], None] | None = None,
    *,
    runner: Runner | None = None,
    record: bool = False,
    logprobs: int | None = None,
    prompt_lookup: int = 0,
) -> Generation[list[Sequence]]:
    """Continue each prompt; for each, as many sequences as the settings say.

    A prompt is read as transformers' tokenizer gives it: with the token in front that its layout puts there. An empty
    prompt is BOS alone, or the end-of-text token where there is no BOS.

    Args:
        on_text: is called with a sequence's number and a piece of its text as soon as it is certain: whole characters,
            no part of a stop text. Numbers count through: prompt x num_return_sequences + place among the prompt's.
        runner: what computes (see open_runner); by default torch, in the model's own precision.
        record: an answer is bit for bit what its prompt has alone, however many there are. Slower for many.
        logprobs: give each token's log-probability, and so many of the likeliest ones' beside it.
        prompt_lookup: guess up to so many next tokens out of the text itself and check them at once: faster where the
            text copies or edits, and the tokens are the same.
    Raises:
        ConfigError: max_length leaves no room after the prompt, or wishes that exclude each other.
        ModelError: a prompt, or prompt and wanted tokens, exceed the context; tokenizer and model do not fit.
    """
    if isinstance(prompts, str):
        raise ConfigError("prompts is one text; give a list of texts")
    settings = settings or SamplingSettings()
    _require_counts(logprobs, prompt_lookup)
    require_fit(model, tokenizer)
    if record and runner is not None and runner.record_chunk is None:
        raise ConfigError("record is asked for, but the runner given has no record mode; open it with record=True")
    seed = secrets.randbits(32) if settings.seed is None else settings.seed
    started = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    limits = [_new_tokens(len(ids), model.config.context, settings) for ids in started]  # before any work is done
    if runner is None:
        runner = open_runner(model, runner="torch", record=record)
    engine = Engine(runner)
    ends = frozenset() if settings.ignore_eos else stop_ids(model, tokenizer)
    handles, streams = [], []
    for number, (ids, limit) in enumerate(zip(started, limits, strict=True)):
        texts = [
            _Text(tokenizer, ids[-1], settings, ends, on_text, number * settings.num_return_sequences + index)
            for index in range(settings.num_return_sequences)
        ]
        choices = [
            Chooser(settings, ids, runner.vocab_size, seed, index, text_size=tokenizer.vocab_size)
            for index in range(settings.num_return_sequences)
        ]
        takes = [text.take for text in texts]
        handles.append(engine.add(Request(tuple(ids), limit, choices, takes, logprobs, prompt_lookup)))
        streams.append(texts)
    engine.run()
    results = [
        [
            _sequence(branch, text, None if settings.is_greedy else seed)
            for branch, text in zip(branches, texts, strict=True)
        ]
        for branches, texts in zip(map(_finished, handles), streams, strict=True)
    ]
    counts = engine.counts
    work = Work(
        runner.name,
        runner.precision,
        runner.record_chunk is not None,
        counts.steps,
        counts.tokens,
        counts.drafted,
        counts.accepted,
    )
    return Generation(results, work)


class _Text:
    """One continuation's tokens as text."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        previous: int,
        settings: SamplingSettings,
        ends: frozenset[int],
        on_text: Callable[[int, str], None] | None,
        number: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._previous = previous
        self._ends = ends
        self.stream = TextStream(settings.stop, None if on_text is None else lambda text: on_text(number, text))

    def take(self, token: int) -> bool:
        """Take a token; whether the text ends with it, or has come to a stop text."""
        if token in self._ends:
            return True
        previous, self._previous = self._previous, token
        return self.stream.push(_bytes_after(self._tokenizer, previous, token))


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """A prompt's ids, as `generate` reads it."""
    ids = tokenizer.encode(prompt)
    return [*tokenizer.prefix_ids, *ids] if ids else [tokenizer.start_id]


def require_fit(model: Transformer, tokenizer: Tokenizer) -> None:
    """Raise ModelError where the tokenizer has ids that the model does not know."""
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ModelError(
            f"the tokenizer has {tokenizer.vocab_size} ids, but the model knows {model.config.vocab_size}: they do not "
            f"belong together. Pass the model's own tokenizer"
        )


def stop_ids(model: Transformer, tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that end a text: the model's own, or else the tokenizer's."""
    if model.config.stop_ids:
        return frozenset(model.config.stop_ids)
    return frozenset() if tokenizer.eos_id is None else frozenset({tokenizer.eos_id})


def _finished(handle: Handle) -> list[Branch]:
    if handle.error is not None:
        raise handle.error
    return handle.branches


def _sequence(branch: Branch, text: _Text, seed: int | None) -> Sequence:
    stopped = text.stream.finish() or branch.finish_reason == "stop"
    logprobs = None if branch.request.logprobs is None else tuple(branch.logprobs)
    return Sequence(text.stream.text, tuple(branch.ids), "stop" if stopped else "length", seed, logprobs)


def _bytes_after(tokenizer: Tokenizer, previous: int, token: int) -> bytes:
    """A token's bytes where it stands: some tokenizers drop the space of a text's first token."""
    return tokenizer.decode_bytes([previous, token])[len(tokenizer.decode_bytes([previous])) :]


def _require_counts(logprobs: int | None, prompt_lookup: int) -> None:
    if logprobs is not None and not 0 <= logprobs <= MAX_LOGPROBS:
        raise ConfigError(f"logprobs is {logprobs}; it must be between 0 and {MAX_LOGPROBS} alternatives")
    if not 0 <= prompt_lookup <= MAX_LOOKUP:
        raise ConfigError(f"prompt_lookup is {prompt_lookup}; it must be between 0 and {MAX_LOOKUP} tokens")


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
