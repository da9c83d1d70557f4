"""`tf:FOLDER`: a TensorFlow SavedModel continues and scores text, without torch in the process.

What `guiju export --to tensorflow` writes has all that it takes, and a token costs one step. Another program's
SavedModel is taken where a signature leads from token ids to logits and a tokenizer lies beside or is given; each token
then costs a pass over the whole text. Seeds repeat a text, but chance is numpy's: not the same text as torch's.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from guiju.errors import ConfigError, ModelError, StorageError
from guiju.generation import (
    MAX_LOGPROBS,
    Generation,
    SamplingSettings,
    Score,
    Task,
    Text,
    Work,
    plan,
    require_known,
    score_with,
    windows,
)
from guiju.generation import Sequence as Continuation
from guiju.providers.numpy_sampling import NumpyChooser, log_softmax, token_logprob
from guiju.providers.tensorflow_graph import Cache, Graph
from guiju.providers.tensorflow_library import import_tensorflow
from guiju.providers.tensorflow_safety import GRAPH, require_harmless
from guiju.providers.tokenizers import own_tokenizer
from guiju.storage import read_foreign, sha256_bytes, sha256_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from guiju.model import AnyModel
    from guiju.tokens import Tokenizer

FACTS = "guiju.json"
"""What the graph does not say, beside it."""

_UNKNOWN_CONTEXT = 1 << 31
_LARGEST_FACTS = 1 << 20
_CHUNK = 256
"""Tokens that are read at once where a cache holds the others: logits of a whole long text would fill memory."""


@dataclass(frozen=True)
class Facts:
    """Of a model's config, what continuing a text takes; the names are ModelConfig's."""

    vocab_size: int
    context: int = _UNKNOWN_CONTEXT
    stop_ids: tuple[int, ...] = ()
    forced_first_id: int | None = None
    forced_last_id: int | None = None
    never_ids: tuple[int, ...] = ()
    kind: str = "decoder"


@dataclass(frozen=True)
class TensorflowModel:
    """What `load` gives for `tf:FOLDER`; used as a LanguageModel is."""

    reference: str
    graph: Graph
    config: Facts
    tokenizer: Tokenizer
    files: tuple[Path, ...]
    """The files that it was read from."""
    downloads: tuple[Any, ...] = ()
    continues: bool = True
    """See LanguageModel.continues."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of the files: the same model has the same, wherever it lies."""
        lines = sorted(f"{path.name}\0{sha256_file(path)}\n" for path in self.files)
        return sha256_bytes("".join(lines).encode())

    @property
    def model(self) -> Any:
        """A LanguageModel has its weights here.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            f"{self.reference} is a TensorFlow graph, which continues and scores text; its weights cannot be taken out "
            f"of it. Use the model that it was made from"
        )

    @overload
    def generate(
        self,
        prompts: str,
        settings: SamplingSettings | None = None,
        *,
        on_text: Callable[[int, str], None] | None = None,
        **wishes: Any,
    ) -> Generation[Continuation]: ...

    @overload
    def generate(
        self,
        prompts: list[str],
        settings: SamplingSettings | None = None,
        *,
        on_text: Callable[[int, str], None] | None = None,
        **wishes: Any,
    ) -> Generation[list[Continuation]]: ...

    def generate(
        self,
        prompts: str | list[str],
        settings: SamplingSettings | None = None,
        *,
        on_text: Callable[[int, str], None] | None = None,
        runner: str = "auto",
        precision: str = "auto",
        record: bool = False,
        logprobs: int | None = None,
        prompt_lookup: int = 0,
        **sampling: Any,
    ) -> Generation[Continuation] | Generation[list[Continuation]]:
        """Continue a prompt, or each of several: see LanguageModel.generate.

        Raises:
            ConfigError: a wish that is torch's alone: a runner, a precision, record mode, prompt lookup, beams.
        """
        settings = _with(settings, sampling)
        require_known(runner, precision)
        _require_possible(settings, runner, precision, record, prompt_lookup, logprobs)
        several = [prompts] if isinstance(prompts, str) else prompts
        writing = _Writing(self, settings, on_text, logprobs)
        found = [writing.sequences(task) for task in self._plan(several, settings)]
        work = Work("tensorflow", "float32", "float32", False, writing.steps, writing.read)
        return Generation(found[0], work) if isinstance(prompts, str) else Generation(found, work)

    def _plan(self, prompts: list[str], settings: SamplingSettings) -> list[Task]:
        return plan(cast("AnyModel", self), self.tokenizer, prompts, settings)  # it reads the config alone

    def score(self, texts: Iterable[str]) -> list[Score]:
        """How likely the model finds each text: see guiju.generation.score."""
        return list(self.score_each(texts))

    def score_each(self, texts: Iterable[str]) -> Iterator[Score]:
        """The same, one by one as they are asked for."""
        return score_with(partial(_nll_nats, self), self.tokenizer, texts)


class _Writing:
    """The texts of one call, one after the other."""

    def __init__(
        self,
        model: TensorflowModel,
        settings: SamplingSettings,
        on_text: Callable[[int, str], None] | None,
        logprobs: int | None,
    ) -> None:
        self.model, self.settings, self.on_text, self.logprobs = model, settings, on_text, logprobs
        self.seed = secrets.randbits(32) if settings.seed is None else settings.seed
        self.steps = self.read = 0

    def sequences(self, task: Task) -> list[Continuation]:
        """Of one prompt, which is read once."""
        logits, cache = self._read(task.ids, (), self.model.graph.empty_cache())
        return [self._sequence(task, index, logits, cache) for index in range(self.settings.num_return_sequences)]

    def _sequence(self, task: Task, index: int, logits: NDArray[np.float32], cache: Cache) -> Continuation:
        settings, tokenizer = self.settings, self.model.tokenizer
        restriction = task.restriction()
        number = task.number * settings.num_return_sequences + index
        emit = None if self.on_text is None else partial(self.on_text, number)
        text = Text(task, tokenizer, settings, restriction, emit)
        chooser = NumpyChooser(
            settings, task.ids, logits.size, self.seed, index, text_size=tokenizer.vocab_size, restriction=restriction
        )
        ids: list[int] = []
        likelihoods = []
        while True:
            token = chooser.choose(logits)
            ids.append(token)
            if self.logprobs is not None:
                likelihoods.append(token_logprob(logits, token, self.logprobs))
            stopped = text.take(token)
            if stopped or len(ids) == task.limit:
                seed = None if settings.is_greedy else self.seed
                return text.sequence(ids, stopped, seed, None if self.logprobs is None else tuple(likelihoods))
            logits, cache = self._read([token], (*task.ids, *ids[:-1]), cache)

    def _read(self, ids: Sequence[int], before: Sequence[int], cache: Cache) -> tuple[NDArray[np.float32], Cache]:
        """Logits (vocab,) of what may follow the last of `ids`, and the cache with them."""
        graph = self.model.graph
        if not graph.has_cache:
            self.steps, self.read = self.steps + 1, self.read + len(before) + len(ids)
            return graph.read([*before, *ids])[-1], cache
        rows = None
        for start in range(0, len(ids), _CHUNK):
            rows, cache = graph.step(ids[start : start + _CHUNK], cache)
            self.steps += 1
        self.read += len(ids)
        assert rows is not None
        return rows[-1], cache


def load_tensorflow(reference: str, tokenizer: Path | None = None) -> TensorflowModel:
    """The model of a reference `tf:FOLDER`.

    Args:
        tokenizer: a tokenizer's file, or a folder that holds one; by default what lies in the folder or its assets.
    Raises:
        ModelError: there is no SavedModel, its graph may do more than compute, no signature fits, or no tokenizer does.
        ConfigError: TensorFlow is not installed.
    """
    folder = Path(reference.removeprefix("tf:"))
    if not (folder / GRAPH).is_file():
        raise ModelError(
            f"{folder} has no {GRAPH}, so it is no TensorFlow SavedModel. `guiju export RUN --to tensorflow` writes one"
        )
    facts = _read_facts(folder / FACTS)
    tf = import_tensorflow()
    require_harmless(folder)
    graph = Graph(tf, _load(tf, folder), folder)
    config = _with_vocabulary(facts, graph, folder)
    own, files = own_tokenizer([folder, folder / "assets", folder / "assets.extra"], tokenizer, config.vocab_size)
    weights = sorted((folder / "variables").glob("variables.*"))
    beside = [path for path in (folder / GRAPH, folder / FACTS) if path.is_file()]
    return TensorflowModel(reference, graph, config, own, (*beside, *weights, *files))


def _load(tf: Any, folder: Path) -> Any:
    try:
        return tf.saved_model.load(str(folder))
    except Exception as problem:  # of many kinds, as deep as the graph
        what = str(problem).split("\n")[0][:300]
        raise ModelError(
            f"TensorFlow cannot load {folder}: {type(problem).__name__}: {what}. Copy or download it again"
        ) from None


def _read_facts(path: Path) -> dict[str, Any]:
    """What guiju.json says, checked; of another program's model, nothing."""
    found: dict[str, Any] = {}
    for name, value in _read_object(path).items() if path.exists() else ():
        if name == "format":
            if value != 1:
                raise ModelError(f"{path} is of format {value!r}; this version reads 1. Use a newer guiju")
        elif name in ("vocab_size", "context"):
            found[name] = _whole(path, name, value, 1)
        elif name in ("stop_ids", "never_ids"):
            values = value if isinstance(value, list) else [value]
            found[name] = tuple(_whole(path, name, one, 0) for one in values)
        elif name in ("forced_first_id", "forced_last_id"):
            found[name] = None if value is None else _whole(path, name, value, 0)
        else:
            raise ModelError(f"{path} has a field {name!r} that this version does not know. Use a newer guiju")
    return found


