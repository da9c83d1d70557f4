"""What tells of a corpus: the register, the summary, and the measurements that an audit holds against clauses."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from guiju.corpus.inspecting import Inspection
from guiju.corpus.settings import CorpusSettings, SourceSettings
from guiju.corpus.spill import Spill
from guiju.corpus.writing import Fates, Written
from guiju.storage import write_json

# Finance, identity documents: what the standard on sensitive personal information (GB/T 45574) counts in.
SENSITIVE_KINDS = ("cn-identity", "cn-bank-card", "cn-passport", "card", "iban")
FORMAT = 1

Kept = dict[str, dict[str, Counter[str]]]
"""Source -> language -> documents, characters and bytes that are kept."""


def report_of(
    settings: CorpusSettings,
    place: Path,
    spill: Spill,
    fates: Fates,
    written: Written,
    inspection: Inspection,
    entries: list[dict[str, Any]],
    evaluation: dict[str, Any],
) -> dict[str, Any]:
    """Writes sources.json and summary.json; returns the fields of a CorpusReport."""
    kept = _kept_by_source(spill, fates)
    for entry in entries:
        counts = written.by_source.get(entry["name"], Counter())
        entry["documents"] = {key: counts[key] for key in ("documents", "kept", "changed", "dropped")}
        entry["kept_characters"] = sum(cell["characters"] for cell in kept.get(entry["name"], {}).values())
    measurements = _measurements(settings, spill, fates, written, inspection, kept, evaluation)
    splits = _splits(spill, fates)
    summary = {
        "format": FORMAT,
        "documents": {key: written.verdicts[key] for key in ("kept", "changed", "dropped")} | {"read": spill.documents},
        "characters_read": written.characters_before,
        "dropped_by": dict(sorted(written.dropped_by.items())),
        "changed_by": dict(sorted(written.changed_by.items())),
        "by_source": {name: dict(sorted(counts.items())) for name, counts in sorted(written.by_source.items())},
        "splits": splits,
        "personal_data": _personal_data(settings, spill),
        "near_duplicates": {
            "compared": fates.compared,
            "passed_over": fates.passed_over,
            "found_at_threshold": round(settings.duplicates.found(settings.duplicates.threshold), 6),
            "found_at_split_threshold": round(settings.duplicates.found(settings.duplicates.split_threshold), 6),
        },
        "contamination": evaluation,
        "sample": inspection.sample,
        "measurements": measurements,
    }
    write_json(place / "sources.json", entries)
    write_json(place / "summary.json", summary)
    stayed = written.verdicts["kept"] + written.verdicts["changed"]
    size = splits["train"]["text_bytes"] + splits["validation"]["text_bytes"]
    line = (
        f"{stayed:,} of {spill.documents:,} documents stay ({size / 1e6:.1f} MB): {written.verdicts['kept']:,} as they "
        f"were, {written.verdicts['changed']:,} changed; {written.verdicts['dropped']:,} dropped"
    )
    inputs = {f"{entry['name']}: {file['file']}": file["sha256"] for entry in entries for file in entry["files"]}
    return {
        "sources": tuple(entries),
        "measurements": tuple(measurements),
        "inputs": inputs | evaluation.get("files", {}),
        "sample": inspection.sample,
        "summary": {key: value for key, value in summary.items() if key != "measurements"},
        "line": line,
    }


def _kept_by_source(spill: Spill, fates: Fates) -> Kept:
    found: Kept = defaultdict(lambda: defaultdict(Counter))
    for survivor in np.flatnonzero(fates.kept).tolist():
        cell = found[spill.source_names[spill.sources[survivor]]][spill.language_names[spill.languages[survivor]]]
        cell["documents"] += 1
        cell["characters"] += spill.characters[survivor]
        cell["text_bytes"] += spill.text_bytes[survivor]
    return found


def _splits(spill: Spill, fates: Fates) -> dict[str, dict[str, int]]:
    characters, text_bytes = np.array(spill.characters), np.array(spill.text_bytes)
    result = {}
    for name, chosen in (("train", fates.kept & ~fates.validation), ("validation", fates.validation)):
        result[name] = {
            "documents": int(chosen.sum()),
            "characters": int(characters[chosen].sum()),
            "text_bytes": int(text_bytes[chosen].sum()),
        }
    return result


def _personal_data(settings: CorpusSettings, spill: Spill) -> dict[str, Any]:
    counts = spill.counts
    return {
        "kinds": list(settings.personal_data),
        "found": {kind: counts[f"personal-data found {kind}"] for kind in settings.personal_data},
        "left": {kind: counts[f"personal-data left {kind}"] for kind in settings.personal_data},
        "documents": counts["personal-data documents"],
        "documents_left": counts["personal-data documents left"],
    }


def filters_run(settings: CorpusSettings) -> list[str]:
    """The automatic filters that every document passes. There is no keyword and no classifier filter among them yet."""
    cleaning = settings.cleaning
    chosen = {
        "mojibake": cleaning.repair_mojibake,
        "controls": cleaning.strip_controls,
        "boilerplate": cleaning.strip_boilerplate,
        "length": True,
        "language": cleaning.detect_language,
        "quality": True,
        "personal-data": bool(settings.personal_data),
        "contamination": bool(settings.evaluation_files),
        "duplicate": True,
        "near-duplicate": True,
    }
    return [name for name, runs in chosen.items() if runs]


def _measurements(
    settings: CorpusSettings,
    spill: Spill,
    fates: Fates,
    written: Written,
    inspection: Inspection,
    kept: Kept,
    evaluation: dict[str, Any],
) -> list[dict[str, Any]]:
    total = sum(cell["documents"] for cells in kept.values() for cell in cells.values())
    measured = [
        *_register_measurements(settings, kept),
        _diversity(settings, kept),
        _mix(settings, kept),
        *_personal_measurements(settings, spill, total),
        _repetition(settings, spill, fates, written),
        *_filter_measurements(settings, spill, written, inspection, total),
        _quality(spill, fates, written, kept),
    ]
    if evaluation:
        measured.append(_contamination(written, evaluation))
    return measured


def _register_measurements(settings: CorpusSettings, kept: Kept) -> list[dict[str, Any]]:
    """What share of the kept documents has what the register asks of its source."""
    sources = {source.name: source for source in settings.sources}
    documents = {name: sum(cell["documents"] for cell in cells.values()) for name, cells in kept.items()}

    def having(holds: Callable[[SourceSettings], bool], kind: str | None = None) -> tuple[int, int]:
        chosen = {name: count for name, count in documents.items() if kind in (None, sources[name].kind)}
        return sum(count for name, count in chosen.items() if holds(sources[name])), sum(chosen.values())

    accepted = {name: source.accept_without for name, source in sources.items() if source.missing}
    return [
        _rate(
            "license_coverage",
            "kept documents whose source has a recorded licence",
            having(lambda source: bool(source.licence.strip())),
            {
                "licences": {name: source.licence for name, source in sources.items()},
                "with_licence_text": having(lambda source: source.licence_file is not None)[0],
                "accepted_without": accepted,
            },
        ),
        _rate(
            "source_registry_completeness",
            "kept documents whose source states licence, origin, language and date",
            having(lambda source: not source.missing),
            {"accepted_without": accepted, "sources": len(sources)},
        ),
        _rate(
            "user_data_consent_coverage",
            "kept documents from users' input whose source has a record of their authorisation",
            having(lambda source: bool(source.consent.strip()), "user-input"),
            {},
        ),
        _rate(
            "robots_optout_respected",
            "kept self-collected documents whose source has a record of collection and of honoured opt-outs",
            having(lambda source: bool(source.collection_record.strip()), "self-collected"),
            {"addresses_examined": False},
        ),
    ]


def _filter_measurements(
    settings: CorpusSettings, spill: Spill, written: Written, inspection: Inspection, total: int
) -> list[dict[str, Any]]:
    """The filters that ran are named, and so are those that a standard asks for and that are not there."""
    filters = {"filters": filters_run(settings), "absent": ["keyword", "classifier"]}
    return [
        _rate(
            "corpus_filter_coverage",
            "kept documents that passed every automatic filter; keyword and classifier filters are not among them yet",
            (total, total),
            filters | {"input_documents": spill.documents, "dropped_by": dict(sorted(written.dropped_by.items()))},
        ),
        _rate(
            "corpus_technical_sample_pass_rate",
            "drawn documents that pass all rules once more; keyword and classifier filters are not among them yet",
            (inspection.passed, inspection.judged),
            filters
            | {
                "population": total,
                "population_sha256": inspection.sample["population_sha256"],
                "seed": inspection.sample["seed"],
                "failed_by": dict(sorted(inspection.failed_by.items())),
            },
            sampled=True,
        ),
    ]


def _repetition(settings: CorpusSettings, spill: Spill, fates: Fates, written: Written) -> dict[str, Any]:
    equal, alike = written.dropped_by["duplicate"], written.dropped_by["near-duplicate"]
    threshold = settings.duplicates.threshold
    details = {
        "duplicate": equal,
        "near_duplicate": alike,
        "jaccard_threshold": threshold,
        "chance_of_finding_a_pair_at_the_threshold": round(settings.duplicates.found(threshold), 6),
        "comparisons_passed_over": fates.passed_over,
    }
    what = "documents dropped because an earlier one is equal or alike"
    return _rate("dedup_ratio", what, (equal + alike, spill.documents), details)


def _contamination(written: Written, evaluation: dict[str, Any]) -> dict[str, Any]:
    details = {
        "items_found_before_dropping": evaluation["items_found"],
        "documents_dropped": written.dropped_by["contamination"],
        "files": evaluation["files"],
        "items_too_short": evaluation["items_too_short"],
    }
    what = f"evaluation items that share a run of {evaluation['size']} tokens with a kept document"
    return _rate("contamination_rate", what, (evaluation["items_left"], evaluation["items"]), details)


def _rate(
    measure: str, what: str, share: tuple[int, int], details: dict[str, Any], sampled: bool = False
) -> dict[str, Any]:
    count, n = share
    return {
        "measure": measure,
        "what": what,
        "count": count,
        "n": n,
        "value": round(count / n, 9) if n else None,
        "unit": "share",
        "sampled": sampled,
        "details": details,
    }


def _quantity(measure: str, what: str, value: float | int | None, unit: str, details: dict[str, Any]) -> dict[str, Any]:
    return {
        "measure": measure,
        "what": what,
        "count": None,
        "n": None,
        "value": value,
        "unit": unit,
        "sampled": False,
        "details": details,
    }


def _diversity(settings: CorpusSettings, kept: Kept) -> dict[str, Any]:
    table: defaultdict[str, list[str]] = defaultdict(list)
    for source in settings.sources:
        for language in sorted(kept.get(source.name, {})):
            if language in source.languages or not source.languages:
                table[f"{language}, {source.kind}"].append(source.name)
    least = min(map(len, table.values()), default=0)
    return _quantity(
        "source_diversity_count",
        "sources with kept documents, for the language and kind of source that has fewest",
        least,
        "sources",
        {"sources": dict(sorted(table.items()))},
    )


def _mix(settings: CorpusSettings, kept: Kept) -> dict[str, Any]:
    regions: defaultdict[str, Counter[str]] = defaultdict(Counter)
    countries: defaultdict[str, Counter[str]] = defaultdict(Counter)
    languages: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for source in settings.sources:
        for language, cell in kept.get(source.name, {}).items():
            regions[source.region].update(cell)
            countries[source.country or "unknown"].update(cell)
            languages[language].update(cell)
    total = sum(cell["characters"] for cell in regions.values())
    domestic = regions["domestic"]["characters"] / total if total else 0.0
    details = {
        name: {key: dict(cell) for key, cell in sorted(table.items()) if cell["documents"]}
        for name, table in (("regions", regions), ("countries", countries), ("languages", languages))
    }
    what = "share of kept characters that come from domestic sources; the rest stands in the details"
    return _quantity("domestic_foreign_mix_report", what, round(domestic, 6), "share", details)


def _personal_measurements(settings: CorpusSettings, spill: Spill, total: int) -> list[dict[str, Any]]:
    counted = _personal_data(settings, spill)
    if not settings.personal_data:
        return []  # nobody looked, so there is nothing to say
    found, left = counted["found"], counted["left"]
    read = max(1, spill.counts["personal-data scanned"])
    sensitive = [kind for kind in settings.personal_data if kind in SENSITIVE_KINDS]
    rule = "personal data is looked for again in each masked text"
    return [
        _quantity(
            "pii_hits_per_1k_docs",
            "finds of personal data left after masking, per 1,000 kept documents",
            round(1000 * sum(left.values()) / max(1, total), 6),
            "hits per 1,000 documents",
            {
                "before": {
                    "hits": sum(found.values()),
                    "per_1k_documents": round(1000 * sum(found.values()) / read, 6),
                    "by_kind": found,
                    "documents": counted["documents"],
                },
                "left": {"hits": sum(left.values()), "by_kind": left, "documents": counted["documents_left"]},
                "rule": rule,
            },
        ),
        _quantity(
            "sensitive_pii_hits",
            "finds of sensitive personal data left after masking",
            sum(left[kind] for kind in sensitive),
            "hits",
            {
                "before": {kind: found[kind] for kind in sensitive},
                "classes_examined": sensitive,
                "classes_not_examined": ["health", "biometric", "minors", "location", "belief"],
                "rule": rule,
            },
        ),
    ]


def _quality(spill: Spill, fates: Fates, written: Written, kept: Kept) -> dict[str, Any]:
    stayed = written.verdicts["kept"] + written.verdicts["changed"]
    details = {
        "splits": _splits(spill, fates),
        "sources": {
            name: {key: dict(cell) for key, cell in sorted(cells.items())} for name, cells in sorted(kept.items())
        },
        "dropped_by": dict(sorted(written.dropped_by.items())),
        "changed_by": dict(sorted(written.changed_by.items())),
    }
    what = "share of documents that stay; languages, sizes and rules stand in the details"
    return _quantity("data_quality_report", what, round(stayed / max(1, spill.documents), 6), "share", details)
