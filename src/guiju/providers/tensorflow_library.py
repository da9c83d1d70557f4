"""The one place that imports TensorFlow: quiet, and only where it is needed, for it takes seconds."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from guiju.errors import ConfigError

# Read when TensorFlow is imported. oneDNN's kernels announce themselves on stderr before any log level counts, and are
# no faster at the shapes of language models (docs/experiments.md).
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",  # torch may live on the same GPU
}


@cache
def import_tensorflow() -> Any:
    """The module.

    Raises:
        ConfigError: it is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import tensorflow
    except ImportError as problem:
        raise ConfigError(
            f"this needs TensorFlow, which cannot be imported ({problem}). Install it: pip install 'guiju[tensorflow]'"
        ) from None
    return tensorflow
