"""The Transformer: its shape, its weights in and out, its cache and its hook points."""

from guiju.model.cache import Attend, Cache, DenseCache, LayerCache
from guiju.model.config import ModelConfig, ModelSettings, gpt2_config, llama_config
from guiju.model.hooks import Hooks, hook_names
from guiju.model.huggingface import load_model, save_model
from guiju.model.llama2c import load_llama2c
from guiju.model.transformer import Transformer

__all__ = [
    "Attend",
    "Cache",
    "DenseCache",
    "Hooks",
    "LayerCache",
    "ModelConfig",
    "ModelSettings",
    "Transformer",
    "gpt2_config",
    "hook_names",
    "llama_config",
    "load_llama2c",
    "load_model",
    "save_model",
]
