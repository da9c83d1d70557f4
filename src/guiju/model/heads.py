"""Another head on the same body, to be trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch

from guiju.errors import ConfigError
from guiju.model.building import build_model
from guiju.model.config import Head
from guiju.model.encoder import Encoder
from guiju.model.transformer import Transformer

Model = TypeVar("Model", Encoder, Transformer)


def with_head(model: Model, head: Head, labels: tuple[str, ...] = ()) -> Model:
    """A model with the same body and another head, to be trained: what is new in it has random weights, drawn from
    torch's global generator; what both have (an encoder's pooler too) is copied.

    Raises:
        ConfigError: labels without a head for them or the other way round, or a head that this kind of model cannot
            have.
    """
    vocabulary, encoder = head == "vocabulary", model.config.kind == "encoder"
    if vocabulary and not encoder and model.config.head != head:
        raise ConfigError("model.head vocabulary was taken from this decoder, and its matrix with it; load it anew")
    config = replace(
        model.config,
        head=head,
        labels=labels,
        pooler=encoder and head == "classes",
        tied=vocabulary and (encoder or model.config.tied),
        head_transform=vocabulary and encoder,
        logits_bias=vocabulary and encoder,
        logit_scale=1.0 if not vocabulary else model.config.logit_scale,
    )
    made = build_model(config).to(model.embedding.weight.device, model.embedding.weight.dtype)
    known = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name in known and (not name.startswith("to_labels") or labels == model.config.labels):
                parameter.copy_(known[name])
    assert isinstance(made, type(model))
    return made.train(model.training)
