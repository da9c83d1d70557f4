"""One OpenAI-style server, asked through the `openai` client: each try recorded, retried where that can help, and what
goes wrong said in words that help. The key stands in no message and no record."""

from __future__ import annotations

import json
import os
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from guiju.errors import ConfigError
from guiju.providers.calls import (
    Budget,
    Pace,
    RecordCall,
    RemoteCall,
    RemoteError,
    RemoteSettings,
    RequestRefusedError,
    is_wanted,
)

Route = Literal["completions", "chat"]

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_LONGEST_RETRY_AFTER_S = 120.0
_LARGEST_ANSWER = 64 << 20
_CONNECT_S = 10.0
_SHOWN = 200
"""Characters of what a server said."""

_UNWANTED = "no longer wanted"

_MORE_OF_A_CHAT = 64
"""Tokens that a server's template may put around a message; more is settled when it says what it counted."""


class NoRouteError(RemoteError):
    """The server has no such route, or not for this model."""


@dataclass(eq=False)
class _Try:
    """What is known of one request while it is under way."""

    purpose: str
    route: Route
    attempt: int
    body: Mapping[str, Any]
    started: float = 0.0
    """Seconds since 1970, and by a clock that is never set."""
    clock: float = 0.0
    status: int | None = None
    bytes_out: int = 0
    bytes_in: int = 0
    usage: tuple[int, int] | None = None


class _Again(Exception):  # noqa: N818 -- a reason to try again, which may yet become an error
    """Another try may help."""

    def __init__(self, reason: str, wait_s: float | None = None, *, maybe_spent: bool = False) -> None:
        super().__init__(reason)
        self.wait_s, self.maybe_spent = wait_s, maybe_spent


