"""BERT's vocab.txt, as one tokenizer.json: a token a line, its id the line's number.

Words are split at spaces and punctuation, Chinese characters each apart, and each word is cut into the longest pieces
from the left (Schuster and Nakajima 2012; Devlin et al. 2019, arXiv:1810.04805).
Source: https://github.com/google-research/bert, tokenization.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guiju.errors import ModelError
from guiju.tokens.added import added_token, complete, read_added
from guiju.tokens.foreign import MOST_IDS, read_file
from guiju.tokens.layout import written
from guiju.tokens.source import Source
from guiju.tokens.template import bert_template

NAMES = {
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "mask_token": "[MASK]",
}
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""What the `tokenizers` library takes off the end of a line."""
BERT_LIKE = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer")


def read_word_piece(file: Path, config: Mapping[str, Any], kind: str) -> Source:
    """The vocabulary and the settings in tokenizer_config.json as one tokenizer.json.

    Args:
        config: do_lower_case (True where it is not named, as for the first BERT), strip_accents (as lower case),
            tokenize_chinese_chars (True), and the names of the special tokens.
        kind: the class that transformers reads the folder by; empty where nothing says so.
    Raises:
        ModelError: a token stands there twice, there is no unknown token, or words are split in a way not known here.
    """
    if kind and kind not in BERT_LIKE:
        raise ModelError(
            f"{file.parent} is read by {kind[:80]!r} in transformers, and how that splits words is not known here. "
            "Load it there once and save it again: its tokenizer.json is read"
        )
    if config.get("do_basic_tokenize") is False or config.get("never_split"):
        raise ModelError(
            f"{file.parent / 'tokenizer_config.json'} turns the splitting of words off (do_basic_tokenize, "
            "never_split), which current versions of transformers do not know either"
        )
    vocabulary = read_lines(file)
    given = {name: value.get("content") if isinstance(value, Mapping) else value for name, value in config.items()}
    names = {name: str(given.get(name) or usual) for name, usual in NAMES.items()}
    for needed in ("unk_token", "cls_token", "sep_token"):
        if names[needed] not in vocabulary:
            raise ModelError(f"{file} has no {names[needed][:80]!r}, which a vocabulary of this kind cannot do without")
    special = [added_token(vocabulary[name], name) for name in names.values() if name in vocabulary]
    listed = {entry["id"]: entry for entry in special} | read_added(file.parent, config)
    layout = word_piece_layout(
        vocabulary,
        names,
        lower_case=_flag(config, "do_lower_case", True),
        strip_accents=config.get("strip_accents"),
        split_chinese=_flag(config, "tokenize_chinese_chars", True),
    )
    layout["added_tokens"] = complete(vocabulary, listed.values(), str(file))
    return Source(data=written(layout), where=str(file), config={**config, **names})


def word_piece_layout(
    vocabulary: Mapping[str, int],
    names: Mapping[str, str],
    *,
    lower_case: bool,
    strip_accents: bool | None,
    split_chinese: bool,
) -> dict[str, Any]:
    """A tokenizer.json that splits words as BERT does."""
    first, last = ((names[name], vocabulary[names[name]]) for name in ("cls_token", "sep_token"))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": split_chinese,
            "strip_accents": strip_accents,
            "lowercase": lower_case,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": bert_template(first, last),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": names["unk_token"],
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": dict(vocabulary),
        },
    }


def read_lines(file: Path) -> dict[str, int]:
    """Token -> number of its line."""
    try:
        text = read_file(file).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise ModelError(f"{file} is no UTF-8 text ({problem.reason} at byte {problem.start})") from None
    lines = text.split("\n")
    if not lines[-1].rstrip(_SPACES):
        lines.pop()
    if not 0 < len(lines) <= MOST_IDS:
        raise ModelError(f"{file} has {len(lines)} lines; a vocabulary has 1 to {MOST_IDS} tokens, one a line")
    vocabulary: dict[str, int] = {}
    for number, line in enumerate(lines):
        token = line.rstrip(_SPACES)
        if token and token in vocabulary:
            raise ModelError(
                f"{file} has the token {token[:80]!r} on lines {vocabulary[token] + 1} and {number + 1}: which id it "
                "has cannot be known. Remove one, if the model's rows allow it"
            )
        vocabulary[token] = number
    return vocabulary


def _flag(config: Mapping[str, Any], name: str, usual: bool) -> bool:
    value = config.get(name, usual)
    return usual if value is None else bool(value)
