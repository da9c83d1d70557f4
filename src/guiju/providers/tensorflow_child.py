"""The process in which TensorFlow runs a model: lines of JSON come in and go out, and it ends with its parent.

In: {"do": "generate" | "read" | "stop", ...}. Out: any number of {"text": [number, piece]}, then {"result": ...} or
{"error": {"kind", "message"}}. Nothing that comes in or goes out is code.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

from guiju.errors import GuijuError
from guiju.generation import Row, SamplingSettings
from guiju.providers.tensorflow_model import GraphModel, load_graph
from guiju.settings import from_mapping


class _Stopped(Exception):  # noqa: N818 -- no error: nobody wants the rest
    pass


class _Requests:
    """What the parent sends. When it closes its end, or is no more, this process ends at once."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue()
        for watch in (self._listen, self._watch):
            threading.Thread(target=watch, args=(os.getppid(),), daemon=True).start()

    def next(self) -> dict[str, Any]:
        request = self._waiting.get()
        self.stopped.clear()
        return request

    def _listen(self, _: int) -> None:
        for line in sys.stdin.buffer:
            request = json.loads(line)
            if request["do"] == "stop":
                self.stopped.set()
            else:
                self._waiting.put(request)
        os._exit(0)

    def _watch(self, parent: int) -> None:
        """Another process may hold the other end open, too."""
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)


def main(answers: int, folder: str, tokenizer: str | None) -> None:
    """Serve one model.

    Args:
        answers: the file descriptor to write to; what libraries print goes elsewhere.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    requests = _Requests()
    with os.fdopen(answers, "w", encoding="utf-8") as out:
        try:
            model = load_graph(Path(folder), None if tokenizer is None else Path(tokenizer))
        except Exception as problem:
            _send(out, _error(problem))
            return
        facts = dataclasses.asdict(model.config)
        _send(out, {"result": {"config": facts, "files": [str(path) for path in model.files]}})
        while True:
            request = requests.next()
            try:
                _send(out, {"result": _answer(model, request, requests.stopped, out)})
            except _Stopped:
                _send(out, {"result": None})
            except Exception as problem:
                _send(out, _error(problem))


def _answer(model: GraphModel, request: dict[str, Any], stopped: threading.Event, out: IO[str]) -> Any:
    if request["do"] == "read":
        found = model.read_rows([Row(tuple(ids), first) for ids, first in request["rows"]])
        return [[one.nll_nats, one.greedy] for one in found]

    def emit(number: int, piece: str) -> None:
        if stopped.is_set():
            raise _Stopped
        _send(out, {"text": [number, piece]})

    settings = from_mapping(SamplingSettings, request["settings"])
    on_text = emit if request["emit"] else None
    made = model.generate(request["prompts"], settings, request["logprobs"], on_text)
    return {"sequences": [[dataclasses.asdict(one) for one in several] for several in made],
            "steps": made.work.steps, "read": made.work.read}  # fmt: skip


def _error(problem: Exception) -> dict[str, Any]:
    kind = type(problem).__name__ if isinstance(problem, GuijuError) else ""
    return {"error": {"kind": kind, "message": str(problem) or type(problem).__name__}}


def _send(out: IO[str], line: dict[str, Any]) -> None:
    out.write(json.dumps(line, ensure_ascii=True) + "\n")
    out.flush()
