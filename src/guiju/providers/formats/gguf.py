"""One GGUF file, as llama.cpp reads it: GPT-2's and Llama's shapes, in f32, f16 or q8_0.

Source: https://github.com/ggml-org/ggml, docs/gguf.md, and the names of tensors in gguf-py's constants.py. The file is
written by the `gguf` package (extra `gguf`), tensor by tensor, so that no second copy of the model is held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from guiju.errors import ConfigError, ModelError
from guiju.model import ModelConfig, Transformer, gpt2_config, llama_config, rotary_frequencies
from guiju.providers.formats.gguf_vocabulary import add_vocabulary
from guiju.providers.local import LocalModel

TYPES = ("f32", "f16", "q8_0")
_KINDS = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
_BLOCK = 32  # values that share a scale in q8_0
_NO_COMPUTATION = {"dropout", "stop_ids", "pad_id", "start_id"}
_LARGEST_HALF = 65504.0


@dataclass(frozen=True)
class _Architecture:
    """What llama.cpp calls a shape and its tensors; theirs -> ours, with more than one of ours put together by rows."""

    name: str
    free: frozenset[str]
    """Fields of ours that it takes any value of."""
    body: dict[str, str]
    layer: dict[str, tuple[str, ...]]


_GPT2 = _Architecture(
    "gpt2",
    frozenset({"norm_epsilon", "tied", "hidden"}),
    {
        "token_embd.weight": "embedding.weight",
        "position_embd.weight": "position_embedding.weight",
        "output_norm.weight": "final_norm.weight",
        "output_norm.bias": "final_norm.bias",
    },
    {
        f"{theirs}.{kind}": tuple(f"{name}.{kind}" for name in ours)
        for kind in ("weight", "bias")
        for theirs, ours in {
            "attn_norm": ("attention_norm",),
            "attn_qkv": ("attention.to_query", "attention.to_key", "attention.to_value"),
            "attn_output": ("attention.to_output",),
            "ffn_norm": ("mlp_norm",),
            "ffn_up": ("mlp.to_hidden",),
            "ffn_down": ("mlp.to_output",),
        }.items()
    },
)
_LLAMA = _Architecture(
    "llama",
    frozenset({"norm_epsilon", "tied", "hidden", "kv_heads", "head_width", "rotary_base", "rotary_scaling"}),
    {"token_embd.weight": "embedding.weight", "output_norm.weight": "final_norm.weight"},
    {
        f"{theirs}.weight": (f"{ours}.weight",)
        for theirs, ours in {
            "attn_norm": "attention_norm",
            "attn_q": "attention.to_query",
            "attn_k": "attention.to_key",
            "attn_v": "attention.to_value",
            "attn_output": "attention.to_output",
            "ffn_norm": "mlp_norm",
            "ffn_gate": "mlp.to_gate",
            "ffn_up": "mlp.to_hidden",
            "ffn_down": "mlp.to_output",
        }.items()
    },
)


def write(language_model: LocalModel, folder: Path, *, type: str = "f32") -> dict[str, Any]:
    """Fill the folder with model-TYPE.gguf.

    Args:
        type: of the matrices, "f32", "f16" or "q8_0" (blocks of 32 numbers in 8 bits with a scale); norms, biases and
            learned positions stay f32.
    Returns:
        type, and error: the largest difference between a weight as written and as it was.
    Raises:
        ConfigError: there is no such type.
        ModelError: the model, a tensor's width or the tokenizer has no place in GGUF; it is named.
    """
    if type not in TYPES:
        raise ConfigError(f"--type is {type!r}; gguf can be {', '.join(TYPES)}")
    model = language_model.decoder
    architecture = _architecture(model.config)
    names = list(_names(model.config, architecture))
    for name in names:
        _require_type(name, _shape(model, name, architecture), type)
    writer = gguf.GGUFWriter(folder / f"model-{type}.gguf", architecture.name)
    try:
        _add_shape(writer, model.config, type)
        add_vocabulary(writer, language_model.tokenizer, model.config)
        error = _write_tensors(writer, model, architecture, names, type)
    finally:
        writer.close()
    return {"type": type, "error": error}


def _architecture(config: ModelConfig) -> _Architecture:
    """The one that computes what the model does.

    Raises:
        ModelError: neither does; the field that keeps it from the nearer one is named.
    """
    sizes: dict[str, Any] = {name: getattr(config, name) for name in ("vocab_size", "context", "layers", "heads")}
    sizes["width"] = config.heads * (config.width // config.heads)
    if config.positions == "learned":
        architecture, same = _GPT2, gpt2_config(**sizes)
    else:
        architecture, same = _LLAMA, llama_config(**sizes)
    given = config.window is not None and config.window >= config.context  # it hides nothing
    for field in fields(ModelConfig):
        if field.name in architecture.free | _NO_COMPUTATION or (field.name == "window" and given):
            continue
        ours, theirs = getattr(config, field.name), getattr(same, field.name)
        if ours != theirs:
            raise ModelError(
                f"model.{field.name} is {ours!r}, but llama.cpp's {architecture.name} has {theirs!r}: GGUF is written "
                f"for GPT-2's and Llama's shapes. Export it to huggingface"
            )
    return architecture


def _names(config: ModelConfig, architecture: _Architecture) -> Iterator[str]:
    yield from architecture.body
    if not config.tied:
        yield "output.weight"
    if config.rotary_scaling is not None and config.rotary_scaling.kind == "llama3":
        yield "rope_freqs.weight"
    for layer in range(config.layers):
        for name in architecture.layer:
            yield f"blk.{layer}.{name}"


def _parts(name: str, architecture: _Architecture) -> tuple[str, ...]:
    """Our tensors that make up one of theirs."""
    if name == "output.weight":
        return ("to_logits.weight",)
    if not name.startswith("blk."):
        return (architecture.body[name],)
    _, layer, rest = name.split(".", 2)
    return tuple(f"layers.{layer}.{ours}" for ours in architecture.layer[rest])


def _shape(model: Transformer, name: str, architecture: _Architecture) -> tuple[int, ...]:
    if name == "rope_freqs.weight":
        return (model.config.head_width // 2,)
    shapes = [tuple(model.get_parameter(part).shape) for part in _parts(name, architecture)]
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _tensor(model: Transformer, name: str, architecture: _Architecture) -> Tensor:
    """One of their tensors in float32."""
    config = model.config
    if name == "rope_freqs.weight":
        return _slowing(config)
    parts = [model.get_parameter(part).detach().float().cpu() for part in _parts(name, architecture)]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    if name.endswith(("attn_q.weight", "attn_k.weight")):
        # Here (x[i], x[i + D/2]) are turned, in llama.cpp's Llama the neighbours (x[2i], x[2i+1]).
        pairs = whole.view(-1, 2, config.head_width // 2, whole.size(1))
        whole = pairs.transpose(1, 2).reshape(whole.shape)
    return whole.contiguous()


def _slowing(config: ModelConfig) -> Tensor:
    """By what llama.cpp divides each pair's turn: (D / 2,)."""
    pairs = torch.arange(0, config.head_width, 2).float() / config.head_width
    return (1.0 / config.rotary_base**pairs) / rotary_frequencies(config)


