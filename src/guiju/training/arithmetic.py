"""What a run computes with: measured once, and kept over every restart, so that the bits stay the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from guiju import device as devices
from guiju.training.settings import TrainingSettings


def choose_dtype(settings: TrainingSettings, device: torch.device, manifest: Mapping[str, Any] | None) -> str:
    """What matrix products are computed in; a checkpoint's manifest says what was measured before."""
    if settings.dtype != "auto":
        return settings.dtype
    if manifest is not None:  # a second measurement might say otherwise, and change the bits
        return str(manifest.get("dtype", "float32"))
    return str(devices.fastest_dtype(device)).removeprefix("torch.")


def choose_library(device: torch.device, manifest: Mapping[str, Any] | None) -> devices.Library:
    """What multiplies float32 matrices, likewise."""
    saved = None if manifest is None else manifest["environment"].get("float32_library")
    for library in devices.float32_libraries(device):
        if library == saved:
            return library
    return devices.float32_library(device)
