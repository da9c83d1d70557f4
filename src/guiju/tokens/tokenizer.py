"""Text to token ids and back: byte-level BPE, trained here or read from a Hugging Face folder.

Every text has ids and comes back unchanged, because the 256 byte symbols are always in the vocabulary. A special
token that a user writes in a text stays text: only `bos_id` and `eos_id`, which callers place themselves, carry its
meaning.
Source: Sennrich et al. 2016 (arXiv:1508.07909); the byte alphabet is GPT-2's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from guiju.errors import ConfigError, DataError, ModelError
from guiju.storage import write_bytes

END_OF_TEXT = "<|endoftext|>"
BYTE_SYMBOLS = 256
SPACE_MARK = "\u2581"  # how SentencePiece writes a space
# Names under which published tokenizers keep their first and last token, where no tokenizer_config.json says so.
USUAL_BOS = ("<s>", "<|begin_of_text|>", "<bos>", END_OF_TEXT)
USUAL_EOS = ("</s>", "<|end_of_text|>", "<eos>", END_OF_TEXT)


@dataclass(frozen=True, kw_only=True)
class TokenizerSettings:
    """What the vocabulary holds."""

    vocab_size: int = 8192
    """Number of ids in all: special tokens, the 256 bytes, and the merges learned from the text."""

    min_frequency: int = 2
    """A pair is merged only if it occurs at least so often."""

    special_tokens: tuple[str, ...] = (END_OF_TEXT,)
    """Tokens that no text encodes to. The first one begins and ends every document."""

    def __post_init__(self) -> None:
        if not self.special_tokens:
            raise ConfigError(
                "tokenizer.special_tokens is empty; the first one marks where a document ends, so name one"
            )
        for token in self.special_tokens:
            if not token or token != token.strip():
                raise ConfigError(
                    f"tokenizer.special_tokens holds {token!r}; a special token is a word without outer spaces"
                )
        if len(set(self.special_tokens)) != len(self.special_tokens):
            raise ConfigError(f"tokenizer.special_tokens holds a token twice: {', '.join(self.special_tokens)}")
        least = BYTE_SYMBOLS + len(self.special_tokens)
        if self.vocab_size < least:
            raise ConfigError(
                f"tokenizer.vocab_size is {self.vocab_size}; it takes at least {least}: one id for each of the "
                f"{BYTE_SYMBOLS} bytes, so that every text can be written, and {len(self.special_tokens)} for the "
                "special tokens"
            )
        if self.min_frequency < 1:
            raise ConfigError(f"tokenizer.min_frequency is {self.min_frequency}; it counts occurrences, so 1 or more")


class Tokenizer:
    """A vocabulary with its merges; other kinds of vocabulary subclass it and keep its public names."""

    def __init__(self, data: bytes, config: Mapping[str, Any] | None = None, where: str = "tokenizer.json") -> None:
        """Read the bytes of a tokenizer.json, and what its tokenizer_config.json holds.

        Raises:
            ModelError: it is no tokenizer.json, or of a kind whose ids do not stand for bytes.
        """
        self._data = data
        try:
            self._backend = tokenizers.Tokenizer.from_str(data.decode("utf-8"))
            layout = json.loads(data)
        except Exception as error:  # the library raises bare Exception
            raise ModelError(
                f"{where} is not a tokenizer.json that can be read ({error}); save the tokenizer again"
            ) from error
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True  # user text cannot forge a special token
        self._special = {int(entry["id"]) for entry in layout.get("added_tokens", ()) if entry.get("special")}
        self._config = _plain_config(config, self._backend)
        self._pieces, self._strips_first_space = _piece_table(self._backend, layout, self._special, where)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a tokenizer.json, a folder that holds one, or a folder of GPT-2's vocab.json and merges.txt."""
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.exists() and (file.parent / "vocab.json").exists() and (file.parent / "merges.txt").exists():
            data = _from_vocab_and_merges(file.parent)
        else:
            data = _read(file)
        config = file.parent / "tokenizer_config.json"
        return Tokenizer(data, _read_json(config) if config.exists() else None, where=str(file))

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, as transformers' AutoTokenizer reads them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / "tokenizer.json", self._data)
        config = json.dumps(self._config, ensure_ascii=False, indent=2, sort_keys=True)
        write_bytes(folder / "tokenizer_config.json", (config + "\n").encode())

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
    def special_ids(self) -> frozenset[int]:
        """Ids that no text encodes to and that decode to nothing."""
        return frozenset(self._special)

    @property
    def bytes_per_token(self) -> list[int]:
        """By id: how many bytes of UTF-8 text the token stands for; 0 for special tokens."""
        return [len(piece) for piece in self._pieces]

    @property
    def digest(self) -> str:
        """SHA-256 of tokenizer.json, in hex. Ids of tokenizers with different digests mean different text."""
        return hashlib.sha256(self._data).hexdigest()

    def encode(self, text: str, bos: bool = False) -> list[int]:
        """Ids of a text; with `bos`, the token that stands before a text comes first.

        Raises:
            DataError: the text holds a lone surrogate, which no UTF-8 text can.
            ModelError: `bos` is asked for and the vocabulary has neither a first nor an end-of-text token.
        """
        ids = self.encode_batch([text])[0]
        return [self.start_id, *ids] if bos else ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts at once, in parallel where the machine allows it."""
        for text in texts:
            try:
                text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise DataError(
                    f"a text holds the lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, "
                    "which is no text; repair the source or its encoding"
                ) from error
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

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
        encoding = self._backend.encode("a", add_special_tokens=True)
        prefix: list[int] = encoding.ids[: encoding.special_tokens_mask.index(0)]
        return prefix

    @property
    def suffix_ids(self) -> list[int]:
        """What the saved layout puts after every text, in transformers too: [eos_id] for T5's, none for GPT-2's."""
        encoding = self._backend.encode("a", add_special_tokens=True)
        suffix: list[int] = encoding.ids[len(encoding.ids) - encoding.special_tokens_mask[::-1].index(0) :]
        return suffix

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that ids stand for; special tokens stand for none. A cut-off character gives cut-off bytes."""
        data = b"".join(self._piece(token) for token in ids)
        return data[1:] if self._strips_first_space and data.startswith(b" ") else data

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; bytes that are no UTF-8 come out as U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def _piece(self, token: int) -> bytes:
        if not 0 <= token < len(self._pieces):
            raise DataError(
                f"token id {token} is outside the vocabulary of {len(self._pieces)}; is this the right tokenizer?"
            )
        return self._pieces[token]

    def _id_of(self, name: str) -> int | None:
        token = self._config.get(name)
        found: int | None = self._backend.token_to_id(token) if token is not None else None
        return found


