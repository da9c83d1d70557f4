"""Texts as vectors, and as probabilities of labels: padded batches of like lengths, drawn as they are needed.

Axes: B texts of a batch, T tokens, L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guiju.device import float32_library, float32_products
from guiju.errors import ConfigError, DataError
from guiju.generation import prompt_ids, require_fit
from guiju.model import AnyModel, Encoder, EncoderDecoder, Transformer
from guiju.tokens import Tokenizer

_BATCH_TOKENS = 4096
_BATCHES_HELD = 8

Read = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(B, T) ids, which are real, and their segments -> (B, width) or (B, L)."""


@dataclass(frozen=True)
class _Text:
    number: int
    ids: list[int]
    segments: list[int]


def embed(model: AnyModel, tokenizer: Tokenizer, texts: Iterable[str]) -> NDArray[np.float32]:
    """A vector for each text, (n, width): an encoder's pooled one, or where it has no pooler the mean of its last
    layer's vectors; the mean of a decoder's; beside a decoder, the mean of the encoder's.

    Raises:
        DataError: a text is empty, or longer than the context; it is named by its number.
    """
    require_fit(model, tokenizer)

    def read(ids: Tensor, real: Tensor, segments: Tensor) -> Tensor:
        if isinstance(model, Encoder):
            hidden = model.hidden(ids, padding=real, segments=segments if model.config.segments else None)
            if model.config.pooler:
                return model.pooled(hidden, real)
        elif isinstance(model, EncoderDecoder):
            hidden = model.encode(ids, padding=real)
        else:
            hidden = model.hidden(ids)  # what fills a row up stands behind, where no token looks
        weights = real.to(hidden.dtype)[:, :, None]
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1)

    bounded = model.config.positions != "relative" or model.config.kind == "decoder"
    jobs = (_text(number, *_ids(model, tokenizer, text)) for number, text in enumerate(_several(texts)))
    checked = (_fitting(text, model.config.context) if bounded else text for text in jobs)
    return _rows(model, checked, read, model.config.width)


def classify(
    model: Encoder | Transformer, tokenizer: Tokenizer, texts: Iterable[str], stride: int | None = None
) -> NDArray[np.float32]:
    """The probability of each label for each text, (n, labels).

    Args:
        stride: read a longer text in windows that begin so many tokens apart, and take their mean; None refuses it.
    Raises:
        ConfigError: stride is less than 1.
        DataError: a text is empty, or longer than the context where no stride is given.
    """
    require_fit(model, tokenizer)
    if stride is not None and stride < 1:
        raise ConfigError(f"stride is {stride}; windows move on by 1 token or more")
    context, parts = model.config.context, []

    def windows() -> Iterator[_Text]:
        for number, text in enumerate(_several(texts)):
            ids = tokenizer.encode(text)
            room = context - len(tokenizer.with_template([])[0])
            if stride is None or len(ids) <= room:
                begins = [0]
            else:
                begins = [*range(0, len(ids) - room, min(stride, room)), len(ids) - room]
            for begin in begins:
                part = ids if stride is None else ids[begin : begin + room]
                parts.append(number)
                yield _fitting(_text(number, *tokenizer.with_template(part), empty=not ids), context)

    def read(ids: Tensor, real: Tensor, segments: Tensor) -> Tensor:
        more = {"segments": segments} if model.config.segments else {}
        logits = model(ids, padding=real, **more)  # (B, L)
        return logits.float().softmax(dim=-1)  # type: ignore[no-any-return]

    found = _rows(model, windows(), read, len(model.config.labels))
    of_text = np.array(parts, dtype=np.int64)
    count = int(of_text[-1]) + 1 if len(of_text) else 0
    sums = np.zeros((count, found.shape[1]), dtype=np.float32)
    np.add.at(sums, of_text, found)
    parts_of = np.maximum(1, np.bincount(of_text, minlength=count)).astype(np.float32)
    mean: NDArray[np.float32] = sums / parts_of[:, None]
    return mean


def _ids(model: AnyModel, tokenizer: Tokenizer, text: str) -> tuple[list[int], list[int]]:
    if model.config.kind == "decoder":
        ids = prompt_ids(tokenizer, text) if text else []
        return ids, [0] * len(ids)
    ids = tokenizer.encode(text)
    return tokenizer.with_template(ids) if ids else ([], [])


def _several(texts: Iterable[str]) -> Iterable[str]:
    if isinstance(texts, str):
        raise ConfigError("texts is one text; give a list of texts")
    return texts


def _text(number: int, ids: list[int], segments: list[int], empty: bool = False) -> _Text:
    if not ids or empty:
        raise DataError(f"text {number} is empty: it has no token, so there is nothing to read")
    return _Text(number, ids, segments)


def _fitting(text: _Text, context: int) -> _Text:
    if len(text.ids) > context:
        raise DataError(
            f"text {text.number} has {len(text.ids)} tokens, but the model's context is {context}. Shorten it, read it "
            f"in windows (stride), or take a model with a longer context"
        )
    return text


def _rows(model: AnyModel, texts: Iterable[_Text], read: Read, width: int) -> NDArray[np.float32]:
    """What `read` makes of each text, (n, width), in order."""
    found: list[NDArray[np.float32]] = []
    waiting: list[_Text] = []
    held = 0
    for text in texts:
        waiting.append(text)
        held += len(text.ids)
        if held >= _BATCHES_HELD * _BATCH_TOKENS:
            found += _read_all(model, waiting, read)
            waiting, held = [], 0
    found += _read_all(model, waiting, read)
    return np.stack(found) if found else np.zeros((0, width), dtype=np.float32)


def _read_all(model: AnyModel, texts: Sequence[_Text], read: Read) -> list[NDArray[np.float32]]:
    """By length, in batches; back in order."""
    device = model.embedding.weight.device
    places = sorted(range(len(texts)), key=lambda place: len(texts[place].ids))
    found: dict[int, NDArray[np.float32]] = {}
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), float32_products(float32_library(device)):
            while places:
                count = 1
                while count < len(places) and (count + 1) * len(texts[places[count]].ids) <= _BATCH_TOKENS:
                    count += 1
                batch, places = places[:count], places[count:]
                longest = len(texts[batch[-1]].ids)
                ids = torch.zeros(count, longest, dtype=torch.long)
                segments, real = torch.zeros_like(ids), torch.zeros(count, longest, dtype=torch.bool)
                for row, place in enumerate(batch):
                    size = len(texts[place].ids)
                    ids[row, :size] = torch.tensor(texts[place].ids)
                    segments[row, :size] = torch.tensor(texts[place].segments)
                    real[row, :size] = True
                vectors = read(ids.to(device), real.to(device), segments.to(device)).float().cpu().numpy()
                found.update(zip(batch, vectors, strict=True))
    finally:
        model.train(training)
    return [found[place] for place in range(len(texts))]
