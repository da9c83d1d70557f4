"""`tf:FOLDER`: a TensorFlow SavedModel continues and scores text, in a process of its own that ends with this one.

TensorFlow brings a runtime, threads and memory of its own, and its crashes end the process that they happen in: this
one stays as it was, without torch or TensorFlow in it. See guiju.providers.tensorflow_model for what such a model can.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, overload

from guiju import errors
from guiju.errors import ConfigError, ModelError
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
from guiju.providers.interface import Ability, cannot, in_batches, with_sampling
from guiju.providers.streaming import stream_text
from guiju.providers.tensorflow_facts import GRAPH, Facts
from guiju.providers.tokenizers import own_tokenizer
from guiju.settings import from_mapping, to_mapping
from guiju.storage import sha256_bytes, sha256_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from guiju.tokens import Tokenizer

_CHILD = "import sys; sys.path[:] = {path!r}; from guiju.providers.tensorflow_child import main; main({arguments})"
_BATCH_TOKENS = 2048
_SECONDS_TO_END = 10
_SHOWN = 2000


class TensorflowModel:
    """See guiju.providers.interface.LanguageModel."""

    abilities: frozenset[Ability] = frozenset({"generate", "stream", "score", "score_continuations"})
    continues = True
    labels: tuple[str, ...] = ()
    downloads: tuple[Any, ...] = ()

    def __init__(self, reference: str, tokenizer: Path | None = None) -> None:
        """Start the process and let it load the model.

        Raises:
            ModelError: there is no SavedModel, its graph may do more than compute, no signature fits, or no tokenizer
                does.
            ConfigError: TensorFlow is not installed.
        """
        folder = Path(reference.removeprefix("tf:"))
        if not (folder / GRAPH).is_file():
            raise ModelError(
                f"{folder} has no {GRAPH}, so it is no TensorFlow SavedModel. `guiju export RUN --to tensorflow` "
                f"writes one"
            )
        self.reference = reference
        self.child = Child(folder, tokenizer)
        facts = self.child.ask(None)
        self.config = from_mapping(Facts, facts["config"])
        self.files = tuple(map(Path, facts["files"]))
        places = [folder, folder / "assets", folder / "assets.extra"]
        self.tokenizer: Tokenizer = own_tokenizer(places, tokenizer, self.config.vocab_size)[0]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the names and contents of the files: the same model has the same, wherever it lies."""
        lines = sorted(f"{path.name}\0{sha256_file(path)}\n" for path in self.files)
        return sha256_bytes("".join(lines).encode())

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
        settings = with_sampling(settings, sampling)
        require_known(runner, precision)
        _require_possible(settings, runner, precision, record, prompt_lookup, logprobs)
        several = [prompts] if isinstance(prompts, str) else prompts
        request = {"do": "generate", "prompts": several, "settings": to_mapping(settings), "logprobs": logprobs}
        answer = self.child.ask({**request, "emit": on_text is not None}, on_text)
        found = [[_sequence(one) for one in sequences] for sequences in answer["sequences"]]
        work = Work("tensorflow", "float32", "float32", False, answer["steps"], answer["read"])
        return Generation(found[0], work) if isinstance(prompts, str) else Generation(found, work)

    def generate_each(
        self, prompts: Iterable[str], settings: SamplingSettings | None = None, **wishes: Any
    ) -> Iterator[list[Continuation]]:
        """See LanguageModel.generate_each."""
        return in_batches(self.generate, prompts, {"settings": settings, **wishes})

    def stream(self, prompt: str, settings: SamplingSettings | None = None, **wishes: Any) -> Iterator[str]:
        """See LanguageModel.stream."""
        wishes = {**wishes, "num_return_sequences": 1}
        return stream_text(lambda on_text: self.generate(prompt, settings, on_text=on_text, **wishes))

    def score(self, texts: Iterable[str]) -> list[Score]:
        """How likely the model finds each text: see guiju.generation.score."""
        return list(self.score_each(texts))

    def score_each(self, texts: Iterable[str]) -> Iterator[Score]:
        """The same, in order, a batch at a time."""
        return score_with(self._reader, self.tokenizer, texts)

    def score_continuations(self, pairs: Iterable[tuple[str, str]]) -> list[ContinuationScore]:
        """How likely each (context, continuation) goes on so: see guiju.generation.score_continuations."""
        return list(self.score_continuations_each(pairs))

    def score_continuations_each(self, pairs: Iterable[tuple[str, str]]) -> Iterator[ContinuationScore]:
        """The same, in order, a batch at a time."""
        return score_continuations_with(self._reader, self.tokenizer, pairs)

    def embed(self, texts: Iterable[str]) -> NDArray[np.float32]:
        """Raises ModelError."""
        self._cannot("embed", "a SavedModel gives logits and no vectors of texts")

    def classify(self, texts: Iterable[str], *, stride: int | None = None) -> NDArray[np.float32]:
        """Raises ModelError."""
        self._cannot("classify", "a SavedModel here is a decoder, which has no head of classes")

    def _cannot(self, ability: Ability, why: str) -> NoReturn:
        raise cannot(self.reference, ability, f"{why}. Use the model that it was made from")

    def piece(self, token: int | str) -> str:
        """A token as text, for people."""
        return token if isinstance(token, str) else self.tokenizer.added_bytes(token).decode(errors="replace")

    @property
    def _reader(self) -> Reader:
        return Reader(self._read, self.config.context, _BATCH_TOKENS)

    def _read(self, rows: Sequence[Row]) -> list[Reading]:
        found = self.child.ask({"do": "read", "rows": [[row.ids, row.first] for row in rows]})
        return [Reading(nats, greedy) for nats, greedy in found]


