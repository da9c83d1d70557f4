"""Documents cut into pieces that fit a row, and rows filled up to a common width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from guiju.errors import ModelError
from guiju.tokens.draws import Numbers
from guiju.tokens.shards import TokenData
from guiju.tokens.tokenizer import Tokenizer

WIDTH_STEP = 8
"""Rows are filled up to a multiple of this: products like it, and few different sizes come up."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Ids that stand for no text."""

    start: int
    """What a decoder beside an encoder begins with."""
    end: int
    """Ends what it writes."""
    pad: int
    """Fills a row up."""
    before: tuple[int, ...] = ()
    """Stand before a text that an encoder reads, such as BERT's [CLS]."""
    after: tuple[int, ...] = ()
    """Stand after it, such as [SEP] or T5's </s>."""
    mask: int | None = None
    """Stands in the place of a token that is to be guessed."""
    sentinels: tuple[int, ...] = ()
    """Each stands in the place of a run of tokens; the first for a row's first run."""
    special: frozenset[int] = frozenset()
    """All that stand for no text, those above included."""

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Marks:
        """A tokenizer's. A text has those around it that the tokenizer's layout gives it everywhere else, too.

        Raises:
            ModelError: it has no end-of-text token.
        """
        end = tokenizer.eos_id
        if end is None:
            raise ModelError(
                "this tokenizer has no eos_token, so nothing can end a text; name one in tokenizer_config.json"
            )
        pad = end if tokenizer.pad_id is None else tokenizer.pad_id
        return cls(
            start=pad if tokenizer.bos_id is None else tokenizer.bos_id,
            end=end,
            pad=pad,
            before=tuple(tokenizer.prefix_ids),
            after=tuple(tokenizer.suffix_ids),
            mask=tokenizer.mask_id,
            sentinels=tokenizer.sentinel_ids,
            special=tokenizer.special_ids,
        )

    def around(self, text: Numbers) -> Numbers:
        """A text as an encoder reads it."""
        return np.concatenate((self.before, text, self.after)).astype(np.int64)

    @property
    def width(self) -> int:
        """Tokens that stand around a text."""
        return len(self.before) + len(self.after)


@dataclass(frozen=True)
class Pieces:
    """Where each piece lies in the data: `lengths` tokens from `starts` on."""

    starts: Numbers
    lengths: Numbers


def cut_documents(data: TokenData, longest: int, shortest: int = 1) -> Pieces:
    """Each document in as few pieces of at most `longest` tokens as it takes, all nearly equally long.

    The token that ends a document belongs to no piece. Documents of fewer than `shortest` tokens have none.
    """
    ends = data.document_ends  # (documents + 1,): 0, then the end of each, its end-of-text token included
    sizes = np.diff(ends) - 1
    kept = np.flatnonzero(sizes >= max(shortest, 1))
    sizes, firsts = sizes[kept], ends[:-1][kept]
    counts = -(-sizes // longest)  # pieces of each document
    document = np.repeat(np.arange(len(kept)), counts)
    number = np.arange(len(document)) - np.repeat(np.cumsum(counts) - counts, counts)
    begins = number * sizes[document] // counts[document]
    stops = (number + 1) * sizes[document] // counts[document]
    return Pieces(firsts[document] + begins, stops - begins)


def row_width(longest: int, most: int) -> int:
    """The width of a batch whose longest row has so many tokens."""
    return min(-(-longest // WIDTH_STEP) * WIDTH_STEP, most)


def fill_rows(rows: Sequence[npt.NDArray[np.int64]], width: int, filling: int) -> Tensor:
    """Rows of different lengths as one tensor (B, width)."""
    made = np.full((len(rows), width), filling, dtype=np.int64)
    for place, row in enumerate(rows):
        made[place, : len(row)] = row
    return torch.from_numpy(made)


def padding_of(lengths: Sequence[int], width: int) -> Tensor | None:
    """(B, width) bool, True at each row's own tokens; None where they fill it."""
    if min(lengths) == width:
        return None
    return torch.arange(width)[None] < torch.tensor(lengths)[:, None]
