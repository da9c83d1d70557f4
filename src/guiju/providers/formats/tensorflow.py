"""A TensorFlow SavedModel: the same weights, generating without torch in the process (`tf:FOLDER` does).

Signatures, all by name:
- `serving_default`: input_ids (B, T) int32 -> logits (B, T, vocab) float32.
- `decode`: input_ids (B, T), and for each layer n key_n and value_n (B, K, S, D) of the tokens before -> logits of the
  new tokens, and key_n and value_n with them. A generation begins with S = 0 and costs one step a token.
The tokenizer's files lie beside saved_model.pb, and guiju.json says what the graph does not: context and stop ids.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guiju.model import ModelConfig, Transformer
from guiju.providers.formats.tensorflow_decoder import build_decoder, require_decoder
from guiju.providers.language_model import LanguageModel
from guiju.providers.tensorflow import FACTS
from guiju.providers.tensorflow_graph import DECODE
from guiju.providers.tensorflow_library import import_tensorflow
from guiju.storage import write_json


def write(language_model: LanguageModel, folder: Path) -> dict[str, Any]:
    """Fill the folder.

    Raises:
        ModelError: the model is no decoder; the field is named.
        ConfigError: TensorFlow is not installed.
    """
    model = language_model.decoder
    require_decoder(model.config)
    save_graph(import_tensorflow(), model, folder)
    language_model.tokenizer.save(folder)
    write_json(folder / FACTS, _facts(model.config))
    return {}


def save_graph(tf: Any, model: Transformer, folder: Path) -> None:
    """The SavedModel alone."""
    config = model.config
    module = build_decoder(tf, model)
    decode = module.step
    ids = tf.TensorSpec((None, None), tf.int32, name="input_ids")
    held = tf.TensorSpec((None, config.kv_heads, None, config.head_width), tf.float32)
    names = [f"{kind}_{layer}" for kind in ("key", "value") for layer in range(config.layers)]

    def serve(input_ids: Any) -> dict[str, Any]:
        shape = (tf.shape(input_ids)[0], config.kv_heads, 0, config.head_width)
        nothing = [tf.zeros(shape)] * config.layers
        return {"logits": decode(input_ids, nothing, nothing)[0]}

    def step(input_ids: Any, **cache: Any) -> dict[str, Any]:
        held = [cache[name] for name in names]
        logits, keys, values = decode(input_ids, held[: config.layers], held[config.layers :])
        return {"logits": logits, **dict(zip(names, [*keys, *values], strict=True))}

    specs = {name: tf.TensorSpec(held.shape, held.dtype, name=name) for name in names}
    signatures = {
        "serving_default": tf.function(serve).get_concrete_function(ids),
        DECODE: tf.function(step).get_concrete_function(ids, **specs),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _facts(config: ModelConfig) -> dict[str, Any]:
    """What the graph does not say."""
    return {
        "format": 1,
        "vocab_size": config.vocab_size,
        "context": config.context,
        "stop_ids": list(config.stop_ids),
        "forced_first_id": config.forced_first_id,
        "forced_last_id": config.forced_last_id,
        "never_ids": list(config.never_ids),
    }
