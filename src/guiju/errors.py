"""What a user can cause. Each message says what is wrong, with which value, why it matters, and the way out.

The command line prints the message alone, without a traceback, and exits with code 2.
"""

from __future__ import annotations

import unicodedata

_LONGEST = 8000


class GuijuError(Exception):
    """The base of every error that a user can cause and mend.

    Messages quote what strangers' files hold: a very long one is cut in its middle, and characters that would steer a
    terminal or turn text around are written as escapes.
    """

    def __init__(self, message: object = "") -> None:
        text = str(message)
        if len(text) > _LONGEST:
            text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
        super().__init__(text if text.isprintable() else "".join(map(_visible, text)))


def _visible(character: str) -> str:
    if character in "\n\t" or character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return character.encode("unicode_escape").decode()


class ConfigError(GuijuError):
    """A recipe, setting or option holds what it may not."""


class DataError(GuijuError):
    """A source, corpus or text cannot be used as it is."""


class StorageError(GuijuError):
    """The disk is full, a file is missing, or a folder cannot be written."""


class EvidenceError(GuijuError):
    """A ledger, record, key or run folder is damaged, foreign or of another version."""


class ModelError(GuijuError):
    """A model or tokenizer folder cannot be read, or does not fit what is asked of it."""


class CheckpointError(GuijuError):
    """A training checkpoint is damaged, or does not belong to this run."""


class TrainingError(GuijuError):
    """Training cannot go on, or did nothing."""


class CatalogueError(GuijuError):
    """A standard is unknown, or its catalogue is malformed."""


class SandboxError(GuijuError):
    """Programs that nobody has read cannot be run here without risk."""
