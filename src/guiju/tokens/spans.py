"""Plain text as pairs for an encoder with decoder: runs of tokens are cut out of the source, and are the target.

T5's way (Raffel et al. 2020, arXiv:1910.10683, sections 3.1.4 and 3.3): 15 % of the tokens in runs of 3 on average; a
sentinel stands for each run in the source, and before it in the target, which the next sentinel and the end mark
close. Unlike there a row is a piece of one document, and text stands before the first run and after the last one.

    text       the | small | fox | went | home | over | the | old | bridge
    source     the | small | <0> | home | over | <1> | old | bridge
    target     <0> | fox | went | <1> | the | <2> | END
"""

from __future__ import annotations

import numpy as np

from guiju.errors import ConfigError
from guiju.tokens.batches import IGNORED, Batch
from guiju.tokens.bucketed import BatchSize
from guiju.tokens.draws import Numbers, Words, draw_words
from guiju.tokens.pieces import Marks, cut_documents, fill_rows, padding_of, row_width
from guiju.tokens.shards import TokenData

SHARE = 0.15
MEAN_RUN = 3.0
PURPOSE_RUNS, PURPOSE_GAPS = 21, 22


def run_counts(length: int) -> tuple[int, int]:
    """How many of `length` tokens are cut out, and in how many runs."""
    cut = max(int(length * SHARE + 0.5), 1)
    return cut, max(int(cut / MEAN_RUN + 0.5), 1)


def source_length(length: int, marks: int) -> int:
    """Tokens of the source that `length` tokens of text become: what is kept, a sentinel a run, the text's marks."""
    cut, runs = run_counts(length)
    return length - cut + runs + marks


def target_length(length: int) -> int:
    """Tokens of its target: what is cut, a sentinel a run and one to close, the end mark."""
    cut, runs = run_counts(length)
    return cut + runs + 2


def sentinels_needed(context: int) -> int:
    """How many sentinels rows of sources of at most `context` tokens take, whatever marks are around them."""
    return run_counts(_longest(context, marks=0))[1] + 1


def longest_target(context: int) -> int:
    """Tokens of the target of a source that fills the context, without marks."""
    return target_length(_longest(context, marks=0))


class SpanExamples:
    """Pieces of documents with runs cut out."""

    def __init__(self, data: TokenData, marks: Marks, *, context: int) -> None:
        """Sources and targets of at most `context` tokens.

        Raises:
            ConfigError: a context without room for text, or too few sentinels for it.
        """
        if context < 8 + marks.width:
            raise ConfigError(f"context is {context}; a source with a run cut out takes {8 + marks.width} or more")
        longest = _longest(context, marks.width)
        needed = run_counts(longest)[1] + 1
        if len(marks.sentinels) < needed:
            raise ConfigError(
                f"the tokenizer has {len(marks.sentinels)} sentinels, but rows of {context} tokens take {needed}; add "
                "them to tokenizer.special_tokens (<extra_id_0>, <extra_id_1>, ...), or make model.context smaller"
            )
        self.data, self.marks, self.context = data, marks, context
        self.pieces = cut_documents(data, longest, shortest=4)
        self._sources = np.array([source_length(length, marks.width) for length in range(longest + 1)])
        self._targets = np.array([target_length(length) for length in range(longest + 1)])
        self.lengths: Numbers = self.pieces.lengths

    def read(self, rows: Numbers, seed: int, epoch: int) -> Batch:
        """The rows as a batch; the same for the same (seed, epoch, row)."""
        sources, targets = [], []
        for row in rows:
            source, target = self._pair(int(row), seed, epoch)
            sources.append(source)
            targets.append(target)
        return pair_batch(sources, targets, self.marks, self.context)

    def size(self, rows: Numbers) -> BatchSize:
        sources, targets = self._sources[self.lengths[rows]], self._targets[self.lengths[rows]]
        width, wide = (row_width(int(side.max()), self.context) for side in (targets, sources))
        return BatchSize(len(rows), width, wide, int(targets.sum()))

    def identity(self) -> dict[str, str | int]:
        return {
            "kind": "spans",
            "data": self.data.index.digest,
            "tokenizer": self.data.index.tokenizer,
            "vocab_size": self.data.index.vocab_size,
            "context": self.context,
            "sentinels": ",".join(map(str, self.marks.sentinels)),
            "marks": f"{self.marks.before}, {self.marks.after}, {self.marks.start}",
        }

    def _pair(self, row: int, seed: int, epoch: int) -> tuple[Numbers, Numbers]:
        start, length = int(self.pieces.starts[row]), int(self.pieces.lengths[row])
        text = self.data.read(start, start + length)
        cut, runs = run_counts(length)
        place = np.array([row])
        kept_parts = _cut_into(length - cut, runs + 1, draw_words(seed, epoch, place, length, PURPOSE_GAPS)[0])
        cut_parts = _cut_into(cut, runs, draw_words(seed, epoch, place, length, PURPOSE_RUNS)[0])
        source, target, at = [], [], 0
        for number, (kept, gone) in enumerate(zip(kept_parts, [*cut_parts, 0], strict=True)):
            source.append(text[at : at + kept])
            if gone:
                source.append(np.array([self.marks.sentinels[number]]))
            target += [np.array([self.marks.sentinels[number]]), text[at + kept : at + kept + gone]]
            at += kept + gone
        assert at == length
        return self.marks.around(np.concatenate(source)), np.concatenate([*target, np.array([self.marks.end])])


def pair_batch(sources: list[Numbers], targets: list[Numbers], marks: Marks, context: int) -> Batch:
    """Sources, and targets with their end mark, as a batch: the decoder reads the start mark and the target but for
    its last token, and is to predict the target."""
    wide = row_width(max(map(len, sources)), context)
    width = row_width(max(map(len, targets)), context)
    read = [np.concatenate(([marks.start], target[:-1])) for target in targets]
    return Batch(
        fill_rows(read, width, marks.pad),
        fill_rows(targets, width, IGNORED),
        padding=padding_of([len(target) for target in targets], width),
        source=fill_rows(sources, wide, marks.pad),
        source_padding=padding_of([len(source) for source in sources], wide),
    )


def _cut_into(total: int, parts: int, words: Words) -> list[int]:
    """`total` in so many parts of at least one, each way of doing so being equally likely."""
    borders = np.sort(np.argsort(words[: total - 1], kind="stable")[: parts - 1]) + 1
    return [int(size) for size in np.diff(np.concatenate(([0], borders, [total])))]


def _longest(context: int, marks: int) -> int:
    """Tokens of text of which both source and target fit the context."""
    length = 4
    while max(source_length(length + 1, marks), target_length(length + 1)) <= context:
        length += 1
    return length
