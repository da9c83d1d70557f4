"""llama2.c's two files: model.bin in the legacy layout, and tokenizer.bin, as its run.c reads them.

Source: https://github.com/karpathy/llama2.c, run.c, and `export` in tokenizer.py.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from guiju.errors import ModelError
from guiju.model import save_llama2c
from guiju.providers.formats.vocabulary import SPACE_MARK, Vocabulary, part_types, read_vocabulary
from guiju.providers.local import LocalModel
from guiju.storage import write_bytes
from guiju.tokens import Llama2cTokenizer, Tokenizer

MODEL, TOKENIZER = "model.bin", "tokenizer.bin"
_PROBES = 1000
_UNKNOWN, _BOS, _EOS, _FIRST_BYTE = 0, 1, 2, 3  # fixed in run.c
_NEVER = -1e10  # run.c merges what is above it


def write(language_model: LocalModel, folder: Path) -> dict[str, Any]:
    """Fill the folder.

    Returns:
        Where the tokenizer was none of llama2.c's: tokenizer_check, on how many made-up lines its ids were compared
        with those of tokenizer.bin, and on how many they differ. Hugging Face's layout of a SentencePiece vocabulary
        puts no space before a text that begins with one; run.c and SentencePiece do.
    Raises:
        ModelError: the model computes what llama2.c does not, or its tokenizer has no place there; both by field.
    """
    tokenizer, model = language_model.tokenizer, language_model.decoder
    entries = _entries(tokenizer, model.config.vocab_size)
    save_llama2c(model, folder / MODEL)
    longest = max(len(piece) for _, piece in entries)
    data = [struct.pack("<i", longest)]
    data += [struct.pack("<fi", score, len(piece)) + piece for score, piece in entries]
    write_bytes(folder / TOKENIZER, b"".join(data))
    if isinstance(tokenizer, Llama2cTokenizer):
        return {}
    written = Llama2cTokenizer.read(folder / TOKENIZER, model.config.vocab_size)
    different = written.lines_that_differ(tokenizer, _PROBES)
    return {"tokenizer_check": {"lines": _PROBES, "different": different}}


def _entries(tokenizer: Tokenizer, vocab_size: int) -> list[tuple[float, bytes]]:
    """Score and bytes of each piece."""
    if isinstance(tokenizer, Llama2cTokenizer):
        return list(tokenizer.entries)
    vocabulary = read_vocabulary(tokenizer, "llama2.c")
    _require_llama2c(tokenizer, vocabulary)
    texts = ["<unk>", "\n<s>\n", "\n</s>\n", *(piece or "" for piece in vocabulary.pieces[_EOS + 1 :])]
    pieces = [text.replace(SPACE_MARK, " ").encode() for text in texts]
    pieces += [f"<unused {token}>".encode() for token in range(len(pieces), vocab_size)]  # ids that no text has
    scores = vocabulary.scores(_NEVER)
    scores += [_NEVER] * (vocab_size - len(scores))
    return list(zip(scores, pieces, strict=True))


def _require_llama2c(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    if vocabulary.byte_level:
        raise ModelError(
            "the tokenizer is byte-level BPE, whose pieces are made within words that a pattern cuts out; run.c merges "
            "by score over the whole text and takes id 1 for BOS, so it would give other ids. Export to gguf, or train "
            "a tokenizer of SentencePiece's kind"
        )
    if _UNKNOWN not in {tokenizer.unknown_id, *vocabulary.special}:
        raise ModelError(
            f"the tokenizer has {vocabulary.pieces[0]!r} at id {_UNKNOWN}, where run.c has the unknown token"
        )
    for name, found, fixed in (("bos", tokenizer.bos_id, _BOS), ("eos", tokenizer.eos_id, _EOS)):
        if found != fixed:
            raise ModelError(f"the tokenizer's {name} id is {found}, but run.c has {fixed} for it, fixed")
    for byte in range(256):
        if vocabulary.byte_of(_FIRST_BYTE + byte) != byte:
            raise ModelError(
                f"the tokenizer has {vocabulary.pieces[_FIRST_BYTE + byte]!r} at id {_FIRST_BYTE + byte}, where run.c "
                f"expects the byte <0x{byte:02X}>: it spells what has no piece by the ids from {_FIRST_BYTE} on"
            )
    first = part_types(vocabulary.layout.get("normalizer")) + part_types(vocabulary.layout.get("pre_tokenizer"))
    beyond = [kind for kind in first if kind not in ("Sequence", "Prepend", "Replace", "Metaspace", "String")]
    if beyond:
        raise ModelError(f"the tokenizer changes a text by {beyond[0]} before it is encoded, which run.c does not do")
