"""The Transformer in its three shapes: their weights in and out, their caches and their hook points."""

from guiju.model.building import AnyModel, build_model
from guiju.model.cache import Attend, AttendMemory, Cache, DenseCache, LayerCache, LayerMemory, Memory
from guiju.model.config import ModelConfig, RotaryScaling
from guiju.model.encoder import Encoder, with_head
from guiju.model.encoder_decoder import EncoderDecoder
from guiju.model.hooks import Hooks, hook_names
from guiju.model.huggingface import load_model, save_model
from guiju.model.llama2c import load_llama2c, save_llama2c
from guiju.model.openai_gpt2 import is_openai_gpt2, load_openai_gpt2, openai_gpt2_files, save_openai_gpt2
from guiju.model.positions import rotary_frequencies
from guiju.model.presets import (
    ModelSettings,
    bart_config,
    bert_config,
    gpt2_config,
    llama_config,
    t5_config,
    transformer_config,
)
from guiju.model.quantized import group_for, pack_codes, quantize, round_matrix
from guiju.model.transformer import Transformer
from guiju.model.weights import weight_files

__all__ = [
    "AnyModel",
    "Attend",
    "AttendMemory",
    "Cache",
    "DenseCache",
    "Encoder",
    "EncoderDecoder",
    "Hooks",
    "LayerCache",
    "LayerMemory",
    "Memory",
    "ModelConfig",
    "ModelSettings",
    "RotaryScaling",
    "Transformer",
    "bart_config",
    "bert_config",
    "build_model",
    "gpt2_config",
    "group_for",
    "hook_names",
    "is_openai_gpt2",
    "llama_config",
    "load_llama2c",
    "load_model",
    "load_openai_gpt2",
    "openai_gpt2_files",
    "pack_codes",
    "quantize",
    "rotary_frequencies",
    "round_matrix",
    "save_llama2c",
    "save_model",
    "save_openai_gpt2",
    "t5_config",
    "transformer_config",
    "weight_files",
    "with_head",
]
