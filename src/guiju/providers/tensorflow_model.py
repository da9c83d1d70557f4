"""A TensorFlow SavedModel that continues and scores text, in the process that loads it: see tensorflow_child.

What `guiju export --to tensorflow` writes has all that it takes, and a token costs one step. Another program's
SavedModel is taken where a signature leads from token ids to logits and a tokenizer lies beside or is given; each token
then costs a pass over the whole text. Seeds repeat a text, but chance is numpy's: not the same text as torch's.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from guiju.errors import ModelError
from guiju.generation import Generation, Reading, Row, SamplingSettings, Task, Text, Work, plan
from guiju.generation import Sequence as Continuation
from guiju.providers.numpy_sampling import NumpyChooser, log_softmax, token_logprob
from guiju.providers.tensorflow_facts import FACTS, GRAPH, Facts, read_facts
from guiju.providers.tensorflow_graph import Cache, Graph
from guiju.providers.tensorflow_library import import_tensorflow
from guiju.providers.tensorflow_safety import require_harmless
from guiju.providers.tokenizers import own_tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from guiju.model import AnyModel
    from guiju.tokens import Tokenizer

_CHUNK = 256
"""Tokens that are read at once where a cache holds the others: logits of a whole long text would fill memory."""


@dataclass(frozen=True)
class GraphModel:
    """A loaded graph with its tokenizer."""

    graph: Graph
    config: Facts
    tokenizer: Tokenizer
    files: tuple[Path, ...]
    """The files that it was read from."""

    def generate(
        self,
        prompts: list[str],
        settings: SamplingSettings,
        logprobs: int | None = None,
        on_text: Callable[[int, str], None] | None = None,
    ) -> Generation[list[Continuation]]:
        """See LanguageModel.generate."""
        writing = _Writing(self, settings, on_text, logprobs)
        tasks = plan(cast("AnyModel", self), self.tokenizer, prompts, settings)  # it reads the config alone
        found = [writing.sequences(task) for task in tasks]
        return Generation(found, Work("tensorflow", "float32", "float32", False, writing.steps, writing.read))

    def read_rows(self, rows: Sequence[Row]) -> list[Reading]:
        """See guiju.generation.Reader. Neighbours that begin alike up to where they count share that."""
        found: dict[int, Reading] = {}
        held = _Held((), self.graph.empty_cache())
        for number in sorted(range(len(rows)), key=lambda number: rows[number].ids):
            found[number], held = self._read_row(rows[number], held)
        return [found[number] for number in range(len(rows))]

    def _read_row(self, row: Row, held: _Held) -> tuple[Reading, _Held]:
        inputs, targets, cut = row.ids[:-1], row.ids[1:], row.first - 1
        nats, greedy = 0.0, True
        if not self.graph.has_cache:
            parts = [(cut, self.graph.read(inputs)[cut:])]
            cached = held
        else:
            if inputs[: len(held.ids)] != held.ids or len(held.ids) > cut:
                held = _Held((), self.graph.empty_cache())
            cache = held.cache
            for start in range(len(held.ids), cut, _CHUNK):
                _, cache = self.graph.step(inputs[start : min(cut, start + _CHUNK)], cache)
            cached, parts = _Held(inputs[:cut], cache), []
            for start in range(cut, len(inputs), _CHUNK):
                logits, cache = self.graph.step(inputs[start : start + _CHUNK], cache)
                parts.append((start, logits))
        for start, logits in parts:
            wanted = targets[start : start + len(logits)]
            logs = log_softmax(logits)
            nats -= float(logs[range(len(wanted)), wanted].sum())
            greedy = greedy and bool((logits.argmax(axis=-1) == wanted).all())
        if not math.isfinite(nats):
            raise ModelError("the model's logits are not numbers, so nothing can be scored: its weights are damaged")
        return Reading(nats, greedy), cached


@dataclass(frozen=True)
class _Held:
    """What was read of a row's beginning."""

    ids: tuple[int, ...]
    cache: Cache


class _Writing:
    """The texts of one call, one after the other."""

    def __init__(
        self,
        model: GraphModel,
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


def load_graph(folder: Path, tokenizer: Path | None = None) -> GraphModel:
    """The model of a SavedModel's folder.

    Args:
        tokenizer: a tokenizer's file, or a folder that holds one; by default what lies in the folder or its assets.
    Raises:
        ModelError: there is no SavedModel, its graph may do more than compute, no signature fits, or no tokenizer does.
        ConfigError: TensorFlow is not installed.
    """
    if not (folder / GRAPH).is_file():
        raise ModelError(
            f"{folder} has no {GRAPH}, so it is no TensorFlow SavedModel. `guiju export RUN --to tensorflow` writes one"
        )
    facts = read_facts(folder / FACTS)
    tf = import_tensorflow()
    require_harmless(folder)
    graph = Graph(tf, _load(tf, folder), folder)
    config = _with_vocabulary(facts, graph, folder)
    own, files = own_tokenizer([folder, folder / "assets", folder / "assets.extra"], tokenizer, config.vocab_size)
    weights = sorted((folder / "variables").glob("variables.*"))
    beside = [path for path in (folder / GRAPH, folder / FACTS) if path.is_file()]
    return GraphModel(graph, config, own, (*beside, *weights, *files))


def _load(tf: Any, folder: Path) -> Any:
    try:
        return tf.saved_model.load(str(folder))
    except Exception as problem:  # of many kinds, as deep as the graph
        what = str(problem).split("\n")[0][:300]
        raise ModelError(
            f"TensorFlow cannot load {folder}: {type(problem).__name__}: {what}. Copy or download it again"
        ) from None


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