class Child:
    """The process with TensorFlow; one thread at a time talks to it."""

    def __init__(self, folder: Path, tokenizer: Path | None) -> None:
        answers, theirs = os.pipe()
        said = tempfile.TemporaryFile()  # noqa: SIM115 -- closed when the process is
        arguments = f"{theirs}, {str(folder)!r}, {None if tokenizer is None else str(tokenizer)!r}"
        code = _CHILD.format(path=[str(Path(place).absolute()) for place in sys.path], arguments=arguments)
        try:
            process = subprocess.Popen(  # noqa: S603 -- this very Python
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                pass_fds=(theirs,),
                start_new_session=True,  # Ctrl-C is this process's to answer
            )
        finally:
            os.close(theirs)
        self.process, self._said = process, said
        self._answers = os.fdopen(answers, "r", encoding="utf-8")
        self._lock = threading.Lock()
        self.end = weakref.finalize(self, _end, process, self._answers, said)
        """Ends the process; so do the end of this one, and that of the last reference."""

    def ask(self, request: dict[str, Any] | None, on_text: Callable[[int, str], None] | None = None) -> Any:
        """The result of a request, or of the start where there is none.

        Raises:
            GuijuError: of the kind that the child met.
            ModelError: the child is no more.
        """
        with self._lock:
            if request is not None:
                self._send(request)
            try:
                return self._receive(on_text)
            except KeyboardInterrupt:  # between two lines: what comes next would not be understood
                self.end()
                raise

    def _receive(self, on_text: Callable[[int, str], None] | None) -> Any:
        while True:
            line = self._answers.readline()
            if not line.endswith("\n"):
                raise self._ended()
            answer = json.loads(line)
            if "text" in answer and on_text is not None:
                self._tell(on_text, *answer["text"])
            if "error" in answer:
                raise _as_error(answer["error"])
            if "result" in answer:
                return answer["result"]

    def _tell(self, on_text: Callable[[int, str], None], number: int, piece: str) -> None:
        try:
            on_text(number, piece)
        except BaseException:  # nobody wants the rest: let the child stop, and pass over what it yet says
            self._send({"do": "stop"})
            while (line := self._answers.readline()) and "text" in json.loads(line):
                pass
            raise

    def _send(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise self._ended() from None

    def _ended(self) -> ModelError:
        code = self.process.wait()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        self._said.seek(0)
        said = " ".join(self._said.read()[-_SHOWN:].decode(errors="replace").split())
        return ModelError(
            f"TensorFlow's process ended {how}{': ' + said if said else ''}. It may have wanted more memory than there "
            f"is; load the model anew to go on"
        )


def load_tensorflow(reference: str, tokenizer: Path | None = None) -> TensorflowModel:
    """The model of a reference `tf:FOLDER`."""
    return TensorflowModel(reference, tokenizer)


def _end(process: subprocess.Popen[bytes], answers: IO[str], said: IO[bytes]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()  # which is the end for the child
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    answers.close()
    said.close()


def _as_error(told: dict[str, str]) -> errors.GuijuError:
    kind = getattr(errors, told["kind"], None) if told["kind"] else None
    if isinstance(kind, type) and issubclass(kind, errors.GuijuError):
        return kind(told["message"])
    return ModelError(f"TensorFlow's process met an error: {told['message']}")


def _sequence(told: dict[str, Any]) -> Continuation:
    logprobs = told["logprobs"]
    if logprobs is not None:
        logprobs = tuple(
            TokenLogprob(one["logprob"], tuple((token, value) for token, value in one["top"])) for one in logprobs
        )
    return Continuation(**{**told, "ids": tuple(told["ids"]), "logprobs": logprobs})


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
