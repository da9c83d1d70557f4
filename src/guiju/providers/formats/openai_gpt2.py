"""OpenAI's release of GPT-2: a TensorFlow checkpoint, hparams.json, encoder.json and vocab.bpe, without TensorFlow.

`tf.train.load_checkpoint` reads it, and so does https://github.com/openai/gpt-2 with every fork of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guiju.model import save_openai_gpt2
from guiju.providers.local import LocalModel
from guiju.storage import write_bytes


def write(language_model: LocalModel, folder: Path) -> dict[str, Any]:
    """Fill the folder.

    Raises:
        ModelError: the shape is not GPT-2's, or the tokenizer is none that encoder.json and vocab.bpe can say.
    """
    vocabulary, merges = language_model.tokenizer.as_two_files()
    save_openai_gpt2(language_model.decoder, folder)
    write_bytes(folder / "encoder.json", vocabulary)
    write_bytes(folder / "vocab.bpe", merges)
    return {}
