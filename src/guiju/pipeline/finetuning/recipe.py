"""A recipe for fine-tuning: which model learns what, from which data, and by what it is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, get_args

from guiju.errors import ConfigError
from guiju.model import LoraSettings, ModelSettings
from guiju.pipeline.reading import read_as, require_name
from guiju.tasks import FORMATS as FILE_FORMATS
from guiju.tasks import (
    TASKS,
    Completion,
    Conversation,
    Labelled,
    Pair,
    Preference,
    Question,
    Record,
    TaskSettings,
)
from guiju.tokens import TokenizerSettings
from guiju.training import TrainingSettings

ObjectiveName = Literal["answers", "classes", "pairs", "extractive", "preferences", "next-token"]
FormatName = Literal["auto", "messages", "prompt-completion", "text-label", "source-target", "squad", "preferences"]

KINDS: Mapping[str, type[Record]] = {
    "messages": Conversation,
    "prompt-completion": Completion,
    "text-label": Labelled,
    "source-target": Pair,
    "squad": Question,
    "preferences": Preference,
}
"""By format: what a row of the data is."""

TAUGHT_BY: Mapping[str, tuple[str, ...]] = {
    "answers": ("messages", "prompt-completion", "source-target"),
    "classes": ("text-label",),
    "pairs": ("source-target", "prompt-completion"),
    "extractive": ("squad",),
    "preferences": ("preferences",),
    "next-token": ("prompt-completion", "text-label"),
}
"""By objective: the formats that it can be learned from; "auto" is the first."""


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What is learned from, and what is held out."""

    train: str
    """The file to learn from: jsonl, json, csv, tsv or parquet, plain or packed (.gz, .zst); of pairs also two files
    that are aligned line by line, with a comma between."""

    format: FormatName = "auto"
    """What a row holds: "messages", "prompt-completion", "text-label", "source-target", "squad" (a question with its
    context) or "preferences" (prompt, chosen, rejected). "auto": what the objective learns from first."""

    file_format: str = "auto"
    """How the file holds rows, where its name does not tell: jsonl, json, csv, tsv, lines or parquet."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """Where fields stand that have no usual name, such as {source: en, target: de}."""

    validation: str | float = 0.1
    """Held out, to see how well the model does on what it did not learn: a file of the same format, or a share of
    `train`; rows with the same text fall on the same side."""

    evaluation: tuple[str, ...] | str = ()
    """Files by which the model will be measured: none of their texts may stand in `train`."""

    overlap: Literal["refuse", "leave-out"] = "refuse"
    """What happens to rows of `train` that stand, word for word or nearly so, in a file held out: the run is refused,
    or they are left out and counted."""

    long: Literal["leave-out", "refuse", "cut"] = "leave-out"
    """What happens to rows that are longer than the model's context: left out and counted, or the run is refused, or,
    with classes alone, the text is cut. Questions are read in windows, whatever stands here."""

    empty: Literal["refuse", "leave-out"] = "refuse"
    """What happens to rows with an empty answer: the run is refused, or they are left out and counted."""

    limit: int | None = None
    """So many rows of `train` at most; the first ones."""

    def __post_init__(self) -> None:
        if isinstance(self.validation, float) and not 0 <= self.validation < 1:
            raise ConfigError(f"data.validation is {self.validation}; as a share it is at least 0 and less than 1")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"data.limit is {self.limit}; it counts rows, so 1 or more")
        if self.file_format not in FILE_FORMATS:
            raise ConfigError(f"data.file_format is {self.file_format!r}; it can be {', '.join(FILE_FORMATS)}")

    @property
    def evaluation_files(self) -> tuple[str, ...]:
        return (self.evaluation,) if isinstance(self.evaluation, str) else self.evaluation


@dataclass(frozen=True, kw_only=True)
class TaskWish:
    """By which task the model is measured in the end."""

    name: str
    """translation, summarization, question-answering, code or sentiment."""

    data: str | None = None
    """The file that it is measured on; the last of data.evaluation where not given, or else data.validation."""

    file_format: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    """As in `data`, of that file."""

    settings: TaskSettings = field(default_factory=TaskSettings)
    """How it is asked."""

    def __post_init__(self) -> None:
        if self.name not in TASKS:
            raise ConfigError(f"task.name is {self.name!r}; it can be {', '.join(TASKS)}")


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe:
    """All that steers a fine-tuning."""

    verb: ClassVar[str] = "finetune"

    data: DataSettings
    name: str = ""
    """The run's name; the recipe's file name where it is not given."""

    root: Path = Path()
    """Where paths in the recipe start, from the recipe's own folder."""

    base: str | None = None
    """The model to begin with: a run folder, a Hugging Face folder or hf:NAME. None: a new one is made as `model` and
    `tokenizer` say, and learns from this data alone."""

    model: ModelSettings | None = None
    tokenizer: TokenizerSettings | None = None
    """Of a new model; both have defaults."""

    objective: ObjectiveName = "answers"
    """"answers": what follows a prompt, or the assistant's messages (a decoder). "classes": a text's label (an encoder,
    or a decoder). "pairs": a target from its source (an encoder-decoder). "extractive": where an answer stands in a
    text (an encoder). "preferences": the preferred of two answers (a decoder). "next-token": the whole text."""

    template: str = "auto"
    """How messages become text: "auto" (the base's own chat template, or else guiju's), "plain" (guiju's) or a file.
    Where one is named and rows hold prompts or sources, each becomes a user's message, and what follows the answer."""

    prompt: str | None = None
    """With answers from prompts or sources: what is read, with {prompt} or {source} in it, such as
    "Translate: {source}"."""

    labels: tuple[str, ...] = ()
    """With classes: the labels in the order of the head; the data's, sorted, where none are given."""

    class_weights: Literal["balanced"] | tuple[float, ...] | None = None
    """With classes: how much an example of each counts; "balanced" makes rare ones count more."""

    stride: int = 128
    """With extractive: tokens from the beginning of one window to that of the next."""

    lora: LoraSettings | None = None
    """Small matrices beside the frozen weights learn in their place; None trains the weights themselves."""

    base_precision: Literal["float32", "int8", "int4"] = "float32"
    """How the frozen weights are kept under `lora`."""

    training: TrainingSettings = field(default_factory=TrainingSettings)
    task: TaskWish | None = None

    def __post_init__(self) -> None:
        require_name(self.name)
        if self.base is not None and (self.model is not None or self.tokenizer is not None):
            raise ConfigError(
                f"the recipe names a base ({self.base}), which has its own shape and tokenizer, and {_given(self)} for "
                "a new model too; leave one of them out"
            )
        if self.training.objective not in ("auto", self.objective):
            raise ConfigError(
                f"objective is {self.objective}, but training.objective is {self.training.objective}; name it once"
            )
        if self.base_precision != "float32" and self.lora is None:
            raise ConfigError(
                f"base_precision is {self.base_precision}, whose rounded weights cannot learn; give lora: "
                "{rank: 8}, or leave base_precision out"
            )
        if self.lora is not None and self.base is None:
            raise ConfigError("lora learns beside a base's frozen weights, and the recipe names no base")
        if self.labels and self.objective != "classes":
            raise ConfigError(f"labels are for the objective classes, and objective is {self.objective}")
        if self.data.long == "cut" and self.objective != "classes":
            raise ConfigError(
                f"data.long is cut, but with the objective {self.objective} a cut row would lose what is to be "
                "learned; take leave-out or refuse"
            )
        _require_format(self.data.format, self.objective)
        self._check_prompt()
        object.__setattr__(self, "training", replace(self.training, objective=self.objective))

    @property
    def format(self) -> str:
        """What a row of the data holds."""
        return TAUGHT_BY[self.objective][0] if self.data.format == "auto" else self.data.format

    @property
    def chats(self) -> bool:
        """Whether a chat template writes the rows."""
        named = self.template != "auto" and self.objective in ("answers", "preferences")
        return named or self.format == "messages"

    def asked(self, text: str) -> str:
        """What is read of a prompt or source."""
        pattern = self.prompt or ("{prompt}" if self.chats or self.format == "prompt-completion" else "{source}\n")
        return pattern.replace("{prompt}", text).replace("{source}", text)

    def _check_prompt(self) -> None:
        if self.prompt is None:
            return
        name = {"prompt-completion": "{prompt}", "source-target": "{source}"}.get(self.format)
        if self.objective != "answers" or name is None:
            raise ConfigError(
                f"prompt is for answers to prompts or sources, but {self.objective} is learned here from {self.format}"
            )
        if self.prompt.count(name) != 1:
            raise ConfigError(f"prompt is {self.prompt!r}; it must hold {name} once, where the row's text is to stand")

    @property
    def record(self) -> type[Record]:
        return KINDS[self.format]

    def place(self, path: str) -> str:
        """A path of the recipe, or several with commas between, from where guiju was started."""
        if "," not in path or (self.root / path).exists():
            return _from_here(self.root / path)
        return ",".join(_from_here(self.root / part.strip()) for part in path.split(","))

    @property
    def held_out_files(self) -> tuple[str, ...]:
        """Files that nothing may be learned from."""
        given = (self.data.validation,) if isinstance(self.data.validation, str) else ()
        return (*given, *self.data.evaluation_files)

    @property
    def base_reference(self) -> str | None:
        """The base as it is loaded: what lies in the folder where guiju was started counts first, as in every verb, and
        then what the path means from the recipe's root."""
        if self.base is None or ":" in self.base.partition("/")[0] or Path(self.base).exists():
            return self.base
        return str(self.root / self.base) if (self.root / self.base).exists() else self.base


def read_finetune_recipe(path: Path, overrides: Sequence[str] = ()) -> FinetuneRecipe:
    """The recipe in a file, with `stage.key=value` overrides laid over it.

    Raises:
        ConfigError: the file is missing or malformed, a key is unknown, or a value may not stand there.
    """
    return read_as(FinetuneRecipe, path, overrides)


def _from_here(path: Path) -> str:
    """A path as a person would type it: without steps up and down again."""
    whole, here = path.resolve(), Path.cwd().resolve()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def _given(recipe: FinetuneRecipe) -> str:
    return " and ".join(name for name in ("model", "tokenizer") if getattr(recipe, name) is not None)


def _require_format(format: str, objective: str) -> None:
    able = TAUGHT_BY[objective]
    if format != "auto" and format not in able:
        others = [name for name in get_args(ObjectiveName) if format in TAUGHT_BY[name]]
        raise ConfigError(
            f"data.format is {format}, from which the objective {objective} cannot be learned: it takes "
            f"{' or '.join(able)}. With {format} the objective can be {' or '.join(others)}"
        )
