"""Which run a checkpoint belongs to, and what decides the last bits of its result: threads, processor, torch."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from guiju.errors import CheckpointError, ConfigError
from guiju.model import AnyModel, ModelConfig
from guiju.settings import to_mapping
from guiju.storage import sha256_bytes
from guiju.training.moving import still_digest
from guiju.training.settings import TrainingSettings

FREE_SETTINGS = ("keep", "checkpoint_every", "device", "compile", "max_skipped")
"""Settings in which a run may differ from the one it goes on with: they change no result, or the environment shows
them."""


def run_facts(
    model: AnyModel,
    data: Mapping[str, Any],
    settings: TrainingSettings,
    device: torch.device,
    dtype: str,
    arithmetic: Mapping[str, str | bool],
) -> dict[str, Any]:
    """What a checkpoint's manifest says about the run; `arithmetic` is what this process chose of how it computes."""
    weights = {name: list(weight.shape) for name, weight in model.named_parameters()}
    return {
        "settings": {name: value for name, value in to_mapping(settings).items() if name not in FREE_SETTINGS},
        "data": dict(data),
        "shape": {name: value for name, value in asdict(model.config).items() if name != "stop_ids"},
        "weights": sha256_bytes(json.dumps(weights, sort_keys=True).encode()),
        "frozen": still_digest(model),
        "dtype": dtype,
        "environment": {**arithmetic_environment(device), **arithmetic},
    }


def require_fit(config: ModelConfig, data: Mapping[str, Any]) -> None:
    """Refuse data that a model cannot read, or whose labels are not its head's.

    Raises:
        ConfigError: rows longer than the context, ids beyond the vocabulary, or labels of other names or order.
    """
    for name, held, mine in (
        ("context", int(data.get("context", 0)), config.context),
        ("vocab_size", int(data.get("vocab_size", 0)), config.vocab_size),
    ):
        if held > mine:
            raise ConfigError(
                f"the training data has {name} {held}, but the model only has {mine}; make model.{name} at least "
                f"{held}, or the data's {name} at most {mine}"
            )
    labels = ", ".join(config.labels)
    if data.get("label_names", labels) != labels:
        raise ConfigError(
            f"the training data has the labels {data['label_names']}, but the model's head has {labels or 'none'}: its "
            "numbers would mean other labels. Give the model a head with these labels, in this order"
        )


def require_same_run(saved: Mapping[str, Any], facts: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuse a checkpoint that another run made.

    Raises:
        CheckpointError: its settings, data, tokenizer or model are not this run's; the message names each difference.
    """
    meanings = {
        "data": "data",
        "shape": "a model of another shape",
        "weights": "a model of another shape",
        "frozen": "frozen weights",
        "settings": "training settings",
        "dtype": "training settings",
    }
    for name, meaning in meanings.items():
        theirs, mine = saved.get(name, ""), json.loads(json.dumps(facts[name]))
        if theirs != mine:
            made = meaning if meaning.startswith("a ") else f"other {meaning}"
            raise CheckpointError(
                f"{checkpoint} was made with {made} ({differences(theirs, mine)}): going on would be neither run. "
                f"Take what it was made with, or remove {checkpoint.parent} to train from the start."
            )


def differences(saved: Any, mine: Any) -> str:
    """What differs, with both values, in words."""
    if not isinstance(saved, dict) or not isinstance(mine, dict):
        return f"{saved} then, {mine} now"
    names = sorted(name for name in {*saved, *mine} if saved.get(name) != mine.get(name))
    return ", ".join(f"{name} {saved.get(name)} then, {mine.get(name)} now" for name in names)


def arithmetic_environment(device: torch.device) -> dict[str, str | int]:
    """The facts under which two runs of the same settings give the same bits; equality across processors is not
    promised.

    Source: PyTorch's results on a CPU change with the number of threads and with the instruction set.
    """
    facts: dict[str, str | int] = {
        "torch": torch.__version__,
        "build": hashlib.sha256(torch.__config__.show().encode()).hexdigest()[:16],
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cpu_flags": _cpu_flags_digest(),
        "device": device.type,
    }
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
    return facts


def _cpu_flags_digest() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    flags = next(
        (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), platform.processor()
    )
    return hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:16]
