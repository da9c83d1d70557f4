"""`transformers:FOLDER`: any causal or sequence-to-sequence model that the transformers library computes.

For models whose shape is none of ours (`guiju.load(FOLDER)` reads those that are, and is faster). A folder, or a name
that lies in the Hugging Face cache: nothing is fetched, no code of a model is run, and weights are safetensors.
Axes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, overload

from guiju.errors import ConfigError, DataError, ModelError
from guiju.generation import (
    MAX_LOGPROBS,
    ContinuationScore,
    Generation,
    Reader,
    Reading,
    Row,
    SamplingSettings,
    Score,
    TokenLogprob,
    Work,
    require_known,
    score_continuations_with,
    score_with,
)
from guiju.generation import Sequence as Continuation
from guiju.generation.settings import DEFAULT_NEW_TOKENS
from guiju.providers.interface import Ability, cannot, in_batches, with_sampling
from guiju.providers.streaming import stream_text
from guiju.providers.transformers_library import Loaded, Words, load_folder
from guiju.storage import sha256_bytes, sha256_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LOGITS_BYTES = 256 << 20
"""The library gives logits of every token: so many bytes of them at once."""

_BATCH_TOKENS = 2048


class TransformersModel:
    """See guiju.providers.interface.LanguageModel."""

    downloads: tuple[Any, ...] = ()
    labels: tuple[str, ...] = ()

    def __init__(self, reference: str, loaded: Loaded) -> None:
        self.reference, self.network, self.words = reference, loaded.network, loaded.words
        self.files, self.context, self.is_pair = loaded.files, loaded.context, loaded.is_pair
        self.vocab_size = int(self.network.get_output_embeddings().weight.shape[0])

    @property
    def abilities(self) -> frozenset[Ability]:
        if self.is_pair:
            return frozenset({"generate", "stream", "score_continuations", "embed"})
        return frozenset({"generate", "stream", "score", "score_continuations", "embed"})

    @property
    def continues(self) -> bool:
        """Whether a text goes on from its prompt; beside an encoder it stands for itself."""
        return not self.is_pair

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of the files: the same model has the same, wherever it lies."""
        lines = sorted(f"{path.name}\0{sha256_file(path)}\n" for path in self.files)
        return sha256_bytes("".join(lines).encode())

    # -- writing -----------------------------------------------------------------------------------------------

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
        """See LanguageModel.generate. Prompts are written of one by one, by the library's own `generate`.

        Raises:
            ConfigError: a wish that is our engine's alone: a runner, a precision, record mode, prompt lookup, a form.
        """
        settings = with_sampling(settings, sampling)
        require_known(runner, precision)
        _require_possible(settings, runner, precision, record, prompt_lookup, logprobs)
        several = [prompts] if isinstance(prompts, str) else prompts
        seed = secrets.randbits(32) if settings.seed is None else settings.seed
        found, steps = [], 0
        for number, prompt in enumerate(several):
            emit = None
            if on_text is not None:
                emit = _Emitting(on_text, number * settings.num_return_sequences)
            found.append(self._write(prompt, settings, seed, logprobs, emit))
            steps += max(len(one.ids) for one in found[-1])
        name = str(self.network.dtype).removeprefix("torch.")
        work = Work("transformers", name, name, False, steps, steps)
        return Generation(found[0], work) if isinstance(prompts, str) else Generation(found, work)

    def _write(
        self, prompt: str, settings: SamplingSettings, seed: int, logprobs: int | None, emit: _Emitting | None
    ) -> list[Continuation]:
        import torch

        ids = self.words.source_ids(prompt) if self.is_pair else self.words.prompt_ids(prompt)
        front = [] if self.is_pair else ids
        limit = self._limit(len(front), settings)
        read = torch.tensor([ids], device=self.network.device)
        if emit is not None and settings.num_return_sequences == 1 and not settings.is_beam_search:
            emit.begin(self.words, front, settings.stop)
        else:
            emit, waiting = None, emit
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            made = self.network.generate(
                read,
                attention_mask=torch.ones_like(read),
                streamer=emit,
                return_dict_in_generate=True,
                output_logits=logprobs is not None,
                output_scores=settings.is_beam_search,
                max_new_tokens=limit,
                pad_token_id=self.words.pad_id,
                **self._as_theirs(settings),
            )
        skipped = 1 if self.is_pair else len(ids)  # the decoder's start token, or the prompt
        sequences = []
        for index, row in enumerate(made.sequences[:, skipped:].tolist()):
            kept, ended = self._until_end(row, settings)
            text, stopped = _until_stop(self.words.continuation(front, kept), settings.stop)
            told = None if settings.is_greedy or settings.is_beam_search else seed
            likelihoods = None
            if logprobs is not None:
                likelihoods = tuple(_logprob(made.logits[t][index], kept[t], logprobs) for t in range(len(kept)))
            score = float(made.sequences_scores[index]) if settings.is_beam_search else None
            reason = "stop" if ended or stopped else "length"
            sequences.append(Continuation(text, tuple(kept), reason, told, likelihoods, score))  # type: ignore[arg-type]
        if emit is None and waiting is not None:
            for index, one in enumerate(sequences):
                waiting.on_text(waiting.first + index, one.text)
        return sequences

    def _limit(self, prompt: int, settings: SamplingSettings) -> int:
        room = None if self.is_pair or self.context is None else self.context + 1 - prompt
        if settings.max_length is not None:
            wanted = settings.max_length - (1 if self.is_pair else prompt)
        elif settings.max_new_tokens is not None:
            wanted = settings.max_new_tokens
        else:
            wanted = DEFAULT_NEW_TOKENS if room is None else min(DEFAULT_NEW_TOKENS, room)
        if wanted < 1 or (room is not None and wanted > room):
            raise ModelError(
                f"{wanted} new tokens after a prompt of {prompt} do not fit: the model's context is {self.context}. "
                f"Ask for fewer, or shorten the prompt"
            )
        return wanted

    def _as_theirs(self, settings: SamplingSettings) -> dict[str, Any]:
        """The names and defaults of the library, whose own settings in the folder are not taken over."""
        greedy = settings.is_greedy or settings.is_beam_search
        given: dict[str, Any] = {"do_sample": not greedy, "num_return_sequences": settings.num_return_sequences}
        given |= {"repetition_penalty": settings.repetition_penalty, "num_beams": settings.num_beams}
        if settings.is_beam_search:
            given |= {"length_penalty": settings.length_penalty, "early_stopping": settings.early_stopping}
        if not greedy:
            given |= {"temperature": settings.temperature, "top_k": settings.top_k or 0}
            given |= {"top_p": 1.0 if settings.top_p is None else settings.top_p, "min_p": settings.min_p}
        if settings.stop:
            given |= {"stop_strings": list(settings.stop), "tokenizer": self.words.tokenizer}
        given["eos_token_id"] = None if settings.ignore_eos else (sorted(self._ends) or None)
        return given

    @cached_property
    def _ends(self) -> frozenset[int]:
        own = self.network.generation_config.eos_token_id
        ids = own if isinstance(own, list) else [own if own is not None else self.words.end_id]
        return frozenset(token for token in ids if token is not None)

    def _until_end(self, row: list[int], settings: SamplingSettings) -> tuple[list[int], bool]:
        """A row without what fills it up behind its end."""
        if not settings.ignore_eos:
            for place, token in enumerate(row):
                if token in self._ends:
                    return row[: place + 1], True
        return row, False

    def generate_each(
        self, prompts: Iterable[str], settings: SamplingSettings | None = None, **wishes: Any
    ) -> Iterator[list[Continuation]]:
        """See LanguageModel.generate_each."""
        return in_batches(self.generate, prompts, {"settings": settings, **wishes})

    def stream(self, prompt: str, settings: SamplingSettings | None = None, **wishes: Any) -> Iterator[str]:
        """See LanguageModel.stream."""
        wishes = {**wishes, "num_return_sequences": 1}
        return stream_text(lambda on_text: self.generate(prompt, settings, on_text=on_text, **wishes))

    # -- scoring -----------------------------------------------------------------------------------------------

    def score(self, texts: Iterable[str]) -> list[Score]:
        """How likely the model finds each text: see guiju.generation.score."""
        return list(self.score_each(texts))

    def score_each(self, texts: Iterable[str]) -> Iterator[Score]:
        """The same, in order, a batch at a time."""
        if self.is_pair:
            self._cannot("score", "it has a probability of a text only beside its source, and a text comes alone")
        return score_with(self._reader, self.words, texts)

    def score_continuations(self, pairs: Iterable[tuple[str, str]]) -> list[ContinuationScore]:
        """How likely each (context, continuation) goes on so: see guiju.generation.score_continuations."""
        return list(self.score_continuations_each(pairs))

    def score_continuations_each(self, pairs: Iterable[tuple[str, str]]) -> Iterator[ContinuationScore]:
        """The same, in order, a batch at a time."""
        if not self.is_pair:
            return score_continuations_with(self._reader, self.words, pairs)
        return (self._beside_source(number, *pair) for number, pair in enumerate(pairs))

    @property
    def _reader(self) -> Reader:
        return Reader(self._read, self.context or 1 << 31, _BATCH_TOKENS)

    def _read(self, rows: Sequence[Row]) -> list[Reading]:
        import torch

        most = min(_BATCH_TOKENS, max(1, _LOGITS_BYTES // (4 * self.vocab_size)))
        numbers = sorted(range(len(rows)), key=lambda number: len(rows[number].ids))
        found: dict[int, Reading] = {}
        with torch.inference_mode():
            while numbers:
                count = 1
                while count < len(numbers) and (count + 1) * len(rows[numbers[count]].ids) <= most:
                    count += 1
                batch, numbers = numbers[:count], numbers[count:]
                longest = len(rows[batch[-1]].ids) - 1
                ids = torch.zeros(count, longest, dtype=torch.long)  # (B, T)
                real = torch.zeros(count, longest, dtype=torch.long)
                for place, number in enumerate(batch):
                    own = rows[number].ids[:-1]
                    ids[place, : len(own)], real[place, : len(own)] = torch.tensor(own), 1
                device = self.network.device
                logits = self.network(input_ids=ids.to(device), attention_mask=real.to(device)).logits  # (B, T, V)
                for place, number in enumerate(batch):
                    row = rows[number]
                    own = logits[place, row.first - 1 : len(row.ids) - 1].float()
                    found[number] = _judged(own, row.ids[row.first :])
        return [found[number] for number in range(len(rows))]

    def _beside_source(self, number: int, source: str, target: str) -> ContinuationScore:
        import torch

        ids = self.words.encode_target(target)
        if not ids:
            raise DataError(
                f"the continuation of pair {number} is empty: it has no token, so there is nothing to score"
            )
        start = self.network.generation_config.decoder_start_token_id
        start = self.network.config.decoder_start_token_id if start is None else start
        device = self.network.device
        with torch.inference_mode():
            logits = self.network(
                input_ids=torch.tensor([self.words.source_ids(source)], device=device),
                decoder_input_ids=torch.tensor([[start, *ids[:-1]]], device=device),
            ).logits[0]
        found = _judged(logits.float(), ids)
        return ContinuationScore(found.nll_nats, len(ids), found.greedy)

    # -- vectors -----------------------------------------------------------------------------------------------

    def embed(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """The mean of the last layer's vectors, (n, width): of the encoder where there is one.

        Raises:
            DataError: a text is empty.
        """
        import numpy as np
        import torch

        if isinstance(texts, str):
            raise ConfigError("texts is one text; give a list of texts")
        found = []
        for number, text in enumerate(texts):
            if not text:
                raise DataError(f"text {number} is empty: it has no token, so there is nothing to read")
            ids = self.words.source_ids(text) if self.is_pair else self.words.prompt_ids(text)
            read = torch.tensor([ids], device=self.network.device)
            with torch.inference_mode():
                if self.is_pair:
                    hidden = self.network.get_encoder()(input_ids=read).last_hidden_state
                else:
                    hidden = self.network(input_ids=read, output_hidden_states=True).hidden_states[-1]
            found.append(hidden[0].float().mean(dim=0).cpu().numpy())
        return np.stack(found) if found else np.zeros((0, 0), dtype=np.float32)

    def classify(self, texts: Iterable[str], *, stride: int | None = None) -> NDArray[np.float32]:
        """Raises ModelError."""
        self._cannot("classify", "it is loaded with the head that says tokens; load a folder with a head of classes by "
                     "its path alone")  # fmt: skip

    def _cannot(self, ability: Ability, why: str) -> NoReturn:
        raise cannot(self.reference, ability, why)

    def piece(self, token: int | str) -> str:
        """A token as text, for people."""
        return token if isinstance(token, str) else self.words.continuation([], [token])


class _Emitting:
    """A streamer, as the library calls it: gives out text as it becomes certain."""

    def __init__(self, on_text: Callable[[int, str], None], first: int) -> None:
        self.on_text, self.first = on_text, first

    def begin(self, words: Words, front: list[int], stops: Sequence[str]) -> None:
        self._words, self._front, self._stops = words, front, stops
        self._ids: list[int] = []
        self._given, self._skip, self._over = 0, 1, False
        self._longest = max(map(len, stops), default=1)

    def put(self, ids: Any) -> None:
        if self._skip:  # the prompt comes first
            self._skip = 0
            return
        self._ids += ids.reshape(-1).tolist()
        text = self._words.continuation(self._front, self._ids)
        text, stopped = _until_stop(text, self._stops)
        # A character that is not whole yet, and what may become a stop text, wait.
        end = len(text) if stopped else max(self._given, len(text.rstrip("\ufffd")) - self._longest + 1)
        self._give(text, end)
        self._over = self._over or stopped

    def end(self) -> None:
        if not self._over:
            text = _until_stop(self._words.continuation(self._front, self._ids), self._stops)[0]
            self._give(text, len(text))

    def _give(self, text: str, end: int) -> None:
        if end > self._given and not self._over:
            self.on_text(self.first, text[self._given : end])
            self._given = end


def load_transformers(reference: str, tokenizer: Path | None = None) -> TransformersModel:
    """The model of a reference `transformers:FOLDER`."""
    return TransformersModel(reference, load_folder(reference.removeprefix("transformers:"), tokenizer))


def _judged(logits: Any, ids: Sequence[int]) -> Reading:
    """(n, V) logits and n ids."""
    import torch

    wanted = torch.tensor(list(ids), device=logits.device)[:, None]
    nats = float((logits.logsumexp(dim=-1) - logits.gather(1, wanted)[:, 0]).double().sum())
    if not math.isfinite(nats):
        raise ModelError("the model's logits are not numbers, so nothing can be scored: its weights are damaged")
    return Reading(nats, bool((logits.argmax(dim=-1) == wanted[:, 0]).all()))


def _logprob(logits: Any, token: int, count: int) -> TokenLogprob:
    logs = logits.float().log_softmax(dim=-1)
    best = logs.topk(count)
    return TokenLogprob(float(logs[token]), tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True)))


def _until_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _require_possible(
    settings: SamplingSettings, runner: str, precision: str, record: bool, prompt_lookup: int, logprobs: int | None
) -> None:
    wishes = {
        f"runner is {runner!r}": runner != "auto",
        f"precision is {precision!r}": precision != "auto",
        "record is asked for": record,
        f"prompt_lookup is {prompt_lookup}": prompt_lookup != 0,
        "a form is asked for (json_schema or regex)": settings.json_schema is not None or settings.regex is not None,
    }
    for wish, given in wishes.items():
        if given:
            raise ConfigError(
                f"{wish}, but a transformers: model is computed by that library as it is. Leave it out, or load the "
                f"folder by its path alone, where its shape is one of ours"
            )
    if logprobs is not None and not 0 <= logprobs <= MAX_LOGPROBS:
        raise ConfigError(f"logprobs is {logprobs}; it must be between 0 and {MAX_LOGPROBS} alternatives")
