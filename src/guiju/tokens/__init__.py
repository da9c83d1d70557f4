"""Text becomes token ids, on disk and in batches: the tokenizer, memory-mapped shards, packed rows.

The names load when they are asked for: a tokenizer is there without torch in the process.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guiju.tokens.answers import AnswerExamples, LearnedRow
    from guiju.tokens.batches import IGNORED, Batch, PackedBatches, read_rows, row_count
    from guiju.tokens.bucketed import BatchSize, BucketedBatches, Examples, fixed_batches
    from guiju.tokens.chat import Chat, ChatTemplate, Turn, choose_template
    from guiju.tokens.extractive import ExtractiveExamples, FoundSpan, SpanRow, Windows, best_spans, span_row
    from guiju.tokens.labelled import (
        ClassWeights,
        LabelledExamples,
        LabelledRow,
        TokenLabelledExamples,
        TokenLabelledRow,
    )
    from guiju.tokens.learning import TokenizerSettings, train_tokenizer
    from guiju.tokens.llama2c import Llama2cTokenizer
    from guiju.tokens.masked import MASKED_SHARE, MaskedExamples
    from guiju.tokens.pairs import PairExamples
    from guiju.tokens.pieces import Marks
    from guiju.tokens.preferences import PreferenceExamples, PreferenceRow, ReferenceLogs
    from guiju.tokens.reading import TOKENIZER_FILES, tokenizer_files
    from guiju.tokens.shards import Shard, ShardIndex, TokenData, write_shards
    from guiju.tokens.spans import SpanExamples, longest_target, sentinels_needed
    from guiju.tokens.tokenizer import END_OF_TEXT, Tokenizer

_HOMES = {
    "answers": ("AnswerExamples", "LearnedRow"),
    "batches": ("IGNORED", "Batch", "PackedBatches", "read_rows", "row_count"),
    "bucketed": ("BatchSize", "BucketedBatches", "Examples", "fixed_batches"),
    "chat": ("Chat", "ChatTemplate", "Turn", "choose_template"),
    "extractive": ("ExtractiveExamples", "FoundSpan", "SpanRow", "Windows", "best_spans", "span_row"),
    "labelled": ("ClassWeights", "LabelledExamples", "LabelledRow", "TokenLabelledExamples", "TokenLabelledRow"),
    "llama2c": ("Llama2cTokenizer",),
    "masked": ("MASKED_SHARE", "MaskedExamples"),
    "pairs": ("PairExamples",),
    "pieces": ("Marks",),
    "preferences": ("PreferenceExamples", "PreferenceRow", "ReferenceLogs"),
    "shards": ("Shard", "ShardIndex", "TokenData", "write_shards"),
    "spans": ("SpanExamples", "longest_target", "sentinels_needed"),
    "learning": ("TokenizerSettings", "train_tokenizer"),
    "tokenizer": ("END_OF_TEXT", "Tokenizer"),
    "reading": ("TOKENIZER_FILES", "tokenizer_files"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "END_OF_TEXT",
    "IGNORED",
    "MASKED_SHARE",
    "TOKENIZER_FILES",
    "AnswerExamples",
    "Batch",
    "BatchSize",
    "BucketedBatches",
    "Chat",
    "ChatTemplate",
    "ClassWeights",
    "Examples",
    "ExtractiveExamples",
    "FoundSpan",
    "LabelledExamples",
    "LabelledRow",
    "LearnedRow",
    "Llama2cTokenizer",
    "Marks",
    "MaskedExamples",
    "PackedBatches",
    "PairExamples",
    "PreferenceExamples",
    "PreferenceRow",
    "ReferenceLogs",
    "Shard",
    "ShardIndex",
    "SpanExamples",
    "SpanRow",
    "TokenData",
    "TokenLabelledExamples",
    "TokenLabelledRow",
    "Tokenizer",
    "TokenizerSettings",
    "Turn",
    "Windows",
    "best_spans",
    "choose_template",
    "fixed_batches",
    "longest_target",
    "read_rows",
    "row_count",
    "sentinels_needed",
    "span_row",
    "tokenizer_files",
    "train_tokenizer",
    "write_shards",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
