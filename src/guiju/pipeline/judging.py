"""What people say about a run, put on its record: their verdicts on the documents drawn for inspection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guiju.corpus import read_verdicts
from guiju.errors import EvidenceError
from guiju.evidence import Entry, Kind, Run
from guiju.storage import sha256_bytes, write_bytes


def record_judgement(folder: Path, verdicts: Path) -> Mapping[str, Any]:
    """Put people's verdicts on the drawn documents on record; returns the measurement's body.

    The file itself is kept in the run, so that the rate can be counted again.

    Raises:
        DataError: a verdict is malformed, on a document that was not drawn, or missing.
        EvidenceError: the folder holds no run with an inspection.
    """
    drawn = folder / "corpus" / "inspection.jsonl"
    if not drawn.is_file():
        raise EvidenceError(f"{folder} holds no corpus/inspection.jsonl; give a run whose corpus was built")
    body = read_verdicts(verdicts, drawn).measurement()
    # It belongs to the corpus that was judged: when that is built anew, the verdicts on the old one no longer count.
    body |= {"stage": "corpus", "by_people": True, "details": {**body["details"], "filters": ["person"]}}
    content = verdicts.read_bytes()
    digest = sha256_bytes(content)
    place = f"judgements/{digest[:16]}.jsonl"
    with Run.open(folder) as run:
        (folder / "judgements").mkdir(exist_ok=True)
        write_bytes(folder / place, content)
        run.append(Kind.MEASUREMENT, body, reason="people judged the documents drawn for them", outputs={place: digest})
    return body


def said_by_people(entry: Entry) -> bool:
    """Whether an entry is a person's doing, on which an audit rests although no stage wrote it."""
    return entry.kind == Kind.ATTESTATION or (entry.kind == Kind.MEASUREMENT and entry.body.get("by_people") is True)


def digest_of(entries: list[Entry]) -> str:
    """One digest over what people said, in order."""
    said = [[entry.index, str(entry.kind), entry.body] for entry in entries]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