def train_tokenizer(texts: Iterable[str], settings: TokenizerSettings, folder: Path | None = None) -> Tokenizer:
    """Learn a byte-level BPE vocabulary from texts; the same texts give the same bytes.

    Args:
        texts: read once, one after the other.
        folder: where to save it in the Hugging Face layout; None saves nothing.
    Raises:
        DataError: there is no text.
        ConfigError: the texts carry fewer tokens than `vocab_size` asks for.
    """
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
    characters = 0

    def counted() -> Iterable[str]:
        nonlocal characters
        for text in texts:
            characters += len(text)
            yield text

    backend.train_from_iterator(counted(), trainer)
    if characters == 0:
        raise DataError(
            "there is no text to learn a vocabulary from: the corpus is empty after cleaning; see its decisions"
        )
    reached = backend.get_vocab_size()
    if reached < settings.vocab_size:
        raise ConfigError(
            f"tokenizer.vocab_size is {settings.vocab_size}, but this text of {characters} characters carries only "
            f"{reached} tokens (pairs that occur at least {settings.min_frequency} times); set tokenizer.vocab_size to "
            f"{reached} or less, or bring more text"
        )
    end = settings.special_tokens[0]
    data = (backend.to_str(pretty=True) + "\n").encode()
    tokenizer = Tokenizer(data, {"bos_token": end, "eos_token": end})
    if folder is not None:
        tokenizer.save(folder)
    return tokenizer


