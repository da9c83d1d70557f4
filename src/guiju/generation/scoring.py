"""How likely a model finds a text, as a sum of log-likelihoods and in bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from guiju.errors import ConfigError, DataError, ModelError
from guiju.generation.tasks import require_fit

if TYPE_CHECKING:
    from guiju.model import AnyModel, Transformer
    from guiju.tokens import Tokenizer

_HEAD_ROWS = 256  # logits of so many positions at once: all of a long text times a large vocabulary would fill memory


@dataclass(frozen=True)
class Score:
    """What one text costs the model."""

    tokens: int
    """Ids of the text, without the one put in front."""

    nll_nats: float
    """Sum of -ln p over them."""

    bits_per_byte: float
    """nll_nats / ln 2 / bytes of UTF-8: compares across tokenizers (arXiv:2101.00027)."""


def score(model: AnyModel, tokenizer: Tokenizer, texts: Iterable[str]) -> list[Score]:
    """Score each text alone, with BOS (or the end-of-text token where there is none) in front.

    A text longer than the context is read in windows that overlap by half: each token is counted once, and sees at
    least the half context before it.

    Raises:
        DataError: a text is empty, so that there is nothing to score; or the vocabulary has no token for part of it.
        ModelError: tokenizer and model do not fit, or the tokenizer has no token to put in front.
    """
    return list(score_each(model, tokenizer, texts))


def score_each(model: AnyModel, tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[Score]:
    """The same, one by one as they are asked for.

    Raises:
        ModelError: also where the model is no decoder.
    """
    if model.config.kind != "decoder":
        why = {
            "encoder": "reads texts whole, and has no probability of a next token",
            "encoder-decoder": "has a probability of a text only beside its source, and a text to score comes alone",
        }[model.config.kind]
        raise ModelError(f"the model is an {model.config.kind}: it {why}. Score with a decoder")
    require_fit(model, tokenizer)
    yield from score_with(partial(_nll_nats, cast("Transformer", model)), tokenizer, texts)


def score_with(nll_nats: Callable[[list[int]], float], tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[Score]:
    """The same by any program's `nll_nats`: the sum of -ln p over all ids but the first."""
    if isinstance(texts, str):
        raise ConfigError("texts is one text; give a list of texts")
    for number, text in enumerate(texts):
        ids = tokenizer.encode(text)
        if not ids:
            raise DataError(f"text {number} is empty: it has no token, so there is nothing to score")
        if tokenizer.unknown_id in ids:
            raise DataError(
                f"text {number} holds characters that the model's vocabulary has no token for "
                f"({tokenizer.unknown_characters(text)}): whatever they are they cost the same, so its bits per byte "
                "would come out too low. Leave them out, or score by a model that writes every text"
            )
        nll = nll_nats([tokenizer.start_id, *ids])
        yield Score(len(ids), nll, nll / math.log(2) / len(text.encode()))


def windows(last: int, context: int) -> Iterator[tuple[int, int, int]]:
    """Begin, first new place and end of each window over `last` ids: as long as the context, overlapping by half."""
    done = 0
    while done < last:
        end = min(last, max(context, done + max(1, context // 2)))
        yield max(0, end - context), done, end
        done = end


def _nll_nats(model: Transformer, ids: list[int]) -> float:
    import torch  # other programs' models are scored without it
    import torch.nn.functional as F

    from guiju.generation.torch_runner import evaluating

    total = 0.0
    with evaluating(list(model.modules())):
        for begin, done, end in windows(len(ids) - 1, model.config.context):
            row = torch.tensor(ids[begin : end + 1], device=model.embedding.weight.device)
            hidden = model.hidden(row[None, :-1])[0, done - begin :]  # (end - done, width)
            targets = row[1 + done - begin :]
            for part in range(0, len(targets), _HEAD_ROWS):
                logits = model.head(hidden[part : part + _HEAD_ROWS]).float()
                nats = F.cross_entropy(logits, targets[part : part + _HEAD_ROWS], reduction="none")
                total += nats.double().sum().item()
    return total
