"""What a user can cause. Each message says what is wrong, with which value, why it matters, and the way out.

The command line prints the message alone, without a traceback, and exits with code 2.
"""

from __future__ import annotations


class GuijuError(Exception):
    """The base of every error that a user can cause and mend."""


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
