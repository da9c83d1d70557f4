"""What a line of task data holds: a frozen record for each kind of data that models are tuned and measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """What all kinds have. Fields hold the data's text as it stands there."""

    id: str
    """The data's own id, or else the row's number from 0."""

    place: str
    """Where it stands, for messages: `FILE, line 12`."""


@dataclass(frozen=True, kw_only=True)
class Conversation(Record):
    """Messages between a user and an assistant, in order; at least one."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, kw_only=True)
class Completion(Record):
    """A prompt and what shall follow it."""

    prompt: str
    completion: str


@dataclass(frozen=True, kw_only=True)
class Labelled(Record):
    """A text and its class."""

    text: str
    label: str
    groups: Mapping[str, str] = field(default_factory=dict)
    """What the text belongs to, such as {"product": "books"}: figures are broken down by it."""


@dataclass(frozen=True, kw_only=True)
class Pair(Record):
    """A source and what was made of it by people: translations or summaries, one or several."""

    source: str
    targets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Question(Record):
    """A question on a passage. Without answers it cannot be answered from the passage."""

    question: str
    context: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]
    """Where each answer begins in the context, in characters, as the data says; -1 where it does not."""
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Preference(Record):
    """Two answers to a prompt, of which people preferred one."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, kw_only=True)
class CodeProblem(Record):
    """A function to write, with the tests that decide."""

    prompt: str
    tests: str
    """Python. Of `continuation` it defines check(candidate); of `description` it is the asserts themselves, behind
    what they need set up."""
    entry_point: str
    """The function's name; empty where the data does not tell."""
    solution: str
    """The data's own solution; empty where it has none."""
    kind: Literal["continuation", "description"]
    """`continuation` (HumanEval): the prompt is the head of the function, and prompt and completion together are the
    program. `description` (MBPP): the prompt tells in words what to write, and the completion is the whole program."""
