"""One document explained: what became of it, by which rules, and where its text is now."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guiju.errors import DataError


@dataclass(frozen=True)
class ShownDocument:
    """A document's decision, and its text where it was kept."""

    decision: dict[str, Any]
    content: str | None
    """As the corpus holds it: mended and masked. None for a dropped document."""

    def to_json(self) -> dict[str, Any]:
        return {"decision": self.decision, "text": self.content}

    def _lines(self) -> list[str]:
        decision = self.decision
        lines = [
            f"{decision['id']}: {decision['verdict']}" + (f", in {decision['split']}" if decision["split"] else ""),
            f"from {decision['file']}, line or record {decision['position']}; language {decision['language'] or '?'}",
        ]
        lines += [f"- {rule['rule']}: {rule['why']}{_examples(rule['detail'])}" for rule in decision["rules"]]
        if not decision["rules"]:
            lines.append("- no rule had anything to change or to object to")
        lines.append(f"before: {decision['characters_before']} characters, sha256 {decision['before']}")
        if decision["after"]:
            lines.append(f"after: {decision['characters_after']} characters, sha256 {decision['after']}")
        return lines

    def text(self) -> str:
        """For the screen."""
        lines = self._lines()
        if self.content is not None:
            lines += ["", self.content if len(self.content) <= 600 else self.content[:600] + " [...]"]
        # What a source holds must not steer the terminal that it is shown on.
        return "".join(c if c.isprintable() or c in "\n\t\u3000" else "\ufffd" for c in "\n".join(lines))


def show_document(folder: Path, document: str) -> ShownDocument:
    """Look a document up in a corpus folder by its id.

    The text before is not kept, as it may hold personal data: the decision names its file, place and digest.

    Raises:
        DataError: the folder holds no corpus, or no document has this id.
    """
    decisions = folder / "decisions.jsonl"
    if not decisions.is_file():
        raise DataError(f"{folder} holds no corpus (decisions.jsonl is missing); give a run whose corpus stage is done")
    decision = _find(decisions, document)
    if decision is None:
        with decisions.open("rb") as lines:
            first = json.loads(lines.readline() or b'{"id": ""}')["id"]
        raise DataError(f"{folder} has no document {document!r}; ids are a source's name and a number, such as {first}")
    text = None
    if decision["split"]:
        found = _find(folder / f"{decision['split']}.jsonl", document)
        text = found["text"] if found else None
    return ShownDocument(decision, text)


def _find(path: Path, document: str) -> dict[str, Any] | None:
    start = b'{"id":' + json.dumps(document, ensure_ascii=False).encode() + b","
    with path.open("rb") as lines:
        for line in lines:
            if line.startswith(start):
                found: dict[str, Any] = json.loads(line)
                return found
    return None


def _examples(detail: dict[str, Any]) -> str:
    told = []
    for example in detail.get("examples", []):
        told.append(f"{example['before']!r} -> {example['after']!r}" if isinstance(example, dict) else repr(example))
    return f" ({', '.join(told)})" if told else ""
