"""Learning a vocabulary from texts: byte-level BPE, WordPiece or Unigram.

Sources: Sennrich et al. 2016 (arXiv:1508.07909) with GPT-2's byte alphabet; Schuster and Nakajima 2012 as in BERT
(arXiv:1810.04805); Kudo 2018 (arXiv:1804.10959).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from guiju.errors import ConfigError, DataError
from guiju.tokens.added import added_token
from guiju.tokens.decoding import BYTE_SYMBOLS, SPACE_MARK
from guiju.tokens.layout import written
from guiju.tokens.template import single_template
from guiju.tokens.tokenizer import END_OF_TEXT, USUAL, Tokenizer
from guiju.tokens.word_piece import word_piece_layout

USUAL_SPECIAL = {
    "bpe": (END_OF_TEXT,),
    "wordpiece": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "unigram": ("<pad>", "</s>", "<unk>"),
}
_NEEDED = {
    "bpe": {},
    "wordpiece": {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"},
    "unigram": {"unk_token": "<unk>", "eos_token": "</s>"},
}
LONGEST_PIECE = 16
"""Characters of a Unigram piece, as in SentencePiece."""
LONGEST_WORD = 100
"""Characters of a word that WordPiece cuts up; longer ones are unknown."""
_FIRST_SYMBOL = "\U000f0000"


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """What the vocabulary holds."""

    kind: Literal["bpe", "wordpiece", "unigram"] = "bpe"
    """bpe: GPT-2's, on bytes, gives every text back; wordpiece: BERT's, for masked models; unigram: SentencePiece's and
    T5's, for encoder-decoders. The last two write characters that the text did not hold as one unknown token."""

    vocab_size: int = 8192
    """Number of ids in all: special tokens, the 256 bytes or the characters, and what is learned from the text."""

    min_frequency: int = 2
    """A pair is merged only if it occurs at least so often. Unigram has no such bound."""

    special_tokens: tuple[str, ...] = ()
    """Tokens that no text encodes to. For bpe the first one begins and ends every document. Where none is named, bpe
    has <|endoftext|>, wordpiece [PAD] [UNK] [CLS] [SEP] [MASK], and unigram <pad> </s> <unk>. A masked model needs
    <mask> or [MASK]; pairs need a padding token; cut-out runs need <extra_id_0>, <extra_id_1> and so on."""

    lower_case: bool = False
    """WordPiece alone: whether upper case and accents are dropped, as in BERT's uncased models."""

    def __post_init__(self) -> None:
        if not self.special_tokens:
            object.__setattr__(self, "special_tokens", USUAL_SPECIAL[self.kind])
        for token in self.special_tokens:
            if not token or token != token.strip():
                raise ConfigError(
                    f"tokenizer.special_tokens holds {token!r}; a special token is a word without outer spaces"
                )
        if len(set(self.special_tokens)) != len(self.special_tokens):
            raise ConfigError(f"tokenizer.special_tokens holds a token twice: {', '.join(self.special_tokens)}")
        missing = [name for name in _NEEDED[self.kind].values() if name not in self.special_tokens]
        if missing:
            raise ConfigError(
                f"tokenizer.special_tokens lacks {', '.join(missing)}, which a {self.kind} vocabulary cannot do "
                f"without; it holds {', '.join(self.special_tokens)}"
            )
        bytes_needed = BYTE_SYMBOLS if self.kind == "bpe" else 1
        least = bytes_needed + len(self.special_tokens)
        if self.vocab_size < least:
            why = f"one id for each of the {BYTE_SYMBOLS} bytes, so that every text can be written, and "
            raise ConfigError(
                f"tokenizer.vocab_size is {self.vocab_size}; it takes at least {least}: "
                f"{why if self.kind == 'bpe' else ''}{len(self.special_tokens)} for the special tokens"
            )
        if self.min_frequency < 1:
            raise ConfigError(f"tokenizer.min_frequency is {self.min_frequency}; it counts occurrences, so 1 or more")
        if self.lower_case and self.kind != "wordpiece":
            raise ConfigError(f"tokenizer.lower_case is for wordpiece vocabularies; this one is of kind {self.kind}")


def train_tokenizer(texts: Iterable[str], settings: TokenizerSettings, folder: Path | None = None) -> Tokenizer:
    """Learn a vocabulary from texts; the same texts give the same bytes.

    Args:
        texts: read once, one after the other.
        folder: where to save it in the Hugging Face layout; None saves nothing.
    Raises:
        DataError: there is no text.
        ConfigError: the texts carry fewer tokens than `vocab_size` asks for, or more characters than it has room for.
    """
    characters = 0

    def counted() -> Iterable[str]:
        nonlocal characters
        for text in texts:
            characters += len(text)
            yield text

    data, reached = _LEARNERS[settings.kind](counted(), settings)
    if characters == 0:
        raise DataError(
            "there is no text to learn a vocabulary from: the corpus is empty after cleaning; see its decisions"
        )
    _require_size(reached, characters, settings)
    tokenizer = Tokenizer(data, _names(settings))
    if folder is not None:
        tokenizer.save(folder)
    return tokenizer


Learned = tuple[bytes, int]
"""The tokenizer.json, and how many tokens it has."""


