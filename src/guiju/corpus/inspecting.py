"""The draw for inspection: documents for people to judge, and documents for the rules to judge once more."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guiju.corpus.inspection import draw, list_digest
from guiju.corpus.preparing import judge_in_worker
from guiju.corpus.settings import CorpusSettings
from guiju.corpus.spill import Spill
from guiju.corpus.workers import Workers
from guiju.corpus.writing import Fates

_PORTION_BYTES = 1 << 18


@dataclass(frozen=True)
class Inspection:
    """What was drawn, and what the rules say of it."""

    sample: dict[str, Any]
    """For the ledger: the seed, the sizes, and digests of the list drawn from and of what was drawn."""
    judged: int
    passed: int
    failed_by: Counter[str]


def inspect_corpus(
    settings: CorpusSettings,
    place: Path,
    spill: Spill,
    fates: Fates,
    workers: Workers,
    tell: Callable[[int, int, str], None],
) -> Inspection:
    """Draws from the kept documents, has the rules judge, and writes inspection.jsonl for people."""
    kept = np.flatnonzero(fates.kept)
    chosen = settings.inspection
    # The list's digest is fixed first and the draw follows it: to know the seed is not to know who will be drawn.
    listed = list_digest(map(spill.name, kept.tolist()))

    def drawn_for(purpose: str, count: int) -> set[int]:
        places = draw(map(spill.name, kept.tolist()), count, seed=chosen.seed, listed=listed, purpose=purpose)
        return set(kept[places].tolist())

    for_people = drawn_for("people", chosen.people)
    for_rules = drawn_for("rules", -(-len(kept) * round(chosen.rules_share * 10**9) // 10**9))
    drawn = sorted(for_people | for_rules)
    failed_by: Counter[str] = Counter()
    judged = passed = 0
    with (place / "inspection.jsonl").open("wb") as lines:
        portions = _portions(spill, drawn)
        for numbers, results in workers.map(_judge, portions):
            for survivor, (document, verdicts) in zip(numbers, results, strict=True):
                failed = [rule for rule, fine in verdicts.items() if not fine]
                if survivor in for_rules:
                    judged += 1
                    passed += not failed
                    failed_by.update(failed)
                lines.write(_line(document, verdicts, survivor in for_people, survivor in for_rules))
            tell(min(judged, len(for_rules)), len(for_rules), "inspecting the sample")
    sample = {
        "population": len(kept),
        "population_sha256": listed,
        "seed": chosen.seed,
        "people": _record(spill, for_people),
        "rules": _record(spill, for_rules),
    }
    return Inspection(sample, judged, passed, failed_by)


def _record(spill: Spill, drawn: set[int]) -> dict[str, Any]:
    digest = hashlib.sha256("".join(spill.name(survivor) + "\n" for survivor in sorted(drawn)).encode())
    return {"n": len(drawn), "ids_sha256": digest.hexdigest()}


def _portions(spill: Spill, drawn: list[int]) -> Iterator[tuple[list[int], list[bytes]]]:
    offsets, lengths = spill.offsets()
    numbers: list[int] = []
    texts: list[bytes] = []
    held = 0
    with spill.texts_path.open("rb") as lines:
        for survivor in drawn:
            lines.seek(int(offsets[survivor]))
            texts.append(lines.read(int(lengths[survivor])))
            numbers.append(survivor)
            held += len(texts[-1])
            if held > _PORTION_BYTES:
                yield numbers, texts
                numbers, texts, held = [], [], 0
    if numbers:
        yield numbers, texts


def _judge(numbers: list[int], texts: list[bytes]) -> tuple[list[int], list[tuple[dict[str, Any], dict[str, bool]]]]:
    documents = [json.loads(text) for text in texts]
    return numbers, list(zip(documents, judge_in_worker(documents), strict=True))


def _line(document: dict[str, Any], verdicts: dict[str, bool], for_people: bool, for_rules: bool) -> bytes:
    drawn_for = [name for name, chosen in (("people", for_people), ("rules", for_rules)) if chosen]
    line = {"id": document["id"], "source": document["source"], "language": document["language"]}
    line |= {"drawn_for": drawn_for, "rules": verdicts}
    if for_people:
        line["person"] = {"verdict": None, "reason": None, "by": None, "date": None}
        line["text"] = document["text"]
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
