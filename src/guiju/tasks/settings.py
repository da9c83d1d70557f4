"""How a task is asked and measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from guiju.errors import ConfigError
from guiju.tasks.languages import LANGUAGES

Template = Literal["auto", "none", "chat"]
LongSources = Literal["window", "refuse"]


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """One way to put a set of records to a model."""

    language: str = "auto"
    """Of the answers: en, zh or de; auto tells it by the data."""

    limit: int | None = None
    """Only the first so many records."""

    new_tokens: int | None = None
    """Of an answer at most; each task has its own where this is not given."""

    prompt: str | None = None
    """In place of the task's own, with the record's fields in braces, such as "{source} =>"."""

    template: Template = "auto"
    """Whether a prompt is put as a user's message into the chat template: auto where the model's tokenizer has one."""

    long_sources: LongSources = "window"
    """What becomes of a source that is longer than the context: read in windows, or not answered, which counts as
    wrong and is told."""

    overlap: float = 0.25
    """Of windows over a passage with a question: which share of each the next one shows again."""

    num_beams: int = 1
    """More than 1: beam search, as is usual for translations."""

    tries: int = 1
    """Of code: so many programs for each problem, sampled where it is more than one."""

    temperature: float = 0.8
    """Of several tries."""

    seed: int = 0
    """Of several tries."""

    def __post_init__(self) -> None:
        if self.language not in ("auto", *LANGUAGES):
            raise ConfigError(f"language is {self.language!r}; it can be auto, {', '.join(LANGUAGES)}")
        for name, known in (("template", get_args(Template)), ("long_sources", get_args(LongSources))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it can be {', '.join(known)}")
        for name in ("limit", "new_tokens", "tries", "num_beams"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}; it must be at least 1")
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"overlap is {self.overlap}; it is a share of a window, from 0 to below 1")
        if self.tries > 1 and not self.temperature > 0:
            raise ConfigError(f"tries is {self.tries}, but with temperature {self.temperature} all would be the same")
