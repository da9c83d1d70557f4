"""Rows in which tokens are to be guessed from both sides (掩码语言模型).

BERT's way (Devlin et al. 2019, arXiv:1810.04805, section 3.1 and appendix A.1): 15 % of a row's tokens, at least one,
are targets; of these 80 % are replaced by the mask, 10 % by a random token, and 10 % stay as they are, so that the
model must keep a view of every token. Each time a row is read anew, other tokens are masked.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from guiju.errors import ConfigError
from guiju.tokens.batches import IGNORED, Batch
from guiju.tokens.bucketed import BatchSize
from guiju.tokens.draws import Numbers, draw_words, share_as_word
from guiju.tokens.pieces import Marks, cut_documents, fill_rows, padding_of, row_width
from guiju.tokens.shards import TokenData

MASKED_SHARE = 0.15
REPLACED, RANDOM = 0.8, 0.1
"""Of the targets: how many are replaced by the mask, and how many by a random token."""
PURPOSE_PLACES, PURPOSE_KINDS, PURPOSE_TOKENS = 11, 12, 13
Chosen = npt.NDArray[np.bool_]
_LAST = np.uint64((1 << 64) - 1)


class MaskedExamples:
    """Pieces of documents, each between the marks of a text, with tokens to guess."""

    def __init__(self, data: TokenData, marks: Marks, *, context: int, share: float = MASKED_SHARE) -> None:
        """`context` tokens a row, marks included; `share` of them are targets.

        Raises:
            ConfigError: a share of none or all, a context without room for text, or marks without a mask.
        """
        if not 0 < share < 1:
            raise ConfigError(
                f"the share of masked tokens is {share}; with none there is nothing to guess, and with all nothing to "
                "guess it from: it lies between 0 and 1"
            )
        room = context - marks.width
        if room < 2:
            raise ConfigError(
                f"context is {context}; a row holds {marks.width} marks and two tokens of text, so "
                f"{marks.width + 2} or more"
            )
        if marks.mask is None:
            raise ConfigError("the tokenizer has no mask token; add one to tokenizer.special_tokens, such as <mask>")
        self.data, self.marks, self.context, self.share = data, marks, context, share
        self.pieces = cut_documents(data, room, shortest=2)
        self.lengths: Numbers = self.pieces.lengths + marks.width
        self._special = np.zeros(data.index.vocab_size, dtype=bool)
        self._special[sorted(marks.special)] = True
        self._text = np.flatnonzero(~self._special)  # what a random token is drawn from
        self._mask = marks.mask

    def read(self, rows: Numbers, seed: int, epoch: int) -> Batch:
        """The rows as a batch; the same for the same (seed, epoch, row)."""
        lengths = [int(length) for length in self.lengths[rows]]
        width = row_width(max(lengths), self.context)
        whole = fill_rows([self._row(row) for row in rows], width, self.marks.pad).numpy()
        chosen = self._choose(whole, rows, seed, epoch)
        shown = self._hide(whole, chosen, rows, seed, epoch)
        targets = np.where(chosen, whole, IGNORED)
        return Batch(torch.from_numpy(shown), torch.from_numpy(targets), padding=padding_of(lengths, width))

    def size(self, rows: Numbers) -> BatchSize:
        lengths = self.lengths[rows]
        targets = int(_target_counts(lengths, self.share).sum())
        return BatchSize(len(rows), row_width(int(lengths.max()), self.context), 0, targets)

    def identity(self) -> dict[str, str | int]:
        return {
            "kind": "masked tokens",
            "data": self.data.index.digest,
            "tokenizer": self.data.index.tokenizer,
            "vocab_size": self.data.index.vocab_size,
            "context": self.context,
            "mask": f"{self._mask}, {self.share:g} of the tokens",
            "marks": f"{self.marks.before}, {self.marks.after}",
        }

    def _row(self, row: int) -> Numbers:
        start, length = int(self.pieces.starts[row]), int(self.pieces.lengths[row])
        return self.marks.around(self.data.read(start, start + length))

    def _choose(self, whole: Numbers, rows: Numbers, seed: int, epoch: int) -> Chosen:
        """(B, T) bool: the targets."""
        words = draw_words(seed, epoch, rows, whole.shape[1], PURPOSE_PLACES)
        free = ~self._special[whole]
        words = np.where(free, words, _LAST)  # never a special token
        ranks = np.argsort(np.argsort(words, axis=1, kind="stable"), axis=1, kind="stable")
        wanted = np.minimum(_target_counts(self.lengths[rows], self.share), free.sum(axis=1) - 1)
        chosen: Chosen = free & (ranks < wanted[:, None])
        return chosen

    def _hide(self, whole: Numbers, chosen: Chosen, rows: Numbers, seed: int, epoch: int) -> Numbers:
        """What the model is shown."""
        width = whole.shape[1]
        kinds = draw_words(seed, epoch, rows, width, PURPOSE_KINDS)
        drawn = draw_words(seed, epoch, rows, width, PURPOSE_TOKENS)
        random = self._text[(drawn % np.uint64(len(self._text))).astype(np.int64)]
        masked = chosen & (kinds < share_as_word(REPLACED))
        replaced = chosen & ~masked & (kinds < share_as_word(REPLACED + RANDOM))
        return np.where(masked, self._mask, np.where(replaced, random, whole))


def _target_counts(lengths: Numbers, share: float) -> Numbers:
    """Targets of rows of so many tokens: a fixed number, as in BERT's own program, so that each step weighs alike."""
    return np.maximum((lengths * share + 0.5).astype(np.int64), 1)
