"""Inspection by sample: a draw that anyone can repeat, and the verdicts that people hand in.

The draw follows the digest of the list that is drawn from, which is fixed first, together with the seed: whoever knows
the seed beforehand cannot steer which documents are drawn without changing the list, and with it the draw. (Whoever
builds again and again with new seeds can; the ledger shows it, since each build leaves its own record.)
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from guiju.errors import DataError
from guiju.statistics import Interval, clopper_pearson
from guiju.storage import sha256_file

QUALIFIED, NOT_QUALIFIED = "qualified", "not-qualified"
MEASURE = "corpus_manual_sample_pass_rate"
_KEYS = frozenset({"id", "verdict", "by", "note"})


def list_digest(ids: Iterable[str]) -> str:
    """SHA-256 over the ids, each followed by a line end."""
    digest = hashlib.sha256()
    for one in ids:
        digest.update(one.encode() + b"\n")
    return digest.hexdigest()


def draw(ids: Iterable[str], count: int, *, seed: int, listed: str, purpose: str) -> list[int]:
    """Places of `count` ids, drawn without replacement, each as likely as any other; in ascending order.

    Drawn are the ids whose SHA-256 of "LISTED SEED PURPOSE ID" is least, so neither the order in which ids come nor
    the number of processes matters, and a few lines of any language repeat it. Takes 8 bytes of memory an id.

    Args:
        listed: list_digest of the ids.
        purpose: tells draws from one list apart, such as people and rules.
    """
    assert count >= 0
    head = hashlib.sha256(f"{listed} {seed} {purpose} ".encode())

    def rank(one: str) -> int:
        digest = head.copy()
        digest.update(one.encode())
        return int.from_bytes(digest.digest()[:8], "big")

    ranks = np.fromiter(map(rank, ids), np.uint64)
    if count >= ranks.size:
        return list(range(ranks.size))
    least = np.argsort(ranks, kind="stable")[:count]
    return sorted(least.tolist())


@dataclass(frozen=True)
class Judgement:
    """What people said of the documents that were drawn for them."""

    drawn: int
    qualified: int
    not_qualified: int
    pending: tuple[str, ...]
    """Ids of drawn documents without a verdict."""
    by: dict[str, int] = field(default_factory=dict)
    """Verdicts each person gave."""
    sha256: str = ""
    """Of the file of verdicts."""

    @property
    def judged(self) -> int:
        return self.qualified + self.not_qualified

    @property
    def interval(self) -> Interval:
        """Exact 95 % interval of the share that qualifies."""
        return clopper_pearson(self.qualified, self.judged)

    def measurement(self) -> dict[str, Any]:
        """The body of a measurement record.

        Raises:
            DataError: a drawn document has no verdict; those that were left out could be just the bad ones.
        """
        if self.pending:
            raise DataError(
                f"{len(self.pending)} of {self.drawn} drawn documents have no verdict yet, such as "
                f"{self.pending[0]}; a rate over the others could be steered by what is left out. Judge them all"
            )
        return {
            "measure": MEASURE,
            "what": "drawn documents that people judged to be qualified",
            "count": self.qualified,
            "n": self.judged,
            "value": round(self.qualified / self.judged, 9) if self.judged else None,
            "unit": "share",
            "sampled": True,
            "details": {"by": dict(sorted(self.by.items())), "verdicts_sha256": self.sha256},
        }


def read_verdicts(verdicts: Path, inspection: Path) -> Judgement:
    """People's verdicts, held against the draw.

    Args:
        verdicts: JSON lines {"id", "verdict": "qualified" | "not-qualified", "by", "note"}; the note may be absent.
        inspection: inspection.jsonl as the corpus build wrote it.
    Raises:
        DataError: a line is malformed, or its id is unknown, was not drawn for people, or has a verdict already.
    """
    drawn = _drawn(inspection)
    given: dict[str, tuple[int, str]] = {}
    by: Counter[str] = Counter()
    for number, line in _lines(verdicts):
        where = f"{verdicts}, line {number}:"
        one, verdict, person = _verdict(line, where)
        if one not in drawn:
            raise DataError(f"{where} no document {one!r} was drawn; ids stand in {inspection}")
        if not drawn[one]:
            raise DataError(f"{where} document {one!r} was drawn for the rules, not for people; leave it out")
        if one in given:
            raise DataError(
                f"{where} document {one!r} has a verdict already, on line {given[one][0]} ({given[one][1]}); "
                "settle on one, and keep one line"
            )
        given[one] = number, verdict
        by[person] += 1
    counts = Counter(verdict for _, verdict in given.values())
    for_people = [one for one, chosen in drawn.items() if chosen]
    return Judgement(
        drawn=len(for_people),
        qualified=counts[QUALIFIED],
        not_qualified=counts[NOT_QUALIFIED],
        pending=tuple(one for one in for_people if one not in given),
        by=dict(by),
        sha256=sha256_file(verdicts),
    )


def _drawn(inspection: Path) -> dict[str, bool]:
    """Every document that was drawn, and whether for people."""
    found: dict[str, bool] = {}
    for number, line in _lines(inspection):
        try:
            found[line["id"]] = "people" in line["drawn_for"]
        except (KeyError, TypeError):
            raise DataError(f"{inspection}, line {number}: it is no line of an inspection that guiju wrote") from None
    return found


def _lines(path: Path) -> Iterable[tuple[int, Any]]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError) as problem:
                    raise DataError(f"{path}, line {number}: it is not JSON: {problem}") from None
    except OSError as problem:
        raise DataError(f"{path} cannot be read: {problem.strerror}; correct the path") from None


def _verdict(line: Any, where: str) -> tuple[str, str, str]:
    if not isinstance(line, dict) or not all(isinstance(line.get(key), str) for key in ("id", "verdict", "by")):
        raise DataError(f'{where} it must be an object with the texts "id", "verdict" and "by"')
    if unknown := sorted(line.keys() - _KEYS):
        raise DataError(f"{where} unknown key {unknown[0]!r}; known are id, verdict, by and note")
    if line["verdict"] not in (QUALIFIED, NOT_QUALIFIED):
        raise DataError(f"{where} verdict is {line['verdict']!r}; it must be {QUALIFIED} or {NOT_QUALIFIED}")
    if not line["by"].strip():
        raise DataError(f"{where} by is empty; say who judged")
    if not isinstance(line.get("note", ""), (str, type(None))):
        raise DataError(f"{where} note must be text")
    return line["id"], line["verdict"], line["by"].strip()
