"""How likely a model finds a text, as a sum of log-likelihoods and in bits per byte; and how likely it goes on so.

Texts become rows of ids, and whoever reads rows (guiju.generation.shared_reading for our decoders, other programs for
their own) gives sums back. Texts are drawn as they are needed: what is held is a few batches, never a whole file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar, cast

from guiju.errors import ConfigError, DataError, GuijuError, ModelError
from guiju.generation.tasks import require_fit

if TYPE_CHECKING:
    from guiju.model import AnyModel, EncoderDecoder, Transformer
    from guiju.tokens import Tokenizer

BATCHES_HELD = 8
"""Texts are held until so many batches are full, so that like lengths and common beginnings find each other."""


@dataclass(frozen=True)
class Score:
    """What one text costs the model."""

    tokens: int
    """Ids of the text, without the one put in front."""

    nll_nats: float
    """Sum of -ln p over them."""

    bits_per_byte: float
    """nll_nats / ln 2 / bytes of UTF-8: compares across tokenizers (arXiv:2101.00027)."""


class ContinuationScore(NamedTuple):
    """What a continuation costs the model after its context."""

    nll_nats: float
    """Sum of -ln p over the continuation's tokens."""

    tokens: int
    """Of the continuation."""

    greedy: bool
    """Whether each of them is the likeliest of all, so that greedy decoding would write the same."""


@dataclass(frozen=True)
class Row:
    """Ids to be read, and from which on they are scored."""

    ids: tuple[int, ...]
    """At least two: the first is never scored, the last never read."""

    first: int
    """Place of the first id whose likelihood counts, at least 1."""


@dataclass(frozen=True)
class Reading:
    """What a model makes of a row."""

    nll_nats: float
    """Sum of -ln p over the ids that count."""

    greedy: bool
    """Whether each of them is the likeliest of all."""


class Encoder(Protocol):
    """What scoring needs of a tokenizer; guiju.tokens.Tokenizer is one."""

    def encode(self, text: str) -> list[int]: ...

    def unknown_characters(self, text: str) -> str: ...

    @property
    def start_id(self) -> int: ...

    @property
    def prefix_ids(self) -> list[int]: ...

    @property
    def unknown_id(self) -> int | None: ...


@dataclass(frozen=True)
class Reader:
    """A program that reads rows."""

    read: Callable[[Sequence[Row]], list[Reading]]
    context: int
    """Tokens that it can look at."""

    batch_tokens: int
    """So many make a batch."""


def score(model: AnyModel, tokenizer: Tokenizer, texts: Iterable[str]) -> list[Score]:
    """Score each text alone, with BOS (or the end-of-text token where there is none) in front.

    A text longer than the context is read in windows that overlap by half: each token is counted once, and sees at
    least the half context before it.

    Raises:
        DataError: a text is empty, so that there is nothing to score; or the vocabulary has no token for part of it.
        ModelError: tokenizer and model do not fit, or the tokenizer has no token to put in front.
    """
    return list(score_each(model, tokenizer, texts))