class Endpoint:
    """A model of a server. Threads may share it."""

    def __init__(self, model: str, settings: RemoteSettings, record_call: RecordCall | None) -> None:
        """
        Raises:
            ConfigError: the openai package is not installed, or there is neither a key nor an address.
        """
        try:
            import httpx2
            import openai
        except ImportError as problem:
            raise ConfigError(
                f"openai:{model} needs the openai package, which cannot be imported ({problem}). Install it: pip "
                f"install 'guiju[openai]'"
            ) from None
        self.model, self.settings, self.record_call = model, settings, record_call
        self._openai, self._httpx = openai, httpx2
        self._key = os.environ.get("OPENAI_API_KEY", "")
        address = os.environ.get("OPENAI_BASE_URL", "")
        if not self._key and not address:
            raise ConfigError(
                f"openai:{model} is a remote model, but neither OPENAI_BASE_URL (the address of a server) nor "
                f"OPENAI_API_KEY (a key for api.openai.com) is set. Set one of them"
            )
        self.address = address or "https://api.openai.com/v1"
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"OPENAI_BASE_URL is {self.address!r}; it must be such as http://localhost:8000/v1")
        self.host = parts.hostname + (f":{parts.port}" if parts.port else "")
        timeout = httpx2.Timeout(settings.timeout_s, connect=min(_CONNECT_S, settings.timeout_s))
        limits = httpx2.Limits(max_connections=settings.concurrency, max_keepalive_connections=settings.concurrency)
        # No redirects: a text goes to the host that the user named, and to no other.
        self._http = httpx2.Client(timeout=timeout, limits=limits, follow_redirects=False)
        self.close = weakref.finalize(self, self._http.close)
        """Ends the connections; so does the end of the last reference."""
        self._client = openai.OpenAI(
            api_key=self._key or "none", base_url=self.address, max_retries=0, http_client=self._http
        )
        self._root = parts.path.rstrip("/")
        self.pace = Pace(settings.requests_per_minute)
        self.budget = Budget(settings)
        self._under_way: set[_Try] = set()
        self._recording = threading.Lock()

    def ask(self, purpose: str, route: Route, body: Mapping[str, Any], check: Callable[[Any], str | None]) -> Any:
        """The answer to a request, as JSON.

        Args:
            check: says what of the answer is not as it must be; None where it is.
        Raises:
            RemoteError: it could not be had; the server, the reason and the way out are named.
        """

        def once(attempt: int) -> Any:
            with self._trying(purpose, route, attempt, body) as one, self._request(route, body) as response:
                self._note(one, response)
                data = b"".join(self._limited(response.iter_bytes(), one))
                answer = _parsed(data)
                one.usage = _usage(answer)
                problem = "it is no JSON" if answer is None else check(answer)
                if problem is not None:
                    raise _Again(f"answered what is no answer ({problem}): {self._shown(data)}", maybe_spent=True)
                return answer

        return self._repeat(once)

    def events(self, purpose: str, route: Route, body: Mapping[str, Any]) -> Iterator[Any]:
        """The events of a streamed answer, each as JSON. It is tried again only as long as none came.

        Raises:
            RemoteError: it could not be had, or broke off.
        """
        body = {**body, "stream": True}
        attempt = 0
        while True:
            attempt += 1
            came = False
            try:
                with self._trying(purpose, route, attempt, body) as one, self._request(route, body) as response:
                    self._note(one, response)
                    for event in self._server_events(self._limited(response.iter_bytes(), one)):
                        one.usage = _usage(event) or one.usage
                        came = True
                        yield event
                return
            except _Again as reason:
                if came:
                    raise self._error(f"broke off in the middle of an answer ({reason})") from None
                self._wait_or_give_up(reason, attempt)

    def models(self) -> list[str]:
        """The names of the models that the server offers, as far as it says so."""
        try:
            with self._client.models.with_streaming_response.list() as response:
                answer = _parsed(b"".join(self._limited(response.iter_bytes(), _Try("models", "completions", 1, {}))))
            names = [one["id"] for one in answer["data"]]
        except Exception:  # only for a message: whatever is wrong, the message says less
            return []
        return sorted(name for name in names if isinstance(name, str))

    # -- tries -------------------------------------------------------------------------------------------------

    def _repeat(self, once: Callable[[int], Any]) -> Any:
        attempt = 0
        while True:
            attempt += 1
            try:
                return once(attempt)
            except _Again as reason:
                self._wait_or_give_up(reason, attempt)

    def _wait_or_give_up(self, reason: _Again, attempt: int) -> None:
        if attempt > self.settings.retries:
            times = "" if attempt == 1 else f", {attempt} times"
            raise self._error(f"{reason}{times}")
        if reason.wait_s is not None:
            if reason.wait_s > _LONGEST_RETRY_AFTER_S:
                raise self._error(f"{reason}, and asks to wait for {reason.wait_s:.0f} s. Ask again later")
            self.pace.pause(reason.wait_s)  # all threads: they would be told the same
            return
        wait = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (attempt - 1))
        time.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 -- so that threads do not come back at once

    @contextmanager
    def _trying(self, purpose: str, route: Route, attempt: int, body: Mapping[str, Any]) -> Iterator[_Try]:
        """One try: its turn, its room in the budget, its errors in our words, its record."""
        reserved = _most(route, body)
        self.budget.reserve(*reserved)
        one, problem, spent = _Try(purpose, route, attempt, body), None, False
        try:
            self.pace.wait()
            if not is_wanted():
                raise self._error("is not asked again: nobody waits for the answer any more")
            one.started, one.clock = time.time(), time.perf_counter()
            self._under_way.add(one)
            with self._in_our_words(one):
                yield one
            if one.usage is None and self.budget.is_capped:
                problem = "no count of tokens"
                raise self._error("does not say how many tokens it counted, so a cap cannot be kept. Leave out the cap")
        except GeneratorExit:
            problem, spent = _UNWANTED, True
            raise
        except Exception as error:
            problem = problem or str(error)[:_SHOWN]
            spent = isinstance(error, _Again) and error.maybe_spent
            raise
        finally:
            used = one.usage or (reserved if spent else (0, 0))
            self.budget.settle(reserved, used)
            self._record(one, problem)

    def record_abandoned(self) -> None:
        """Record the requests that are under way as they are: who asked no longer waits for them."""
        for one in list(self._under_way):
            self._record(one, _UNWANTED)

    def _record(self, one: _Try, problem: str | None) -> None:
        """A request is recorded once, by its thread or by who gave it up."""
        with self._recording:
            if one not in self._under_way:
                return
            self._under_way.remove(one)
        if self.record_call is None:
            return
        tokens = one.usage or (None, None)
        self.record_call(
            RemoteCall(
                purpose=self.settings.purpose or one.purpose,
                host=self.host,
                route=f"{self._root}/{'chat/completions' if one.route == 'chat' else one.route}",
                model=self.model,
                attempt=one.attempt,
                status=one.status,
                problem=problem,
                bytes_out=one.bytes_out or len(json.dumps(one.body, ensure_ascii=False).encode()),
                bytes_in=one.bytes_in,
                prompt_tokens=tokens[0],
                completion_tokens=tokens[1],
                started=one.started,
                seconds=time.perf_counter() - one.clock,
            )
        )

    def _request(self, route: Route, body: Mapping[str, Any]) -> AbstractContextManager[Any]:
        routes = self._client.chat.completions if route == "chat" else self._client.completions
        request: AbstractContextManager[Any] = routes.with_streaming_response.create(model=self.model, **body)
        return request

    def _note(self, one: _Try, response: Any) -> None:
        one.status = response.status_code
        one.bytes_out = len(response.http_request.content)

    def _limited(self, parts: Iterator[bytes], one: _Try) -> Iterator[bytes]:
        for part in parts:
            one.bytes_in += len(part)
            if one.bytes_in > _LARGEST_ANSWER:
                raise self._error(f"answers without end: more than {_LARGEST_ANSWER >> 20} MiB")
            yield part

    def _server_events(self, parts: Iterator[bytes]) -> Iterator[Any]:
        """Events as they are sent: lines `data: JSON`, the last of them `data: [DONE]`."""
        held = b""
        for part in parts:
            *lines, held = (held + part).split(b"\n")
            for line in lines:
                if not line.startswith(b"data:"):
                    continue
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                event = _parsed(data)
                if not isinstance(event, dict) or event.get("error"):
                    raise _Again(f"streamed what is no answer: {self._shown(data)}", maybe_spent=True)
                yield event

    # -- what goes wrong ---------------------------------------------------------------------------------------

    @contextmanager
    def _in_our_words(self, one: _Try) -> Iterator[None]:
        library, http = self._openai, self._httpx
        try:
            yield
        except library.APIStatusError as problem:
            one.status = problem.status_code
            one.bytes_in = one.bytes_in or len(problem.response.content)
            self._judge_status(problem)
        except (library.APITimeoutError, http.TimeoutException):
            raise _Again(f"did not answer within {self.settings.timeout_s:g} s", maybe_spent=True) from None
        except library.APIConnectionError as problem:
            raise _Again(self._broken(problem.__cause__ or problem)) from None
        except http.TransportError as problem:  # in the middle of an answer
            raise _Again(self._broken(problem), maybe_spent=True) from None

    def _broken(self, problem: BaseException) -> str:
        if isinstance(problem, self._httpx.ConnectError):
            return f"cannot be reached ({problem}). Is it running, and is OPENAI_BASE_URL right"
        return f"broke the connection ({problem})"

    def _judge_status(self, problem: Any) -> None:
        status = problem.status_code
        said = self._shown(problem.response.content)
        if status == 429 or status == 408 or status >= 500:
            what = {429: "says that it is asked too often (429)", 408: "timed out (408)"}.get(status)
            raise _Again(f"{what or f'failed ({status})'}: {said}", _retry_after(problem.response.headers)) from None
        if status in (401, 403):
            given = "OPENAI_API_KEY" if self._key else "OPENAI_API_KEY, which is not set"
            raise self._error(f"does not accept the key ({status}): {said}. Check {given}") from None
        if 300 <= status < 400:
            raise self._error(
                f"sends the request elsewhere ({status}); texts go to the host that was named alone. Set "
                f"OPENAI_BASE_URL to the address that it should be"
            ) from None
        if status in (404, 405, 501):
            raise NoRouteError(
                self._told(f"does not know the model, or not this way to ask it ({status}): {said}")
            ) from None
        raise RequestRefusedError(self._told(f"refuses the request ({status}): {said}")) from None

    def unknown(self, problem: NoRouteError) -> RemoteError:
        """A model that a server does not know, with those that it knows."""
        names = self.models()
        known = f". It offers: {', '.join(names[:20])}" if names else ""
        return RemoteError(f"{problem}{known}")

    def _error(self, what: str) -> RemoteError:
        return RemoteError(self._told(what))

    def _told(self, what: str) -> str:
        return f"openai:{self.model}: {self.host} {what}"

    def _shown(self, data: bytes) -> str:
        """What a server said, in short, and never with the key."""
        text = " ".join(data[:4096].decode("utf-8", errors="replace").split())
        said = _parsed(data)
        error = said.get("error") if isinstance(said, dict) else None
        if isinstance(error, dict) and isinstance(error.get("message"), str):
            text = " ".join(error["message"].split())
        if self._key:
            text = text.replace(self._key, "(the key)")
        return text[:_SHOWN] or "nothing"


def _most(route: Route, body: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens that a request could read and write at most: none is shorter than a byte."""
    prompt = body.get("prompt", "")
    texts = [message["content"] for message in body.get("messages", ())]
    size = len(prompt) if isinstance(prompt, list) else len(prompt.encode()) + 1
    size += sum(len(text.encode()) for text in texts)
    limit = int(body.get("max_tokens") or body.get("max_completion_tokens") or 0)
    return size + (_MORE_OF_A_CHAT if route == "chat" else 0), limit * int(body.get("n", 1))


def _usage(answer: Any) -> tuple[int, int] | None:
    used = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(used, dict):
        return None
    read, written = used.get("prompt_tokens"), used.get("completion_tokens", 0)
    if not (isinstance(read, int) and isinstance(written, int) and read >= 0 and written >= 0):
        return None
    return read, written


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait."""
    try:
        wait = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return wait if 0 <= wait < float("inf") else None
