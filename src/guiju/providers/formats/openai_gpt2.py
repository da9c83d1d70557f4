"""OpenAI's release of GPT-2: a TensorFlow checkpoint, hparams.json, encoder.json and vocab.bpe, without TensorFlow.

`tf.train.load_checkpoint` reads it, and so does https://github.com/openai/gpt-2 with every fork of it.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from guiju.errors import ModelError
from guiju.model import save_openai_gpt2
from guiju.providers.language_model import LanguageModel
from guiju.storage import write_text
from guiju.tokens import END_OF_TEXT, Tokenizer

_VERSION = "#version: 0.2"  # the first line of vocab.bpe, which its readers skip


def write(language_model: LanguageModel, folder: Path) -> dict[str, Any]:
    """Fill the folder.

    Raises:
        ModelError: the shape is not GPT-2's, or the tokenizer is none that encoder.json and vocab.bpe can say.
    """
    vocabulary, merges = _vocabulary(language_model.tokenizer)
    save_openai_gpt2(language_model.decoder, folder)
    ordered = dict(sorted(vocabulary.items(), key=lambda piece: piece[1]))
    write_text(folder / "encoder.json", json.dumps(ordered))
    write_text(folder / "vocab.bpe", "".join(f"{line}\n" for line in (_VERSION, *merges)))
    return {}


def _vocabulary(tokenizer: Tokenizer) -> tuple[dict[str, int], list[str]]:
    """Pieces with their ids, and the merges in their order."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        layout = json.loads(Path(folder, "tokenizer.json").read_text(encoding="utf-8"))
    model = layout["model"]
    _require_gpt2_like(layout, model)
    vocabulary = dict(model["vocab"])
    for added in layout.get("added_tokens") or ():
        if added["content"] != END_OF_TEXT:
            raise _refusal(f"it has the token {added['content']!r} beside its merges; GPT-2 has {END_OF_TEXT} alone")
        vocabulary[END_OF_TEXT] = added["id"]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    return vocabulary, [" ".join(pair) for pair in pairs]


def _require_gpt2_like(layout: dict[str, Any], model: dict[str, Any]) -> None:
    """See that the release's encoder.py, which knows one way alone, gives the same ids."""
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        raise _refusal(f"it is of type {model.get('type')}, and GPT-2's is byte-level BPE")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "dropout", "byte_fallback", "ignore_merges"):
        if model.get(name):
            raise _refusal(f"it has {name} = {model[name]!r}")
    if layout.get("normalizer"):
        raise _refusal(f"it changes texts first (normalizer {layout['normalizer'].get('type')})")
    splitter = layout.get("pre_tokenizer") or {}
    if splitter.get("type") != "ByteLevel" or splitter.get("add_prefix_space") or not splitter.get("use_regex", True):
        raise _refusal(f"it cuts texts in another way (pre_tokenizer {json.dumps(splitter)[:200]})")


def _refusal(why: str) -> ModelError:
    return ModelError(
        f"the tokenizer cannot be written as encoder.json and vocab.bpe: {why}. Take --to huggingface, whose "
        f"tokenizer.json holds every kind"
    )
