"""The Transformer: its shape, its weights in and out, its cache and its hook points."""

from guiju.model.config import ModelConfig, ModelSettings, gpt2_config, llama_config
from guiju.model.transformer import Transformer

__all__ = [
    "ModelConfig",
    "ModelSettings",
    "Transformer",
    "gpt2_config",
    "llama_config",
]
