"""Text to token ids and back, whatever kind of vocabulary it is: everything is a tokenizer.json inside.

A special token that a user writes in a text stays text: only ids that callers place themselves carry its meaning.
Byte-level vocabularies (GPT-2's, and what is trained here by default) give every text back unchanged; others drop
spaces, accents or case, and write rare characters as one unknown token (`bytes_add_up` says which).
"""

from __future__ import annotations

import copy
import hashlib
import json
import operator
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from guiju.errors import DataError, ModelError
from guiju.storage import sha256_bytes, write_bytes
from guiju.tokens.byte_level import as_two_files
from guiju.tokens.decoding import byte_symbols
from guiju.tokens.foreign import require_text
from guiju.tokens.layout import Layout, read_layout
from guiju.tokens.reading import CHAT_TEMPLATE_FILE, find_source
from guiju.tokens.source import Source

END_OF_TEXT = "<|endoftext|>"
# Names under which published tokenizers keep their special tokens, where no tokenizer_config.json says so.
USUAL = {
    "bos_token": ("<s>", "<|begin_of_text|>", "<bos>", END_OF_TEXT),
    "eos_token": ("</s>", "<|end_of_text|>", "<eos>", END_OF_TEXT),
    "unk_token": ("<unk>", "[UNK]"),
    "pad_token": ("<pad>", "[PAD]"),
    "mask_token": ("<mask>", "[MASK]"),
    "cls_token": ("[CLS]",),
    "sep_token": ("[SEP]",),
}