def _learn_bpe(texts: Iterable[str], settings: TokenizerSettings) -> Learned:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=settings.min_frequency,
        special_tokens=list(settings.special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return (backend.to_str(pretty=True) + "\n").encode(), backend.get_vocab_size()


def _learn_word_piece(texts: Iterable[str], settings: TokenizerSettings) -> Learned:
    """By the BPE trainer, with other symbols for the characters that go on with a word: the library's own WordPiece
    trainer numbers those in the order of a hash table, which is another one each time."""
    layout = word_piece_layout(
        {name: number for number, name in enumerate(settings.special_tokens)},
        _names(settings),
        lower_case=settings.lower_case,
        strip_accents=None,
        split_chinese=True,
    )
    splitter = tokenizers.Tokenizer.from_str(json.dumps(layout))
    going_on = _GoingOn()

    def marked() -> Iterable[str]:
        known = 0
        for text in texts:
            words = splitter.pre_tokenizer.pre_tokenize_str(splitter.normalizer.normalize_str(text))
            kept = (word for word, _ in words if len(word) <= LONGEST_WORD and max(word) < _FIRST_SYMBOL)
            line = [word[0] + word[1:].translate(going_on) for word in kept]
            if len(going_on) > known:  # other words may begin with what is new
                line += map(chr, islice(going_on, known, None))
                known = len(going_on)
            yield " ".join(line)

    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocab_size,
        min_frequency=settings.min_frequency,
        special_tokens=list(settings.special_tokens),
        show_progress=False,
    )
    backend.train_from_iterator(marked(), trainer)
    back = {symbol: character for character, symbol in going_on.items()}
    learned = {
        ("##" if piece[0] >= _FIRST_SYMBOL else "") + piece.translate(back): token
        for piece, token in sorted(backend.get_vocab().items(), key=lambda entry: entry[1])
    }
    layout["model"]["vocab"] = learned
    layout["added_tokens"] = [added_token(learned[name], name) for name in settings.special_tokens]
    return written(layout), len(learned)


class _GoingOn(dict[int, int]):
    """Character -> symbol for it inside a word, in the order in which they come up (code points for private use)."""

    def __missing__(self, character: int) -> int:
        symbol = self[character] = ord(_FIRST_SYMBOL) + len(self)
        return symbol


def _learn_unigram(texts: Iterable[str], settings: TokenizerSettings) -> Learned:
    names = _names(settings)
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE_MARK, prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement=SPACE_MARK, prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=list(settings.special_tokens),
        unk_token=names["unk_token"],
        max_piece_length=LONGEST_PIECE,
        show_progress=False,
    )
    try:
        backend.train_from_iterator(texts, trainer)
    except Exception as problem:  # the library raises bare Exception
        raise ConfigError(
            f"tokenizer.vocab_size is {settings.vocab_size}, from which no unigram vocabulary comes of this text "
            f"({problem}); take more, bring more text, or take kind bpe, which writes rare characters by their bytes"
        ) from None
    layout = json.loads(backend.to_str())
    vocab, special = layout["model"]["vocab"], len(settings.special_tokens)
    layout["model"]["vocab"] = [*vocab[:special], *_in_order(dict(vocab[special:]))]
    eos = names["eos_token"]
    layout["post_processor"] = single_template(after=(eos, settings.special_tokens.index(eos)))
    return written(layout), len(vocab)


def _in_order(scores: dict[str, float]) -> list[list[str | float]]:
    """Pieces with their scores, likeliest first; the same each time.

    The library adds counts up in the order of a hash table, by which the last digits differ; and in such an order it
    deals out scores to characters that the text has but once or twice: the least one, and 0.0001 more for each.
    """
    rounded = {piece: round(score, 6) for piece, score in scores.items()}
    least = min(rounded.values(), default=0.0)
    steps = {piece: (score - least) / 0.0001 for piece, score in rounded.items() if len(piece) == 1}
    dealt = sorted(piece for piece, step in steps.items() if abs(step - round(step)) < 1e-4 and step < len(steps))
    for piece, score in zip(dealt, sorted((rounded[piece] for piece in dealt), reverse=True), strict=True):
        rounded[piece] = score
    return [[piece, score] for piece, score in sorted(rounded.items(), key=lambda entry: (-entry[1], entry[0]))]


_LEARNERS: dict[str, Callable[[Iterable[str], TokenizerSettings], Learned]] = {
    "bpe": _learn_bpe,
    "wordpiece": _learn_word_piece,
    "unigram": _learn_unigram,
}


def _names(settings: TokenizerSettings) -> dict[str, str]:
    """The special tokens by name, as tokenizer_config.json holds them."""
    known = settings.special_tokens
    names = {name: next((text for text in usual if text in known), None) for name, usual in USUAL.items()}
    if settings.kind == "bpe":
        names["bos_token"] = names["eos_token"] = known[0]
    if settings.kind == "wordpiece":  # what stands around a text also begins and ends a document
        names["bos_token"], names["eos_token"] = names["cls_token"], names["sep_token"]
    return {name: text for name, text in names.items() if text is not None}


def _require_size(reached: int, characters: int, settings: TokenizerSettings) -> None:
    if reached > settings.vocab_size:
        raise ConfigError(
            f"tokenizer.vocab_size is {settings.vocab_size}, but the text has so many different characters that they "
            f"and the special tokens alone make {reached} tokens; set tokenizer.vocab_size to {reached} or more, or "
            "take kind bpe, which writes rare characters by their bytes"
        )
    if reached < settings.vocab_size:
        pairs = f" (pairs that occur at least {settings.min_frequency} times)" if settings.kind != "unigram" else ""
        raise ConfigError(
            f"tokenizer.vocab_size is {settings.vocab_size}, but this text of {characters} characters carries only "
            f"{reached} tokens{pairs}; set tokenizer.vocab_size to {reached} or less, or bring more text"
        )
