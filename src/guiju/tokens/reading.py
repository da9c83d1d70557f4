"""Which files of a folder, or beside a file, make its tokenizer; each kind has a reader of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from guiju.errors import ModelError
from guiju.tokens import marian
from guiju.tokens.byte_level import GPT2_LIKE, QWEN_LIKE, ROBERTA_LIKE, read_byte_level
from guiju.tokens.foreign import MOST_BYTES, read_file, read_optional_json
from guiju.tokens.sentencepiece_layout import STYLES, read_sentencepiece
from guiju.tokens.source import Source
from guiju.tokens.word_piece import BERT_LIKE, read_word_piece

PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
"""Byte-level BPE in two files."""
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "sentencepiece.model")
BYTE_LEVEL_CLASSES = (*GPT2_LIKE, *ROBERTA_LIKE, *QWEN_LIKE)
CHAT_TEMPLATE_FILE = "chat_template.jinja"
"""Where a folder keeps how conversations become text; older ones have it in tokenizer_config.json."""
LONGEST_CHAT_TEMPLATE = 1 << 20
"""Bytes; the largest published one has some thirty thousand."""
SIDE_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", CHAT_TEMPLATE_FILE)
TOKENIZER_FILES = (
    "tokenizer.json",
    *(name for pair in PAIRS for name in pair),
    *marian.FILES,
    "vocab.txt",
    *SENTENCEPIECE,
)
"""Names that hold a tokenizer, or a part of it."""
_MADE_BY_FAMILY = {
    "gpt2": "GPT2Tokenizer",
    "qwen2": "Qwen2Tokenizer",
    "qwen3": "Qwen2Tokenizer",
    "roberta": "RobertaTokenizer",
    "bart": "BartTokenizer",
    "llama": "LlamaTokenizer",
    "mistral": "LlamaTokenizer",
    "gemma": "GemmaTokenizer",
    "t5": "T5Tokenizer",
    "mt5": "T5Tokenizer",
    "bert": "BertTokenizer",
}
"""model_type in config.json -> the class that reads its tokenizer, where tokenizer_config.json does not name it."""
_GENERAL = ("PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", "SentencePieceBackend")


def tokenizer_files(place: Path) -> list[Path]:
    """The files that the tokenizer of a folder or at a path is read from; none where there is no tokenizer.

    A .json, .txt, .bpe, .model or .spm file stands for itself and what belongs to it.
    """
    main = _main_files(place)
    beside = [main[0].parent / name for name in SIDE_FILES] if main else []
    return [*main, *(file for file in beside if file.is_file())]


def find_source(place: Path) -> Source:
    """The tokenizer of a folder, or at the path of one of its files.

    Raises:
        ModelError: there is none, or it cannot be used.
    """
    files = _main_files(place)
    if not files:
        raise ModelError(
            f"there is no tokenizer at {place}: a folder has tokenizer.json, vocab.json with merges.txt, encoder.json "
            f"with vocab.bpe, vocab.txt, a SentencePiece file ({', '.join(SENTENCEPIECE)}), or source.spm and "
            "target.spm with vocab.json"
        )
    file = files[0]
    folder = file.parent
    config = {**read_optional_json(folder / "special_tokens_map.json")}
    config.update(read_optional_json(folder / "tokenizer_config.json"))
    if "auto_map" in config:
        raise ModelError(
            f"{folder / 'tokenizer_config.json'} has auto_map ({str(config['auto_map'])[:120]}), so it wants its own "
            "code to be run. guiju never runs code out of a model's folder; remove the entry where its tokenizer.json "
            "alone is right"
        )
    if (folder / CHAT_TEMPLATE_FILE).is_file():
        config["chat_template"] = read_file(folder / CHAT_TEMPLATE_FILE, LONGEST_CHAT_TEMPLATE).decode(errors="replace")
    if len(files) == 3:
        return marian.read_marian(folder, config)
    if len(files) == 2:
        return read_byte_level(file, files[1], config, _kind(folder, config, BYTE_LEVEL_CLASSES))
    if file.suffix == ".json":
        return Source(data=read_file(file, MOST_BYTES), where=str(file), config=config)
    if file.suffix == ".txt":
        return read_word_piece(file, config, _kind(folder, config, BERT_LIKE))
    return read_sentencepiece(file, config, _kind(folder, config, STYLES))


def _main_files(place: Path) -> list[Path]:
    if not place.is_dir():
        return _belonging(place) if place.is_file() or place.is_symlink() else []
    if all((place / name).is_file() for name in marian.FILES):
        return [place / name for name in marian.FILES]
    own = _named_model(place)
    if own is not None:
        return [own]
    if (place / "tokenizer.json").is_file() or (place / "tokenizer.json").is_symlink():
        return [place / "tokenizer.json"]
    for pair in PAIRS:
        if all((place / name).is_file() for name in pair):
            return [place / name for name in pair]
    for name in ("vocab.txt", *SENTENCEPIECE):
        if (place / name).is_file():
            return [place / name]
    others = sorted(place.glob("*.model"))
    return others[:1] if len(others) == 1 else []


def _belonging(file: Path) -> list[Path]:
    """A file, and the other one where it is half of a pair."""
    for pair in PAIRS:
        if file.name in pair and all((file.parent / name).is_file() for name in pair):
            return [file.parent / name for name in pair]
    return [file] if file.suffix in (".json", ".txt", ".model", ".spm") else []


def _named_model(folder: Path) -> Path | None:
    """The SentencePiece file that a tokenizer.json was made from here: it says more than that."""
    name = read_optional_json(folder / "tokenizer_config.json").get("sentencepiece_file")
    if not isinstance(name, str):
        return None
    if Path(name).name != name or not (folder / name).is_file():
        raise ModelError(f"{folder / 'tokenizer_config.json'} names the file {name[:80]!r}, which is not in its folder")
    return folder / name


def _kind(folder: Path, config: Mapping[str, Any], known: Collection[str]) -> str:
    """The class that transformers reads a folder by; empty where nothing says so.

    Args:
        known: the classes that read such files; where the model's family has another one, nothing is said.
    """
    named = config.get("tokenizer_class")
    if isinstance(named, str) and named.removesuffix("Fast") not in _GENERAL:
        return named.removesuffix("Fast")
    family = read_optional_json(folder / "config.json").get("model_type")
    usual = _MADE_BY_FAMILY.get(family, "") if isinstance(family, str) else ""
    return usual if usual in known else ""
