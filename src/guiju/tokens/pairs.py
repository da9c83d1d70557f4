"""Pairs of a source and a target, such as a sentence and its translation, from two folders of tokens."""

from __future__ import annotations

import numpy as np

from guiju.errors import DataError
from guiju.tokens.batches import Batch
from guiju.tokens.bucketed import BatchSize
from guiju.tokens.draws import Numbers
from guiju.tokens.pieces import Marks, row_width
from guiju.tokens.shards import TokenData
from guiju.tokens.spans import pair_batch


class PairExamples:
    """Document n of the one folder is the source of document n of the other."""

    def __init__(self, sources: TokenData, targets: TokenData, marks: Marks, *, context: int) -> None:
        """Sources and targets of at most `context` tokens, their marks included; longer or empty ones are left out.

        Raises:
            DataError: the folders do not hold the same documents, or no pair fits.
        """
        ours, theirs = sources.index, targets.index
        if (ours.ids_sha256, ours.tokenizer) != (theirs.ids_sha256, theirs.tokenizer):
            raise DataError(
                f"{sources.folder} and {targets.folder} do not hold the same documents in the same order by the same "
                "tokenizer, so sources and targets would be mixed up; tokenize the pairs again"
            )
        self.sources, self.targets, self.marks, self.context = sources, targets, marks, context
        texts, of_target = np.diff(sources.document_ends) - 1, np.diff(targets.document_ends)
        of_source = texts + marks.width
        fits = (texts > 0) & (of_target > 1) & (np.maximum(of_source, of_target) <= context)
        self.documents: Numbers = np.flatnonzero(fits)
        self.left_out = len(fits) - len(self.documents)
        """Pairs that are too long for the context, or have an empty side."""
        if not len(self.documents):
            raise DataError(
                f"none of {len(fits)} pairs in {sources.folder} fits a context of {context} tokens; make model.context "
                "larger, or bring shorter pairs"
            )
        self._of_source, self._of_target = of_source[self.documents], of_target[self.documents]
        # By the target first: its side has the head, which costs most.
        self.lengths: Numbers = self._of_target * (context + 1) + self._of_source

    def read(self, rows: Numbers, seed: int, epoch: int) -> Batch:
        """The rows as a batch; nothing in it is random."""
        documents = [int(document) for document in self.documents[rows]]
        sources = [self.marks.around(self.sources.document(document)[:-1]) for document in documents]
        targets = [self.targets.document(document) for document in documents]
        return pair_batch(sources, targets, self.marks, self.context)

    def size(self, rows: Numbers) -> BatchSize:
        sources, targets = self._of_source[rows], self._of_target[rows]
        width, wide = (row_width(int(side.max()), self.context) for side in (targets, sources))
        return BatchSize(len(rows), width, wide, int(targets.sum()))

    def identity(self) -> dict[str, str | int]:
        return {
            "kind": "pairs",
            "data": self.targets.index.digest,
            "sources": self.sources.index.digest,
            "tokenizer": self.targets.index.tokenizer,
            "vocab_size": self.targets.index.vocab_size,
            "context": self.context,
            "marks": f"{self.marks.before}, {self.marks.after}, {self.marks.start}",
        }
