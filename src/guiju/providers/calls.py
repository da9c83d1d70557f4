"""Calls over a network: how often, how many at once, what they may cost, and the record of each."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, Literal, TypeVar

from guiju.errors import ConfigError, ModelError

Item = TypeVar("Item")
Found = TypeVar("Found")

_AHEAD = 4
"""Times the calls under way: so many are handed out before the first of them must be done, so that one slow answer
leaves no one idle."""

_MOMENT_S = 0.5
"""For calls under way, when a person wants to stop."""


@dataclass(frozen=True)
class RemoteCall:
    """One request that left this machine, whatever came of it. No text and no key is in it."""

    purpose: str
    host: str
    route: str
    """The path that was asked, such as /v1/completions."""

    model: str
    attempt: int
    """1 for the first try of a request."""

    status: int | None
    """Of HTTP; None where no answer came."""

    problem: str | None
    """What went wrong, in short; None where it went well."""

    bytes_out: int
    """Of the request's body."""

    bytes_in: int
    """Of the answer's body."""

    prompt_tokens: int | None
    """As the server counts them; None where it does not say."""

    completion_tokens: int | None
    started: float
    """Seconds since 1970."""

    seconds: float


RecordCall = Callable[[RemoteCall], None]
"""Is called once for each request, in the thread that made it."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What a remote model's tokens cost, in a currency of the user's choice. They are never guessed."""

    input: float
    """Of a million tokens that it reads."""

    output: float
    """Of a million tokens that it writes."""

    def __post_init__(self) -> None:
        for name in ("input", "output"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"prices.{name} is {value}; it must be a number of at least 0, for a million tokens")

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


