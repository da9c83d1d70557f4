"""The Transformer in its three shapes: their weights in and out, their caches and their hook points."""

from guiju.model.building import AnyModel, build_model
from guiju.model.cache import Attend, AttendMemory, Cache, DenseCache, LayerCache, LayerMemory, Memory
from guiju.model.config import ModelConfig, RotaryScaling
from guiju.model.encoder import Encoder
from guiju.model.encoder_decoder import EncoderDecoder
from guiju.model.heads import with_head
from guiju.model.hooks import Hooks, hook_names
from guiju.model.huggingface import load_model, save_model
from guiju.model.llama2c import load_llama2c, save_llama2c
from guiju.model.lora import LoraLinear, LoraSettings, add_lora, lora_layers, merge_lora, weights_digest, without_lora
from guiju.model.openai_gpt2 import is_openai_gpt2, load_openai_gpt2, openai_gpt2_files, save_openai_gpt2
from guiju.model.peft import AdapterBase, load_peft, save_peft
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
from guiju.model.tensor_bundle import TensorBundle
from guiju.model.transformer import Transformer
from guiju.model.weights import weight_files

__all__ = [
    "AdapterBase",
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
    "LoraLinear",
    "LoraSettings",
    "Memory",
    "ModelConfig",
    "ModelSettings",
    "RotaryScaling",
    "TensorBundle",
    "Transformer",
    "add_lora",
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
    "load_peft",
    "lora_layers",
    "merge_lora",
    "openai_gpt2_files",
    "pack_codes",
    "quantize",
    "rotary_frequencies",
    "round_matrix",
    "save_llama2c",
    "save_model",
    "save_openai_gpt2",
    "save_peft",
    "t5_config",
    "transformer_config",
    "weight_files",
    "weights_digest",
    "with_head",
    "without_lora",
]
