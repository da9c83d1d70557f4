"""What a trained model must beat: counts of tokens and of pairs of tokens, and a general compressor.

Both token models mix what they counted with what knows less, in shares fitted by expectation maximisation on text
that was not counted (deleted interpolation, Jelinek and Mercer 1980); then all training text is counted.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guiju.errors import DataError
from guiju.tokens import TokenData

HELD_OUT_SHARE = 0.1
MAX_TOKENS = 20_000_000
"""Most training tokens that are counted, so that memory stays bounded."""
ROUNDS = 200

Ids = npt.NDArray[np.int64]
Chances = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class NgramBaselines:
    """Bits per byte on the validation text, and how they came about."""

    unigram_bits_per_byte: float
    bigram_bits_per_byte: float
    unigram_weights: tuple[float, float]
    """Shares of: counted tokens, uniform."""
    bigram_weights: tuple[float, float, float]
    """Shares of: counted pairs, counted tokens, uniform."""
    counted_tokens: int
    held_out_tokens: int
    validation_bytes: int


def ngram_baselines(train: TokenData, validation: TokenData, bytes_per_token: Sequence[float]) -> NgramBaselines:
    """Unigram and bigram models of tokens, on the same tokenizer, split and rule as `evaluate_bits_per_byte`.

    The shares are fitted on the last tenth of the training documents, never on the validation text.

    Raises:
        DataError: there are fewer than two training documents, or no validation text.
    """
    stream, cut = _counted_stream(train)
    vocabulary, end = train.index.vocab_size, train.index.end_of_text
    fitting, held_out = _Counts(stream[:cut], vocabulary, end), stream[cut:]
    pair, single, uniform = fitting.chances(held_out)
    unigram_weights = _fit([single, uniform])
    bigram_weights = _fit([pair, single, uniform])

    sizes = np.asarray(bytes_per_token)
    target = validation.read(0, validation.tokens)
    kept = sizes[target] > 0
    total_bytes = round(float(sizes[target].sum()))
    if total_bytes == 0:
        raise DataError("the validation side holds no text; hold out more documents")
    pair, single, uniform = (part[kept] for part in _Counts(stream, vocabulary, end).chances(target))

    def bits_per_byte(weights: Sequence[float], parts: Sequence[Chances]) -> float:
        mixed = sum(weight * part for weight, part in zip(weights, parts, strict=True))
        return float(-np.log2(mixed).sum() / total_bytes)

    return NgramBaselines(
        unigram_bits_per_byte=bits_per_byte(unigram_weights, [single, uniform]),
        bigram_bits_per_byte=bits_per_byte(bigram_weights, [pair, single, uniform]),
        unigram_weights=(unigram_weights[0], unigram_weights[1]),
        bigram_weights=(bigram_weights[0], bigram_weights[1], bigram_weights[2]),
        counted_tokens=len(stream),
        held_out_tokens=len(held_out),
        validation_bytes=total_bytes,
    )


def unigram_chances(train: TokenData, bytes_per_token: Sequence[float]) -> Chances:
    """(vocab,) How likely each token is, by its frequency in the training text; marks, which stand for no text, are
    not counted. The share of an even chance is fitted on the last tenth of the documents.

    Raises:
        DataError: there are fewer than two training documents, or no token of text.
    """
    stream, cut = _counted_stream(train)
    text = np.asarray(bytes_per_token) > 0
    parts = [part[text[part]] for part in (stream[:cut], stream[cut:])]
    if not all(map(len, parts)):
        raise DataError("the training side holds too little text to count its tokens; bring more")
    even = text / text.sum()

    def shares(ids: Ids) -> Chances:
        return np.bincount(ids, minlength=len(text)) / len(ids)

    counted = shares(parts[0])
    weights = _fit([counted[parts[1]], even[parts[1]]])
    chances: Chances = weights[0] * shares(np.concatenate(parts)) + weights[1] * even
    return chances


def xz_bits_per_byte(texts: Iterable[str]) -> float:
    """Bits a byte of the texts takes when xz at its strongest packs them alone, without having seen any other text.

    The texts are joined by a newline. The compressor starts from nothing where a trained model starts from its
    training text, so this is a landmark, not a rival.
    """
    packer = lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME)
    packed = total = 0
    for text in texts:
        data = text.encode() + b"\n"
        total += len(data)
        packed += len(packer.compress(data))
    if total == 0:
        raise DataError("there is no text to pack; hold out more documents")
    return 8 * (packed + len(packer.flush())) / total


def _counted_stream(train: TokenData) -> tuple[Ids, int]:
    """The tokens that are counted, and where their last tenth of documents begins, on which shares are fitted."""
    if train.documents < 2:
        raise DataError(
            f"the training side holds {train.documents} document; two are needed to fit a baseline's shares"
        )
    stream = train.read(0, min(train.tokens, MAX_TOKENS))
    ends = np.flatnonzero(stream == train.index.end_of_text) + 1
    return stream, int(ends[max(0, min(int(len(ends) * (1 - HELD_OUT_SHARE)), len(ends) - 2))])


class _Counts:
    """How often each token, and each token after each, occurs in a stream of documents that end with `end`."""

    def __init__(self, stream: Ids, vocabulary: int, end: int) -> None:
        self._vocabulary, self._end = vocabulary, end
        self._single = np.bincount(stream, minlength=vocabulary) / len(stream)
        keys = self._keys(stream)
        self._pairs, self._often = np.unique(keys, return_counts=True)
        self._before = np.bincount(self._pairs // vocabulary, weights=self._often, minlength=vocabulary)

    def chances(self, stream: Ids) -> tuple[Chances, Chances, Chances]:
        """For each token: its probability after the one before it, by itself, and in a uniform vocabulary."""
        keys = self._keys(stream)
        place = np.minimum(np.searchsorted(self._pairs, keys), len(self._pairs) - 1)
        often = np.where(self._pairs[place] == keys, self._often[place], 0)
        before = self._before[keys // self._vocabulary]
        pair = np.divide(often, before, out=np.zeros(len(stream)), where=before > 0)
        # After a token never seen before another, the pairs know nothing: the single tokens stand in, so that it is a
        # distribution.
        single = self._single[stream]
        return np.where(before > 0, pair, single), single, np.full(len(stream), 1 / self._vocabulary)

    def _keys(self, stream: Ids) -> Ids:
        previous = np.concatenate(([self._end], stream[:-1]))
        return previous * self._vocabulary + stream


def _fit(parts: Sequence[Chances]) -> list[float]:
    """Shares, adding up to 1, under which the mixture makes the held-out tokens most likely (EM; the likelihood is
    concave)."""
    weights = np.full(len(parts), 1 / len(parts))
    table = np.stack(parts)
    before = -math.inf
    for _ in range(ROUNDS):
        mixed = weights @ table
        likelihood = float(np.log(mixed).mean())
        if likelihood - before < 1e-9:
            break
        before = likelihood
        weights = weights * (table / mixed).mean(axis=1)
        weights /= weights.sum()
    return [float(weight) for weight in weights]
