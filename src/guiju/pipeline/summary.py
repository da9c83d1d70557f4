"""What a run ends by telling: what was built, how the verdicts fell, forecast against actual, how to verify."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from textwrap import indent
from typing import Any

from guiju.compute import Comparison, describe_comparison
from guiju.evidence import Kind, Run


@dataclass(frozen=True)
class RunSummary:
    folder: str
    done: list[str]
    seconds: float
    built: dict[str, Any]
    verdicts: dict[str, int]
    standard: str
    cost: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.folder,
            "done": self.done,
            "seconds": round(self.seconds, 1),
            "built": self.built,
            "standard": self.standard,
            "verdicts": self.verdicts,
            "cost": self.cost,
            "verify": f"guiju verify {self.folder}",
        }

    def text(self) -> str:
        if not self.done:
            return f"all stages of {self.folder} are up to date; verify it: guiju verify {self.folder}"
        lines = ["", f"Built in {self.seconds:.0f} s: {self.folder}"]
        lines += [f"  {name}: {line}" for name, line in self._built_lines()]
        if self.verdicts:
            lines += ["", f"Findings, {self.standard}"]
            lines += [f"  {count:>4}  {name}" for name, count in self.verdicts.items() if count]
        if self.cost:
            rows = [Comparison(**row) for row in self.cost if row["forecast"] is not None]
            lines += ["", "Pretraining, forecast against actual", indent(describe_comparison(rows), "  ")]
        report = Path(self.folder) / "report.html"
        lines += ["", *([f"Read it    {report}"] if report.is_file() else []), f"Verify it  guiju verify {self.folder}"]
        return "\n".join(lines)

    def _built_lines(self) -> list[tuple[str, str]]:
        built, lines = self.built, []
        if "corpus" in built:
            counts = built["corpus"]["documents"]
            kept = counts.get("kept", 0) + counts.get("changed", 0)
            lines.append(("corpus", f"{kept:,} of {counts['read']:,} documents kept"))
        if "tokenizer" in built:
            lines.append(("tokenizer", f"{built['tokenizer']['vocab_size']:,} tokens"))
        if "pretrain" in built:
            model = built["pretrain"]
            lines.append(
                ("model", f"{model['parameters']:,} parameters, learned from {model['tokens']:,} {_learned(model)}")
            )
        if "evaluate" in built:
            lines.append(_quality(built["evaluate"]))
        return lines


def _learned(model: dict[str, Any]) -> str:
    return "tokens" if model.get("objective", "next-token") == "next-token" else "targets"


def _quality(found: dict[str, Any]) -> tuple[str, str]:
    """How good the model is, beside what it was held against."""
    if "nats_per_token" not in found:
        others = ", ".join(f"{name} {found[name]:.3f}" for name in ("bigram", "unigram", "untrained", "xz"))
        return "bits per byte", f"{found['model']:.3f} ({others})"
    nats = dict(found["nats_per_token"])
    own = nats.pop("model")
    others = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in nats.items())
    what = "nats a masked token" if found["objective"] == "masked-tokens" else "nats a target token"
    return what, f"{own:.3f} ({others}), {found['accuracy']['model']:.1%} right"


def summarise(run: Run, done: list[str], seconds: float) -> RunSummary:
    """The summary out of the run's own ledger."""
    built: dict[str, Any] = {}
    cost: list[dict[str, Any]] = []
    for entry in run.entries():
        if entry.kind == Kind.STAGE_FINISHED:
            built[entry.body["stage"]] = entry.body["summary"]
        elif entry.kind == Kind.COST:
            cost = entry.body["rows"]
    audit = built.get("audit", {})
    return RunSummary(
        folder=str(run.path),
        done=done,
        seconds=seconds,
        built=built,
        verdicts=audit.get("verdicts", {}),
        standard=audit.get("standard", ""),
        cost=cost,
    )
