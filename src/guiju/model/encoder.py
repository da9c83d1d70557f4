"""The encoder-only Transformer (编码器): every token sees the whole text. BERT's shape and RoBERTa's.

Axes: B batch, T tokens, L labels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from guiju.errors import ModelError
from guiju.model.blocks import ACTIVATIONS, Stack, make_norm
from guiju.model.config import ModelConfig
from guiju.model.hooks import Hooks, require_known
from guiju.model.vocabulary import WithVocabulary


class Encoder(Stack, WithVocabulary):
    """Ids in, vectors out, and what config.head makes of them: logits of a masked token, of a text's or a token's
    label, or of where an answer begins and ends."""

    def __init__(self, config: ModelConfig) -> None:
        assert config.kind == "encoder", (
            f"Encoder is the encoder alone; build_model makes a model of kind {config.kind}"
        )
        super().__init__(config, layers=config.layers, causal=False)
        width = config.width
        if config.pooler:
            self.pooler = nn.Linear(width, width)
        if config.head_transform:
            self.transform = nn.Linear(width, width)
            self.transform_norm = make_norm(config)
        self.add_head()
        if config.head in ("classes", "token_classes"):
            self.to_labels = nn.Linear(width, len(config.labels))
        if config.head == "span":
            self.to_span = nn.Linear(width, 2)
        self.initialise()

    def forward(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        padding: Tensor | None = None,
        documents: Tensor | None = None,
        hooks: Hooks | None = None,
    ) -> Tensor:
        """What the head gives: logits (B, T, vocab), (B, L) of "classes", (B, T, L) of "token_classes", (B, T, 2) of
        "span", and the (B, T, width) vectors themselves of "none". See `hidden` for the arguments."""
        hidden = self.hidden(ids, segments=segments, padding=padding, documents=documents, hooks=hooks)
        if self.config.head == "classes":
            return self.head(self.pooled(hidden, padding))
        return self.head(hidden)

    def hidden(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        padding: Tensor | None = None,
        documents: Tensor | None = None,
        hooks: Hooks | None = None,
    ) -> Tensor:
        """The last layer's vectors: (B, T) ids -> (B, T, width).

        Args:
            segments: (B, T) kinds of segments, such as 0 for a question and 1 for a text; 0 by default.
            padding: (B, T), True where a token is real, on whichever side the others stand: a row has the same values
                for its real tokens however it is padded.
            documents: (B, T) segment numbers of a packed row; no token sees another document.
            hooks: see guiju.model.hooks.
        Raises:
            ModelError: more tokens than the context, or a hook without a point.
        """
        if hooks is not None:
            require_known(hooks, self.config)
        x = self.embed(ids)  # (B, T, width)
        return self.read(x, padding=padding, documents=documents, segments=segments, hooks=hooks)

    def pooled(self, hidden: Tensor, padding: Tensor | None = None) -> Tensor:
        """One vector of each text, made of its first real token's: (B, T, width) -> (B, width).

        Raises:
            ModelError: the model has no pooler.
        """
        if not self.config.pooler:
            raise ModelError("the model has no pooler, so it makes no one vector of a text. Take its hidden ones")
        first = hidden[:, 0]
        if padding is not None:
            index = padding.long().argmax(dim=1)[:, None, None]  # (B, 1, 1): padding may stand on the left
            first = hidden.gather(1, index.expand(-1, -1, hidden.size(2)))[:, 0]
        return self.pooler(first).tanh()  # type: ignore[no-any-return]

    def head(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., vocab), (..., L) or (..., 2), by config.head; "classes" reads the pooled vectors."""
        if self.config.head == "vocabulary":
            return F.linear(self.transformed(hidden), *self.head_weights())
        if self.config.head == "span":
            return self.to_span(hidden)  # type: ignore[no-any-return]
        if self.config.head == "none":
            return hidden
        return self.to_labels(self.dropout(hidden))  # type: ignore[no-any-return]

    def transformed(self, hidden: Tensor) -> Tensor:
        """What the vocabulary's matrix reads: (..., width) -> (..., width)."""
        if self.config.head_transform:
            hidden = self.transform_norm(ACTIVATIONS[self.config.activation](self.transform(hidden)))
        return hidden if self.config.logit_scale == 1 else hidden * self.config.logit_scale
