"""The blocks that all shapes are built of: a layer (attention, perhaps a look at a source text, MLP), a stack of them.

Each branch adds what it found to the residual stream (残差流). It reads the stream through a norm ("before",
arXiv:2002.04745), or the stream is normed after the branch was added ("after", arXiv:1706.03762).
Axes: B batch, T new tokens, S cached and new tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from guiju.errors import ModelError
from guiju.model.attention import Attention, CrossAttention, Sight
from guiju.model.cache import Cache, LayerCache, LayerMemory, Memory
from guiju.model.config import Activation, ModelConfig, require_context
from guiju.model.hooks import Hooks, tap
from guiju.model.masks import (
    both,
    causal_mask,
    never_blind,
    padding_mask,
    positions_among,
    positions_without_padding,
    prefix_mask,
    same_document_mask,
    window_mask,
)
from guiju.model.positions import RelativeBias, Rotation, rotation_angles, sinusoids

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "swiglu": F.silu,
    "geglu": F.gelu,
    "geglu_tanh": partial(F.gelu, approximate="tanh"),
}
"""What goes through the MLP's inside, or through its gate."""


class Mlp(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.to_hidden = nn.Linear(config.width, config.hidden, bias=config.bias)
        self.to_gate = nn.Linear(config.width, config.hidden, bias=config.bias) if config.is_gated else None
        self.to_output = nn.Linear(config.hidden, config.width, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.to_hidden(x)  # (B, T, hidden)
        hidden = self.activation(hidden) if self.to_gate is None else self.activation(self.to_gate(x)) * hidden
        output: Tensor = self.to_output(hidden)
        return output  # (B, T, width)


class Layer(nn.Module):
    def __init__(self, config: ModelConfig, name: str, causal: bool = True, cross: bool = False) -> None:
        super().__init__()
        self.name, self.norm_first = name, config.norm_place == "before"
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, f"{name}.attention", causal)
        if cross:
            self.cross_attention_norm = make_norm(config)
            self.cross_attention = CrossAttention(config, f"{name}.cross_attention")
        self.mlp_norm = make_norm(config)
        self.mlp = Mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None,
        sight: Sight,
        cache: LayerCache | None,
        memory: LayerMemory | None,
        hooks: Hooks | None,
    ) -> Tensor:
        x = tap(hooks, f"{self.name}.residual_before", x)
        found = self.attention(self._read(x, self.attention_norm), rotation, sight, cache, hooks)
        x = self._add(x, found, self.attention_norm, "attention", hooks)
        if memory is not None:
            found = self.cross_attention.look_up(self._read(x, self.cross_attention_norm), memory, hooks)
            x = self._add(x, found, self.cross_attention_norm, "cross_attention", hooks)
        thought = self.mlp(self._read(x, self.mlp_norm))
        x = self._add(x, thought, self.mlp_norm, "mlp", hooks)
        return tap(hooks, f"{self.name}.residual_after", x)

    def _read(self, x: Tensor, norm: nn.Module) -> Tensor:
        return norm(x) if self.norm_first else x

    def _add(self, x: Tensor, found: Tensor, norm: nn.Module, branch: str, hooks: Hooks | None) -> Tensor:
        x = x + tap(hooks, f"{self.name}.{branch}.output", self.dropout(found))
        return x if self.norm_first else norm(x)


