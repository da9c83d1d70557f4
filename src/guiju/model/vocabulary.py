"""From ids to vectors and from vectors to logits: what every model does at its two ends.

Axes: B batch, T tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guiju.model.blocks import initialise
from guiju.model.config import ModelConfig


class WithVocabulary(nn.Module):
    """A model with an embedding of its tokens, and a head that gives logits of them (unless config.head is another)."""

    config: ModelConfig
    embedding: nn.Embedding

    def add_head(self) -> None:
        """Make the weights that the vocabulary's head has of its own."""
        config = self.config
        if config.head == "vocabulary" and not config.tied:
            self.to_logits = nn.Linear(config.width, config.vocab_size, bias=False)
        self.logits_bias = nn.Parameter(torch.zeros(config.vocab_size)) if config.logits_bias else None

    def embed(self, ids: Tensor) -> Tensor:
        """(B, T) ids -> (B, T, width)."""
        x: Tensor = self.embedding(ids)
        return x if self.config.embedding_scale == 1 else x * self.config.embedding_scale

    def head(self, hidden: Tensor) -> Tensor:
        """(..., width) -> logits (..., vocab)."""
        return F.linear(hidden, *self.head_weights())

    def head_weights(self) -> tuple[Tensor, Tensor | None]:
        """The (vocab, width) matrix that gives logits, and the (vocab,) bias that is added, if there is one."""
        return self.embedding.weight if self.config.tied else self.to_logits.weight, self.logits_bias

    def initialise(self) -> None:
        """Draw new weights, from torch's global generator."""
        initialise(self, self.config)
