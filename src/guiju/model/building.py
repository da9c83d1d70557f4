"""A model of any shape, from its config."""

from __future__ import annotations

from guiju.model.config import ModelConfig
from guiju.model.encoder import Encoder
from guiju.model.encoder_decoder import EncoderDecoder
from guiju.model.transformer import Transformer

AnyModel = Transformer | Encoder | EncoderDecoder
"""A model of one of the three shapes (config.kind)."""


def build_model(config: ModelConfig) -> AnyModel:
    """A new model with random weights, drawn from torch's global generator: Transformer, Encoder or EncoderDecoder."""
    if config.kind == "decoder":
        return Transformer(config)
    return Encoder(config) if config.kind == "encoder" else EncoderDecoder(config)
