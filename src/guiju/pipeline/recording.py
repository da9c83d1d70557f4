"""What stages that train and measure put on record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guiju.evidence import Kind
from guiju.pipeline.orchestration import StageContext
from guiju.storage import folder_digests


def record_training_event(
    context: StageContext[Any],
    name: str,
    facts: Mapping[str, Any],
    measure: str = "bits_per_byte",
    unit: str = "bits per byte of held-out text",
) -> None:
    """Training's events on record; a checkpoint's files are named as soon as they are safe.

    Args:
        measure: what evaluations measure, as the facts call it.
        unit: the same for the screen.
    """
    if name == "evaluation":
        context.reporter.note(f"step {facts['step']}: {_rounded(facts[measure])} {unit}")
    if name == "notice":
        context.reporter.note(facts["text"])
    if name != "checkpoint":
        context.record(Kind.TRAINING_EVENT, {"event": name, **facts}, f"training: {name}")
        return
    place = f"checkpoints/{facts['folder']}"
    manifest = context.run.manifest()
    outputs: dict[str, str | None] = {
        path: None for old in facts["removed"] for path in manifest if path.startswith(f"checkpoints/{old}/")
    }
    outputs.update({f"{place}/{path}": digest for path, digest in folder_digests(context.path(place)).items()})
    context.record(Kind.CHECKPOINT, dict(facts), f"checkpoint after step {facts['step']}", outputs=outputs)


def _rounded(value: float | None) -> str:
    return "no finite number of" if value is None else f"{value:.3f}"


def record_measure(
    context: StageContext[Any],
    measure: str,
    value: float,
    what: str,
    unit: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Put a figure of the run on record."""
    body = {
        "measure": measure,
        "what": what,
        "count": None,
        "n": None,
        "value": value,
        "unit": unit,
        "sampled": False,
        "details": dict(details or {}),
    }
    context.record(Kind.MEASUREMENT, body, what)
