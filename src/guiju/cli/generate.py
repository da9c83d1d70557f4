"""Continue a prompt, or translate or summarise one: greedy, sampled or searched, one or several sequences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from guiju.cli.loading import MODEL, AllowPickle, load_shown
from guiju.cli.screen import print_json, table
from guiju.errors import ConfigError, StorageError

if TYPE_CHECKING:
    from guiju.generation import Generation, Sequence, Work
    from guiju.providers import LanguageModel

NAME = "generate"
LARGEST_SCHEMA = 1 << 20
"""Bytes; far above what a schema may have."""

EXAMPLE = 'Example: guiju generate --model runs/quickstart --prompt "Once upon a time" --top-k 50 --seed 1'


def command(
    model: Annotated[str, typer.Option(help=MODEL, show_default=False)],
    prompt: Annotated[str, typer.Option(help="what to continue; empty for the beginning of a text")] = "",
    tokenizer: Annotated[
        str | None, typer.Option(help="the tokenizer's file, where it is not beside the model")
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="always the likeliest token")] = False,
    temperature: Annotated[float, typer.Option(help="above 1 bolder, below 1 safer")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="only the k likeliest tokens")] = None,
    top_p: Annotated[float | None, typer.Option(help="only the likeliest tokens that hold this probability")] = None,
    min_p: Annotated[float | None, typer.Option(help="only tokens with this share of the best one's chance")] = None,
    repetition_penalty: Annotated[float, typer.Option(help="above 1: what was said becomes less likely")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="makes sampling repeatable")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="at most so many tokens (50 where not given)")] = None,
    max_length: Annotated[int | None, typer.Option(help="the same, counting the prompt's tokens too")] = None,
    num_return_sequences: Annotated[int, typer.Option(help="how many continuations")] = 1,
    stop: Annotated[list[str] | None, typer.Option(help="end before this text; may be repeated")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="go on past the end of the text")] = False,
    num_beams: Annotated[int, typer.Option(help="above 1: beam search, for translations and summaries")] = 1,
    length_penalty: Annotated[float, typer.Option(help="of beam search: above 0 favours long texts")] = 1.0,
    early_stopping: Annotated[
        str, typer.Option(help="of beam search: end at num_beams texts (true), by a good guess (false), or never")
    ] = "false",
    json_schema: Annotated[
        str | None, typer.Option(help='JSON of this schema: its file, or text such as {"type": "object"}')
    ] = None,
    regex: Annotated[str | None, typer.Option(help="text that matches this pattern as a whole")] = None,
    runner: Annotated[
        str, typer.Option(help="what computes: auto, torch or openvino (auto: openvino where guiju[cpu] is installed)")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="of the weights: auto (the model's own), float32, bfloat16, int8 or int4")
    ] = "auto",
    record: Annotated[
        bool, typer.Option("--record", help="the same bits as in any other batch; computed by torch")
    ] = False,
    logprobs: Annotated[
        int | None, typer.Option(help="log-probability of each token, and so many of the likeliest beside it")
    ] = None,
    prompt_lookup: Annotated[
        int,
        typer.Option(help="guess so many tokens out of the text and check them at once: faster for copies, same text"),
    ] = 0,
    allow_pickle: AllowPickle = False,
    json: Annotated[bool, typer.Option("--json", help="sequences with ids and finish reason as JSON")] = False,
) -> None:
    from guiju.generation import SamplingSettings, form_of, require_known

    require_known(runner, precision)
    settings = SamplingSettings(
        greedy=greedy,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        max_new_tokens=max_new_tokens,
        max_length=max_length,
        num_return_sequences=num_return_sequences,
        stop=tuple(stop or ()),
        ignore_eos=ignore_eos,
        num_beams=num_beams,
        length_penalty=length_penalty,
        early_stopping=_early_stopping(early_stopping),
        json_schema=None if json_schema is None else _schema(json_schema),
        regex=regex,
    )
    form_of(settings)  # a form that cannot be is said before a model is read
    options: dict[str, Any] = {
        "runner": runner,
        "precision": precision,
        "record": record,
        "logprobs": logprobs,
        "prompt_lookup": prompt_lookup,
    }
    language_model = load_shown(model, tokenizer, allow_pickle)
    if json:
        print_json(_as_json(language_model.generate(prompt, settings, **options)))
        return
    front = prompt if language_model.continues else ""  # a translation does not begin with its source
    show = None if num_return_sequences > 1 else _Showing(front)
    found = language_model.generate(prompt, settings, on_text=show, **options)
    if show is not None:
        typer.echo("" if show.begun else front)
    for number, sequence in enumerate(found, start=1):
        if show is None:
            typer.echo(f"--- {number} ---\n{front}{sequence.text}")
        if sequence.logprobs is not None:
            typer.echo(_likelihoods(language_model, sequence))
    typer.echo(_told(found.work), err=True)


def _schema(given: str) -> str:
    """A schema's text: what was given itself, or what its file holds."""
    from guiju.storage import read_foreign

    if given.lstrip().startswith("{") or given.strip() in ("true", "false"):
        return given
    try:
        return read_foreign(Path(given), LARGEST_SCHEMA).decode("utf-8-sig")
    except (StorageError, UnicodeDecodeError) as problem:
        raise ConfigError(
            f"--json-schema is neither a schema (an object in braces) nor a file that can be read: {problem}"
        ) from None


