"""Chat templates are programs that strangers wrote: here one is run, in a process of its own.

Jinja's immutable sandbox keeps a template from attributes, but not from endless loops or texts without end: those end
with the process, which has a limit of memory and is watched (guiju.tokens.chat_process starts it). It is sealed as well
(guiju.sealing), so that a way out of the sandbox leads nowhere. One JSON object a line comes in and goes out. What a
template may use is what transformers gives it, so that every published template means the same here.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.debug  # which Jinja would load when a template fails: no file can be opened any more then
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from guiju.sealing import can_seal, die_with_parent, seal

MARK = "\ue000\ue001"
"""Stands in an answer's place, to see where the template puts it."""
Span = tuple[int, int]
"""Characters [first, last) of a text."""


class _SaidError(TemplateError):
    """What a template itself objects to, by raise_exception."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}`: a template says itself which text is the assistant's."""

    tags = {"generation"}  # noqa: RUF012 -- as jinja2 declares it
    written: list[str] | None = None
    spans: list[Span]

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_note"), [], [], body).set_lineno(line)

    def _note(self, caller: Any) -> str:
        text = str(caller())
        if self.written is not None:
            start = sum(map(len, self.written))
            self.spans.append((start, start + len(text)))
        return text

    @contextmanager
    def noting(self, written: list[str]) -> Iterator[list[Span]]:
        self.written, self.spans = written, []
        try:
            yield self.spans
        finally:
            self.written = None


class _PlainDict:
    """`dict` without what else its class can do."""

    def __call__(self, *args: Any, **named: Any) -> dict[Any, Any]:
        return dict(*args, **named)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(jinja2.utils.Namespace):
    """A namespace none of whose names begins with an underscore: those lead into Python's inside."""

    def __init__(*args: Any, **named: Any) -> None:  # so that a template may name one `self`
        attributes = dict(*args[1:], **named)
        for name in attributes:
            _require_plain(name)
        jinja2.utils.Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _require_plain(name)
        super().__setitem__(name, value)


def _require_plain(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


class Renderer:
    """One template."""

    def __init__(self, template: str, most_characters: int) -> None:
        """
        Raises:
            TemplateError: it is no template.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals.update(raise_exception=_raise, strftime_now=_now, dict=_PlainDict(), namespace=_Namespace)
        self._most = most_characters
        self._template = environment.from_string(template)
        self._generation = next(e for e in environment.extensions.values() if isinstance(e, _Generation))

    def text(self, messages: list[dict[str, str]], names: dict[str, str], prompt: bool) -> tuple[str, list[Span]]:
        """The chat as the template writes it, and which characters stand in its generation blocks.

        Raises:
            TemplateError: the template objects to the messages, or breaks its bounds.
        """
        written: list[str] = []
        size = 0
        given = {**names, "messages": messages, "tools": None, "documents": None, "add_generation_prompt": prompt}
        with self._generation.noting(written) as spans:
            for part in self._template.generate(**given):
                written.append(part)
                size += len(part)
                if size > self._most:
                    raise TemplateError(f"it writes more than {self._most:,} characters for one chat")
        return "".join(written), spans

    def chat(self, messages: list[dict[str, str]], names: dict[str, str], prompt: bool) -> dict[str, Any]:
        """The same, with the place of each assistant's content: what changes where another stands there."""
        text, blocks = self.text(messages, names, prompt)
        answers: list[Span | None] = []
        for place, message in enumerate(messages):
            if message["role"] == "assistant":
                mark = MARK
                while any(mark in one["content"] for one in messages):
                    mark += MARK
                other = [*messages[:place], {**message, "content": mark}, *messages[place + 1 :]]
                answers.append(_difference(text, self.text(other, names, prompt)[0]))
        return {"text": text, "blocks": blocks, "answers": answers}


def _difference(text: str, other: str) -> Span | None:
    """Where the one text is not the other; None where they are equal."""
    if text == other:
        return None
    start = _common(text, other)
    return start, len(text) - _common(text[start:][::-1], other[start:][::-1])


def _common(text: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(text, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(text), len(other)))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: object) -> NoReturn:
    raise _SaidError(str(message))


def _now(form: str) -> str:
    return datetime.now().strftime(form)


def _answer(request: dict[str, Any], renderer: Renderer) -> dict[str, Any]:
    try:
        return renderer.chat(request["messages"], request["names"], request["prompt"])
    except _SaidError as problem:
        return {"said": str(problem)[:1000]}
    except SecurityError as problem:
        return {"refused": f"it reaches for what the sandbox does not give: {problem}"[:1000]}
    except UndefinedError as problem:
        return {"refused": f"it uses what is not there: {problem}"[:1000]}
    except MemoryError:
        return {"refused": "it takes more memory than a chat template may"}
    except RecursionError:
        return {"refused": "it goes round in circles"}
    except Exception as problem:  # whatever a strange template makes Python raise
        return {"refused": f"{type(problem).__name__}: {problem}"[:1000]}


def work(parent: int, memory_bytes: int, most_characters: int) -> None:
    """In the new process: limits first, then the template, then a chat a line."""
    for kind, value in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (value, value))
    # What Jinja loads late it loads here, while files can still be opened; the time zone too.
    Renderer("{{ 'a' + lipsum(1) + strftime_now('%Y') }}", most_characters).text([], {}, False)
    if can_seal():
        die_with_parent(parent)
        with suppress(OSError):  # where the kernel does not let it, the sandbox and the limits remain
            seal()
    renderer: Renderer | None = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        if renderer is None:
            try:
                renderer, answer = Renderer(request["template"], most_characters), {"ready": True}
            except TemplateSyntaxError as problem:
                answer = {"refused": f"line {problem.lineno}: {problem.message}"[:1000]}
            except Exception as problem:
                answer = {"refused": f"{type(problem).__name__}: {problem}"[:1000]}
        else:
            answer = _answer(request, renderer)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
