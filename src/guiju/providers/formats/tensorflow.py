"""A TensorFlow SavedModel: the same weights, generating without torch in the process (`tf:FOLDER` does).

Signatures, all by name:
- `serving_default`: input_ids (B, T) int32 -> logits (B, T, vocab) float32.
- `decode`: input_ids (B, T), and for each layer n key_n and value_n (B, K, S, D) of the tokens before -> logits of the
  new tokens, and key_n and value_n with them. A generation begins with S = 0 and costs one step a token.
- `train_step`: input_ids, targets (B, T), learning_rate -> loss, gradient_norm, step; it moves the weights, see
  guiju.providers.formats.tensorflow_training. `save_trained` writes the model that TensorFlow trained, and
  `guiju export tf:FOLDER` makes any other layout of it again.
The tokenizer's files lie beside saved_model.pb, and guiju.json says what the graph does not: the shape and stop ids.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guiju.errors import ConfigError
from guiju.model import ModelConfig, Transformer
from guiju.providers.formats.tensorflow_decoder import build_decoder, require_decoder
from guiju.providers.formats.tensorflow_training import TRAIN, add_training, facts
from guiju.providers.local import LocalModel
from guiju.providers.tensorflow_facts import FACTS
from guiju.providers.tensorflow_graph import DECODE
from guiju.providers.tensorflow_library import import_tensorflow
from guiju.settings import to_mapping
from guiju.storage import folder_atomic, read_foreign, require_free_space, write_bytes, write_json
from guiju.training import TrainingSettings

_LARGEST_BESIDE = 1 << 30


def write(language_model: LocalModel, folder: Path) -> dict[str, Any]:
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


def save_graph(tf: Any, model: Transformer, folder: Path, *, trains: bool = True) -> None:
    """The SavedModel alone, with `train_step` or without."""
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
        "serving_default": tf.function(serve, autograph=False).get_concrete_function(ids),
        DECODE: tf.function(step, autograph=False).get_concrete_function(ids, **specs),
    }
    if trains:
        signatures[TRAIN] = add_training(tf, module, config, TrainingSettings())
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
        "model": to_mapping(config),
        "training": facts(TrainingSettings()),
    }


def save_trained(loaded: Any, source: str | Path, out: str | Path) -> None:
    """Write what TensorFlow trained: `loaded`, as tf.saved_model.load gave it, to a new folder.

    Args:
        source: the folder that it was loaded from; what lies beside its graph, such as the tokenizer, comes along.
    Raises:
        ConfigError: `out` is there already, or TensorFlow is not installed.
        StorageError: the disk is full, or the folder cannot be written.
    """
    source, out = Path(source), Path(out)
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out} is there already; choose a new folder")
    tf = import_tensorflow()
    size = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
    with folder_atomic(out) as folder:
        require_free_space(folder, 3 * size, f"the trained model in {out}")
        tf.saved_model.save(loaded, str(folder), signatures=dict(loaded.signatures))
        for path in sorted(source.iterdir()):
            if path.is_file() and path.suffix != ".pb":
                write_bytes(folder / path.name, read_foreign(path, _LARGEST_BESIDE))
