"""Text becomes token ids, on disk and in batches: the tokenizer, memory-mapped shards, packed rows."""

from guiju.tokens.batches import IGNORED, Batch, PackedBatches, read_rows, row_count
from guiju.tokens.bucketed import BatchSize, BucketedBatches, Examples
from guiju.tokens.llama2c import Llama2cTokenizer
from guiju.tokens.masked import MaskedExamples
from guiju.tokens.pairs import PairExamples
from guiju.tokens.pieces import Marks
from guiju.tokens.shards import Shard, ShardIndex, TokenData, write_shards
from guiju.tokens.spans import SpanExamples, sentinels_needed
from guiju.tokens.tokenizer import END_OF_TEXT, Tokenizer, TokenizerSettings, train_tokenizer

__all__ = [
    "END_OF_TEXT",
    "IGNORED",
    "Batch",
    "BatchSize",
    "BucketedBatches",
    "Examples",
    "Llama2cTokenizer",
    "Marks",
    "MaskedExamples",
    "PackedBatches",
    "PairExamples",
    "Shard",
    "ShardIndex",
    "SpanExamples",
    "TokenData",
    "Tokenizer",
    "TokenizerSettings",
    "read_rows",
    "row_count",
    "sentinels_needed",
    "train_tokenizer",
    "write_shards",
]
