"""What a model makes of a recipe's prompts: a decoder goes on with them, others fill their blanks or answer them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from guiju.errors import DataError
from guiju.generation import SamplingSettings, generate
from guiju.model import AnyModel, Encoder, EncoderDecoder, Transformer
from guiju.pipeline.recipe import BLANK
from guiju.tokens import Marks, Tokenizer


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What came of a prompt."""

    sequences: list[dict[str, Any]]
    """Each with text, ids, finish_reason and seed, and what else is known of it."""
    facts: dict[str, str]
    """How it was computed."""


def go_on(model: Transformer, tokenizer: Tokenizer, prompt: str, settings: SamplingSettings) -> Spoken:
    """Continuations of a prompt, or, beside an encoder, what is written of it as a source."""
    # A record must come out again bit for bit, whatever is computed beside it.
    found = generate(model, tokenizer, [prompt], settings, record=True)
    sequences = [
        {"text": s.text, "ids": list(s.ids), "finish_reason": s.finish_reason, "seed": s.seed} for s in found[0]
    ]
    return Spoken(sequences=sequences, facts={"runner": found.runner, "precision": found.precision})


@torch.no_grad()
def fill_masks(model: Encoder, tokenizer: Tokenizer, prompt: str, settings: SamplingSettings) -> Spoken:
    """Each blank of the prompt filled by one token: by the likeliest in the first text, the second likeliest in the
    second, and so on. Nothing is drawn.

    Raises:
        DataError: the prompt is longer than the model's context.
    """
    marks = Marks.of(tokenizer)
    assert marks.mask is not None, "a run that learns masked tokens has a mask"
    ids = [*marks.before, *_with_blanks(tokenizer, prompt, lambda number: marks.mask), *marks.after]
    if len(ids) > model.config.context:
        raise DataError(
            f"the prompt {prompt[:40]!r} has {len(ids)} tokens, but the model's context is {model.config.context}; "
            "shorten it"
        )
    given = torch.tensor([ids])
    logits = model(given)[0].float()  # (T, vocab)
    logits[:, sorted(marks.special)] = -torch.inf  # a blank stands for text
    logits[:, tokenizer.vocab_size :] = -torch.inf
    places = [place for place, token in enumerate(ids) if token == marks.mask]
    chances = logits[places].softmax(dim=-1)  # (blanks, vocab)
    count = min(settings.num_return_sequences, tokenizer.vocab_size)
    best = chances.topk(count, dim=-1)
    sequences = []
    for rank in range(count):
        chosen = best.indices[:, rank].tolist()
        filled = list(ids)
        for place, token in zip(places, chosen, strict=True):
            filled[place] = token
        sequences.append(
            {
                "text": tokenizer.decode(filled),
                "ids": filled,
                "finish_reason": "filled",
                "seed": None,
                "filled": [tokenizer.decode([token]) for token in chosen],
                "probabilities": [round(chance, 6) for chance in best.values[:, rank].tolist()],
            }
        )
    return Spoken(sequences=sequences, facts={"runner": "torch", "precision": "float32"})


def fill_spans(model: EncoderDecoder, tokenizer: Tokenizer, prompt: str, settings: SamplingSettings) -> Spoken:
    """Each blank of the prompt filled by as many tokens as the model will, drawn as the settings say.

    Raises:
        DataError: the prompt has more blanks than the tokenizer has sentinels.
    """
    marks = Marks.of(tokenizer)
    blanks = prompt.count(BLANK)
    if blanks >= len(marks.sentinels):
        raise DataError(
            f"the prompt {prompt[:40]!r} has {blanks} blanks, but the tokenizer has {len(marks.sentinels)} sentinels, "
            "one of which closes; write fewer"
        )
    ids = _with_blanks(tokenizer, prompt, lambda number: marks.sentinels[number])
    found = generate(model, tokenizer, [[*marks.before, *ids, *marks.after]], settings, record=True)
    sequences = []
    for sequence in found[0]:
        runs = runs_of(sequence.ids, marks)
        filled = [back for token in ids for back in (runs.get(token, ()) if token in marks.sentinels else (token,))]
        sequences.append(
            {
                "text": tokenizer.decode(filled),
                "ids": list(sequence.ids),
                "finish_reason": sequence.finish_reason,
                "seed": sequence.seed,
                "filled": [tokenizer.decode(runs.get(sentinel, ())) for sentinel in marks.sentinels[:blanks]],
            }
        )
    return Spoken(sequences=sequences, facts={"runner": found.runner, "precision": found.precision})


FOR_OBJECTIVE: dict[str, tuple[str, Callable[..., Spoken]]] = {
    "next-token": ("continue", go_on),
    "masked-tokens": ("fill", fill_masks),
    "spans": ("fill", fill_spans),
    "pairs": ("answer", go_on),
}
"""By objective: what is done with a prompt, and by what."""


def respond(objective: str, model: AnyModel, tokenizer: Tokenizer, prompt: str, settings: SamplingSettings) -> Spoken:
    """What a model that learned this objective makes of a prompt."""
    return FOR_OBJECTIVE[objective][1](model, tokenizer, prompt, settings)


def runs_of(ids: tuple[int, ...], marks: Marks) -> dict[int, tuple[int, ...]]:
    """What stands after each sentinel; the first time counts where one comes twice."""
    runs: dict[int, list[int]] = {}
    current: list[int] = []
    for token in ids:
        if token in marks.sentinels:
            current = []
            runs.setdefault(token, current)
        elif token not in marks.special:
            current.append(token)
    return {sentinel: tuple(run) for sentinel, run in runs.items()}


def _with_blanks(tokenizer: Tokenizer, prompt: str, stand_in: Callable[[int], int | None]) -> list[int]:
    """A prompt's ids, a special token in each blank's place.

    What is hidden in training takes the space before it along, so none is left before a blank.
    """
    parts = prompt.split(BLANK)
    ids: list[int] = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        ids += tokenizer.encode(part if last else part.removesuffix(" "))
        token = None if last else stand_in(number)
        if token is not None:
            ids.append(token)
    return ids
