"""The last pass: each document's decision with its side of the split, and the texts that are kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from guiju.corpus.shingles import Int64s
from guiju.corpus.spill import Spill

_TELL_EVERY = 5000


@dataclass(frozen=True)
class Fates:
    """What becomes of each survivor; arrays over survivors."""

    kept: npt.NDArray[np.bool_]
    repeats: Int64s
    """The kept survivor that stands for it; -1 for those that are kept."""
    same: Int64s
    """The earliest survivor with the same text; itself, where it is that."""
    similarity: npt.NDArray[np.float32]
    near: npt.NDArray[np.bool_]
    """Dropped as alike rather than equal."""
    validation: npt.NDArray[np.bool_]
    compared: int
    passed_over: int


@dataclass
class Written:
    """What was counted on the way."""

    verdicts: Counter[str] = field(default_factory=Counter)
    dropped_by: Counter[str] = field(default_factory=Counter)
    changed_by: Counter[str] = field(default_factory=Counter)
    by_source: dict[str, Counter[str]] = field(default_factory=dict)
    characters_before: int = 0


def write_corpus(place: Path, spill: Spill, fates: Fates, tell: Callable[[int, int, str], None]) -> Written:
    """Writes train.jsonl, validation.jsonl and decisions.jsonl."""
    written = Written()
    survivor, survivors = 0, spill.survivors
    with (
        spill.decisions_path.open("rb") as decisions,
        spill.texts_path.open("rb") as texts,
        (place / "decisions.jsonl").open("wb") as final,
        (place / "train.jsonl").open("wb") as train,
        (place / "validation.jsonl").open("wb") as validation,
    ):
        for number, line in enumerate(decisions):
            decision = json.loads(line)
            split = None
            if survivor < survivors and spill.numbers[survivor] == number:
                text = texts.readline()
                if fates.kept[survivor]:
                    split = "validation" if fates.validation[survivor] else "train"
                    (validation if split == "validation" else train).write(text)
                else:
                    _drop(decision, _repetition(spill, fates, survivor))
                survivor += 1
            decision["split"] = split
            final.write(json.dumps(decision, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            _count(written, decision)
            if number % _TELL_EVERY == 0:
                tell(number, spill.documents, "writing")
    assert survivor == survivors, (survivor, survivors)
    return written


def _drop(decision: dict[str, Any], rule: dict[str, Any]) -> None:
    decision["verdict"] = "dropped"
    decision["rules"].append(rule)
    decision["after"] = decision["characters_after"] = None


def _repetition(spill: Spill, fates: Fates, survivor: int) -> dict[str, Any]:
    """Why a survivor is dropped as a repetition, and of what."""
    kept, same = int(fates.repeats[survivor]), int(fates.same[survivor])
    if fates.near[survivor]:
        similarity = round(float(fates.similarity[survivor]), 4)
        why = f"Jaccard similarity {similarity} to {spill.name(kept)}, which stands earlier and is kept"
        return {"rule": "near-duplicate", "why": why, "detail": {"kept": spill.name(kept), "jaccard": similarity}}
    if same == kept:
        why = f"the same text as {spill.name(kept)}, which stands earlier and is kept"
    else:
        why = f"the same text as {spill.name(same)}, which was dropped because it is much like {spill.name(kept)}"
    return {"rule": "duplicate", "why": why, "detail": {"kept": spill.name(kept), "same": spill.name(same)}}


def _count(written: Written, decision: dict[str, Any]) -> None:
    written.verdicts[decision["verdict"]] += 1
    written.characters_before += decision["characters_before"] or 0
    rules = [rule["rule"] for rule in decision["rules"]]
    if decision["verdict"] == "dropped":
        written.dropped_by[rules.pop()] += 1
    written.changed_by.update(set(rules))
    source = written.by_source.setdefault(decision["source"], Counter())
    source["documents"] += 1
    source[decision["verdict"]] += 1