def _early_stopping(given: str) -> bool | Literal["never"]:
    if given not in ("true", "false", "never"):
        raise ConfigError(f"--early-stopping is {given!r}; it can be true, false or never")
    return "never" if given == "never" else given == "true"


class _Showing:
    """Writes one sequence's text as it comes, behind its prompt."""

    def __init__(self, prompt: str) -> None:
        self.prompt, self.begun = prompt, False

    def __call__(self, _: int, text: str) -> None:
        typer.echo(text if self.begun else self.prompt + text, nl=False)
        self.begun = True


def _as_json(found: Generation[Sequence]) -> dict[str, Any]:
    sequences = []
    for sequence in found:
        told: dict[str, Any] = {
            "text": sequence.text,
            "ids": list(sequence.ids),
            "finish_reason": sequence.finish_reason,
        }
        if sequence.score is not None:
            told["score"] = sequence.score
        if sequence.logprobs is not None:
            told["logprobs"] = [
                {"logprob": one.logprob, "top": [{_kind(token): token, "logprob": value} for token, value in one.top]}
                for one in sequence.logprobs
            ]
        sequences.append(told)
    work: dict[str, Any] = {
        "runner": found.runner,
        "precision": found.precision,
        "arithmetic": found.work.arithmetic,
    }
    if found.work.record:
        work["record"] = True
    if found.work.drafted:
        work["acceptance"] = found.work.acceptance
    return {"sequences": sequences, **work}


def _kind(token: int | str) -> str:
    """A remote model names its tokens as text."""
    return "token" if isinstance(token, str) else "id"


def _likelihoods(language_model: LanguageModel, sequence: Sequence) -> str:
    """A line for each token: its piece, its log-probability in nats, and the likeliest tokens with theirs."""

    def piece(token: int | str) -> str:
        return repr(language_model.piece(token))

    assert sequence.logprobs is not None
    tokens: tuple[int | str, ...] = sequence.ids if sequence.pieces is None else sequence.pieces
    rows = [
        [piece(token), f"{one.logprob:.3f}", *(f"{piece(other)} {value:.3f}" for other, value in one.top)]
        for token, one in zip(tokens, sequence.logprobs, strict=True)
    ]
    return table(rows)


def _told(work: Work) -> str:
    told = f"computed by {work.runner} with {work.precision} weights"
    if work.arithmetic != work.precision:
        told += f" in {work.arithmetic}"
    told += ", record mode" if work.record else ""
    if work.acceptance is not None:
        told += f"; {work.accepted} of {work.drafted} guessed tokens were right ({work.acceptance:.0%})"
    return told