def _plain_config(config: Mapping[str, Any] | None, backend: tokenizers.Tokenizer) -> dict[str, Any]:
    """The tokenizer_config.json to write: the tokens by name, and nothing that could name code to run."""

    def first_known(names: Sequence[str]) -> str | None:
        return next((name for name in names if backend.token_to_id(name) is not None), None)

    def content(value: object) -> str | None:
        found = value.get("content") if isinstance(value, Mapping) else value
        return found if isinstance(found, str) else None

    if config is None:
        config = {"bos_token": first_known(USUAL_BOS), "eos_token": first_known(USUAL_EOS)}
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    tokens = {name: content(config.get(name)) for name in names}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # transformers, too, keeps a special token in user text as text
        **{name: token for name, token in tokens.items() if token is not None},
    }


def _piece_table(
    backend: tokenizers.Tokenizer, layout: Mapping[str, Any], special: set[int], where: str
) -> tuple[list[bytes], bool]:
    """By id, the bytes it stands for; and whether the first space of a text was added by the encoder."""
    kinds = _decoder_kinds(layout.get("decoder"))
    added = {int(entry["id"]) for entry in layout.get("added_tokens", ())}
    if "ByteLevel" in kinds:
        read = _read_byte_level
    elif kinds & {"ByteFallback", "Metaspace"}:
        read = _read_sentence_piece
    else:
        raise ModelError(
            f"{where} decodes by {', '.join(sorted(kinds)) or 'nothing'}; only byte-level BPE and SentencePiece-like "
            "BPE are read, because their tokens stand for bytes"
        )
    vocabulary = backend.get_vocab(with_added_tokens=True)
    pieces = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for piece, token in vocabulary.items():
        if token not in special:
            pieces[token] = piece.encode() if token in added else read(piece)
    return pieces, bool(kinds & {"Strip", "Metaspace"})


def _decoder_kinds(decoder: object) -> set[str]:
    if not isinstance(decoder, Mapping):
        return set()
    inner = decoder.get("decoders", ())
    return {str(decoder.get("type"))} | {kind for part in inner for kind in _decoder_kinds(part)}


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte: itself where printable, else the next free code point from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(BYTE_SYMBOLS) if byte not in printable]
    symbols = {chr(byte): byte for byte in printable}
    symbols.update({chr(BYTE_SYMBOLS + position): byte for position, byte in enumerate(others)})
    return symbols


_BYTE_OF_SYMBOL = _byte_alphabet()


def _read_byte_level(piece: str) -> bytes:
    if all(symbol in _BYTE_OF_SYMBOL for symbol in piece):
        return bytes(_BYTE_OF_SYMBOL[symbol] for symbol in piece)
    return piece.encode()


def _read_sentence_piece(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace(SPACE_MARK, " ").encode()


def _from_vocab_and_merges(folder: Path) -> bytes:
    """GPT-2's older layout, as one tokenizer.json."""
    try:
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:
        raise ModelError(f"{folder} holds a vocab.json and merges.txt that do not fit together ({error})") from error
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if backend.token_to_id(END_OF_TEXT) is not None:
        backend.add_special_tokens([END_OF_TEXT])
    text: str = backend.to_str(pretty=True)
    return (text + "\n").encode()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"there is no tokenizer at {file} ({error.strerror}); name the folder or file that holds it"
        ) from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(_read(file))
    except ValueError as error:
        raise ModelError(f"{file} is not JSON ({error})") from error
    if not isinstance(data, dict):
        raise ModelError(f"{file} holds {type(data).__name__}, not names with values")
    return data
