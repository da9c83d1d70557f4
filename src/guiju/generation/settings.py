"""How a continuation is drawn, how many, and when it ends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from guiju.errors import ConfigError

RunnerName = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "float32", "bfloat16", "int8", "int4"]
RUNNERS: tuple[str, ...] = get_args(RunnerName)
PRECISIONS: tuple[str, ...] = get_args(Precision)

MAX_SEQUENCES = 1024
MAX_STOPS = 1024
MAX_SEED = 2**53 - 1
"""Seeds are kept in records, whose numbers are JSON's."""

DEFAULT_NEW_TOKENS = 50


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """One way to continue a prompt. The filters apply in the order of the fields, as in transformers."""

    greedy: bool = False
    """Always the likeliest token; the filters below then change nothing but the repetition penalty."""

    repetition_penalty: float = 1.0
    """Divides positive logits of ids that came already, in prompt or continuation, and multiplies negative ones
    (arXiv:1909.05858)."""

    temperature: float = 1.0
    """Divides the logits: less than 1 is safer, more is bolder; 0 means greedy."""

    top_k: int | None = None
    """Only the k likeliest tokens."""

    top_p: float | None = None
    """Only the likeliest tokens that hold this probability together (arXiv:1904.09751)."""

    min_p: float | None = None
    """Only tokens that have this share of the likeliest one's probability (arXiv:2407.01082)."""

    seed: int | None = None
    """Makes sampling repeatable; None draws one, which the answer names."""

    max_new_tokens: int | None = None
    """At most so many tokens; 50, or what the context leaves, where neither this nor max_length is given."""

    max_length: int | None = None
    """The same, counting the prompt's tokens too."""

    num_return_sequences: int = 1
    """Continuations of each prompt."""

    stop: tuple[str, ...] = ()
    """Texts that end a continuation; they are not part of it."""

    ignore_eos: bool = False
    """Whether to go on past the end of the text."""

    def __post_init__(self) -> None:
        self._check_filters()
        if self.max_new_tokens is not None and self.max_length is not None:
            raise ConfigError(
                f"max_new_tokens is {self.max_new_tokens} and max_length is {self.max_length}; both limit the same "
                f"thing. Give one of them"
            )
        for name in ("max_new_tokens", "max_length"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        if not 1 <= self.num_return_sequences <= MAX_SEQUENCES:
            raise ConfigError(
                f"num_return_sequences is {self.num_return_sequences}; it must be between 1 and {MAX_SEQUENCES}"
            )
        if self.is_greedy and self.num_return_sequences > 1:
            raise ConfigError(
                f"num_return_sequences is {self.num_return_sequences}, but greedy decoding has one answer: "
                f"all would be the same. Sample (leave out greedy, temperature above 0), or ask for one"
            )
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"seed is {self.seed}; it must be between 0 and {MAX_SEED}")
        if isinstance(self.stop, str):
            raise ConfigError(f"stop is the text {self.stop!r}; it must be a tuple of texts")
        if len(self.stop) > MAX_STOPS:
            raise ConfigError(f"stop holds {len(self.stop)} texts; at most {MAX_STOPS} are looked for at each token")
        if "" in self.stop:
            raise ConfigError("stop holds an empty text, which would end every continuation before it begins")

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken, with no chance in it."""
        return self.greedy or self.temperature == 0

    def _check_filters(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ConfigError(f"temperature is {self.temperature}; it must be a number of at least 0")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise ConfigError(
                f"repetition_penalty is {self.repetition_penalty}; it must be more than 0 (1 changes nothing)"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}; it must be at least 1. Leave it out to keep every token")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must be more than 0 and at most 1")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p is {self.min_p}; it must be between 0 and 1")