class Stack(nn.Module):
    """Embedded tokens in, what the last layer makes of them out: a decoder, an encoder, or either half of both."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        layers: int,
        causal: bool,
        cross: bool = False,
        name: str = "",
        embeds: bool = True,
    ) -> None:
        super().__init__()
        self.config, self.causal, self.cross, self.name = config, causal, cross, name
        self.activation_checkpointing = False
        """Whether training keeps only each layer's input and computes the rest again when gradients need it."""
        if embeds:
            self.embedding = nn.Embedding(config.vocab_size, config.width)
        if config.positions == "learned":
            self.position_embedding = nn.Embedding(config.context + config.position_offset, config.width)
        if config.segments:
            self.segment_embedding = nn.Embedding(config.segments, config.width)
        self.embedding_norm = make_norm(config) if config.embedding_norm else None
        self.dropout = nn.Dropout(config.dropout)
        self.relative_bias = RelativeBias(config, causal) if config.positions == "relative" else None
        self.layers = nn.ModuleList(Layer(config, f"{name}layers.{index}", causal, cross) for index in range(layers))
        self.final_norm = make_norm(config) if config.norm_place == "before" else None

    def read(
        self,
        x: Tensor,
        *,
        cache: Cache | None = None,
        memory: Memory | None = None,
        documents: Tensor | None = None,
        padding: Tensor | None = None,
        prefix: Tensor | None = None,
        segments: Tensor | None = None,
        hooks: Hooks | None = None,
    ) -> Tensor:
        """(B, T, width) token embeddings -> (B, T, width).

        Args:
            cache: holds the tokens before these, and takes these up.
            memory: what a decoder reads of a source text; in a cache's place, where there is none.
            documents: (B, T) segment numbers of a packed row; no token sees another document, and positions that are
                added count from its document's start.
            padding: (B, T), True where a token is real; none sees the others, and they have no position.
            prefix: (B,) how many tokens at a row's start see each other, in a decoder.
            segments: (B, T) kinds of segments; 0 by default.
        Raises:
            ModelError: more tokens than the context or the cache has room for; documents, padding or a prefix with a
                cache; or what is said of each token is of another shape than the ids.
        """
        length = x.size(1)
        _require_same_places(x, documents=documents, padding=padding, segments=segments)
        if prefix is not None and self.config.window is not None:
            raise ModelError(
                f"a prefix was given to a model whose tokens see {self.config.window} back at most: what its tokens "
                f"would see of each other is not defined. Leave the prefix out, or take a model without a window"
            )
        if cache is None:
            require_context(self.config, length)
        else:
            cache.require_room(length)
            _require_single_pass(documents=documents, padding=padding, prefix=prefix)
        rotation, x = self._place(x, cache, documents, padding, segments)
        x = tap(hooks, f"{self.name}embedding", self.dropout(x))
        far = self._sight(x, None, documents, padding, prefix)
        near = far if self.config.window is None else self._sight(x, self.config.window, documents, padding, prefix)
        if cache is None:
            far(length, length), near(length, length)  # made here, once for all layers
        for index, layer in enumerate(self.layers):
            held = None if cache is None else cache.layer(index)
            source: LayerMemory | None = None
            if self.cross:
                source = held if memory is None else memory.layer(index)
            sight = far if index < self.config.window_from else near
            if self.activation_checkpointing and self.training and torch.is_grad_enabled():
                x = checkpoint(layer, x, rotation, sight, held, source, hooks, use_reentrant=False)
            else:
                x = layer(x, rotation, sight, held, source, hooks)
        if cache is not None:
            cache.advance(length)
        if self.final_norm is not None:
            x = self.final_norm(x)
        return tap(hooks, f"{self.name}final_norm", x)

    def _place(
        self, x: Tensor, cache: Cache | None, documents: Tensor | None, padding: Tensor | None, segments: Tensor | None
    ) -> tuple[Rotation | None, Tensor]:
        """Rotary positions' angles, and the embeddings with what stands for places and segments added."""
        config = self.config
        positions = torch.arange(x.size(1), device=x.device) if cache is None else cache.positions(x.size(1))
        rotation = None
        if config.positions == "rotary":  # only distances matter to it, so packed or padded rows need no new count
            rotation = rotation_angles(positions, config, x.dtype)
        elif config.positions in ("learned", "sinusoidal"):
            if documents is not None:
                positions = positions_among(documents)  # (B, T)
            elif padding is not None:
                positions = positions_without_padding(padding)  # (B, T)
            if config.positions == "learned":
                x = x + self.position_embedding(
                    positions + config.position_offset if config.position_offset else positions
                )
            else:
                x = x + sinusoids(positions, config.width, x.dtype)
        if config.segments:
            x = x + (self.segment_embedding.weight[0] if segments is None else self.segment_embedding(segments))
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        return rotation, x

    def _sight(
        self, x: Tensor, window: int | None, documents: Tensor | None, padding: Tensor | None, prefix: Tensor | None
    ) -> Sight:
        """Who may look at whom; a mask is made where rows differ in it."""
        bias = None if self.relative_bias is None else self.relative_bias.between
        mask = both(
            None if documents is None else same_document_mask(documents),
            None if padding is None else padding_mask(padding),
        )
        length = x.size(1)
        if prefix is not None:
            mask = both(mask, prefix_mask(prefix, length))
        elif mask is not None and self.causal:
            mask = both(mask, causal_mask(length, length, x.device))
        if mask is not None and window is not None:
            mask = both(mask, window_mask(length, length, window, x.device))
        if mask is not None and padding is not None:
            mask = never_blind(mask)
        return Sight(self.causal, x.device, window, mask, bias)


def _require_same_places(x: Tensor, **given: Tensor | None) -> None:
    for name, value in given.items():
        if value is not None and value.shape != x.shape[:2]:
            raise ModelError(
                f"{name} has the shape {tuple(value.shape)}, but the ids have {tuple(x.shape[:2])}: it says something "
                f"of each of them"
            )


def _require_single_pass(**given: Tensor | None) -> None:
    for name, value in given.items():
        if value is not None:
            what = {"documents": "documents of a packed row were"}.get(name, f"{name} was")
            raise ModelError(f"{what} given with a cache; such rows are read in one pass")


def make_norm(config: ModelConfig) -> nn.Module:
    kind = nn.LayerNorm if config.norm == "layer" else nn.RMSNorm
    return kind(config.width, eps=config.norm_epsilon)


def initialise(model: nn.Module, config: ModelConfig) -> None:
    """Draw new weights as GPT-2 and BERT did: normal with 0.02; what adds to the residual stream scaled down by depth.

    An encoder with a decoder has its matrices drawn by their size (Glorot and Bengio 2010), as its authors' program and
    T5's do: with 0.02 a narrow one takes many times longer to begin to look at its source (docs/experiments.md).

    Embeddings are drawn so that they are of size 1 after an `embedding_scale`, or their logits after a `logit_scale`;
    where scores are not scaled, queries are drawn smaller instead (T5).
    """
    branches = (3 if config.kind == "encoder-decoder" else 2) * config.layers
    depth = 1 / math.sqrt(branches) if config.norm_place == "before" else 1.0
    embedding = 0.02
    if config.embedding_scale != 1:
        embedding = 1 / config.embedding_scale
    elif config.logit_scale != 1:
        embedding = 1 / (config.logit_scale * math.sqrt(config.width))
    scores = 1.0 if config.attention_scale is None else 1 / (config.attention_scale * math.sqrt(config.head_width))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif "norm" in name:
            nn.init.ones_(parameter)
        elif name == "embedding.weight":
            nn.init.normal_(parameter, std=embedding)
        else:
            by_size = config.kind == "encoder-decoder" and "embedding" not in name and parameter.ndim == 2
            std = math.sqrt(2 / sum(parameter.shape)) if by_size else 0.02
            if name.endswith("to_output.weight"):
                std *= depth
            elif name.endswith("to_query.weight"):
                std *= scores
            nn.init.normal_(parameter, std=std)