def _with_vocabulary(facts: dict[str, Any], graph: Graph, folder: Path) -> Facts:
    size = graph.vocab_size
    if size is None:
        size = graph.read([0]).shape[-1]
    if facts.setdefault("vocab_size", size) != size:
        raise ModelError(
            f"{folder / FACTS} says vocab_size {facts['vocab_size']}, but the graph's logits have {size} columns"
        )
    known = Facts(**facts)
    ids = {*known.stop_ids, *known.never_ids, known.forced_first_id, known.forced_last_id} - {None}
    beyond = sorted(token for token in ids if token is not None and token >= size)
    if beyond:
        raise ModelError(f"{folder / FACTS} names the id {beyond[0]}, but ids run from 0 to {size - 1}")
    return known


def _read_object(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(read_foreign(path, _LARGEST_FACTS))
    except StorageError as problem:
        raise ModelError(str(problem)) from None
    except (ValueError, RecursionError) as problem:
        raise ModelError(f"{path} is not valid JSON: {problem}") from None
    if not isinstance(data, dict):
        raise ModelError(f"{path} must hold a JSON object, not {type(data).__name__}")
    return data


def _whole(path: Path, name: str, value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _UNKNOWN_CONTEXT:
        raise ModelError(f"{path}: {name} is {value!r}; it must be a whole number of at least {least}")
    return value


def _with(settings: SamplingSettings | None, sampling: dict[str, Any]) -> SamplingSettings:
    try:
        return replace(settings or SamplingSettings(), **sampling)
    except TypeError:
        known = ", ".join(SamplingSettings.__dataclass_fields__)
        unknown = sorted(set(sampling) - set(SamplingSettings.__dataclass_fields__))
        raise ConfigError(f"generate knows no setting {', '.join(unknown)}; there are: {known}") from None


def _require_possible(
    settings: SamplingSettings, runner: str, precision: str, record: bool, prompt_lookup: int, logprobs: int | None
) -> None:
    wishes = {
        f"runner is {runner!r}": runner != "auto",
        f"precision is {precision!r}": precision not in ("auto", "float32"),
        "record is asked for": record,
        f"prompt_lookup is {prompt_lookup}": prompt_lookup != 0,
        f"num_beams is {settings.num_beams}": settings.is_beam_search,
    }
    for wish, given in wishes.items():
        if given:
            raise ConfigError(
                f"{wish}, but a tf: model is computed by TensorFlow in float32, token by token. Leave it out, or use "
                f"the model that it was made from"
            )
    if logprobs is not None and not 0 <= logprobs <= MAX_LOGPROBS:
        raise ConfigError(f"logprobs is {logprobs}; it must be between 0 and {MAX_LOGPROBS} alternatives")


def _nll_nats(model: TensorflowModel, ids: list[int]) -> float:
    """Sum of -ln p over all ids but the first."""
    total = 0.0
    for begin, done, end in windows(len(ids) - 1, model.config.context):
        cache, read = model.graph.empty_cache(), begin
        while read < end:
            last = min(end, read + _CHUNK) if model.graph.has_cache else end
            if model.graph.has_cache:
                logits, cache = model.graph.step(ids[read:last], cache)
            else:
                logits = model.graph.read(ids[read:last])
            first = max(done, read)  # what stands before was counted by the window before
            if first < last:
                logs = log_softmax(logits[first - read :])
                targets = ids[first + 1 : last + 1]
                total -= float(logs[range(len(targets)), targets].sum())
            read = last
    return total
