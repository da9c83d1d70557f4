"""The decoder-only Transformer: GPT-2's shape, Llama's, and whatever lies between, steered by ModelConfig.

Axes: B batch, T new tokens, S cached and new tokens, L labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from guiju.model.blocks import Stack
from guiju.model.cache import Cache, DenseCache
from guiju.model.config import ModelConfig
from guiju.model.hooks import Hooks, require_known
from guiju.model.vocabulary import WithVocabulary


class Transformer(Stack, WithVocabulary):
    """A language model (语言模型): ids in, logits of the next token out; or, with the head "classes", those of a text's
    label.

    A new one has GPT-2's random weights, drawn from torch's global generator: seed that to have the same again.
    """

    def __init__(self, config: ModelConfig) -> None:
        assert config.kind == "decoder", (
            f"Transformer is the decoder alone; build_model makes a model of kind {config.kind}"
        )
        super().__init__(config, layers=config.layers, causal=True)
        self.add_head()
        if config.head == "classes":
            self.to_labels = nn.Linear(config.width, len(config.labels), bias=False)
        self.initialise()

    def forward(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        documents: Tensor | None = None,
        hooks: Hooks | None = None,
        *,
        padding: Tensor | None = None,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Logits of the token that follows each of `ids`: (B, T) -> (B, T, vocab); of a text's label, (B, L), with the
        head "classes". See `hidden` for the rest."""
        hidden = self.hidden(ids, cache, documents, hooks, padding=padding, prefix=prefix)
        return self.head(self.pooled(hidden, padding) if self.config.head == "classes" else hidden)

    def hidden(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        documents: Tensor | None = None,
        hooks: Hooks | None = None,
        *,
        padding: Tensor | None = None,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """What the head reads: (B, T) ids -> (B, T, width).

        Args:
            cache: holds the tokens before `ids`, and takes these up.
            documents: (B, T) segment numbers of a packed row; no token sees another document, and positions that are
                added count from its document's start.
            hooks: see guiju.model.hooks.
            padding: (B, T), True where a token is real, on whichever side the others stand: a row has the same values
                for its real tokens however it is padded.
            prefix: (B,) how many tokens at a row's start see each other.
        Raises:
            ModelError: more tokens than the context or the cache has room for; documents, padding or a prefix with a
                cache; or a hook without a point.
        """
        if hooks is not None:
            require_known(hooks, self.config)
        x = self.embed(ids)  # (B, T, width)
        x = self.read(x, cache=cache, documents=documents, padding=padding, prefix=prefix, hooks=hooks)
        return x if self.config.logit_scale == 1 else x * self.config.logit_scale

    def pooled(self, hidden: Tensor, padding: Tensor | None = None) -> Tensor:
        """One vector of each text, that of its last real token, which saw all others: (B, T, width) -> (B, width)."""
        if padding is None:
            return hidden[:, -1]
        places = torch.arange(padding.size(1), device=padding.device)
        last = (places * padding).argmax(dim=1)  # (B,): padding may stand on either side
        return hidden[torch.arange(len(hidden), device=hidden.device), last]

    def head(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., vocab), or (..., L) with the head "classes", which reads the pooled vectors."""
        return self.to_labels(hidden) if self.config.head == "classes" else super().head(hidden)

    def new_cache(self, batch: int = 1, capacity: int | None = None) -> DenseCache:
        """An empty cache for `batch` rows of at most `capacity` tokens; by default as many as the context."""
        capacity = self.config.context if capacity is None else capacity
        weight = self.embedding.weight
        return DenseCache(self.config, batch, capacity, weight.device, weight.dtype)
