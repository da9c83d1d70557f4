"""Prompts become texts: the engine's tokens as characters, up to a stop text or the end."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sized
from collections.abc import Sequence as Several
from functools import partial
from typing import TYPE_CHECKING

from guiju.errors import ConfigError
from guiju.generation.beam import BeamSearch
from guiju.generation.beam_engine import BeamEngine, Job
from guiju.generation.engine import Engine
from guiju.generation.requests import Branch, Handle, Request
from guiju.generation.result import Generation, Sequence, Work
from guiju.generation.runner import Runner, open_runner
from guiju.generation.sampling import Chooser
from guiju.generation.settings import MAX_LOGPROBS, MAX_LOOKUP, SamplingSettings
from guiju.generation.tasks import Task, plan
from guiju.generation.texts import Text

if TYPE_CHECKING:
    from guiju.model import AnyModel
    from guiju.tokens import Tokenizer

OnText = Callable[[int, str], None]


def generate(
    model: AnyModel,
    tokenizer: Tokenizer,
    prompts: Several[str | Several[int]],
    settings: SamplingSettings | None = None,
    on_text: OnText | None = None,
    *,
    runner: Runner | Callable[[], Runner] | None = None,
    record: bool = False,
    logprobs: int | None = None,
    prompt_lookup: int = 0,
) -> Generation[list[Sequence]]:
    """Continue each prompt; for each, as many sequences as the settings say.

    A prompt is read as transformers' tokenizer gives it: with the token in front that its layout puts there. An empty
    prompt is BOS alone, or the end-of-text token where there is no BOS. Beside an encoder, a prompt is the source text
    that an answer is written of. A prompt may also be ids, which are taken as they are, special tokens included.

    Args:
        on_text: is called with a sequence's number and a piece of its text as soon as it is certain: whole characters,
            no part of a stop text. Numbers count through: prompt x num_return_sequences + place among the prompt's.
        runner: what computes (see open_runner), or what opens it once nothing speaks against the wishes; by default
            torch, in the model's own precision.
        record: an answer is bit for bit what its prompt has alone, however many there are. Slower for many.
        logprobs: give each token's log-probability, and so many of the likeliest ones' beside it.
        prompt_lookup: guess up to so many next tokens out of the text itself and check them at once: faster where the
            text copies or edits, and the tokens are the same.
    Raises:
        ConfigError: max_length leaves no room after the prompt, wishes that exclude each other, or a form that cannot
            be.
        ModelError: a prompt, or prompt and wanted tokens, exceed the context; tokenizer and model do not fit; or the
            model is an encoder alone.
    """
    if isinstance(prompts, str):
        raise ConfigError("prompts is one text; give a list of texts")
    if not isinstance(prompts, Sized) or any(not isinstance(prompt, str | Iterable) for prompt in prompts):
        raise ConfigError(f"prompts is {str(prompts)[:80]}; it must be a list of texts, or of lists of ids")
    settings = settings or SamplingSettings()
    _require_counts(settings, logprobs, prompt_lookup)
    tasks = plan(model, tokenizer, prompts, settings)
    if runner is None:
        runner = open_runner(model, runner="torch", record=record)
    elif callable(runner):
        runner = runner()
    if record and runner.record_chunk is None:
        raise ConfigError("record is asked for, but the runner given has no record mode; open it with record=True")
    for task in tasks:
        if task.source is not None:
            task.source.read_by(runner)
    if settings.is_beam_search:
        return _search(runner, tokenizer, tasks, settings, on_text)
    return _write(runner, tokenizer, tasks, settings, on_text, logprobs, prompt_lookup)


def _write(
    runner: Runner,
    tokenizer: Tokenizer,
    tasks: Several[Task],
    settings: SamplingSettings,
    on_text: OnText | None,
    logprobs: int | None,
    prompt_lookup: int,
) -> Generation[list[Sequence]]:
    """Token by token, each drawn or the likeliest."""
    seed = secrets.randbits(32) if settings.seed is None else settings.seed
    engine = Engine(runner)
    handles, texts = [], []
    for task in tasks:
        choices, own = [], []
        for index in range(settings.num_return_sequences):
            held = task.restriction()
            emit = _numbered(on_text, task.number * settings.num_return_sequences + index)
            own.append(Text(task, tokenizer, settings, held, emit))
            filters = () if held is None else (held,)
            choices.append(
                Chooser(
                    settings, task.ids, runner.vocab_size, seed, index, text_size=tokenizer.vocab_size, filters=filters
                )
            )
        takes = [text.take for text in own]
        handles.append(engine.add(Request(task.ids, task.limit, choices, takes, logprobs, prompt_lookup, task.source)))
        texts.append(own)
    while engine.step():
        for handle in engine.failed:  # what is left would be for nothing
            _raise(handle)
    told = None if settings.is_greedy else seed
    results = [
        [_sequence(branch, text, told) for branch, text in zip(handle.branches, own, strict=True)]
        for handle, own in zip(handles, texts, strict=True)
    ]
    counts = engine.counts
    return Generation(results, _work(runner, counts.steps, counts.tokens, counts.drafted, counts.accepted))


def _search(
    runner: Runner,
    tokenizer: Tokenizer,
    tasks: Several[Task],
    settings: SamplingSettings,
    on_text: OnText | None,
) -> Generation[list[Sequence]]:
    """By beam search: a text is given out when the search for it is over."""
    engine = BeamEngine(runner)
    results: list[list[Sequence]] = [[] for _ in tasks]

    def finish(task: Task, job: Job) -> None:
        for index, found in enumerate(job.search.results()):
            text = Text(
                task, tokenizer, settings, None, _numbered(on_text, task.number * settings.num_return_sequences + index)
            )
            for token in found.ids:
                text.take(token)
            results[task.number].append(text.sequence(found.ids, found.ended, score=found.score))

    def stops(task: Task, ids: tuple[int, ...]) -> bool:
        text = Text(task, tokenizer, settings)
        return any(text.take(token) for token in ids)

    jobs = []
    for task in tasks:
        search = BeamSearch(
            settings,
            task.ids,
            task.limit,
            task.ends,
            task.restriction(),
            text_size=tokenizer.vocab_size,
            stops=partial(stops, task) if settings.stop else lambda ids: False,
        )
        jobs.append(Job(search, partial(finish, task), task.source))
    engine.run(jobs)
    return Generation(results, _work(runner, engine.steps, engine.tokens))


def _work(runner: Runner, steps: int, tokens: int, drafted: int = 0, accepted: int = 0) -> Work:
    record = runner.record_chunk is not None
    return Work(runner.name, runner.precision, runner.arithmetic, record, steps, tokens, drafted, accepted)


def _numbered(on_text: OnText | None, number: int) -> Callable[[str], None] | None:
    return None if on_text is None else lambda text: on_text(number, text)


def _raise(handle: Handle) -> None:
    if handle.error is not None:
        raise handle.error


def _sequence(branch: Branch, text: Text, seed: int | None) -> Sequence:
    logprobs = None if branch.request.logprobs is None else tuple(branch.logprobs)
    return text.sequence(branch.ids, branch.finish_reason == "stop", seed, logprobs)


def _require_counts(settings: SamplingSettings, logprobs: int | None, prompt_lookup: int) -> None:
    if logprobs is not None and not 0 <= logprobs <= MAX_LOGPROBS:
        raise ConfigError(f"logprobs is {logprobs}; it must be between 0 and {MAX_LOGPROBS} alternatives")
    if not 0 <= prompt_lookup <= MAX_LOOKUP:
        raise ConfigError(f"prompt_lookup is {prompt_lookup}; it must be between 0 and {MAX_LOOKUP} tokens")
    for name, wanted in (("logprobs", logprobs is not None), ("prompt_lookup", prompt_lookup > 0)):
        if wanted and settings.is_beam_search:
            raise ConfigError(
                f"{name} is given, but num_beams is {settings.num_beams}, and a search goes through texts that it does "
                f"not keep. Leave out one of them; each found text has a score"
            )
