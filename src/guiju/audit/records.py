"""Which of a ledger's entries still speak: those of a stage that was done again do not."""

from __future__ import annotations

from collections.abc import Iterable

from guiju.evidence import Entry, Kind

LASTING = frozenset({Kind.RUN_CREATED, Kind.ATTESTATION, Kind.RECOVERED})
"""Records that no stage's repetition takes back."""


def current_entries(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in order, without what an earlier doing of a stage had left.

    A stage that begins again replaces its records; one that goes on after a cut, with the same key, keeps them.
    """
    kept: list[tuple[Entry, str | None]] = []
    open_stage: str | None = None
    last: dict[str, tuple[object, bool]] = {}
    for entry in entries:
        named = entry.body.get("stage")
        stage = named if isinstance(named, str) else open_stage
        if entry.kind == Kind.STAGE_STARTED and isinstance(named, str):
            key, finished = last.get(named, (None, True))
            if finished or key != entry.body.get("key"):
                kept = [(old, tag) for old, tag in kept if tag != named or old.kind in LASTING]
            last[named] = (entry.body.get("key"), False)
            open_stage = named
        elif entry.kind == Kind.STAGE_FINISHED and isinstance(named, str):
            last[named] = (entry.body.get("key"), True)
            open_stage = None
        kept.append((entry, stage))
    return [entry for entry, _ in kept]
