"""The Transformer as it was published in 2017 (arXiv:1706.03762): an encoder (编码器) reads a source text, a decoder
(解码器) writes another one and looks at the source through cross-attention. Also Marian's shape, BART's and T5's.

Axes: B batch, T new tokens of the target, M tokens of the source.
"""

from __future__ import annotations

from torch import Tensor, nn

from guiju.errors import ModelError
from guiju.model.attention import CrossAttention
from guiju.model.blocks import Stack
from guiju.model.cache import Cache, DenseCache, Memory
from guiju.model.config import ModelConfig
from guiju.model.hooks import Hooks, require_known
from guiju.model.masks import both, never_blind, padding_mask, same_document_mask
from guiju.model.vocabulary import WithVocabulary


class EncoderDecoder(WithVocabulary):
    """Source ids and the target's ids so far in, logits of the target's next token out.

    To train: `model.hidden(target, source=source, source_padding=real)`. To decode: `memory = model.remember(source)`
    reads the source once, then `model.hidden(ids, cache)` with `cache = model.new_cache(memory=memory)`.
    """

    def __init__(self, config: ModelConfig) -> None:
        assert config.encoder_layers is not None, (
            f"EncoderDecoder has both; build_model makes a model of kind {config.kind}"
        )
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(
            config.vocab_size, config.width
        )  # one for both, and for the head where it is tied
        self.encoder = Stack(config, layers=config.encoder_layers, causal=False, name="encoder.", embeds=False)
        self.decoder = Stack(config, layers=config.layers, causal=True, cross=True, name="decoder.", embeds=False)
        self.add_head()
        self.initialise()

    @property
    def activation_checkpointing(self) -> bool:
        """Whether training keeps only each layer's input and computes the rest again when gradients need it."""
        return self.decoder.activation_checkpointing

    @activation_checkpointing.setter
    def activation_checkpointing(self, value: bool) -> None:
        self.encoder.activation_checkpointing = self.decoder.activation_checkpointing = value

    def forward(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        *,
        source: Tensor | None = None,
        source_padding: Tensor | None = None,
        padding: Tensor | None = None,
        documents: Tensor | None = None,
        source_documents: Tensor | None = None,
        hooks: Hooks | None = None,
    ) -> Tensor:
        """Logits of the token that follows each of `ids`: (B, T) -> (B, T, vocab). See `hidden` for the rest."""
        hidden = self.hidden(
            ids,
            cache,
            source=source,
            source_padding=source_padding,
            padding=padding,
            documents=documents,
            source_documents=source_documents,
            hooks=hooks,
        )
        return self.head(hidden)

    def hidden(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        *,
        source: Tensor | None = None,
        source_padding: Tensor | None = None,
        padding: Tensor | None = None,
        documents: Tensor | None = None,
        source_documents: Tensor | None = None,
        hooks: Hooks | None = None,
    ) -> Tensor:
        """What the head reads: (B, T) ids of the target -> (B, T, width).

        Args:
            cache: holds the target's tokens before `ids` and the memory of the source, and takes these ids up.
            source: (B, M) ids of the source, where there is no cache.
            source_padding: (B, M), True where a source token is real; none sees the others.
            padding: (B, T), the same of the target.
            documents, source_documents: (B, T) and (B, M) segment numbers of packed rows: no token sees another
                document, and each target sees its own source.
            hooks: see guiju.model.hooks; those of the encoder are called where a source is given.
        Raises:
            ModelError: neither a cache nor a source, or both; more tokens than the context or the cache has room for;
                documents of one side alone, or of another shape than its ids; or a hook without a point.
        """
        if (cache is None) == (source is None):
            what = "neither a cache nor a source" if cache is None else "both a cache and a source"
            raise ModelError(f"{what} was given; a cache holds the memory of its source, else the source is read here")
        if (documents is None) != (source_documents is None):
            which = "source_documents" if documents is None else "documents"
            raise ModelError(f"{which} alone was given; packed rows need both, so that each target sees its own source")
        if hooks is not None:
            require_known(hooks, self.config)
        memory = None
        if source is not None:
            read = self.encode(source, padding=source_padding, documents=source_documents, hooks=hooks)
            memory = self._memory(read, source_padding, documents, source_documents)
        x = self.embed(ids)  # (B, T, width)
        x = self.decoder.read(x, cache=cache, memory=memory, padding=padding, documents=documents, hooks=hooks)
        return x if self.config.logit_scale == 1 else x * self.config.logit_scale

    def encode(
        self,
        source: Tensor,
        *,
        padding: Tensor | None = None,
        documents: Tensor | None = None,
        hooks: Hooks | None = None,
    ) -> Tensor:
        """(B, M) ids of a source text -> the encoder's (B, M, width)."""
        return self.encoder.read(self.embed(source), padding=padding, documents=documents, hooks=hooks)

    def remember(self, source: Tensor, padding: Tensor | None = None, hooks: Hooks | None = None) -> Memory:
        """Read a source text once for all that is decoded of it.

        Args:
            source: (B, M) ids. padding: (B, M), True where one is real; None where all are.
        """
        return self._memory(self.encode(source, padding=padding, hooks=hooks), padding)

    def _memory(
        self,
        read: Tensor,
        padding: Tensor | None,
        documents: Tensor | None = None,
        source_documents: Tensor | None = None,
    ) -> Memory:
        mask = None if padding is None else padding_mask(padding)
        if documents is not None and source_documents is not None:
            mask = both(mask, same_document_mask(documents, source_documents))
        pairs = [layer.get_submodule("cross_attention") for layer in self.decoder.layers]
        held = [cross.remember(read) for cross in pairs if isinstance(cross, CrossAttention)]
        keys, values = tuple(key for key, _ in held), tuple(value for _, value in held)
        return Memory(keys, values, None if mask is None else never_blind(mask))

    def new_cache(self, memory: Memory, capacity: int | None = None) -> DenseCache:
        """An empty cache for as many rows as the memory has, of at most `capacity` tokens; by default the context."""
        capacity = self.config.context if capacity is None else capacity
        weight = self.embedding.weight
        return DenseCache(self.config, memory.keys[0].size(0), capacity, weight.device, weight.dtype, memory)