@dataclass(frozen=True, kw_only=True)
class RemoteSettings:
    """How a remote model is asked."""

    api: Literal["auto", "completions", "chat"] = "auto"
    """"completions" continues a text, and can score; "chat" answers it as a user's message. "auto": completions, and
    chat from the moment on at which the server says that it has no completions for the model."""

    purpose: str = ""
    """What the calls are for; stands in every record. By default the method: generate, stream, score."""

    concurrency: int = 8
    """Requests under way at the same time."""

    timeout_s: float = 300.0
    """Of one request: until the connection stands, and between two pieces of an answer."""

    retries: int = 6
    """Further tries of a request that met 429, 5xx, a timeout, a broken connection or no sensible answer."""

    requests_per_minute: float | None = None
    max_tokens: int | None = None
    """All calls together read and write so many tokens at most; a call that could exceed it is not made."""

    max_cost: float | None = None
    """The same in money; needs `prices`."""

    prices: Prices | None = None

    def __post_init__(self) -> None:
        if self.api not in ("auto", "completions", "chat"):
            raise ConfigError(f"remote.api is {self.api!r}; it can be auto, completions or chat")
        for name, least in (("concurrency", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"remote.{name} is {getattr(self, name)}; it must be at least {least}")
        for name in ("timeout_s", "requests_per_minute", "max_tokens", "max_cost"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"remote.{name} is {value}; it must be more than 0")
        if self.max_cost is not None and self.prices is None:
            raise ConfigError(
                f"remote.max_cost is {self.max_cost}, but no prices are given, and none are guessed. Give "
                f"remote.prices (input and output, for a million tokens)"
            )


class RemoteError(ModelError):
    """A remote model did not do what was asked."""

    def __init__(self, message: object = "") -> None:
        super().__init__(message)
        self.finished: dict[int, Any] = {}
        """By the number of what was asked: answers that were there already, behind the one that failed."""


class RequestRefusedError(RemoteError):
    """The server is there, and refuses this one request, such as a prompt that is too long for its model."""


class Pace:
    """When the next request may go out; all threads ask here."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._gap = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Sleep until it is this thread's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        time.sleep(max(0.0, turn - now))

    def pause(self, seconds: float) -> None:
        """Nobody asks for so long: the server said that it has enough."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


@dataclass
class Budget:
    """What was spent. A call first sets aside the most that it could take, so that a cap is never exceeded."""

    settings: RemoteSettings
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _held: tuple[int, int] = (0, 0)
    _changed: threading.Condition = field(default_factory=threading.Condition, repr=False)

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def cost(self) -> float | None:
        """In the currency of the prices; None where none are given."""
        prices = self.settings.prices
        return None if prices is None else prices.of(self.prompt_tokens, self.completion_tokens)

    @property
    def is_capped(self) -> bool:
        return self.settings.max_tokens is not None or self.settings.max_cost is not None

    def reserve(self, prompt: int, completion: int) -> None:
        """Set aside what a call could take at most; waits where others under way may yet leave room.

        Raises:
            RemoteError: it could exceed a cap.
        """
        if not self.is_capped:
            return
        with self._changed:
            while problem := self._too_much(prompt, completion):
                if self._held == (0, 0):
                    raise RemoteError(problem)
                self._changed.wait()
            self._held = (self._held[0] + prompt, self._held[1] + completion)

    def settle(self, reserved: tuple[int, int], spent: tuple[int, int]) -> None:
        """A call is over: prompt and completion tokens as they were reserved, and as they were spent."""
        with self._changed:
            self.prompt_tokens += spent[0]
            self.completion_tokens += spent[1]
            if self.is_capped:
                self._held = (self._held[0] - reserved[0], self._held[1] - reserved[1])
            self._changed.notify_all()

    def _too_much(self, prompt: int, completion: int) -> str | None:
        settings = self.settings
        read, written = self.prompt_tokens + self._held[0] + prompt, self.completion_tokens + self._held[1] + completion
        if settings.max_tokens is not None and read + written > settings.max_tokens:
            return (
                f"the cap of {settings.max_tokens} tokens (remote.max_tokens) leaves no room for the next call: "
                f"{self.tokens} are spent, and it could take {prompt + completion}. What is finished is kept; give a "
                f"higher cap to go on"
            )
        prices, cap = settings.prices, settings.max_cost
        if cap is not None and prices is not None and prices.of(read, written) > cap:
            return (
                f"the cap of {cap} (remote.max_cost) leaves no room for the next call: {self.cost:.6g} is spent, "
                f"and it could cost {prices.of(prompt, completion):.6g}. What is finished is kept; raise it to go on"
            )
        return None


class Stopped(KeyboardInterrupt):
    """Stopped from the keyboard while calls were under way."""

    def __init__(self, finished: dict[int, Any]) -> None:
        super().__init__()
        self.finished = finished
        """By the number of what was asked: answers that were there already, behind the one that was waited for."""


class _Crew(Generic[Found]):
    """Threads that call. They end with the process, whatever they wait for; an executor's would hold it up."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.abandoned = False
        self._threads: list[threading.Thread] = []
        self._orders: SimpleQueue[tuple[Future[Found], Callable[[], Found]] | None] = SimpleQueue()

    def submit(self, work: Callable[[], Found]) -> Future[Found]:
        future: Future[Found] = Future()
        self._orders.put((future, work))
        if len(self._threads) < self.workers:
            name = f"guiju-call-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._serve, name=name, daemon=True))
            self._threads[-1].start()
        return future

    def dismiss(self, patience_s: float | None = None) -> None:
        """No more orders; those under way are waited for, for so long. Who is then still at it asks no further."""
        for _ in self._threads:
            self._orders.put(None)
        end = None if patience_s is None else time.monotonic() + patience_s
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
        self.abandoned = True

    def _serve(self) -> None:
        _here.crew = self
        while (order := self._orders.get()) is not None:
            future, work = order
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except BaseException as problem:  # it is raised where the result is taken
                future.set_exception(problem)


_here = threading.local()


def is_wanted() -> bool:
    """Whether anybody still waits for what this thread calls for."""
    crew = getattr(_here, "crew", None)
    return crew is None or not crew.abandoned


def concurrently(work: Callable[[int, Item], Found], items: Iterable[Item], workers: int) -> Iterator[Found]:
    """`work(number, item)` of each, in order, in so many threads; items are drawn as they are needed.

    Where one fails, those before it have been given out, those under way are waited for (they are paid for), and a
    RemoteError carries what of them is finished; the rest is not begun. Who is stopped from the keyboard, or listens
    no longer, waits for them for a moment only.

    Raises:
        Stopped: in place of KeyboardInterrupt, with what is finished.
    """
    waiting: deque[tuple[int, Future[Found]]] = deque()
    crew: _Crew[Found] = _Crew(workers)
    patience_s: float | None = None
    try:
        for number, item in enumerate(items):
            waiting.append((number, crew.submit(functools.partial(work, number, item))))
            if len(waiting) >= _AHEAD * workers:
                yield _taken(waiting)
        while waiting:
            yield _taken(waiting)
    except RemoteError as problem:
        problem.finished = _finished(waiting, crew, None)
        raise
    except KeyboardInterrupt:
        patience_s = _MOMENT_S
        raise Stopped(_finished(waiting, crew, patience_s)) from None
    except GeneratorExit:
        patience_s = _MOMENT_S
        raise
    finally:
        _finished(waiting, crew, patience_s)


def _taken(waiting: deque[tuple[int, Future[Found]]]) -> Found:
    """The next result. It stays in the line while it is waited for."""
    found = waiting[0][1].result()
    waiting.popleft()
    return found


def _finished(
    waiting: Iterable[tuple[int, Future[Found]]], crew: _Crew[Found], patience_s: float | None
) -> dict[int, Found]:
    """Begin nothing more; what of the rest is there when the time is over."""
    for _, future in waiting:
        future.cancel()
    crew.dismiss(patience_s)
    return {
        number: future.result()
        for number, future in waiting
        if future.done() and not future.cancelled() and future.exception() is None
    }
