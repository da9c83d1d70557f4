"""A Hugging Face folder: config.json, model.safetensors, tokenizer.json. transformers opens it with equal logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guiju.model import save_model
from guiju.providers.local import LocalModel
from guiju.tokens import Llama2cTokenizer, Tokenizer

_PROBES = 1000


def write(language_model: LocalModel, folder: Path) -> dict[str, Any]:
    """Fill the folder.

    Returns:
        For a llama2.c or SentencePiece tokenizer tokenizer_check: on how many made-up lines its ids were compared with
        those of the tokenizer.json, and on how many they differ (see guiju.tokens, llama2c and sentencepiece_layout).
    """
    save_model(language_model.model, folder, language_model.tokenizer)
    tokenizer = language_model.tokenizer
    if isinstance(tokenizer, Llama2cTokenizer):
        different = tokenizer.lines_that_differ(Tokenizer.load(folder), _PROBES)
    elif tokenizer.has_own_encoder:
        different = tokenizer.lines_saved_otherwise(tokenizer.probe_lines(_PROBES))
    else:
        return {}
    return {"tokenizer_check": {"lines": _PROBES, "different": different}}
