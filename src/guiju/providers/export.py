"""A model in a layout that other tools open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from guiju.errors import ConfigError, ModelError
from guiju.providers.formats import find_format, writer
from guiju.providers.local import LocalModel
from guiju.providers.reference import load
from guiju.storage import folder_atomic, require_free_space


def export_model(
    source: str | Path,
    to: str,
    out: str | Path,
    tokenizer: str | Path | None = None,
    *,
    pickles: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Write the model of a reference to a new folder.

    Args:
        source: what `load` takes; likewise `tokenizer` and `pickles`.
        to: the layout, one of guiju.providers.formats.FORMATS.
        out: the folder to make. It takes its name only when all is written.
        options: what the layout takes beside; `type` of gguf.
    Returns:
        out, format, files (names), downloads where something was fetched for it, and what the layout adds.
    Raises:
        ConfigError: there is no such layout or option, a library for it is missing, or the folder is there already.
        ModelError: the source cannot be read, or has no place in the layout.
        StorageError: the disk is full, or the folder cannot be written.
    """
    form = find_format(to, options)
    out = Path(out)
    if out.is_symlink() or (out.exists() and not out.is_dir()) or (out.is_dir() and any(out.iterdir())):
        raise ConfigError(f"{out} is there already; choose a new folder, or remove it first, so that nothing is lost")
    language_model = _with_weights(source, tokenizer, pickles)
    write = writer(form)
    size = int(form.copies * 4 * sum(parameter.numel() for parameter in language_model.model.parameters()))
    with folder_atomic(out) as folder:
        require_free_space(folder, size, f"the model exported to {out}")
        more = write(language_model, folder, **options)
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    fetched = {"downloads": language_model.downloads} if language_model.downloads else {}
    return {"out": str(out), "format": to, "files": files, **fetched, **more}


def _with_weights(source: str | Path, tokenizer: str | Path | None, pickles: bool) -> LocalModel:
    if str(source).startswith("tf:"):
        from guiju.providers.tensorflow_weights import take_weights

        return take_weights(str(source), None if tokenizer is None else Path(tokenizer))
    if str(source).startswith(("openai:", "transformers:")):
        raise ModelError(
            f"{source}: only models of ours are written, whose weights are at hand. Give the path of a folder or file"
        )
    language_model = load(source, tokenizer, pickles=pickles)
    assert isinstance(language_model, LocalModel)
    return language_model
