"""The one place that imports transformers: a folder of this machine becomes a network and its words, without network
access and without a model's own code."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from guiju.errors import ConfigError, ModelError

_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
_LONGEST = 1 << 24
"""The library says 10^30 where a tokenizer knows no length."""


@dataclass(frozen=True)
class Words:
    """A tokenizer of the library, with the names that ours has."""

    tokenizer: Any

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def encode_target(self, text: str) -> list[int]:
        """Of a text that an encoder's decoder writes."""
        return list(self.tokenizer(text_target=text, add_special_tokens=False).input_ids)

    def source_ids(self, text: str) -> list[int]:
        """Of a text that an encoder reads, with the special tokens around it."""
        return list(self.tokenizer(text).input_ids)

    def prompt_ids(self, text: str) -> list[int]:
        return [*self.prefix_ids, *self.encode(text)] if text else [self.start_id]

    def unknown_characters(self, text: str) -> str:
        found = [char for char in dict.fromkeys(text) if char.strip() and self.unknown_id in self.encode(char)]
        return ", ".join(f"{char} U+{ord(char):04X}" for char in found[:5]) or "in some of its words"

    def continuation(self, front: list[int], ids: list[int]) -> str:
        """What ids add to a text: a space that the library drops at a text's beginning stays."""
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        whole, before = (self.tokenizer.decode(part, **options) for part in ([*front, *ids], front))
        if front and whole.startswith(before):
            return str(whole[len(before) :])
        return str(self.tokenizer.decode(ids, **options))

    @property
    def start_id(self) -> int:
        start = self.tokenizer.bos_token_id
        start = self.tokenizer.eos_token_id if start is None else start
        if start is None:
            raise ModelError(
                "this tokenizer names neither a bos_token nor an eos_token; nothing can stand before a text"
            )
        return int(start)

    @cached_property
    def prefix_ids(self) -> list[int]:
        """What the layout puts before every text."""
        bare, whole = self.encode("a"), self.source_ids("a")
        place = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), 0)
        return whole[:place]

    @property
    def unknown_id(self) -> int | None:
        """None where every text can be written: byte-level vocabularies name one of their tokens so."""
        unknown = self.tokenizer.unk_token_id
        return None if unknown in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id) else unknown

    @property
    def end_id(self) -> int | None:
        end: int | None = self.tokenizer.eos_token_id
        return end

    @property
    def pad_id(self) -> int | None:
        pad: int | None = self.tokenizer.pad_token_id
        return self.end_id if pad is None else pad


@dataclass(frozen=True)
class Loaded:
    """What lies in a folder."""

    network: Any
    words: Words
    files: tuple[Path, ...]
    context: int | None
    """Tokens that it can look at; None where nothing bounds them."""

    is_pair: bool
    """Whether it has an encoder beside its decoder."""


def load_folder(name: str, tokenizer: Path | None) -> Loaded:
    """The causal or sequence-to-sequence model of a folder, or of a name in the Hugging Face cache.

    Raises:
        ConfigError: the library is not installed.
        ModelError: there is no such folder, or the library cannot load it so.
    """
    try:
        import transformers
    except ImportError as problem:
        raise ConfigError(
            f"transformers:{name} needs transformers, which cannot be imported ({problem}). Install it: pip install "
            f"'guiju[transformers]'"
        ) from None
    folder = _folder(name)
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    told: Any = transformers.utils.logging
    before = told.get_verbosity()
    told.set_verbosity_error()
    progress = os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    told.disable_progress_bar()
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **options)
        is_pair = bool(getattr(config, "is_encoder_decoder", False))
        kind = transformers.AutoModelForSeq2SeqLM if is_pair else transformers.AutoModelForCausalLM
        network = kind.from_pretrained(folder, use_safetensors=True, dtype="auto", **options).eval()
        own = transformers.AutoTokenizer.from_pretrained(folder if tokenizer is None else tokenizer, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, AttributeError) as problem:
        what = " ".join(str(problem).split())[:300]
        raise ModelError(
            f"transformers cannot load {folder} as a causal or sequence-to-sequence model: {what}. Code of a model's "
            f"own is not run, nothing is fetched, and weights must be safetensors"
        ) from None
    finally:
        told.set_verbosity(before)
        if progress is None:
            del os.environ["HF_HUB_DISABLE_PROGRESS_BARS"]
        else:
            os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = progress
    files = tuple(sorted(path for pattern in _FILES for path in folder.glob(pattern)))
    return Loaded(network, Words(own), files, _context(config), is_pair)


def _folder(name: str) -> Path:
    folder = Path(name)
    if folder.is_dir():
        return folder if (folder / "config.json").is_file() or not (folder / "model").is_dir() else folder / "model"
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        raise ModelError(
            f"there is no folder {name}, and no model of that name in the Hugging Face cache; nothing is fetched. "
            f"Bring it by `hf download {name}`, or give a folder"
        ) from None


def _context(config: Any) -> int | None:
    for name in ("max_position_embeddings", "n_positions", "seq_length"):
        value = getattr(config, name, None)
        if isinstance(value, int) and 0 < value < _LONGEST:
            return value
    return None
