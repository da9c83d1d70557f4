"""How a continuation is drawn, how many, and when it ends."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from guiju.errors import ConfigError

RunnerName = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "float32", "bfloat16", "int8", "int4"]
RUNNERS: tuple[str, ...] = get_args(RunnerName)
PRECISIONS: tuple[str, ...] = get_args(Precision)

LEAST_TEMPERATURE = 1e-40
"""Above 0: what is smaller is 0 in float32."""

MAX_PENALTY = 1e6
"""Of repetition, and 1 over it the least: far beyond, logits are no numbers any more."""

MAX_SEQUENCES = 1024
MAX_BEAMS = 256
MAX_LENGTH_PENALTY = 5
MAX_STOPS = 1024
MAX_STOP_CHARACTERS = 65_536
"""Of all stop texts together."""

MAX_LOGPROBS = 100
MAX_LOOKUP = 64
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

    json_schema: str | dict[str, Any] | None = None
    """The text is JSON of this schema, given as JSON text or as a mapping, and kept as text; {"type": "object"} is any
    object. Before each token, what cannot follow is taken out."""

    regex: str | None = None
    """The whole text matches this pattern (Rust's syntax: no look-around, no back-references)."""

    num_beams: int = 1
    """More than 1: beam search. So many texts grow side by side, and those of the highest score, the sum of their
    tokens' log-probabilities over their length to the power of length_penalty, are the answers."""

    length_penalty: float = 1.0
    """Of beam search: above 0 favours long texts, below 0 short ones."""

    early_stopping: bool | Literal["never"] = False
    """Of beam search: True ends it as soon as num_beams texts are complete; False where no better one is likely to
    come; "never" where none can."""

    def __post_init__(self) -> None:
        self._check_types()
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
        self._check_beams()
        self._check_form()
        if self.is_greedy and not self.is_beam_search and self.num_return_sequences > 1:
            raise ConfigError(
                f"num_return_sequences is {self.num_return_sequences}, but greedy decoding has one answer: "
                f"all would be the same. Sample (leave out greedy, temperature above 0), ask for one, or search with "
                f"num_beams={self.num_return_sequences}"
            )
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise ConfigError(f"seed is {self.seed}; it must be between 0 and {MAX_SEED}")
        if isinstance(self.stop, str):
            raise ConfigError(f"stop is the text {self.stop!r}; it must be a tuple of texts")
        if not isinstance(self.stop, tuple | list) or not all(isinstance(text, str) for text in self.stop):
            raise ConfigError(f"stop is {str(self.stop)[:80]}; it must be a tuple of texts")
        if len(self.stop) > MAX_STOPS:
            raise ConfigError(f"stop holds {len(self.stop)} texts; at most {MAX_STOPS} are looked for at each token")
        characters = sum(map(len, self.stop))
        if characters > MAX_STOP_CHARACTERS:
            raise ConfigError(
                f"stop holds {characters} characters in all; at most {MAX_STOP_CHARACTERS} are looked for"
            )
        if "" in self.stop:
            raise ConfigError("stop holds an empty text, which would end every continuation before it begins")

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken, with no chance in it."""
        return self.greedy or self.temperature == 0

    @property
    def is_beam_search(self) -> bool:
        """Whether several texts grow side by side, with no chance in it."""
        return self.num_beams > 1

    def _check_beams(self) -> None:
        if not 1 <= self.num_beams <= MAX_BEAMS:
            raise ConfigError(f"num_beams is {self.num_beams}; it must be between 1 and {MAX_BEAMS}")
        if not abs(self.length_penalty) <= MAX_LENGTH_PENALTY:
            raise ConfigError(
                f"length_penalty is {self.length_penalty}; it must be between -{MAX_LENGTH_PENALTY} and "
                f"{MAX_LENGTH_PENALTY}, beyond which scores cannot be told apart"
            )
        if not (isinstance(self.early_stopping, bool) or self.early_stopping == "never"):
            raise ConfigError(f"early_stopping is {self.early_stopping!r}; it can be True, False or 'never'")
        if not self.is_beam_search:
            for name, default in (("length_penalty", 1.0), ("early_stopping", False)):
                if getattr(self, name) != default:
                    raise ConfigError(
                        f"{name} is {getattr(self, name)!r}, but num_beams is 1, so that nothing would heed it. "
                        f"Give num_beams too, or leave it out"
                    )
            return
        if self.num_return_sequences > self.num_beams:
            raise ConfigError(
                f"num_return_sequences is {self.num_return_sequences}, but num_beams is {self.num_beams}, and a search "
                f"gives no more texts than it has beams. Ask for fewer, or give more beams"
            )
        chances = ["temperature"] if self.temperature not in (0, 1) else []
        chances += [name for name in ("top_k", "top_p", "min_p", "seed") if getattr(self, name) is not None]
        if chances:
            raise ConfigError(
                f"{chances[0]} is {getattr(self, chances[0])}, but num_beams is {self.num_beams}, and beam search has "
                f"no chance in it. Leave out one of them"
            )

    def _check_form(self) -> None:
        if self.json_schema is None and self.regex is None:
            return
        if self.json_schema is not None and self.regex is not None:
            raise ConfigError("json_schema and regex are both given, and a text has one form. Give one of them")
        name = "regex" if self.json_schema is None else "json_schema"
        if self.stop:
            raise ConfigError(
                f"stop is given with {name}: a stop text could cut the form in the middle, and the form ends the text "
                f"by itself. Leave out one of them"
            )
        if self.json_schema is not None:
            object.__setattr__(self, "json_schema", _schema_text(self.json_schema))
        if self.regex is not None and not (isinstance(self.regex, str) and _is_text(self.regex)):
            raise ConfigError("regex is no text; give a pattern")

    def _check_types(self) -> None:
        whole = ("top_k", "seed", "max_new_tokens", "max_length", "num_return_sequences", "num_beams")
        numbers = ("temperature", "top_p", "min_p", "repetition_penalty", "length_penalty")
        for name in (*whole, *numbers):
            value = getattr(self, name)
            wanted = int if name in whole else (int, float)
            may_be_none = self.__dataclass_fields__[name].default is None
            if not (value is None and may_be_none) and (isinstance(value, bool) or not isinstance(value, wanted)):
                kind = "a whole number" if name in whole else "a number"
                raise ConfigError(f"{name} is {value!r}; it must be {kind}")

    def _check_filters(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ConfigError(f"temperature is {self.temperature}; it must be a number of at least 0")
        if 0 < self.temperature < LEAST_TEMPERATURE:
            raise ConfigError(
                f"temperature is {self.temperature}; between 0, which is greedy, and {LEAST_TEMPERATURE} it is too "
                f"small to divide by. Give 0"
            )
        if not 1 / MAX_PENALTY <= self.repetition_penalty <= MAX_PENALTY:
            raise ConfigError(
                f"repetition_penalty is {self.repetition_penalty}; it must be between {1 / MAX_PENALTY} and "
                f"{MAX_PENALTY:.0f} (1 changes nothing)"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}; it must be at least 1. Leave it out to keep every token")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must be more than 0 and at most 1")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p is {self.min_p}; it must be between 0 and 1")


def require_known(runner: str, precision: str) -> None:
    """Raise ConfigError for the name of a runner or a precision that there is not."""
    if runner not in RUNNERS:
        raise ConfigError(f"runner is {runner!r}; it can be {', '.join(RUNNERS)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}; it can be {', '.join(PRECISIONS)}")


def _schema_text(schema: object) -> str:
    """A JSON schema as JSON text, its properties in the order that they have."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        held = dict(pairs)
        if len(held) < len(pairs):
            raise ValueError(f"a name stands twice among {', '.join(held)[:100]}")
        return held

    try:
        text = schema if isinstance(schema, str) else json.dumps(schema, ensure_ascii=False, allow_nan=False)
        held = json.loads(text, object_pairs_hook=once, parse_constant=_no_number)
        if not _is_text(text):
            raise ValueError("a lone surrogate is no text")
    except (ValueError, TypeError, RecursionError) as problem:
        raise ConfigError(f'json_schema is no JSON: {problem}. Give a schema such as {{"type": "object"}}') from None
    if not isinstance(held, dict | bool):
        raise ConfigError(
            f'json_schema holds {type(held).__name__}; a schema is an object, such as {{"type": "object"}}'
        )
    return text


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
