"""Recipes out of YAML files and back, whichever verb they are for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import yaml

from guiju.errors import ConfigError
from guiju.settings import apply_overrides, from_mapping, load_yaml, to_mapping


class AnyRecipe(Protocol):
    """What all recipes have: a frozen dataclass of settings with these two among them."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    verb: ClassVar[str]
    """By which `guiju` takes it."""

    @property
    def name(self) -> str:
        """The run's name; the recipe's file name where it is not given."""

    @property
    def root(self) -> Path:
        """Where paths in the recipe start, from the recipe's own folder."""


R = TypeVar("R", bound=AnyRecipe)
_VERBS = {"corpus": "run", "data": "finetune"}
"""By what only its recipes have at the top: the verb."""


def read_as(cls: type[R], path: Path, overrides: Sequence[str] = ()) -> R:
    """The recipe of a kind in a file, with `stage.key=value` overrides laid over it.

    Raises:
        ConfigError: the file is missing or malformed, a key is unknown, or a value may not stand there.
    """
    data = _with_environment(apply_overrides(load_yaml(path), overrides))
    for key, verb in _VERBS.items():
        if key in data and verb != cls.verb:
            raise ConfigError(f"{path} has {key}, so it is a recipe for guiju {verb}, and not for guiju {cls.verb}")
    recipe = from_mapping(cls, data)
    root = recipe.root if recipe.root.is_absolute() else path.parent / recipe.root
    return replace(recipe, name=recipe.name or path.stem, root=root)


def write_recipe(recipe: AnyRecipe, folder: Path) -> str:
    """The recipe as YAML with every default written out, so that it can be run again from `folder`."""
    data = to_mapping(recipe)
    data["root"] = Path(os.path.relpath(recipe.root.resolve(), folder.resolve())).as_posix()
    head = f"# What this run was made by, every default written out. guiju {recipe.verb} recipe.yaml repeats it.\n"
    return head + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)


def require_name(name: str) -> None:
    """Refuse a run's name that could not be a folder's."""
    if name and not re.fullmatch(r"[\w][\w.-]*", name):
        raise ConfigError(f"name is {name!r}; it may hold letters, digits, '.', '_' and '-'")


def _with_environment(data: Mapping[str, object]) -> dict[str, object]:
    """Paths may begin with $GUIJU_DATA, the folder of sets that may be measured but not shipped."""

    def fill(value: object) -> Any:
        if isinstance(value, str) and "$GUIJU_DATA" in value:
            place = os.environ.get("GUIJU_DATA")
            if not place:
                raise ConfigError(f"{value} needs the environment variable GUIJU_DATA, which is not set")
            return value.replace("$GUIJU_DATA", place)
        if isinstance(value, Mapping):
            return {key: fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [fill(item) for item in value]
        return value

    return {key: fill(value) for key, value in data.items()}
