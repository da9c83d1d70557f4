"""`openai:NAME`: a model behind an OpenAI-style API continues, streams and scores text, many requests at a time.

What a server can tell decides what is there: texts are scored through completions with `echo` and `logprobs`, and never
over chat, which has no likelihood of a text that is given. Tokens are texts here, as the server names them; there are
no ids. With a tokenizer of the model's own (`--tokenizer`), texts are sent as ids, with the start token in front.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast, overload

from guiju.errors import ConfigError, DataError, ModelError
from guiju.generation import (
    MAX_LOGPROBS,
    ContinuationScore,
    Generation,
    SamplingSettings,
    Score,
    Sequence,
    Work,
    pair_ids,
    require_known,
)
from guiju.generation.settings import DEFAULT_NEW_TOKENS
from guiju.providers.calls import RecordCall, RemoteError, RemoteSettings, RequestRefusedError, concurrently
from guiju.providers.interface import Ability, cannot, with_sampling
from guiju.providers.openai_answers import Echo, Part, answer_problem, echo_of, echo_problem, part_of, sequence_of
from guiju.providers.openai_endpoint import Endpoint, NoRouteError, Route
from guiju.providers.streaming import stream_text
from guiju.storage import sha256_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from guiju.tokens import Tokenizer

_CONTEXTS_KEPT = 4096
"""Numbers of tokens of contexts that pairs share, so that each is asked for once."""

_NEW_LIMIT = "max_completion_tokens"

OnText = Callable[[int, str], None]
Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True)
class _Wishes:
    """What is asked of each prompt."""

    settings: SamplingSettings
    logprobs: int | None
    on_text: OnText | None
    purpose: str


class OpenAIModel:
    """See guiju.providers.interface.LanguageModel. Threads may share it."""

    def __init__(
        self,
        reference: str,
        settings: RemoteSettings | None = None,
        record_call: RecordCall | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """
        Raises:
            ConfigError: no model is named, the openai package is missing, or neither address nor key are set.
        """
        self.reference = reference
        self.name = reference.removeprefix("openai:")
        if not self.name:
            raise ConfigError("openai: names no model. Give one, such as openai:NAME, as the server calls it")
        self.settings = settings or RemoteSettings()
        self.endpoint = Endpoint(self.name, self.settings, record_call)
        self.tokenizer = tokenizer
        self.downloads: tuple[Any, ...] = ()
        self.labels: tuple[str, ...] = ()
        self._api = self.settings.api
        self._limit = "max_tokens"
        """What a chat's limit is called: newer models of OpenAI know another name alone."""
        self._contexts: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def abilities(self) -> frozenset[Ability]:
        if self._api == "chat":
            return frozenset({"generate", "stream"})
        return frozenset({"generate", "stream", "score", "score_continuations"})

    @property
    def continues(self) -> bool:
        """Whether a text goes on from its prompt: a chat answers it."""
        return self._api != "chat"

    @cached_property
    def digest(self) -> str:
        """SHA-256 of address and name: what weights stand behind them, nobody here can see."""
        return sha256_bytes(f"{self.endpoint.address}\n{self.name}\n".encode())

    # -- writing -----------------------------------------------------------------------------------------------

    @overload
    def generate(
        self, prompts: str, settings: SamplingSettings | None = None, *, on_text: OnText | None = None, **wishes: Any
    ) -> Generation[Sequence]: ...

    @overload
    def generate(
        self,
        prompts: list[str],
        settings: SamplingSettings | None = None,
        *,
        on_text: OnText | None = None,
        **wishes: Any,
    ) -> Generation[list[Sequence]]: ...

    def generate(
        self,
        prompts: str | list[str],
        settings: SamplingSettings | None = None,
        *,
        on_text: OnText | None = None,
        **wishes: Any,
    ) -> Generation[Sequence] | Generation[list[Sequence]]:
        """See LanguageModel.generate.

        Raises:
            ConfigError: a wish that the API has no field for; it is named.
            RemoteError: an answer could not be had. Its `finished` holds, by number, the sequences of prompts that were
                finished by then.
        """
        asked = self._wishes(settings, wishes, on_text, "generate")
        several = [prompts] if isinstance(prompts, str) else prompts
        found: list[list[Sequence]] = []
        try:
            found.extend(self._each(several, asked))
        except RemoteError as problem:
            problem.finished = {**dict(enumerate(found)), **problem.finished}
            raise
        work = Work("openai", "unknown", "unknown", False, len(found), 0)
        return Generation(found[0], work) if isinstance(prompts, str) else Generation(found, work)

    def generate_each(
        self, prompts: Iterable[str], settings: SamplingSettings | None = None, **wishes: Any
    ) -> Iterator[list[Sequence]]:
        """See LanguageModel.generate_each. An error's `finished` holds answers behind the one that failed."""
        if isinstance(prompts, str):
            raise ConfigError("prompts is one text; give a list of texts")
        return self._each(prompts, self._wishes(settings, wishes, wishes.pop("on_text", None), "generate"))

    def stream(self, prompt: str, settings: SamplingSettings | None = None, **wishes: Any) -> Iterator[str]:
        """See LanguageModel.stream.

        Raises:
            RemoteError: also where the answer breaks off; what came before has been given out.
        """
        wishes = {**wishes, "num_return_sequences": 1}
        self._wishes(settings, wishes, None, "stream")  # what cannot be is said now

        def write(on_text: OnText) -> None:
            self._write(0, prompt, self._wishes(settings, wishes, on_text, "stream"))

        return stream_text(write)

    def _each(self, prompts: Iterable[str], asked: _Wishes) -> Iterator[list[Sequence]]:
        return self._side_by_side(lambda number, prompt: self._write(number, prompt, asked), prompts)

    def _side_by_side(self, work: Callable[[int, Item], Found], items: Iterable[Item]) -> Iterator[Found]:
        try:
            yield from concurrently(work, items, self.settings.concurrency)
        except (KeyboardInterrupt, GeneratorExit):
            self.endpoint.record_abandoned()
            raise

    def _write(self, number: int, prompt: str, asked: _Wishes) -> list[Sequence]:
        """The sequences of one prompt."""
        while True:
            route: Route = "chat" if self._api == "chat" else "completions"
            body = _body(route, prompt, asked, self._limit)
            try:
                if asked.on_text is not None:
                    return self._streamed(number, route, body, asked)
                count = asked.settings.num_return_sequences

                def check(answer: Any, route: Route = route, count: int = count) -> str | None:
                    return answer_problem(answer, route, count, asked.logprobs)

                answer = self.endpoint.ask(asked.purpose, route, body, check)
                parts = [part_of(choice, route, asked.logprobs) for choice in answer["choices"]]
                return [sequence_of([part], asked.settings.seed) for part in sorted(parts, key=lambda one: one.index)]
            except NoRouteError as problem:
                # Several threads may be told at once; who comes second finds the way changed already.
                if self.settings.api != "auto" or route == "chat":
                    raise self.endpoint.unknown(problem) from None
                self._api = "chat"  # the server has no completions for this model
            except RequestRefusedError as problem:
                if route != "chat" or _NEW_LIMIT not in str(problem) or _NEW_LIMIT in body:
                    raise
                self._limit = _NEW_LIMIT

    def _streamed(self, number: int, route: Route, body: dict[str, Any], asked: _Wishes) -> list[Sequence]:
        count = asked.settings.num_return_sequences
        parts: list[list[Part]] = [[] for _ in range(count)]
        body = {**body, "stream_options": {"include_usage": True}}
        for event in self.endpoint.events(asked.purpose, route, body):
            for choice in event.get("choices") or ():
                part = self._part(choice, route, asked, count)
                parts[part.index].append(part)
                if part.text and asked.on_text is not None:
                    with self._lock:
                        asked.on_text(number * count + part.index, part.text)
        if asked.logprobs is not None and not all(any(part.logprobs for part in one) for one in parts):
            raise RemoteError(
                f"{self.reference}: log-probabilities were asked for, and {self.endpoint.host} streamed none. Ask for "
                f"the whole answer at once"
            )
        cut = [index for index, one in enumerate(parts) if not any(part.finish_reason for part in one)]
        if cut:
            raise RemoteError(
                f"{self.reference}: {self.endpoint.host} broke off in the middle of an answer: the stream ended before "
                f"the text did. What came before was given out; ask again"
            )
        return [sequence_of(one, asked.settings.seed) for one in parts]

    def _part(self, choice: Any, route: Route, asked: _Wishes, count: int) -> Part:
        """What one event adds to a text."""
        try:
            part = part_of(choice, route, asked.logprobs, streamed=True)
            if not 0 <= part.index < count:
                raise ValueError("it belongs to no text that was asked for")
        except ValueError as problem:
            host = self.endpoint.host
            raise RemoteError(f"{self.reference}: {host} streamed what is no answer ({problem})") from None
        return part

    def _wishes(
        self, settings: SamplingSettings | None, wishes: dict[str, Any], on_text: OnText | None, purpose: str
    ) -> _Wishes:
        own = dict(wishes)
        runner, precision = own.pop("runner", "auto"), own.pop("precision", "auto")
        record, lookup, logprobs = own.pop("record", False), own.pop("prompt_lookup", 0), own.pop("logprobs", None)
        require_known(runner, precision)
        known = with_sampling(settings, own)
        _require_possible(known, {"runner": runner, "precision": precision, "record": record, "prompt_lookup": lookup})
        if logprobs is not None and not 0 <= logprobs <= MAX_LOGPROBS:
            raise ConfigError(f"logprobs is {logprobs}; it must be between 0 and {MAX_LOGPROBS} alternatives")
        return _Wishes(known, logprobs, on_text, purpose)

    # -- scoring -----------------------------------------------------------------------------------------------

    def score(self, texts: Iterable[str]) -> list[Score]:
        """How likely the model finds each text: see guiju.generation.score. The server puts before a text what its
        tokenizer does; where that is nothing, the tokenizer must be given.

        Raises:
            ModelError: over chat; or the server gives no likelihood of the first token.
            RemoteError: an answer could not be had.
        """
        return list(self.score_each(texts))

    def score_each(self, texts: Iterable[str]) -> Iterator[Score]:
        """The same, in order, many requests at a time."""
        self._require_scores("score")
        if isinstance(texts, str):
            raise ConfigError("texts is one text; give a list of texts")
        return self._side_by_side(self._score, texts)

    def score_continuations(self, pairs: Iterable[tuple[str, str]]) -> list[ContinuationScore]:
        """How likely each (context, continuation) goes on so: see guiju.generation.score_continuations."""
        return list(self.score_continuations_each(pairs))

    def score_continuations_each(self, pairs: Iterable[tuple[str, str]]) -> Iterator[ContinuationScore]:
        """The same, in order, many requests at a time."""
        self._require_scores("score_continuations")
        return self._side_by_side(self._score_pair, pairs)

    def _score(self, number: int, text: str) -> Score:
        if not text:
            raise DataError(f"text {number} is empty: it has no token, so there is nothing to score")
        if self.tokenizer is not None:
            echo = self._echo("score", [self.tokenizer.start_id, *self.tokenizer.encode(text)])
        else:
            echo = self._echo("score", text)
            self._require_front(echo, text)
        nats = self._nats(echo, 1)
        return Score(len(echo.logprobs) - 1, nats, nats / math.log(2) / len(text.encode()))

    def _score_pair(self, number: int, pair: tuple[str, str]) -> ContinuationScore:
        context, continuation = pair
        if not continuation:
            raise DataError(
                f"the continuation of pair {number} is empty: it has no token, so there is nothing to score"
            )
        if self.tokenizer is not None:
            before, after = pair_ids(self.tokenizer, context, continuation)
            echo = self._echo("score_continuations", [*before, *after])
            cut = len(before)
        else:
            echo = self._echo("score_continuations", context + continuation)
            bare = context.rstrip()
            if not bare:
                self._require_front(echo, context + continuation)
            cut = max(1, min(self._tokens_of(bare) if bare else 1, len(echo.logprobs) - 1))
        nats = self._nats(echo, cut)
        return ContinuationScore(nats, len(echo.logprobs) - cut, all(echo.greedy[cut:]))

    def _tokens_of(self, context: str) -> int:
        """How many tokens the server makes of a context, with what it puts in front."""
        with self._lock:
            known = self._contexts.get(context)
        if known is None:
            known = len(self._echo("score_continuations", context).logprobs)
            with self._lock:
                while len(self._contexts) >= _CONTEXTS_KEPT:
                    self._contexts.pop(next(iter(self._contexts)))
                self._contexts[context] = known
        return known

    def _echo(self, purpose: str, prompt: str | list[int]) -> Echo:
        """The likelihood of each token of a prompt but the first."""
        # Servers differ in what 0 tokens mean, and 1 is the same everywhere: it is cut off again.
        body = {"prompt": prompt, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
        size = len(prompt) if isinstance(prompt, list) else None
        try:
            answer = self.endpoint.ask(purpose, "completions", body, lambda found: echo_problem(found, size))
        except NoRouteError as problem:
            if self._api == "auto":
                raise cannot(self.reference, purpose, f"scoring needs completions, and {problem}") from None
            raise self.endpoint.unknown(problem) from None
        return echo_of(answer, size)

    def _nats(self, echo: Echo, cut: int) -> float:
        """-ln p of the tokens from a place on."""
        counted = echo.logprobs[cut:]
        if not counted or any(math.isnan(value) for value in counted):
            raise self._no_first("leaves out the likelihood of a text's first token. Score continuations of a context")
        return -math.fsum(counted)

    def _require_front(self, echo: Echo, text: str) -> None:
        """The first token of an answer has no likelihood: it must be one that stands before the text."""
        if echo.first and text.startswith(echo.first.lstrip("▁Ġ ") or echo.first):
            raise self._no_first(
                f"puts no token before a text, or says nothing of it, so the first one ({echo.first!r}) has no "
                f"likelihood. Give the model's tokenizer (--tokenizer), so that the text is sent with the start token "
                f"in front"
            )

    def _no_first(self, why: str) -> ModelError:
        return cannot(self.reference, "score", f"{self.endpoint.host} {why}")

    def _require_scores(self, ability: Ability) -> None:
        if ability not in self.abilities:
            raise cannot(
                self.reference,
                ability,
                "it is reached over chat, which gives no likelihood of a text that is given. Use a server that has "
                "/v1/completions with echo and logprobs",
            )

    # -- what it cannot ----------------------------------------------------------------------------------------

    def embed(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Raises ModelError."""
        self._cannot("embed", "texts are embedded by models of this machine alone")

    def classify(self, texts: Iterable[str], *, stride: int | None = None) -> NDArray[np.float32]:
        """Raises ModelError."""
        self._cannot(
            "classify", "only a model with a head of classes gives probabilities of labels. Ask it by a prompt"
        )

    def _cannot(self, ability: Ability, why: str) -> NoReturn:
        raise cannot(self.reference, ability, why)

    def piece(self, token: int | str) -> str:
        """A token as text, for people."""
        return str(token)


def load_openai(
    reference: str, tokenizer: Path | None, settings: RemoteSettings | None, record_call: RecordCall | None
) -> OpenAIModel:
    """The model of a reference `openai:NAME`."""
    own = None
    if tokenizer is not None:
        from guiju.providers.tokenizers import read_tokenizer

        own = read_tokenizer(tokenizer, vocab_size=1 << 31)  # how many ids the model has, the server does not say
    return OpenAIModel(reference, settings, record_call, own)


def _body(route: Route, prompt: str, asked: _Wishes, limit_name: str) -> dict[str, Any]:
    """The fields of a request; those that are at their defaults are left out."""
    settings, count = asked.settings, asked.settings.num_return_sequences
    limit = DEFAULT_NEW_TOKENS if settings.max_new_tokens is None else settings.max_new_tokens
    body: dict[str, Any] = {"temperature": 0 if settings.is_greedy else settings.temperature, "n": count}
    if settings.top_p is not None:
        body["top_p"] = settings.top_p
    if settings.seed is not None:
        body["seed"] = settings.seed
    if settings.stop:
        body["stop"] = list(settings.stop)
    if route == "completions":
        more = {} if asked.logprobs is None else {"logprobs": asked.logprobs}
        return {"prompt": prompt, "max_tokens": limit, **body, **more}
    more = {} if asked.logprobs is None else {"logprobs": True, "top_logprobs": asked.logprobs}
    return {"messages": [{"role": "user", "content": prompt}], limit_name: limit, **body, **more}


_DEFAULTS = cast(
    "dict[str, Any]",
    {
        "repetition_penalty": 1.0,
        "top_k": None,
        "min_p": None,
        "max_length": None,
        "ignore_eos": False,
        "json_schema": None,
        "regex": None,
        "num_beams": 1,
    },
)
"""Settings that the API has no field for."""


def _require_possible(settings: SamplingSettings, wishes: dict[str, Any]) -> None:
    given = {name: getattr(settings, name) for name in _DEFAULTS} | wishes
    usual = _DEFAULTS | {"runner": "auto", "precision": "auto", "record": False, "prompt_lookup": 0}
    for name, value in given.items():
        if value != usual[name]:
            raise ConfigError(
                f"{name} is {value!r}, but an openai: model is asked over an API that has no such field. Leave it out, "
                f"or use a model of this machine"
            )
