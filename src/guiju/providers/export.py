"""A model in a layout that other tools open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guiju.errors import ConfigError
from guiju.model import save_model
from guiju.providers.reference import load
from guiju.storage import folder_atomic, require_free_space
from guiju.tokens import Llama2cTokenizer, Tokenizer

FORMATS = ("huggingface",)
_LATER = ("tensorflow", "gguf", "onnx", "llama2c")
_PROBES = 1000


def export_model(source: str | Path, to: str, out: str | Path, tokenizer: str | Path | None = None) -> dict[str, Any]:
    """Write the model of a reference to a new folder.

    Args:
        source: what `load` takes; likewise `tokenizer`.
        to: the layout; this version writes "huggingface".
        out: the folder to make. It takes its name only when all is written.
    Returns:
        out, format and files (names). For a llama2.c tokenizer also tokenizer_check: on how many made-up lines its ids
        were compared with those of the tokenizer.json, and on how many they differ (guiju.tokens.llama2c says when).
    Raises:
        ConfigError: the layout is not in this version, or the folder is there already.
        ModelError: the source cannot be read, or has no place in the layout.
        StorageError: the disk is full, or the folder cannot be written.
    """
    if to not in FORMATS:
        known = f"{to} is not in this version" if to in _LATER else f"there is no format {to!r}"
        raise ConfigError(f"{known}; export can write {', '.join(FORMATS)}")
    out = Path(out)
    if out.is_symlink() or (out.exists() and not out.is_dir()) or (out.is_dir() and any(out.iterdir())):
        raise ConfigError(f"{out} is there already; choose a new folder, or remove it first, so that nothing is lost")
    language_model = load(source, tokenizer)
    size = 4 * sum(parameter.numel() for parameter in language_model.model.parameters())
    with folder_atomic(out) as folder:
        require_free_space(folder, size, f"the model exported to {out}")
        save_model(language_model.model, folder, language_model.tokenizer)
        check = _compare(language_model.tokenizer, folder)
    return {"out": str(out), "format": to, "files": sorted(path.name for path in out.iterdir()), **check}


def _compare(tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    """Whether the written tokenizer.json gives the ids of a llama2.c tokenizer, which merges in another way."""
    if not isinstance(tokenizer, Llama2cTokenizer):
        return {}
    different = tokenizer.lines_that_differ(Tokenizer.load(folder), _PROBES)
    return {"tokenizer_check": {"lines": _PROBES, "different": different}}
