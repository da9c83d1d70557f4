"""Typed settings out of YAML: a recipe is plain data, and turns into frozen dataclasses here, strictly."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from guiju.errors import ConfigError

T = TypeVar("T")


def load_yaml(path: Path) -> dict[str, object]:
    """The mapping that a YAML file holds.

    Raises:
        ConfigError: the file is missing, is no YAML, holds a key twice, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder; give the recipe in it, such as {path / 'recipe.yaml'}") from None
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; give the path of a recipe, such as recipes/quickstart.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path} cannot be read as UTF-8 text: {problem}") from None
    try:
        data = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 -- a SafeLoader that also refuses repeated keys
    except (yaml.YAMLError, RecursionError) as problem:
        raise ConfigError(f"{path} is not valid YAML: {problem}") from None
    if data is None:
        return {}
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise ConfigError(f"{path} must hold `key: value` lines at the top, not {type(data).__name__}")
    return data


def apply_overrides(data: Mapping[str, object], overrides: Sequence[str]) -> dict[str, object]:
    """The same settings with `stage.key=value` laid over them; values are read as YAML.

    Raises:
        ConfigError: an override has no `=`, its value is no YAML, or its path leads through a value.
    """
    result = _copy(data)
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"--set {override!r} is not of the form stage.key=value, such as training.steps=100")
        try:
            value = yaml.load(text, Loader=_StrictLoader)  # noqa: S506
        except yaml.YAMLError as problem:
            raise ConfigError(f"--set {override!r}: the value is not valid YAML: {problem}") from None
        place = result
        for key in keys[:-1]:
            inner = place.setdefault(key, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"--set {override!r}: {key} holds {inner!r}, which has no settings inside")
            place = inner
        place[keys[-1]] = value
    return result


def from_mapping(cls: type[T], data: Mapping[str, object], where: str = "") -> T:
    """A settings dataclass out of plain data, checked key by key and value by value.

    Args:
        cls: a dataclass whose fields are plain types, paths, tuples, dicts or further dataclasses.
        where: the dotted place in the recipe, for messages.
    Raises:
        ConfigError: a key is unknown or missing, or a value is of another type.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where or 'the recipe'} must hold settings, not {_show(data)}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            raise ConfigError(_unknown_key(_join(where, str(key)), str(key), list(fields)))
    values: dict[str, object] = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], _join(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{_join(where, name)} is missing, and has no default")
    return cls(**values)


def to_mapping(settings: object) -> dict[str, object]:
    """Settings as plain data with every default written out; `from_mapping` reads it back."""
    assert dataclasses.is_dataclass(settings), settings
    return {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings) if field.init}


def _convert(kind: Any, value: object, where: str) -> object:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, where)
    if origin is typing.Literal:
        if value in arguments and not (isinstance(value, bool) and value not in [a for a in arguments if a is value]):
            return value
        raise ConfigError(f"{where} is {_show(value)}; it may be {' or '.join(map(_show, arguments))}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} is {_show(value)}; it must be a list, such as [a, b]")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
        if len(value) != len(arguments):
            raise ConfigError(f"{where} holds {len(value)} values; it must hold {len(arguments)}")
        return tuple(
            _convert(inner, item, f"{where}[{i}]") for i, (inner, item) in enumerate(zip(arguments, value, strict=True))
        )
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} is {_show(value)}; it must be a mapping, such as {{a: b}}")
        return {
            _convert(arguments[0], key, f"{where} key"): _convert(arguments[1], item, _join(where, str(key)))
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_mapping(kind, value, where)  # type: ignore[arg-type]
    return _convert_plain(kind, value, where)


def _convert_union(choices: tuple[Any, ...], value: object, where: str) -> object:
    if value is None and types.NoneType in choices:
        return None
    problems = []
    for choice in choices:
        if choice is not types.NoneType:
            try:
                return _convert(choice, value, where)
            except ConfigError as problem:
                problems.append(problem)
    raise problems[0]


def _convert_plain(kind: Any, value: object, where: str) -> object:
    if kind is typing.Any or kind is object:
        return value
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
        raise ConfigError(f"{where} is {value}; it must be a finite number")
    if kind is int and isinstance(value, bool):
        raise ConfigError(f"{where} is {_show(value)}; it must be a whole number")
    if kind is int and isinstance(value, int) and abs(value) >= 2**53:
        raise ConfigError(f"{where} is {_show(value)}; it must be less than 2**53, beyond which records lose digits")
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    wanted = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
    hint = ""
    if kind is float and isinstance(value, str):
        hint = " (YAML reads 1e-6, without the point, as text: write 1.0e-6)"
    if kind is str and not isinstance(value, list | dict):
        hint = ' (put it in quotes to keep it as text: "2025-11-01")'
    raise ConfigError(
        f"{where} is {_show(value)}; it must be {wanted.get(kind, getattr(kind, '__name__', kind))}{hint}"
    )


def _unknown_key(where: str, key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    way_out = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return f"{where} is not a setting; {way_out}"


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_mapping(value)
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def _copy(data: Mapping[str, object]) -> dict[str, object]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in data.items()}


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but a key that stands twice is an error, not the later one's silent victory."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} stands twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep=deep)