class Tokenizer:
    """A vocabulary and the way that texts are cut by it; other kinds subclass it and keep its public names."""

    def __init__(
        self,
        data: bytes,
        config: Mapping[str, Any] | None = None,
        where: str = "tokenizer.json",
        source: Source | None = None,
    ) -> None:
        """Read the bytes of a tokenizer.json, and what its tokenizer_config.json holds.

        Args:
            source: what a reader of other files found besides; `load` passes it.
        Raises:
            ModelError: it cannot be read, contradicts itself, or is made to take time or memory without bound.
        """
        layout = read_layout(data, where)
        self._layout = layout
        self._data = layout.data
        self._backend = layout.backend
        self._source = source
        self._template = layout.template
        self._pieces, self._firsts = layout.surfaces.later, layout.surfaces.first
        for token, surface in (source.surfaces if source is not None else {}).items():
            self._pieces[token] = self._firsts[token] = surface
        self._writes_unknown = _writes_unknown(layout)
        self._config = _plain_config(config, layout, where)
        if source is not None:
            self._config = {**self._config, **source.saved_config}
        self._target = Tokenizer.of(source.target) if source is not None and source.target is not None else self
        self.chat_template = _chat_template(config, where)
        """How a conversation becomes text (Jinja, as transformers has it); None where the model came without one."""

    @classmethod
    def of(cls, source: Source) -> Tokenizer:
        """The tokenizer that a reader found."""
        return Tokenizer(source.data, source.config, source.where, source)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a tokenizer of any kind: a file, or a folder that holds one.

        In this order: tokenizer.json; vocab.json with merges.txt (GPT-2, RoBERTa); encoder.json with vocab.bpe
        (OpenAI's GPT-2); vocab.txt (BERT); a SentencePiece .model. Marian's pair of SentencePiece files with vocab.json
        comes before all of them, because tokenizer.json can hold only one side of it.

        Raises:
            ModelError: there is none, it is damaged, or wants code of its own to be run.
        """
        return cls.of(find_source(Path(path)))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, as transformers' AutoTokenizer reads them.

        A vocabulary of GPT-2's kind is written as vocab.json and merges.txt as well: GPT2Tokenizer of transformers
        before 5 reads nothing else. A chat template is written as chat_template.jinja.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / "tokenizer.json", self._data)
        tokens = {name: value for name, value in self._config.items() if name.endswith("_token")}
        config = self._config
        if self.chat_template is not None:
            # What a template writes is text, in which its special tokens have to count.
            config = {**config, "split_special_tokens": False}
            write_bytes(folder / CHAT_TEMPLATE_FILE, self.chat_template.encode())
        for name, content in (("tokenizer_config.json", config), ("special_tokens_map.json", tokens)):
            text = json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True)
            write_bytes(folder / name, (text + "\n").encode())
        for name, data in (self._source.files if self._source is not None else {}).items():
            write_bytes(folder / name, data)
        with suppress(ModelError):  # of another kind
            for name, data in zip(("vocab.json", "merges.txt"), self.as_two_files(), strict=True):
                write_bytes(folder / name, data)

    def with_chat_template(self, template: str) -> Tokenizer:
        """The same tokenizer with this chat template, which is saved with it."""
        made = copy.copy(self)
        made.chat_template = template
        return made

    def as_two_files(self) -> tuple[bytes, bytes]:
        """The vocabulary as vocab.json and merges.txt, which OpenAI's release names encoder.json and vocab.bpe.

        Raises:
            ModelError: it is of another kind than GPT-2's, which is all that readers of the two files know.
        """
        return as_two_files(self._layout.content)

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return len(self._pieces)

    @property
    def bos_id(self) -> int | None:
        """The token that stands before a text; None where the vocabulary has none."""
        return self._id_of("bos_token")

    @property
    def eos_id(self) -> int | None:
        """The token that ends a text; None where the vocabulary has none."""
        return self._id_of("eos_token")

    @property
    def pad_id(self) -> int | None:
        """The token that fills rows up; None where the vocabulary has none."""
        return self._id_of("pad_token")

    @property
    def mask_id(self) -> int | None:
        """The token in whose place another is to be guessed; None where the vocabulary has none."""
        return self._id_of("mask_token")

    @property
    def cls_id(self) -> int | None:
        """The token whose place stands for a whole text (BERT's [CLS]); None where the vocabulary has none."""
        return self._id_of("cls_token")

    @property
    def sep_id(self) -> int | None:
        """The token that ends each text of a pair (BERT's [SEP]); None where the vocabulary has none."""
        return self._id_of("sep_token")

    @property
    def unknown_id(self) -> int | None:
        """The token for what the vocabulary has no piece for; None where every text can be written."""
        return self._layout.unknown

    @property
    def sentinel_ids(self) -> tuple[int, ...]:
        """T5's <extra_id_0>, <extra_id_1> and so on, which stand for runs of tokens; empty where there are none."""
        vocabulary = self._layout.vocabulary
        found: list[int] = []
        while (token := vocabulary.get(f"<extra_id_{len(found)}>")) is not None:
            found.append(token)
        return tuple(found)

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that no text encodes to (the unknown token aside) and that decode to nothing."""
        return self._layout.special

    @property
    def special_tokens(self) -> list[str]:
        """The names of all special tokens."""
        return sorted(text for text, token in self._layout.vocabulary.items() if token in self._layout.special)

    @property
    def named_tokens(self) -> dict[str, str]:
        """Special tokens by what they are for, such as {"eos_token": "</s>"}: what a chat template may name."""
        return {name: value for name, value in self._config.items() if name.endswith("_token") and value is not None}

    @property
    def bytes_per_token(self) -> list[int]:
        """By id: how many bytes of UTF-8 text the token stands for after others; 0 for special tokens.

        Over a text they add up to its bytes only where `bytes_add_up`. Elsewhere they are the bytes of what is decoded
        (a word in lower case, with the space before it), and 1 for the unknown token, which stands for something;
        `TokenData.byte_sizes` stretches them until they add up to the bytes of the texts that were encoded.
        """
        sizes = [len(piece) for piece in self._pieces]
        if self.unknown_id is not None and self._writes_unknown:
            sizes[self.unknown_id] = max(1, sizes[self.unknown_id])
        return sizes

    @property
    def bytes_add_up(self) -> bool:
        """Whether the bytes of a text's tokens are those of the text, for every text.

        So it is for byte-level vocabularies that change no text; SentencePiece adds a space at the beginning, and
        others drop or change characters.
        """
        content = self._layout.content
        adds_space = '"add_prefix_space": true' in json.dumps(content.get("pre_tokenizer"))
        plain = content.get("normalizer") is None and not adds_space
        return plain and not self._writes_unknown and self._firsts == self._pieces

    @property
    def target(self) -> Tokenizer:
        """The tokenizer for texts that are to be written; for all but Marian's pair it is this one."""
        return self._target

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the ids, in hex: of tokenizer.json, or of the file that is its source.

        Ids of tokenizers with different digests mean different text.
        """
        files = self._source.files if self._source is not None else {}
        if not files:
            return sha256_bytes(self._data)
        if len(files) == 1:
            return sha256_bytes(next(iter(files.values())))
        lines = "".join(f"{sha256_bytes(data)} {name}\n" for name, data in sorted(files.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def encode(self, text: str, bos: bool = False) -> list[int]:
        """Ids of a text; with `bos`, the token that stands before a text comes first.

        Raises:
            DataError: the text holds a lone surrogate, which no UTF-8 text can.
            ModelError: `bos` is asked for and the vocabulary has neither a first nor an end-of-text token; the text
                holds what the vocabulary has no token for.
        """
        ids = self.encode_batch([text])[0]
        return [self.start_id, *ids] if bos else ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts at once, in parallel where the machine allows it."""
        _require_text(texts)
        encoder = self._source.encoder if self._source is not None else None
        if encoder is not None:
            return [encoder.encode(text) for text in texts]
        return [encoding.ids for encoding in self._encodings(texts, self._backend.encode_batch_fast)]

    def encode_with_places(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Ids of several texts, and for each the characters of its text that it stands for: from, to before.

        Raises:
            DataError: a text holds a lone surrogate.
            ModelError: more than tokenizer.json decides the ids, so that their places are not known; or as `encode`.
        """
        if self.has_own_encoder:
            raise ModelError(
                "this tokenizer's SentencePiece model decides its ids, and does not say where in a text they stand; "
                "take a model whose tokenizer.json does"
            )
        _require_text(texts)
        return [(encoding.ids, encoding.offsets) for encoding in self._encodings(texts, self._backend.encode_batch)]

    def encode_written(self, text: str, special: bool = True) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and places (see `encode_with_places`) by tokenizer.json alone, which is how transformers encodes a chat.

        Args:
            special: whether the names of special tokens mean the tokens: in what a chat template writes they do, in
                what a user writes they do not.
        """
        _require_text([text])
        [encoding] = self._encodings([text], (self._written if special else self._backend).encode_batch)
        return encoding.ids, encoding.offsets

    @cached_property
    def _written(self) -> tokenizers.Tokenizer:
        return tokenizers.Tokenizer.from_str(self._data.decode("utf-8"))

    def _encodings(self, texts: Sequence[str], encode: Callable[..., list[Any]]) -> list[Any]:
        try:
            return encode(list(texts), add_special_tokens=False)
        except BaseException as problem:  # the library raises bare Exception, and a Rust panic is no Exception
            if isinstance(problem, Exception) or type(problem).__name__ == "PanicException":
                raise ModelError(f"the tokenizer cannot encode a text: {problem}") from None
            raise

    def with_template(self, ids: Sequence[int], pair: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
        """The ids of a text, or of a pair of texts, with the special tokens around them that the layout puts there.

        Returns:
            The ids ([CLS] first [SEP] second [SEP] for BERT, the text and </s> for T5), and each one's segment (0, 1).
        """
        return self._template.fill(ids, pair)

    @property
    def start_id(self) -> int:
        """The id to put before a text: the first token, or end-of-text where there is none."""
        start = self.bos_id if self.bos_id is not None else self.eos_id
        if start is None:
            raise ModelError(
                "this tokenizer names neither a bos_token nor an eos_token, so nothing can stand before a text; "
                "name one in tokenizer_config.json"
            )
        return start

    @property
    def prefix_ids(self) -> list[int]:
        """What the saved layout puts before every text, in transformers too: [bos_id] for Llama's, none for GPT-2's."""
        return self._template.prefix

    @property
    def suffix_ids(self) -> list[int]:
        """What it puts after every text: </s> for T5 and Marian, [SEP] for BERT."""
        return self._template.suffix

    def added_bytes(self, token: int, *, first: bool = False) -> bytes:
        """What a token adds to a text, to give a text out token by token.

        Args:
            first: the text begins here (see `keeps_beginning`); some kinds drop the space of a text's first word.
        """
        self._require_known(token)
        return (self._firsts if first else self._pieces)[token]

    def keeps_beginning(self, token: int) -> bool:
        """Whether a text still begins after this first token of it: it wrote nothing, as special tokens do."""
        self._require_known(token)
        dropped = self._source is not None and self._source.drops_leading_spaces
        return not self._firsts[token] and (dropped or token in self.special_ids)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that ids stand for; special tokens stand for none. A cut-off character gives cut-off bytes."""
        parts: list[bytes] = []
        first = True
        for token in ids:
            parts.append(self.added_bytes(token, first=first))
            first = first and self.keeps_beginning(token)
        return b"".join(parts)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; bytes that are no UTF-8 come out as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    @property
    def has_own_encoder(self) -> bool:
        """Whether more than tokenizer.json decides the ids: a SentencePiece model does, to the last rounding."""
        return self._source is not None and self._source.encoder is not None

    def probe_lines(self, count: int) -> list[str]:
        """Lines of random tokens of this vocabulary, always the same ones, to compare with another reading of it."""
        chance = random.Random(0)  # noqa: S311 -- to be repeated, not to be secret
        pieces = [piece.decode(errors="ignore") for piece in self._pieces] or [""]
        return ["".join(chance.choices(pieces, k=chance.randint(1, 20))) for _ in range(count)]

    def lines_saved_otherwise(self, lines: Sequence[str]) -> int:
        """For how many of the lines the tokenizer.json that is saved gives other ids, in other people's tools.

        None, where tokenizer.json can say all that decides the ids.
        """
        return sum(map(operator.ne, self.encode_batch(lines), Tokenizer(self._data).encode_batch(lines)))

    def unknown_characters(self, text: str) -> str:
        """For messages: the first few characters of a text that become the unknown token, with their code points."""
        found = [char for char in dict.fromkeys(text) if char.strip() and self.unknown_id in self.encode(char)]
        return ", ".join(f"{char} U+{ord(char):04X}" for char in found[:5]) or "in some of its words"

    def _require_known(self, token: int) -> None:
        if not 0 <= token < len(self._pieces):
            raise DataError(
                f"token id {token} is outside the vocabulary of {len(self._pieces)}; is this the right tokenizer?"
            )

    def _id_of(self, name: str) -> int | None:
        token = self._config.get(name)
        return None if token is None else self._layout.vocabulary.get(token)


def _require_text(texts: Sequence[str]) -> None:
    for text in texts:
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"a text holds the lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, "
                "which is no text; repair the source or its encoding"
            ) from error


def _chat_template(config: Mapping[str, Any] | None, where: str) -> str | None:
    """The chat template that a tokenizer_config.json holds: a text, or the one called default of several."""
    found = (config or {}).get("chat_template")
    if isinstance(found, list):
        named = {one.get("name"): one.get("template") for one in found if isinstance(one, Mapping)}
        found = named.get("default")
    return None if found is None else require_text(found, f"the tokenizer_config.json of {where}: chat_template")


def _plain_config(config: Mapping[str, Any] | None, layout: Layout, where: str) -> dict[str, Any]:
    """The tokenizer_config.json to write: the tokens by name, and nothing that could name code to run.

    Raises:
        ModelError: it wants code of its own to be run, or names a token that is no text.
    """
    config = config if config is not None else {}
    if "auto_map" in config:
        raise ModelError(
            f"the tokenizer_config.json of {where} has auto_map ({str(config['auto_map'])[:120]}), so it wants its own "
            "code to be run. guiju never runs code out of a model's folder; remove the entry where its tokenizer.json "
            "alone is right"
        )

    def named(name: str) -> str | None:
        if name not in config:
            usual = (text for text in USUAL[name] if layout.vocabulary.get(text) in layout.special)
            return next(usual, None)
        value = config[name]
        found = value.get("content") if isinstance(value, Mapping) else value
        if found is None or found is False:
            return None
        return require_text(found, f"the tokenizer_config.json of {where}: {name}")

    tokens = {name: token for name in USUAL if (token := named(name)) in layout.vocabulary}
    own = layout.special - {layout.vocabulary[token] for token in tokens.values() if token is not None}
    others = sorted((token, text) for text, token in layout.vocabulary.items() if token in own)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # transformers, too, keeps a special token in user text as text
        **({"extra_special_tokens": [text for _, text in others]} if others else {}),
        **tokens,
    }


def _writes_unknown(layout: Layout) -> bool:
    """Whether some text becomes the unknown token."""
    if layout.unknown is None:
        return False
    vocabulary = layout.vocabulary
    fallback = layout.content["model"].get("byte_fallback")
    symbols = [f"<0x{byte:02X}>" for byte in range(256)] if fallback else byte_symbols(layout.content.get("decoder"))
    return not symbols or not all(symbol in vocabulary for symbol in symbols)
