"""Conversations as a model reads them: by the chat template that came with it, and with the answers marked as learned.

A template says where an answer stands in one of two ways. Where it has `{% generation %}` blocks, these are learned, as
in transformers (return_assistant_tokens_mask). Else it is asked twice, with the answer and with something else in its
place: what differs is the answer, and the token that ends it is learned with it, or the model would never stop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from guiju.errors import ConfigError, DataError, ModelError
from guiju.tokens.answers import LearnedRow
from guiju.tokens.chat_process import WAY_OUT, Rendered, TemplateObjectionError, TemplateProcess
from guiju.tokens.reading import LONGEST_CHAT_TEMPLATE
from guiju.tokens.tokenizer import Tokenizer

PLAIN = """\
{%- set names = {'system': 'System', 'user': 'User', 'assistant': 'Assistant', 'tool': 'Tool'} -%}
{{- bos_token if bos_token else eos_token -}}
{%- for message in messages -%}
{%- if message['role'] not in names -%}
{{- raise_exception('the roles are system, user, assistant and tool, not ' + message['role']) -}}
{%- endif -%}
{{- names[message['role']] + ':\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}
{%- else -%}
{{- message['content'] -}}
{%- endif -%}
{{- '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- 'Assistant:\\n' -}}
{%- endif -%}
"""
"""guiju's own: a line with a name before each message, and the end of text after each answer. It needs no further
special token. A line ends where an answer begins, and no space: that would become part of the answer's first token in
training, and stand alone where one is asked for."""

_OPEN, _CLOSE = "\ue002", "\ue003"
"""Around a special token's name that a user wrote: there it is text."""
Span = tuple[int, int]


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template and where it is from."""

    text: str
    where: str
    """For messages."""


@dataclass(frozen=True)
class Turn:
    """One message."""

    role: str
    content: str


def choose_template(wish: str, tokenizer: Tokenizer, root: Path = Path()) -> ChatTemplate:
    """The template that a recipe asks for.

    Args:
        wish: "auto" (the tokenizer's own, or else guiju's), "plain" (guiju's), or a file's path.
        root: where that path starts.
    Raises:
        ConfigError: there is no such file.
        ModelError: it is too long, or the tokenizer has no token that could end an answer in guiju's own.
    """
    if wish == "auto" and tokenizer.chat_template is not None:
        return _checked(ChatTemplate(tokenizer.chat_template, "the tokenizer's chat template"))
    if wish in ("auto", "plain"):
        if tokenizer.eos_id is None:
            raise ModelError(
                "the tokenizer has no eos_token, so nothing could end an answer; name one in its tokenizer_config.json"
            )
        return ChatTemplate(PLAIN, "guiju's chat template")
    try:
        return _checked(ChatTemplate((root / wish).read_text(encoding="utf-8"), str(wish)))
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(
            f"template is {wish!r}, which cannot be read as a file ({problem}); it may also be auto or plain"
        ) from None


def _checked(template: ChatTemplate) -> ChatTemplate:
    if len(template.text) > LONGEST_CHAT_TEMPLATE:
        raise ModelError(
            f"{template.where} has {len(template.text):,} characters; at most {LONGEST_CHAT_TEMPLATE:,} are read. "
            f"{WAY_OUT}"
        )
    return template


class Chat:
    """A chat template at work beside its tokenizer. It runs in a process of its own, which `close` ends."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer) -> None:
        """
        Raises:
            ModelError: it is no template.
        """
        self.template, self.tokenizer = template, tokenizer
        special = sorted(tokenizer.special_tokens, key=len, reverse=True)
        alternatives = "|".join(map(re.escape, special)) or "(?!)"  # which matches nothing
        self._special = re.compile(alternatives)
        self._end = re.compile(rf"\s*(?:{alternatives})")
        self._names = tokenizer.named_tokens
        self._process = TemplateProcess(template.text, template.where)

    def row(self, messages: Sequence[Turn], place: str) -> LearnedRow:
        """A conversation as ids, of which the assistant's answers are learned, each with the token that ends it.

        Args:
            place: where it stands, for messages.
        Raises:
            DataError: it has no answer or an empty one, or the template objects to it.
            ModelError: the template drops or cuts the answer or never ends it, or does what it may not.
        """
        answers = [turn.content for turn in messages if turn.role == "assistant"]
        if not answers:
            raise DataError(f"{place} has no message of the role assistant, so there is nothing to learn from it")
        if not all(answer.strip() for answer in answers):
            raise DataError(f"{place} has an empty answer, from which nothing can be learned; take it out")
        rendered = self._render(messages, place, prompt=False)
        spans = self._learned_spans(rendered, answers, place)
        ids, places = self._encode(rendered.text)
        learned = [False] * len(ids)
        for first, last in spans:
            inside = [number for number, (start, stop) in enumerate(places) if start < last and stop > first]
            if inside:  # all from the first to the last: a token in between may stand for no character
                learned[inside[0] : inside[-1] + 1] = [True] * (inside[-1] + 1 - inside[0])
        if not any(learned):
            raise ModelError(f"{self.template.where} marks nothing of {place} as the assistant's. {WAY_OUT}")
        return LearnedRow(ids, learned, place)

    def prompt(self, messages: Sequence[Turn], place: str = "the conversation") -> list[int]:
        """A conversation as ids, up to where the assistant's answer begins.

        Raises:
            DataError, ModelError: as `row`.
        """
        return self._encode(self._render(messages, place, prompt=True).text)[0]

    def close(self) -> None:
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _render(self, messages: Sequence[Turn], place: str, *, prompt: bool) -> Rendered:
        given = [{"role": turn.role, "content": self._guarded(turn.content)} for turn in messages]
        try:
            return self._process.render(given, self._names, prompt=prompt)
        except TemplateObjectionError as objection:
            raise DataError(f"{place} is refused by {self.template.where}: {objection}") from None

    def _guarded(self, content: str) -> str:
        """A message in which no special token counts as one."""
        content = content.replace(_OPEN, "").replace(_CLOSE, "")
        return self._special.sub(rf"{_OPEN}\g<0>{_CLOSE}", content)

    def _learned_spans(self, rendered: Rendered, answers: Sequence[str], place: str) -> list[Span]:
        """Characters of the text that are learned."""
        found: list[Span] = []
        for answer, span in zip(answers, rendered.answers, strict=True):
            if span is None:
                raise ModelError(
                    f"{self.template.where} drops the answer {answer[:40]!r} of {place}: what it writes is the same, "
                    f"whatever the assistant says, so nothing would be learned. {WAY_OUT}"
                )
            self._require_whole(rendered.text[span[0] : span[1]], self._guarded(answer), place)
            found.append(span)
        if rendered.blocks:
            return list(rendered.blocks)
        rest = rendered.text[found[-1][1] :].rstrip()
        return [self._with_end(rendered.text, span, rest, place) for span in found]

    def _require_whole(self, written: str, answer: str, place: str) -> None:
        """An answer may get company, and lose what it thought aloud before it; it may not lose its words."""
        written, answer = written.strip(), answer.strip()
        if answer not in written and not (written and answer.endswith(written)):
            raise ModelError(
                f"{self.template.where} changes the answer of {place}: {answer[:60]!r} becomes {written[:60]!r}, so "
                f"something else than the data would be learned. {WAY_OUT}"
            )

    def _with_end(self, text: str, span: Span, rest: str, place: str) -> Span:
        """The span, and with it the special token behind it; or, where there is none, what ends the last answer."""
        end = self._end.match(text, span[1])
        if end is not None:
            return span[0], end.end()
        if rest and text.startswith(rest, span[1]):
            return span[0], span[1] + len(rest)
        raise ModelError(
            f"{self.template.where} writes no token that ends the answer of {place}, so the model would never learn to "
            f"stop. {WAY_OUT}"
        )

    def _encode(self, text: str) -> tuple[list[int], list[Span]]:
        """The ids of a rendered text, and the characters that each stands for."""
        ids: list[int] = []
        places: list[Span] = []
        for start, piece, special in _pieces(text):
            made, where, shift = *self.tokenizer.encode_written(piece, special), 0
            if ids:  # behind a line end, so that no space is put before it as before a text's first word
                lead, _ = self.tokenizer.encode_written("\n", special)
                behind, there = self.tokenizer.encode_written("\n" + piece, special)
                if behind[: len(lead)] == lead:
                    made, where, shift = behind[len(lead) :], there[len(lead) :], 1
            ids += made
            places += [(start + first - shift, start + last - shift) for first, last in where]
        return ids, places


def _pieces(text: str) -> Iterator[tuple[int, str, bool]]:
    """Where each piece begins, the piece, and whether special tokens count in it; the guards themselves are left out.

    A template may part what stands between two guards: then neither side is a special token's whole name.
    """
    place = 0
    for match in re.finditer(rf"{_OPEN}([^{_OPEN}{_CLOSE}]*){_CLOSE}|[{_OPEN}{_CLOSE}]", text):
        if match.start() > place:
            yield place, text[place : match.start()], True
        if match.group(1):
            yield match.start(1), match.group(1), False
        place = match.end()
    if place < len(text):
        yield place, text[place:], True
