"""How much a model reads at once, as far as it can be known here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guiju.providers import LanguageModel


@dataclass(frozen=True)
class Room:
    """The room for a prompt and its answer."""

    context: int | None
    """Tokens; None where there is no bound, or only a server knows it."""

    beside_encoder: bool
    """Whether a prompt is a source that an encoder reads, so that the answer takes none of its room."""

    count: Callable[[str | list[int]], int]
    """Tokens of a prompt, with those that always stand around it."""

    is_here: bool
    """Whether the model computes on this machine."""

    def fits(self, prompt: str | list[int], new_tokens: int) -> bool:
        if self.context is None:
            return True
        # The last token is written but never read, so it may lie one beyond the context.
        return self.count(prompt) <= (self.context if self.beside_encoder else self.context + 1 - new_tokens)


def room_of(model: LanguageModel) -> Room:
    """A model's room, by what it tells of itself: our models and graphs by config and tokenizer, those of transformers
    by the library's."""
    asked: Any = model
    config: Any = getattr(asked, "config", None) or getattr(getattr(asked, "model", None), "config", None)
    tokenizer: Any = getattr(asked, "tokenizer", None)
    words: Any = getattr(asked, "words", None)
    if hasattr(config, "kind") and hasattr(tokenizer, "prefix_ids"):
        beside = config.kind != "decoder"
        around = len(tokenizer.prefix_ids) + (len(tokenizer.suffix_ids) if beside else 0)
        unbounded = beside and config.positions == "relative"

        def ours(prompt: str | list[int]) -> int:
            return len(prompt) if isinstance(prompt, list) else len(tokenizer.encode(prompt)) + around

        return Room(None if unbounded else int(config.context), beside, ours, True)
    if words is not None:
        ids = words.source_ids if asked.is_pair else words.prompt_ids
        return Room(asked.context, asked.is_pair, lambda prompt: len(ids(prompt)), True)
    return Room(None, False, len, False)
