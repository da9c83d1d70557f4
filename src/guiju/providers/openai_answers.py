"""What an OpenAI-style server answers, taken apart: every field is checked before it is believed."""

from __future__ import annotations

import math
from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import Any, Literal

from guiju.generation import Sequence, TokenLogprob

FinishReason = Literal["stop", "length", "filtered"]

_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "filtered"}


@dataclass(frozen=True)
class Part:
    """One choice of an answer, or what one event adds to it."""

    index: int
    text: str
    finish_reason: FinishReason | None
    pieces: tuple[str, ...] = ()
    """Its tokens as text, where log-probabilities were asked for."""

    logprobs: tuple[TokenLogprob, ...] | None = None


@dataclass(frozen=True)
class Echo:
    """The tokens of a prompt, as the server made them."""

    first: str
    """The first token as text; empty where it stands for none."""

    logprobs: tuple[float, ...]
    """Of each token; that of the first is 0 and means nothing. NaN where the server leaves one out."""

    greedy: tuple[bool, ...]
    """Whether each is the likeliest."""


def answer_problem(answer: Any, route: str, count: int, logprobs: int | None) -> str | None:
    """What is wrong with an answer that should hold so many texts; None where nothing is."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list):
        return "it has no list of choices"
    try:
        parts = [part_of(choice, route, logprobs) for choice in choices]
    except ValueError as problem:
        return str(problem)
    if sorted(part.index for part in parts) != list(range(count)):
        return f"{count} texts were asked for, and {len(parts)} came"
    if any(part.finish_reason is None for part in parts):
        return "it does not say why a text ended"
    return None


def part_of(choice: Any, route: str, logprobs: int | None, *, streamed: bool = False) -> Part:
    """A choice.

    Raises:
        ValueError: it is none; what is wrong is said.
    """
    if not isinstance(choice, dict) or not isinstance(choice.get("index", 0), int):
        raise ValueError("a choice is no object with an index")
    reason = choice.get("finish_reason")
    if reason is not None and reason not in _REASONS:
        raise ValueError(f"finish_reason is {str(reason)[:50]!r}")
    text = _text(choice, route, streamed)
    pieces: tuple[str, ...] = ()
    likelihoods: tuple[TokenLogprob, ...] | None = None
    if logprobs is not None:
        held = choice.get("logprobs")
        if held is None and not streamed:  # a stream may bring them with any of its events
            raise ValueError("log-probabilities were asked for, and none came")
        found = _chat_logprobs(held) if route == "chat" else _logprobs(held)
        pieces, likelihoods = tuple(piece for piece, _ in found), tuple(one for _, one in found)
    return Part(choice.get("index", 0), text, None if reason is None else _REASONS[reason], pieces, likelihoods)


def _text(choice: dict[str, Any], route: str, streamed: bool) -> str:
    holder: Any = choice
    name = "text"
    if route == "chat":
        holder, name = choice.get("delta" if streamed else "message"), "content"
    if not isinstance(holder, dict):
        raise ValueError("a choice has no message")
    text = holder.get(name)
    if text is None and (streamed or route == "chat"):
        return ""  # a first event names the role alone, and a filtered answer has no text
    if not isinstance(text, str):
        raise ValueError("a choice has no text")
    return text


def _logprobs(held: Any) -> list[tuple[str, TokenLogprob]]:
    """Of completions: lists side by side."""
    if held is None:
        return []
    tokens, values = held.get("tokens"), held.get("token_logprobs")
    tops = held.get("top_logprobs") or [{}] * len(tokens or ())
    if not (isinstance(tokens, list) and isinstance(values, list) and len(tokens) == len(values) == len(tops)):
        raise ValueError("its logprobs are no lists of one length")
    found = []
    for token, value, top in zip(tokens, values, tops, strict=True):
        if not isinstance(token, str) or not isinstance(value, int | float):
            raise ValueError("a log-probability is no number")
        best = sorted((top or {}).items(), key=lambda item: -item[1])
        found.append((token, TokenLogprob(float(value), tuple((name, float(one)) for name, one in best))))
    return found


def _chat_logprobs(held: Any) -> list[tuple[str, TokenLogprob]]:
    """Of a chat: an object for each token."""
    if held is None:
        return []
    try:
        return [
            (
                str(one["token"]),
                TokenLogprob(
                    float(one["logprob"]),
                    tuple((str(top["token"]), float(top["logprob"])) for top in one.get("top_logprobs") or ()),
                ),
            )
            for one in held.get("content") or ()
        ]
    except (KeyError, TypeError, ValueError):
        raise ValueError("its logprobs are no list of tokens") from None


def sequence_of(parts: Several[Part], seed: int | None) -> Sequence:
    """A text of all its parts."""
    reason = next(part.finish_reason for part in reversed(parts) if part.finish_reason is not None)
    text = "".join(part.text for part in parts)
    if all(part.logprobs is None for part in parts):
        return Sequence(text, (), reason, seed)
    pieces = tuple(piece for part in parts for piece in part.pieces)
    likelihoods = tuple(one for part in parts for one in part.logprobs or ())
    return Sequence(text, (), reason, seed, likelihoods, pieces=pieces)


def echo_problem(answer: Any, size: int | None) -> str | None:
    """What is wrong with an answer that should hold the likelihood of a prompt's tokens; None where nothing is.

    Args:
        size: how many tokens were sent, where ids were.
    """
    try:
        echo_of(answer, size)
    except ValueError as problem:
        return str(problem)
    return None


def echo_of(answer: Any, size: int | None) -> Echo:
    """The prompt's part of an answer with `echo`.

    Raises:
        ValueError: there is none; what is wrong is said.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not (isinstance(choices, list) and len(choices) == 1 and isinstance(choices[0], dict)):
        raise ValueError("it has no list of one choice")
    held = choices[0].get("logprobs")
    if not isinstance(held, dict):
        raise ValueError("logprobs of the prompt were asked for (echo), and none came")
    tokens, values, tops = held.get("tokens"), held.get("token_logprobs"), held.get("top_logprobs")
    if not (isinstance(tokens, list) and isinstance(values, list) and isinstance(tops, list)):
        raise ValueError("its logprobs are no lists")
    if not len(tokens) == len(values) == len(tops):
        raise ValueError("its logprobs are no lists of one length")
    listed, hidden = _listed(answer.get("usage"), len(tokens), size)
    rest = values[1:listed]
    if not all(isinstance(value, int | float) and math.isfinite(value) and value <= 1e-6 for value in rest):
        raise ValueError("a log-probability of the prompt is no number of at most 0")
    best = [max(top.values(), default=0.0) if isinstance(top, dict) else 0.0 for top in tops[1:listed]]
    greedy = [value >= most - 1e-9 for value, most in zip(rest, best, strict=True)]
    found = [float(value) for value in rest]
    if hidden and size is not None:  # the first that is listed is the second that was sent
        return Echo("", (0.0, math.nan, *found), (True, False, *greedy))
    return Echo(str(tokens[0]), (0.0, *found), (True, *greedy))


def _listed(used: Any, count: int, size: int | None) -> tuple[int, bool]:
    """How many of the listed tokens are the prompt's, and whether its first one is left out.

    llama-cpp-python leaves out the token that stands before a text, and says no likelihood of the first one after it.
    """
    if not isinstance(used, dict):
        raise ValueError("it does not count its tokens (usage), so the prompt's are not known")
    prompt, written = used.get("prompt_tokens"), used.get("completion_tokens", 0)
    if not (isinstance(prompt, int) and isinstance(written, int)):
        raise ValueError("its counts of tokens (usage) are no numbers")
    listed = count - written
    if listed < 1 or listed not in (prompt, prompt - 1):
        raise ValueError(f"the prompt has {prompt} tokens, and logprobs of {listed} came")
    if size is not None and prompt != size:
        raise ValueError(f"{size} tokens were sent, and it counts {prompt}")
    return listed, listed < prompt
