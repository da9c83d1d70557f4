"""The signatures of a SavedModel that a language model needs: token ids in, logits out, with a cache or without.

Axes: B batch, T new tokens, S cached and new tokens, K key-value heads, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guiju.errors import ModelError

Cache = dict[str, Any]
"""Name of an input -> a layer's keys or values so far, (B, K, S, D); never changed, so that texts may share it."""

DECODE = "decode"
_IDS_OF_HUGGING_FACE = ("input_ids",)
_MASK = "attention_mask"


@dataclass(frozen=True)
class Ids:
    """An input for token ids."""

    name: str
    dtype: Any
    mask: str | None
    """The input that says which tokens are real, where there is one."""
    mask_dtype: Any


class Graph:
    """A loaded SavedModel, called with token ids."""

    def __init__(self, tf: Any, loaded: Any, folder: Path) -> None:
        """Find the signatures.

        Raises:
            ModelError: none leads from token ids to logits; those that there are are listed.
        """
        self.tf, self.loaded = tf, loaded  # its weights live as long as the object
        signatures = dict(loaded.signatures)
        self._step = signatures.get(DECODE) if _is_step(tf, signatures.get(DECODE)) else None
        found = [(name, ids) for name in _in_order(signatures) if (ids := _ids_of(tf, signatures[name]))]
        if not found:
            raise ModelError(
                f"{folder} has no signature from token ids (batch, time) of whole numbers to logits (batch, time, "
                f"vocab): {_described(signatures)}. Save it with such a signature, for instance serving_default"
            )
        name, self._ids = found[0]
        self._whole = signatures[name]
        self._logits = _logits_of(tf, self._whole) or ""
        self.path = folder

    @property
    def has_cache(self) -> bool:
        """Whether a token costs one step, not a whole pass."""
        return self._step is not None

    @property
    def vocab_size(self) -> int | None:
        """As the signature states it."""
        size = self._whole.structured_outputs[self._logits].shape[-1]
        return None if size is None else int(size)

    def empty_cache(self) -> Cache:
        """What `step` begins with."""
        if self._step is None:
            return {}
        specs = self._step.structured_input_signature[1]
        return {
            name: self.tf.zeros((1, spec.shape[1], 0, spec.shape[3]), spec.dtype)
            for name, spec in specs.items()
            if spec.shape.rank == 4
        }

    def step(self, ids: Sequence[int], cache: Cache) -> tuple[NDArray[np.float32], Cache]:
        """Logits (T, vocab) of what may follow each of the new ids, and the cache with them."""
        assert self._step is not None
        answer = self._call(self._step, {"input_ids": self.tf.constant([ids], self.tf.int32), **cache})
        logits = answer.pop("logits")
        return logits.numpy()[0], answer

    def read(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits (T, vocab) of what may follow each of the ids, in one pass."""
        given = {self._ids.name: self.tf.constant([ids], self._ids.dtype)}
        if self._ids.mask is not None:
            given[self._ids.mask] = self.tf.ones((1, len(ids)), self._ids.mask_dtype)
        logits: NDArray[np.float32] = self._call(self._whole, given)[self._logits].numpy()[0]
        return logits

    def _call(self, signature: Any, given: dict[str, Any]) -> dict[str, Any]:
        try:
            return dict(signature(**given))
        except self.tf.errors.OpError as problem:
            what = str(problem.message).split("\n")[0][:300]
            raise ModelError(f"{self.path}: TensorFlow could not compute it ({what})") from None


def _in_order(signatures: dict[str, Any]) -> list[str]:
    """serving_default first."""
    return sorted(signatures, key=lambda name: (name != "serving_default", name))


def _ids_of(tf: Any, signature: Any) -> Ids | None:
    """The input of token ids, where the signature has that and logits, and wants nothing else but a mask."""
    inputs = signature.structured_input_signature[1]
    masks = [name for name in inputs if name.endswith(_MASK)]
    others = [name for name in inputs if name not in masks]
    if len(others) != 1 or len(masks) > 1 or _logits_of(tf, signature) is None:
        return None
    spec = inputs[others[0]]
    if spec.dtype not in (tf.int32, tf.int64) or spec.shape.rank != 2 or not _takes_any_length(spec):
        return None
    return Ids(others[0], spec.dtype, *((masks[0], inputs[masks[0]].dtype) if masks else (None, None)))


def _takes_any_length(spec: Any) -> bool:
    return spec.shape[0] in (None, 1) and spec.shape[1] is None


def _logits_of(tf: Any, signature: Any) -> str | None:
    """The output (batch, time, vocab) of floats: the one so called, or the only one."""
    outputs = signature.structured_outputs
    if not isinstance(outputs, dict):
        return None
    fitting = [name for name, spec in outputs.items() if spec.dtype == tf.float32 and spec.shape.rank == 3]
    if "logits" in fitting:
        return "logits"
    return fitting[0] if len(fitting) == 1 else None


def _is_step(tf: Any, signature: Any) -> bool:
    """Whether it is the cached step that guiju writes: see guiju.providers.formats.tensorflow."""
    if signature is None:
        return False
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    held = {name: spec for name, spec in inputs.items() if name != "input_ids"}
    return (
        "input_ids" in inputs
        and "logits" in outputs
        and set(outputs) == {"logits", *held}
        and inputs["input_ids"].dtype == tf.int32
        and bool(held)
        and all(spec.shape.rank == 4 and None not in (spec.shape[1], spec.shape[3]) for spec in held.values())
    )


def _described(signatures: dict[str, Any]) -> str:
    """What there is instead."""
    if not signatures:
        return "it has no signature at all"

    def shown(specs: Any) -> str:
        if not isinstance(specs, dict):
            return str(specs)
        return ", ".join(f"{name} {spec.dtype.name} {spec.shape}" for name, spec in specs.items()) or "nothing"

    return "it has " + "; ".join(
        f"{name}: {shown(signature.structured_input_signature[1])} -> {shown(signature.structured_outputs)}"
        for name, signature in signatures.items()
    )
