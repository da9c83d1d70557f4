"""The process that runs a chat template, seen from here: asked line by line, and ended when it takes too long."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from guiju.errors import ModelError

MEMORY_BYTES = 512 << 20
SECONDS = 10.0
"""For one chat; the largest published template takes a thousandth of it."""
MOST_CHARACTERS = 1 << 22
"""That a template may write for one chat."""
_LONGEST_ANSWER = 12 * MOST_CHARACTERS + (1 << 20)  # bytes: JSON writes the rarest characters as twelve
_CHILD = "import sys; sys.path[:] = {path!r}; from guiju.tokens import chat_rendering as it; it.work(*{arguments!r})"


class TemplateObjectionError(Exception):
    """What a template says by raise_exception: these messages are none that it can write."""


@dataclass(frozen=True)
class Rendered:
    """A chat as its template writes it."""

    text: str
    blocks: tuple[tuple[int, int], ...]
    """Characters [first, last) inside `{% generation %}` blocks; empty where the template has none."""
    answers: tuple[tuple[int, int] | None, ...]
    """Where each assistant message's content stands; None where the text is the same whatever it says."""


class TemplateProcess:
    """Runs one template. Nothing foreign is compiled, let alone run, in this process."""

    def __init__(self, template: str, where: str) -> None:
        """
        Raises:
            ModelError: it is no template.
        """
        self._where = where
        path = [str(Path(place).absolute()) for place in sys.path if place]
        code = _CHILD.format(path=path, arguments=(os.getpid(), MEMORY_BYTES, MOST_CHARACTERS))
        # Its environment holds no key, token or proxy of the user that could be taken.
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        self._process = subprocess.Popen(  # noqa: S603 -- this very Python
            [sys.executable, "-I", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, "LC_ALL": "C.UTF-8"},
            cwd="/",
        )
        try:
            self._ask({"template": template})
        except BaseException:
            self.close()
            raise

    def render(self, messages: Sequence[Mapping[str, str]], names: Mapping[str, str], *, prompt: bool) -> Rendered:
        """A chat as text.

        Args:
            names: special tokens by what they are called, such as bos_token.
            prompt: whether the text goes on to where an answer begins.
        Raises:
            TemplateObjectionError: the template refuses these messages.
            ModelError: the template does what it may not, or takes too much time, memory or room.
        """
        found = self._ask({"messages": list(messages), "names": dict(names), "prompt": prompt})
        if "said" in found:
            raise TemplateObjectionError(found["said"])
        answers = tuple(None if span is None else (span[0], span[1]) for span in found["answers"])
        return Rendered(found["text"], tuple((first, last) for first, last in found["blocks"]), answers)

    def close(self) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        line = json.dumps(request).encode() + b"\n"
        assert self._process.stdin is not None, "it was opened with pipes"
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        found: dict[str, Any] = json.loads(self._line())
        if "refused" in found:
            raise ModelError(f"{self._where} cannot be used: {found['refused']}. {WAY_OUT}")
        return found

    def _line(self) -> bytes:
        assert self._process.stdout is not None, "it was opened with pipes"
        stream = self._process.stdout
        parts: list[bytes] = []
        size = 0
        until = time.monotonic() + SECONDS
        while not parts or not parts[-1].endswith(b"\n"):
            ready, _, _ = select.select([stream], [], [], max(0.0, until - time.monotonic()))
            part = os.read(stream.fileno(), 1 << 20) if ready else b""
            if not part or size > _LONGEST_ANSWER:
                raise self._ended()
            parts.append(part)
            size += len(part)
        return b"".join(parts)

    def _ended(self) -> ModelError:
        self.close()
        return ModelError(
            f"{self._where} was stopped: for one chat it took more than {SECONDS:g} s, {MEMORY_BYTES >> 20} MiB of "
            f"memory or {MOST_CHARACTERS:,} characters, so it never ends or is made to do harm. {WAY_OUT}"
        )


WAY_OUT = "Give another one (template: FILE), or guiju's own (template: plain)"
