"""The weights of a SavedModel that guiju wrote, and that TensorFlow may have trained since, as a model of ours again.

Its variables are a checkpoint, which is read without TensorFlow and without running anything of the graph.
"""

from __future__ import annotations

from pathlib import Path

import torch

from guiju.errors import ConfigError, ModelError, StorageError
from guiju.model import ModelConfig, TensorBundle, Transformer
from guiju.providers.local import LocalModel
from guiju.providers.tensorflow_facts import FACTS, read_shape
from guiju.providers.tokenizers import own_tokenizer, require_plain
from guiju.settings import from_mapping


def take_weights(reference: str, tokenizer: Path | None = None) -> LocalModel:
    """The model of a reference `tf:FOLDER` as one of ours.

    Raises:
        ModelError: the SavedModel is not one that guiju wrote, it is damaged, or its weights do not fit its shape.
    """
    folder = Path(reference.removeprefix("tf:"))
    require_plain(folder, "variables")
    try:
        config = from_mapping(ModelConfig, read_shape(folder / FACTS), "model")
    except ConfigError as problem:
        raise ModelError(f"{folder / FACTS}: {problem}") from None
    if config.kind != "decoder":
        raise ModelError(f"{folder / FACTS} names a model of kind {config.kind}; a SavedModel holds decoders")
    prefix = folder / "variables" / "variables"
    try:
        bundle = TensorBundle(prefix)
    except StorageError as problem:
        raise ModelError(str(problem)) from None
    model = _model(config, bundle, folder)
    own, files = own_tokenizer([folder], tokenizer, config.vocab_size)
    variables = sorted(prefix.parent.glob("variables.*"))
    return LocalModel(reference, model, own, (folder / FACTS, *variables, *files))


def _model(config: ModelConfig, bundle: TensorBundle, folder: Path) -> Transformer:
    with torch.device("meta"):
        shapes = {name: tuple(weight.shape) for name, weight in Transformer(config).named_parameters()}
    for name, shape in shapes.items():
        found = bundle.shapes.get(_variable(name))
        if found != shape:
            raise ModelError(
                f"{folder}: the weight {name} has the shape {list(found) if found is not None else 'of none'}, but "
                f"{FACTS} says {list(shape)}. They do not belong together; export the model anew"
            )
    model = Transformer(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.from_numpy(bundle.load(_variable(name))))
    return model


def _variable(name: str) -> str:
    """What TensorFlow's checkpoint calls a weight: a dot of a name is written twice."""
    return f"weights/{name.replace('.', '..')}/.ATTRIBUTES/VARIABLE_VALUE"
