"""An OpenAI-style server on loopback over guiju's engine, for tests and benchmarks: no mock, a real one over HTTP.

`/v1/models`; `/v1/completions` with `echo`, `logprobs`, `stream`, `n`, `stop`, `max_tokens` (0 too), `seed`; and
`/v1/chat/completions`. It can be told to misbehave. In a process of its own: `python openai_server.py MODEL`.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from guiju.errors import GuijuError
from guiju.providers import LocalModel, load

NAME = "test-model"


class OpenAIServer(ThreadingHTTPServer):
    """Serves one model until it is closed.

    `faults` are taken one a request, in order: "429", "429 after 0.2" (with Retry-After), "500", "slow" (no answer for
    `slow_s`), "garbage" (no JSON), "empty" (JSON that is no answer), "cut" (a stream or body that breaks off), "drop"
    (the connection is closed), "redirect", "uncounted" (no usage). `always` is the fault of every request.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, model: LocalModel, *, key: str = "", slots: int = 1, delay_s: float = 0.0, chat_only: bool = False
    ):
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.key, self.delay_s, self.chat_only = model, key, delay_s, chat_only
        self.faults: deque[str] = deque()
        self.always: str | None = None
        self.failing: tuple[str, ...] = ()
        """Prompts that it never answers but by 500."""
        self.slow_s = 5.0
        self.new_limit = False
        """Whether a chat knows max_completion_tokens alone, as OpenAI's newer models do."""
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.slots = threading.Semaphore(slots)
        self.slot_count = slots
        self.spans: list[tuple[float, float]] = []
        """When each request was worked on."""
        self.engine = threading.Lock()  # one thread at a time may use it
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def busy_share(self) -> float:
        """Of the time from the first to the last request: how much of it all slots were at work."""
        begin, end = min(span[0] for span in self.spans), max(span[1] for span in self.spans)
        return sum(last - first for first, last in self.spans) / (end - begin) / self.slot_count

    def __enter__(self) -> OpenAIServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no error."""


class Handler(BaseHTTPRequestHandler):
    server: OpenAIServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            return self.fail(404, f"no route {self.path}")
        self.answer({"object": "list", "data": [{"id": NAME, "object": "model", "created": 0, "owned_by": "tests"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            return self.fail(401, f"Incorrect API key provided: {self.headers.get('Authorization', '')}")
        failing = "500" if body.get("prompt") in self.server.failing else ""
        fault = failing or self.server.always or (self.server.faults.popleft() if self.server.faults else "")
        with self.working():
            if fault and self.misbehave(fault, body):
                return None
            if body.get("model") != NAME:
                return self.fail(404, f"The model `{body.get('model')}` does not exist")
            try:
                if self.path == "/v1/completions" and not self.server.chat_only:
                    self.complete(body, Completion(), fault)
                elif self.path == "/v1/chat/completions":
                    self.complete(body, Chat(), fault)
                else:
                    self.fail(404, f"no route {self.path}: this is a chat model")
            except GuijuError as problem:
                self.fail(400, str(problem))
        return None

    @contextmanager
    def working(self) -> Iterator[None]:
        with self.server.slots:
            begin = time.perf_counter()
            try:
                time.sleep(self.server.delay_s)
                yield
            finally:
                self.server.spans.append((begin, time.perf_counter()))

    # -- answers -----------------------------------------------------------------------------------------------

    def complete(self, body: dict[str, Any], form: Completion | Chat, fault: str) -> None:
        model = self.server.model
        prompts = form.prompts(body)
        if self.server.new_limit and isinstance(form, Chat):
            if "max_tokens" in body:
                return self.fail(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
            body = {**body, "max_tokens": body["max_completion_tokens"]}
        if body.get("stream"):
            return self.stream(prompts[0], body, form, fault)
        choices: list[dict[str, Any]] = []
        used = [0, 0]
        for prompt in prompts:
            ids = prompt_ids(model, prompt)
            sequences = self.write(ids, body, form.logprobs(body))
            used = [used[0] + len(ids), used[1] + sum(len(one["ids"]) for one in sequences)]
            for one in sequences:
                choices.append(form.choice(model, len(choices), prompt, ids, one, body, self.read))
        self.answer(
            {"id": "1", "object": form.kind, "created": 0, "model": NAME, "choices": choices}
            | ({} if fault == "uncounted" else {"usage": usage(*used)}),
            cut=fault == "cut",
        )
        return None

    def stream(self, prompt: str | list[int], body: dict[str, Any], form: Completion | Chat, fault: str) -> None:
        ids = prompt_ids(self.server.model, prompt)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        sent = 0

        def send(choices: list[dict[str, Any]], **more: Any) -> None:
            event = {"id": "1", "object": form.kind + ".chunk", "created": 0, "model": NAME, "choices": choices, **more}
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            self.wfile.flush()

        def emit(index: int, text: str) -> None:
            nonlocal sent
            if fault == "cut" and sent == 2:
                raise BrokenPipeError
            sent += 1
            send([form.piece(index, text)])

        try:
            sequences = self.write(ids, body, form.logprobs(body), emit)
        except BrokenPipeError:
            return
        for index, one in enumerate(sequences):
            send([form.end(self.server.model, index, one, body)])
        if (body.get("stream_options") or {}).get("include_usage"):
            send([], usage=usage(len(ids), sum(len(one["ids"]) for one in sequences)))
        self.wfile.write(b"data: [DONE]\n\n")

    def write(
        self, ids: list[int], body: dict[str, Any], logprobs: int | None, emit: Callable[[int, str], None] | None = None
    ) -> list[dict[str, Any]]:
        """The engine's sequences: text, ids, finish_reason, logprobs."""
        limit, stop = body.get("max_tokens", 16), body.get("stop") or ()
        if limit == 0:
            return [{"text": "", "ids": (), "finish_reason": "length", "logprobs": ()}] * body.get("n", 1)
        from guiju.generation import SamplingSettings, generate

        temperature = body.get("temperature", 1.0)
        settings = SamplingSettings(
            greedy=temperature == 0, temperature=temperature or 1.0, top_p=body.get("top_p"), seed=body.get("seed"),
            max_new_tokens=limit, stop=(stop,) if isinstance(stop, str) else tuple(stop),
            num_return_sequences=1 if temperature == 0 else body.get("n", 1),
        )  # fmt: skip
        model = self.server.model
        with self.server.engine:
            found = generate(model.model, model.tokenizer, [ids], settings, emit, logprobs=logprobs)[0]
        count = body.get("n", 1) if temperature == 0 else 1
        return [one.__dict__ for one in found] * count

    def read(self, ids: list[int]) -> torch.Tensor:
        """Log-probabilities (T - 1, vocab) of what follows each id but the last."""
        with self.server.engine, torch.inference_mode():
            logs: torch.Tensor = self.server.model.model(torch.tensor([ids]))[0, :-1].double().log_softmax(-1)
        return logs

    def answer(self, content: Any, status: int = 200, cut: bool = False, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.close_connection = True

    def fail(self, status: int, message: str, **headers: str) -> None:
        self.answer({"error": {"message": message, "type": "error", "code": status}}, status, **headers)

    def misbehave(self, fault: str, body: dict[str, Any]) -> bool:
        """Whether that was all of the answer."""
        kind, _, detail = fault.partition(" after ")
        if kind == "429":
            self.fail(429, "Rate limit reached", **({"Retry_After": detail} if detail else {}))
        elif kind == "500":
            self.fail(500, "The server had an error")
        elif kind == "garbage":
            self.answer(b"<html>502 Bad Gateway</html>")
        elif kind == "empty":
            self.answer({"hello": "world"})
        elif kind == "redirect":
            self.answer(b"", 307, Location="http://127.0.0.1:9/v1/completions")
        elif kind == "drop":
            self.close_connection = True
        elif kind == "slow":
            time.sleep(self.server.slow_s)
            self.close_connection = True
        else:
            return False
        return True


class Completion:
    """The fields of /v1/completions."""

    kind = "text_completion"

    def prompts(self, body: dict[str, Any]) -> list[str | list[int]]:
        prompt = body.get("prompt", "")
        single = isinstance(prompt, str) or (prompt and isinstance(prompt[0], int))
        return [prompt] if single else prompt

    def logprobs(self, body: dict[str, Any]) -> int | None:
        return body.get("logprobs")

    def piece(self, index: int, text: str) -> dict[str, Any]:
        return {"index": index, "text": text, "finish_reason": None, "logprobs": None}

    def end(self, model: LocalModel, index: int, one: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        held = None if one["logprobs"] is None else listed(model, written(model, one))
        return {"index": index, "text": "", "finish_reason": one["finish_reason"], "logprobs": held}

    def choice(
        self,
        model: LocalModel,
        index: int,
        prompt: str | list[int],
        ids: list[int],
        one: dict[str, Any],
        body: dict[str, Any],
        read: Callable[[list[int]], torch.Tensor],
    ) -> dict[str, Any]:
        tokens = [] if body.get("logprobs") is None else written(model, one)
        text = one["text"]
        if body.get("echo"):
            text = (prompt if isinstance(prompt, str) else model.tokenizer.decode(prompt)) + text
            if body.get("logprobs") is not None:
                tokens = echoed(model, ids, read(ids), body["logprobs"]) + tokens
        held = None if body.get("logprobs") is None else listed(model, tokens)
        return {"index": index, "text": text, "finish_reason": one["finish_reason"], "logprobs": held}


class Chat:
    """The fields of /v1/chat/completions; the prompt is the messages' contents, one after the other."""

    kind = "chat.completion"

    def prompts(self, body: dict[str, Any]) -> list[str | list[int]]:
        return ["\n".join(message["content"] for message in body["messages"])]

    def logprobs(self, body: dict[str, Any]) -> int | None:
        return body.get("top_logprobs", 0) if body.get("logprobs") else None

    def piece(self, index: int, text: str) -> dict[str, Any]:
        return {"index": index, "delta": {"content": text}, "finish_reason": None}

    def end(self, model: LocalModel, index: int, one: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        return {"index": index, "delta": {}, "finish_reason": one["finish_reason"]} | self.held(model, one)

    def choice(
        self,
        model: LocalModel,
        index: int,
        prompt: str | list[int],
        ids: list[int],
        one: dict[str, Any],
        body: dict[str, Any],
        read: Callable[[list[int]], torch.Tensor],
    ) -> dict[str, Any]:
        message = {"role": "assistant", "content": one["text"]}
        return {"index": index, "message": message, "finish_reason": one["finish_reason"]} | self.held(model, one)

    def held(self, model: LocalModel, one: dict[str, Any]) -> dict[str, Any]:
        if one["logprobs"] is None:
            return {}
        content = [
            {"token": token, "logprob": value, "top_logprobs": [{"token": t, "logprob": v} for t, v in top.items()]}
            for token, value, top in written(model, one)
        ]
        return {"logprobs": {"content": content}}


Token = tuple[str, "float | None", dict[str, float]]


def echoed(model: LocalModel, ids: list[int], logs: torch.Tensor, count: int) -> list[Token]:
    """The prompt's own tokens; the first has no likelihood."""
    begins = model.tokenizer.keeps_beginning(ids[0])
    found: list[Token] = [(piece(model, ids[0], first=True), None, {})]
    for token, row in zip(ids[1:], logs, strict=True):
        best = row.topk(count) if count else None
        top = {} if best is None else named(model, zip(best.indices.tolist(), best.values.tolist(), strict=True))
        found.append((piece(model, token, first=begins), float(row[token]), top))
        begins = begins and model.tokenizer.keeps_beginning(token)
    return found


def written(model: LocalModel, one: dict[str, Any]) -> list[Token]:
    return [
        (piece(model, token), held.logprob, named(model, held.top))
        for token, held in zip(one["ids"], one["logprobs"], strict=True)
    ]


def named(model: LocalModel, top: Any) -> dict[str, float]:
    """By the tokens' texts; of two with the same text the likelier."""
    found: dict[str, float] = {}
    for token, value in top:
        found.setdefault(piece(model, token), value)
    return found


def piece(model: LocalModel, token: int, *, first: bool = False) -> str:
    """What a token adds to a text."""
    return model.tokenizer.added_bytes(token, first=first).decode("utf-8", errors="replace")


def listed(model: LocalModel, tokens: list[Token]) -> dict[str, Any]:
    offsets, place = [], 0
    for token, _, _ in tokens:
        offsets.append(place)
        place += len(token)
    texts, values, tops = ([one[part] for one in tokens] for part in range(3))
    return {"tokens": texts, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}


def prompt_ids(model: LocalModel, prompt: str | list[int]) -> list[int]:
    from guiju.generation import prompt_ids as ids_of

    return ids_of(model.tokenizer, prompt)


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="serve a model until the process is ended")
    parser.add_argument("model")
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--delay", type=float, default=0.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with OpenAIServer(load(arguments.model), slots=arguments.slots, delay_s=arguments.delay) as server:
        print(server.url, flush=True)
        while input() != "end":
            print(server.busy_share(), flush=True)
