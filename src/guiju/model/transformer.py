"""The decoder-only Transformer: GPT-2's shape, Llama's, and whatever lies between, steered by ModelConfig.

Each layer reads the residual stream through a norm and adds what it found (pre-norm, arXiv:2002.04745).
Axes: B batch, T new tokens, S cached and new tokens.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from guiju.errors import ModelError
from guiju.model.attention import Attention, Rotation, document_mask, rotation_angles
from guiju.model.cache import Cache, DenseCache, LayerCache
from guiju.model.config import ModelConfig, require_context
from guiju.model.hooks import Hooks, require_known, tap


class Mlp(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.to_hidden = nn.Linear(config.width, config.hidden, bias=config.bias)
        if config.activation == "swiglu":
            self.to_gate = nn.Linear(config.width, config.hidden, bias=config.bias)
        self.to_output = nn.Linear(config.hidden, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.to_hidden(x)  # (B, T, hidden)
        if self.activation == "swiglu":
            hidden = F.silu(self.to_gate(x)) * hidden
        else:
            hidden = F.gelu(hidden, approximate="tanh" if self.activation == "gelu_tanh" else "none")
        output: Tensor = self.to_output(hidden)
        return output


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.name = f"layers.{index}"
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, index)
        self.mlp_norm = make_norm(config)
        self.mlp = Mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, rotation: Rotation | None, mask: Tensor | None, cache: LayerCache | None, hooks: Hooks | None
    ) -> Tensor:
        x = tap(hooks, f"{self.name}.residual_before", x)
        found = self.dropout(self.attention(self.attention_norm(x), rotation, mask, cache, hooks))
        x = x + tap(hooks, f"{self.name}.attention.output", found)
        thought = self.dropout(self.mlp(self.mlp_norm(x)))
        x = x + tap(hooks, f"{self.name}.mlp.output", thought)
        return tap(hooks, f"{self.name}.residual_after", x)


class Transformer(nn.Module):
    """A language model: ids in, logits of the next token out.

    A new one has GPT-2's random weights, drawn from torch's global generator: seed that to have the same again.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = False
        """Whether training keeps only each layer's input and computes the rest again when gradients need it."""
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.context, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.layers))
        self.final_norm = make_norm(config)
        if not config.tied:
            self.to_logits = nn.Linear(config.width, config.vocab_size, bias=False)
        self.initialise()

    def forward(
        self, ids: Tensor, cache: Cache | None = None, documents: Tensor | None = None, hooks: Hooks | None = None
    ) -> Tensor:
        """Logits of the token that follows each of `ids`: (B, T) -> (B, T, vocab). See `hidden` for the rest."""
        return self.head(self.hidden(ids, cache, documents, hooks))

    def hidden(
        self, ids: Tensor, cache: Cache | None = None, documents: Tensor | None = None, hooks: Hooks | None = None
    ) -> Tensor:
        """What the head reads: (B, T) ids -> (B, T, width).

        Args:
            cache: holds the tokens before `ids`, and takes these up.
            documents: (B, T) segment numbers of a packed row; no token sees another document, and learned positions
                count from its document's start.
            hooks: see guiju.model.hooks.
        Raises:
            ModelError: more tokens than the context or the cache has room for, documents with a cache, or a hook
                without a point.
        """
        if cache is None:
            require_context(self.config, ids.size(1))
        else:
            cache.require_room(ids.size(1))
        if hooks is not None:
            require_known(hooks, self.config.layers)
        if documents is not None and cache is not None:
            raise ModelError("documents of a packed row were given with a cache; packed rows are read in one pass")
        mask = None if documents is None else document_mask(documents)  # one for all layers
        positions = torch.arange(ids.size(1), device=ids.device) if cache is None else cache.positions(ids.size(1))
        x = self.embedding(ids)  # (B, T, width)
        rotation = None
        if self.config.positions == "rotary":  # only distances matter to it, so packed rows need no new count
            rotation = rotation_angles(positions, self.config, x.dtype)
        else:
            if documents is not None and mask is not None:
                positions = mask.sum(dim=-1)[:, 0] - 1  # (B, T): what one sees but oneself is what came before
            x = x + self.position_embedding(positions)
        x = tap(hooks, "embedding", self.dropout(x))
        for index, layer in enumerate(self.layers):
            held = None if cache is None else cache.layer(index)
            if self.activation_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(layer, x, rotation, mask, held, hooks, use_reentrant=False)
            else:
                x = layer(x, rotation, mask, held, hooks)
        if cache is not None:
            cache.advance(ids.size(1))
        return tap(hooks, "final_norm", self.final_norm(x))

    def head(self, hidden: Tensor) -> Tensor:
        """(..., width) -> logits (..., vocab)."""
        return F.linear(hidden, self.embedding.weight if self.config.tied else self.to_logits.weight)

    def new_cache(self, batch: int = 1, capacity: int | None = None) -> DenseCache:
        """An empty cache for `batch` rows of at most `capacity` tokens; by default as many as the context."""
        capacity = self.config.context if capacity is None else capacity
        weight = self.embedding.weight
        return DenseCache(self.config, batch, capacity, weight.device, weight.dtype)

    def initialise(self) -> None:
        """Draw new weights as GPT-2 did: normal with 0.02; what adds to the residual stream scaled down by depth."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            elif name.endswith("to_output.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.layers))
            else:
                nn.init.normal_(parameter, std=0.02)


def make_norm(config: ModelConfig) -> nn.Module:
    kind = nn.LayerNorm if config.norm == "layer" else nn.RMSNorm
    return kind(config.width, eps=config.norm_epsilon)