def score_each(model: AnyModel, tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[Score]:
    """The same in order, a few batches at a time. Before an error is raised, what stands before it is given out.

    Raises:
        ModelError: also where the model is no decoder.
    """
    if model.config.kind != "decoder":
        why = {
            "encoder": "reads texts whole, and has no probability of a next token",
            "encoder-decoder": "has a probability of a text only beside its source, and a text to score comes alone",
        }[model.config.kind]
        raise ModelError(f"the model is an {model.config.kind}: it {why}. Score with a decoder")
    _require_vocabulary(model)
    require_fit(model, tokenizer)
    yield from score_with(reader_of(cast("Transformer", model)), tokenizer, texts)


def score_continuations(
    model: AnyModel, tokenizer: Tokenizer, pairs: Iterable[tuple[str, str]]
) -> Iterator[ContinuationScore]:
    """How likely each (context, continuation) goes on so; a context that pairs share is computed once.

    The two are one text, cut into tokens as a whole; the continuation's are those after as many as the context has
    alone, spaces at the context's end counting to the continuation (so does lm-evaluation-harness). The context is read
    as `generate` reads a prompt; an empty one is the token that stands before a text. Beside an encoder, the context is
    the source, and the continuation the beginning of what is written of it.

    Raises:
        DataError: a continuation is empty, or a pair is longer than the context; it is named by its number.
        ModelError: the model is an encoder alone, or tokenizer and model do not fit.
    """
    if model.config.kind == "encoder":
        raise ModelError("the model is an encoder: it has no probability of a next token. Score with a decoder")
    _require_vocabulary(model)
    require_fit(model, tokenizer)
    if model.config.kind == "encoder-decoder":
        from guiju.generation.source_reading import score_beside_sources

        yield from score_beside_sources(cast("EncoderDecoder", model), tokenizer, pairs)
    else:
        yield from score_continuations_with(reader_of(cast("Transformer", model)), tokenizer, pairs)


def _require_vocabulary(model: AnyModel) -> None:
    if model.config.head != "vocabulary":
        raise ModelError(
            f"the model's head is {model.config.head}, which says no tokens, so it has no probability of a text. Score "
            f"with a model whose head is the vocabulary"
        )


def score_continuation_ids(
    model: Transformer, pairs: Iterable[tuple[Sequence[int], Sequence[int]]]
) -> Iterator[ContinuationScore]:
    """The same of ids, which are taken as they are; a context has at least one."""
    yield from _scored_pairs(reader_of(model), pairs)


def reader_of(model: Transformer) -> Reader:
    """A decoder of ours as a reader of rows."""
    from guiju.generation.shared_reading import pass_tokens, read_rows  # other programs' models are read without torch

    return Reader(partial(read_rows, model), model.config.context, pass_tokens(model))


def score_with(reader: Reader, tokenizer: Encoder, texts: Iterable[str]) -> Iterator[Score]:
    """`score_each` by any program."""
    if isinstance(texts, str):
        raise ConfigError("texts is one text; give a list of texts")
    jobs = (_text_job(number, text, tokenizer, reader.context) for number, text in enumerate(texts))
    yield from in_order(jobs, reader)


def score_continuations_with(
    reader: Reader, tokenizer: Encoder, pairs: Iterable[tuple[str, str]]
) -> Iterator[ContinuationScore]:
    """`score_continuations` by any program that goes on with a text."""
    yield from _scored_pairs(reader, (pair_ids(tokenizer, *pair) for pair in pairs))


def pair_ids(tokenizer: Encoder, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Ids of a context, with what stands before a text, and of what follows it: see `score_continuations`."""
    bare = context.rstrip()
    whole, front = tokenizer.encode(context + continuation), tokenizer.encode(bare) if bare else []
    cut = len(front)
    if cut >= len(whole) > 0 and continuation:  # the border's characters melted into the context's last token
        cut = len(whole) - 1
    before = [*tokenizer.prefix_ids, *whole[:cut]] or [tokenizer.start_id]
    return before, whole[cut:] if continuation else []


def windows(last: int, context: int) -> Iterator[tuple[int, int, int]]:
    """Begin, first new place and end of each window over `last` ids: as long as the context, overlapping by half."""
    done = 0
    while done < last:
        end = min(last, max(context, done + max(1, context // 2)))
        yield max(0, end - context), done, end
        done = end


Found = TypeVar("Found")


@dataclass(frozen=True)
class Job(Generic[Found]):
    """Rows, and what their readings come to."""

    rows: list[Row]
    result: Callable[[list[Reading]], Found]


def in_order(jobs: Iterable[Job[Found]], reader: Reader) -> Iterator[Found]:
    """The results in order; jobs are drawn until a few batches are full. An error among them comes after the results
    of those before it."""
    waiting: list[Job[Found]] = []
    held, source = 0, iter(jobs)
    problem: GuijuError | None = None
    while problem is None:
        try:
            job = next(source, None)
        except GuijuError as error:
            job, problem = None, error
        if job is not None:
            waiting.append(job)
            held += sum(len(row.ids) for row in job.rows)
        if job is None or held >= BATCHES_HELD * reader.batch_tokens:
            yield from _results(waiting, reader)
            waiting, held = [], 0
        if job is None:
            break
    if problem is not None:
        raise problem


def _results(jobs: list[Job[Found]], reader: Reader) -> Iterator[Found]:
    readings = iter(reader.read([row for job in jobs for row in job.rows]) if jobs else ())
    for job in jobs:
        yield job.result([next(readings) for _ in job.rows])


def _text_job(number: int, text: str, tokenizer: Encoder, context: int) -> Job[Score]:
    ids = tokenizer.encode(text)
    if not ids:
        raise DataError(f"text {number} is empty: it has no token, so there is nothing to score")
    if tokenizer.unknown_id is not None and tokenizer.unknown_id in ids:
        raise DataError(
            f"text {number} holds characters that the model's vocabulary has no token for "
            f"({tokenizer.unknown_characters(text)}): whatever they are they cost the same, so its bits per byte "
            "would come out too low. Leave them out, or score by a model that writes every text"
        )
    size, tokens = len(text.encode()), len(ids)
    whole = (tokenizer.start_id, *ids)
    rows = [Row(whole[begin : end + 1], done - begin + 1) for begin, done, end in windows(tokens, context)]

    def result(readings: list[Reading]) -> Score:
        nats = sum(reading.nll_nats for reading in readings)
        return Score(tokens, nats, nats / math.log(2) / size)

    return Job(rows, result)


def _scored_pairs(reader: Reader, pairs: Iterable[tuple[Sequence[int], Sequence[int]]]) -> Iterator[ContinuationScore]:
    jobs: Iterable[Job[Any]] = (_pair_job(number, *pair, reader.context) for number, pair in enumerate(pairs))
    yield from in_order(jobs, reader)


def _pair_job(number: int, before: Sequence[int], after: Sequence[int], context: int) -> Job[ContinuationScore]:
    require_continuation(number, after)
    if not before:
        raise DataError(f"the context of pair {number} has no token; it needs at least one, such as BOS")
    if len(before) + len(after) - 1 > context:
        raise DataError(
            f"pair {number} has {len(before)} tokens of context and {len(after)} of continuation, but the model's "
            f"context is {context}. Shorten the context, or take a model with a longer one"
        )
    count = len(after)
    return Job(
        [Row((*before, *after), len(before))],
        lambda found: ContinuationScore(found[0].nll_nats, count, found[0].greedy),
    )


def require_continuation(number: int, ids: Sequence[int]) -> None:
    """Raise DataError for a continuation without a token."""
    if not ids:
        raise DataError(f"the continuation of pair {number} is empty: it has no token, so there is nothing to score")