def _kind(name: str, shape: tuple[int, ...], type: str) -> gguf.GGMLQuantizationType:
    stays = len(shape) == 1 or name == "position_embd.weight"
    return gguf.GGMLQuantizationType.F32 if stays else _KINDS[type][0]


def _require_type(name: str, shape: tuple[int, ...], type: str) -> None:
    if _kind(name, shape, type) is gguf.GGMLQuantizationType.Q8_0 and shape[-1] % _BLOCK:
        raise ModelError(
            f"tensor {name} has rows of {shape[-1]} numbers, which blocks of {_BLOCK} do not divide: it cannot be "
            f"written as q8_0. Take --type f16"
        )


def _add_shape(writer: gguf.GGUFWriter, config: ModelConfig, type: str) -> None:
    writer.add_type("model")
    writer.add_file_type(_KINDS[type][1])
    if type == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    if config.positions == "learned":
        writer.add_layer_norm_eps(config.norm_epsilon)
        return
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_width)
    writer.add_value_length(config.head_width)
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_rope_dimension_count(config.head_width)
    writer.add_rope_freq_base(config.rotary_base)
    if config.rotary_scaling is not None and config.rotary_scaling.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rotary_scaling.factor)


def _write_tensors(
    writer: gguf.GGUFWriter, model: Transformer, architecture: _Architecture, names: list[str], type: str
) -> float:
    """Write them one by one; returns the largest error that the type makes."""
    for name in names:
        shape = _shape(model, name, architecture)
        kind = _kind(name, shape, type)
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        size = int(np.prod(shape)) // block * block_bytes
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    error = 0.0
    for name in names:
        values: NDArray[np.float32] = _tensor(model, name, architecture).numpy()
        kind = _kind(name, values.shape, type)
        if not np.isfinite(values).all():
            raise ModelError(f"tensor {name} holds numbers that are not finite, so there is nothing to compute with")
        if kind is gguf.GGMLQuantizationType.F16 and np.abs(values).max(initial=0.0) > _LARGEST_HALF:
            raise ModelError(
                f"tensor {name} holds numbers above {_LARGEST_HALF:g}, the largest of f16. Take --type f32"
            )
        written = gguf.quants.quantize(values, kind)
        if kind is not gguf.GGMLQuantizationType.F32:
            error = max(error, float(np.abs(gguf.quants.dequantize(written, kind) - values).max(initial=0.0)))
        writer.write_tensor_data(written)
    return error
