"""The reference runner: one sequence after the other, each with its own cache.

An answer must not depend on what else is in the batch. Matrix products of several rows round otherwise than those of
one, so rows are not computed together at all: a prompt's logits, and with them its tokens, are bit for bit those it has
alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Several
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from guiju.errors import ConfigError, ModelError
from guiju.generation.sampling import Chooser
from guiju.generation.settings import DEFAULT_NEW_TOKENS, SamplingSettings
from guiju.generation.stream import TextStream
from guiju.model import DenseCache, Transformer
from guiju.tokens import Tokenizer


@dataclass(frozen=True)
class Sequence:
    """One continuation, without its prompt."""

    text: str
    """Up to a stop text; special tokens have none."""

    ids: tuple[int, ...]
    """Every token that was generated, the one that ended it included."""

    finish_reason: Literal["stop", "length"]
    """"stop": the text came to its end, or to a stop text. "length": the limit was reached."""

    seed: int | None
    """Gives the same again, at the same place among its prompt's sequences; None where there was no chance in it."""


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Several[str],
    settings: SamplingSettings | None = None,
    on_text: Callable[[int, str], None] | None = None,
) -> list[list[Sequence]]:
    """Continue each prompt; for each, as many sequences as the settings say.

    A prompt is read as transformers' tokenizer gives it: with the token in front that its layout puts there. An empty
    prompt is BOS alone, or the end-of-text token where there is no BOS.

    Args:
        on_text: is called with a sequence's number and a piece of its text as soon as it is certain: whole characters,
            no part of a stop text. Numbers count through: prompt x num_return_sequences + place among the prompt's.
    Raises:
        ConfigError: max_length leaves no room after the prompt.
        ModelError: a prompt, or prompt and wanted tokens, exceed the context; tokenizer and model do not fit.
    """
    if isinstance(prompts, str):
        raise ConfigError("prompts is one text; give a list of texts")
    settings = settings or SamplingSettings()
    require_fit(model, tokenizer)
    seed = secrets.randbits(32) if settings.seed is None else settings.seed
    started = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    limits = [_new_tokens(len(ids), model.config.context, settings) for ids in started]  # before any work is done
    results = []
    with evaluating(model):
        for number, (ids, limit) in enumerate(zip(started, limits, strict=True)):
            first = number * settings.num_return_sequences
            results.append(_continue(model, tokenizer, ids, limit, settings, seed, first, on_text))
    return results


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


@contextmanager
def evaluating(model: Transformer) -> Iterator[None]:
    """Without dropout and gradients; the model is left as it was."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def _continue(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: list[int],
    limit: int,
    settings: SamplingSettings,
    seed: int,
    first: int,
    on_text: Callable[[int, str], None] | None,
) -> list[Sequence]:
    """All sequences of one prompt, which is read once."""
    cache = model.new_cache(batch=1, capacity=len(prompt) + limit - 1)  # the last token is never read
    logits = _next_logits(model, prompt, cache)
    count = settings.num_return_sequences
    sequences = []
    for index in range(count):
        emit = None if on_text is None else _numbered(on_text, first + index)
        own = cache if index == count - 1 else cache.copy()
        chooser = Chooser(settings, prompt, model.config.vocab_size, seed, index)
        stream = TextStream(settings.stop, emit)
        ids, stopped = _decode(model, tokenizer, prompt[-1], limit, settings, own, logits, chooser, stream)
        stopped = stream.finish() or stopped
        reason: Literal["stop", "length"] = "stop" if stopped else "length"
        sequences.append(Sequence(stream.text, tuple(ids), reason, None if settings.is_greedy else seed))
    return sequences


def _decode(
    model: Transformer,
    tokenizer: Tokenizer,
    previous: int,
    limit: int,
    settings: SamplingSettings,
    cache: DenseCache,
    logits: Tensor,
    chooser: Chooser,
    stream: TextStream,
) -> tuple[list[int], bool]:
    """Token by token: the ids, and whether an end of text or a stop text ended them."""
    ends = frozenset() if settings.ignore_eos else stop_ids(model, tokenizer)
    ids: list[int] = []
    while True:
        token = chooser.choose(_within(logits, tokenizer.vocab_size))
        ids.append(token)
        if token in ends or stream.push(_bytes_after(tokenizer, previous, token)):
            return ids, True
        if len(ids) == limit:
            return ids, False
        previous = token
        logits = _next_logits(model, [token], cache)


def stop_ids(model: Transformer, tokenizer: Tokenizer) -> frozenset[int]:
    """The ids that end a text: the model's own, or else the tokenizer's."""
    if model.config.stop_ids:
        return frozenset(model.config.stop_ids)
    return frozenset() if tokenizer.eos_id is None else frozenset({tokenizer.eos_id})


def _next_logits(model: Transformer, ids: list[int], cache: DenseCache) -> Tensor:
    """(vocab,) in float32: what may follow the last of `ids`."""
    hidden = model.hidden(torch.tensor([ids], device=model.embedding.weight.device), cache)  # (1, T, width)
    return model.head(hidden[0, -1]).float().cpu()


def _within(logits: Tensor, size: int) -> Tensor:
    """Published models may have more rows than the tokenizer has ids; what stands for no text is never chosen."""
    if size < logits.numel():
        logits[size:] = -torch.inf
    return logits


def _bytes_after(tokenizer: Tokenizer, previous: int, token: int) -> bytes:
    """A token's bytes where it stands: some tokenizers drop the space of a text's first token."""
    return tokenizer.decode_bytes([previous, token])[len(tokenizer.decode_bytes([previous])) :]


def _numbered(on_text: Callable[[int, str], None], number: int) -> Callable[[str], None]:
    return lambda text: on_text(number, text)


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
