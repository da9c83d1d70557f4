"""The layouts that `export` writes, one module each: `write(language_model, folder, **options) -> dict` of more facts.

A module is imported when its layout is asked for, so that no layout needs another one's libraries.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from guiju.errors import ConfigError
from guiju.providers.local import LocalModel


class Write(Protocol):
    """Fills an empty folder with a model; what it returns is shown beside the names of the files.

    Raises:
        ModelError: the model has no place in the layout; the field or tensor is named.
        ConfigError: an option holds what it may not.
    """

    def __call__(self, language_model: LocalModel, folder: Path, **options: Any) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Format:
    """Where a layout is written, and what that takes."""

    module: str
    extra: str | None = None
    """The extra of the package that brings the libraries."""
    libraries: tuple[str, ...] = ()
    """Their import names."""
    options: tuple[str, ...] = ()
    """What else `write` takes."""
    copies: float = 1.1
    """Room on the disk while it is written, in copies of the weights in float32."""


FORMATS: dict[str, Format] = {
    "huggingface": Format("huggingface"),
    "llama2c": Format("llama2c"),
    "gguf": Format("gguf", extra="gguf", libraries=("gguf",), options=("type",)),
    "onnx": Format("onnx", extra="onnx", libraries=("onnx", "onnxscript"), copies=2.2),
    "tensorflow": Format("tensorflow", extra="tensorflow", libraries=("tensorflow",), copies=2.2),
    "openai-gpt2": Format("openai_gpt2"),
}


def find_format(name: str, options: Mapping[str, object]) -> Format:
    """The layout of a name, once it is known that it can be written here and takes these options.

    Raises:
        ConfigError: there is no such layout, its libraries are not installed, or it has no such option.
    """
    if name not in FORMATS:
        raise ConfigError(f"there is no format {name!r}; export can write {', '.join(FORMATS)}")
    found = FORMATS[name]
    for option in options:
        if option not in found.options:
            takers = [other for other, form in FORMATS.items() if option in form.options]
            whose = f"it belongs to {', '.join(takers)}" if takers else "no format has it"
            raise ConfigError(f"format {name} has no option {option!r}; {whose}. Leave it out")
    missing = [library for library in found.libraries if importlib.util.find_spec(library) is None]
    if missing:
        raise ConfigError(
            f"format {name} needs {' and '.join(missing)}, which this Python does not have. "
            f"Install it: pip install 'guiju[{found.extra}]'"
        )
    return found


def writer(form: Format) -> Write:
    """The function that writes a layout; its libraries are loaded now."""
    module = importlib.import_module(f"{__name__}.{form.module}")
    write: Write = module.write
    return write
