"""What a reader makes of tokenizer files of any kind: a tokenizer.json, and what it alone cannot say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Encoder(Protocol):
    """Cuts texts as the library does that a vocabulary comes from, where tokenizer.json can only come near."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without tokens before or after it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Source:
    """A tokenizer as it was found."""

    data: bytes
    """As tokenizer.json."""
    where: str
    """The file, for messages."""
    config: Mapping[str, Any] | None = None
    """What tokenizer_config.json holds, or stands for it."""
    encoder: Encoder | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    """By name: what has to be saved beside tokenizer.json, so that the same encoder is there again."""
    surfaces: Mapping[int, bytes] = field(default_factory=dict)
    """By id: what a token stands for, where tokenizer.json says otherwise."""
    drops_leading_spaces: bool = False
    """Whether every space is dropped with which a decoded text would begin, and not the first alone."""
    saved_config: Mapping[str, Any] = field(default_factory=dict)
    """What tokenizer_config.json has to hold besides, for the same reason."""
    target: Source | None = None
    """For texts that are to be written, where they are cut in another way than those that are read."""
