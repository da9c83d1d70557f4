"""Text becomes token ids, on disk and in batches: the tokenizer, memory-mapped shards, packed rows."""

from guiju.tokens.batches import IGNORED, Batch, PackedBatches, read_rows, row_count
from guiju.tokens.llama2c import Llama2cTokenizer
from guiju.tokens.shards import Shard, ShardIndex, TokenData, write_shards
from guiju.tokens.tokenizer import END_OF_TEXT, Tokenizer, TokenizerSettings, train_tokenizer

__all__ = [
    "END_OF_TEXT",
    "IGNORED",
    "Batch",
    "Llama2cTokenizer",
    "PackedBatches",
    "Shard",
    "ShardIndex",
    "TokenData",
    "Tokenizer",
    "TokenizerSettings",
    "read_rows",
    "row_count",
    "train_tokenizer",
    "write_shards",
]
