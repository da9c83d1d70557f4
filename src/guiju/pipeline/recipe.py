"""A recipe: what a run is made of. It names what differs from the defaults, room by room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from guiju.corpus import CorpusSettings
from guiju.errors import ConfigError
from guiju.generation import SamplingSettings
from guiju.model import ModelSettings
from guiju.pipeline.reading import read_as, require_name
from guiju.tokens import TokenizerSettings, sentinels_needed
from guiju.training import TrainingSettings, objective_name


@dataclass(frozen=True, kw_only=True)
class Prompt:
    text: str
    """What the model is to continue; empty for the beginning of a text. A model that learns to fill blanks (objectives
    masked-tokens and spans) fills each <mask> in it; one that learns pairs takes it as a source."""
    language: str = ""
    """For the report alone, such as en or zh."""


BLANK = "<mask>"
"""Stands in a prompt for what a model is to fill in, whatever its tokenizer calls it."""


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """The continuations that a run keeps as a first impression of its model."""

    prompts: tuple[Prompt, ...] = ()
    sampling: SamplingSettings = field(default_factory=SamplingSettings)


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    standard: str = "gbt-45654"
    """A catalogue's id; `guiju standards list` shows them."""
    as_of: str | None = None
    """The day whose edition counts, such as "2025-11-01"; none for today's."""


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """What the forecast reckons with; all of it goes into the report beside the figures."""

    price_per_hour: float | None = None
    """Money for an hour of this machine; none to leave money out."""
    currency: str = "CNY"
    grid: str = "CN"
    """Whose electricity: a key of the table of grid intensities."""
    watts_per_core: float = 10.0
    """Estimated draw of a busy core, used where no power sensor can be read."""

    def __post_init__(self) -> None:
        if self.price_per_hour is not None and self.price_per_hour < 0:
            raise ConfigError(f"cost.price_per_hour is {self.price_per_hour}; it must be 0 or more")
        if self.watts_per_core <= 0:
            raise ConfigError(f"cost.watts_per_core is {self.watts_per_core}; it must be more than 0")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that steers a run."""

    verb: ClassVar[str] = "run"
    corpus: CorpusSettings
    name: str = ""
    """The run's name; the recipe's file name where it is not given."""
    root: Path = Path()
    """Where paths in the recipe start, from the recipe's own folder."""
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    audit: AuditSettings = field(default_factory=AuditSettings)
    cost: CostSettings = field(default_factory=CostSettings)

    def __post_init__(self) -> None:
        require_name(self.name)
        object.__setattr__(self, "tokenizer", _with_needed_tokens(self.tokenizer, self.objective, self.model.context))
        self._check_prompts()

    @property
    def objective(self) -> str:
        """What the model learns; follows its shape where the recipe does not say."""
        return objective_name(self.training, self.model.config(vocab_size=self.tokenizer.vocab_size))

    def _check_prompts(self) -> None:
        fills = self.objective in ("masked-tokens", "spans")
        for prompt in self.generation.prompts:
            if fills and BLANK not in prompt.text:
                raise ConfigError(
                    f"generation.prompts holds {prompt.text!r}, but a model that learns {self.objective} fills blanks, "
                    f"and there is none; write {BLANK} where it is to fill something in"
                )
        room = self.model.context - 1
        wanted = self.generation.sampling.max_new_tokens
        if self.generation.prompts and wanted is not None and wanted > room:
            raise ConfigError(
                f"generation.sampling.max_new_tokens is {wanted}, but the model's context holds {self.model.context} "
                f"tokens, prompt included; ask for fewer, or raise model.context"
            )


def _with_needed_tokens(settings: TokenizerSettings, objective: str, context: int) -> TokenizerSettings:
    """The tokenizer's settings with the special tokens that an objective cannot do without."""
    known = settings.special_tokens
    wanted: list[str] = []
    if objective != "next-token" and not {"<pad>", "[PAD]"} & set(known):
        wanted.append("<pad>")
    if objective == "masked-tokens" and not {"<mask>", "[MASK]"} & set(known):
        wanted.append("<mask>")
    if objective == "spans":
        sentinels = (f"<extra_id_{number}>" for number in range(sentinels_needed(context)))
        wanted += [sentinel for sentinel in sentinels if sentinel not in known]
    return replace(settings, special_tokens=(*known, *wanted)) if wanted else settings


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a file, with `stage.key=value` overrides laid over it.

    Raises:
        ConfigError: the file is missing or malformed, a key is unknown, or a value may not stand there.
    """
    return read_as(Recipe, path, overrides)
