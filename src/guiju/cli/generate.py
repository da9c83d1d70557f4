"""Continue a prompt: greedy or sampled, one or several sequences."""

from __future__ import annotations

from typing import Annotated

import typer

from guiju.cli.loading import MODEL, AllowPickle, load_shown
from guiju.cli.screen import print_json

NAME = "generate"
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
    allow_pickle: AllowPickle = False,
    json: Annotated[bool, typer.Option("--json", help="sequences with ids and finish reason as JSON")] = False,
) -> None:
    from guiju.generation import SamplingSettings

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
    )
    language_model = load_shown(model, tokenizer, allow_pickle)
    if json:
        sequences = language_model.generate(prompt, settings)
        print_json(
            {"sequences": [{"text": s.text, "ids": list(s.ids), "finish_reason": s.finish_reason} for s in sequences]}
        )
        return
    if num_return_sequences == 1:
        begun = False

        def show(_: int, text: str) -> None:
            nonlocal begun
            typer.echo(text if begun else prompt + text, nl=False)
            begun = True

        language_model.generate(prompt, settings, on_text=show)
        typer.echo("" if begun else prompt)
        return
    for number, sequence in enumerate(language_model.generate(prompt, settings), start=1):
        typer.echo(f"--- {number} ---\n{prompt}{sequence.text}")
