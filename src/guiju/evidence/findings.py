"""Whether a finding follows from the records that it cites, by the rule of `guiju.statistics` and no other.

A finding rests on at most one measurement, the last one of its measure, and on a person's attestation where one is
owed. Each bound of the clause is held against that measurement; the worst verdict counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from guiju.statistics import Threshold, Verdict, clopper_pearson, exact_verdict, meets_letter, rate_verdict

_SEVERITY = (Verdict.PASS, Verdict.NOT_ASSESSED, Verdict.NEEDS_PERSON, Verdict.INCONCLUSIVE, Verdict.FAIL)
_OPEN = (Verdict.NOT_ASSESSED, Verdict.NEEDS_PERSON)
_TOLERANCE = 1e-9
"""By how much two ways to compute a bound of an interval may differ."""

_VERDICTS = tuple(str(verdict) for verdict in Verdict)
_METHODS = ("rate", "exact", "none", "attested")
_COMPARATORS = ("<=", ">=", "==")
_PARTS = ("rate", "n", "share", "value")
_LARGEST_SAMPLE = 10**7
_FIGURES = ("count", "n", "estimate", "low", "high")


def measurement_form_problem(body: dict[str, Any]) -> str | None:
    """What is wrong with the form of a measurement; None where nothing is."""
    if missing := {"measure", "what", "count", "n", "value", "unit", "sampled", "details"} - body.keys():
        return f"a measurement says {', '.join(sorted(missing))}, and this one does not"
    for key in ("measure", "what", "unit"):
        if not isinstance(body[key], str):
            return f"the measurement's {key} is no text"
    if not isinstance(body["sampled"], bool) or not isinstance(body["details"], dict):
        return "the measurement's sampled is not true or false, or its details are no object"
    if not isinstance(body["value"], int | float | str | None) or isinstance(body["value"], bool):
        return "the measurement's value is neither number nor text nor null"
    count, n = body["count"], body["n"]
    if (count is not None and not _is_count(count)) or (n is not None and not _is_count(n)):
        return "the measurement's count or n is no whole number from 0"
    if count is not None and (n is None or count > n):
        return f"the measurement counts {count} of {n}"
    if count is not None and body["sampled"] and n > _LARGEST_SAMPLE:
        return f"a sample of {n} is more than {_LARGEST_SAMPLE}, for which no interval is computed"
    return None


def finding_form_problem(body: dict[str, Any], index: int) -> str | None:
    """What is wrong with the form of a finding at `index`; None where nothing is."""
    texts = {"standard", "edition", "as_of", "clause", "verdict", "method", "confidence"}
    others = {*_FIGURES, "threshold", "verified_by", "meets_letter", "supported", "evidence", "note"}
    if missing := (texts | others) - body.keys():
        return f"a finding says {', '.join(sorted(missing))}, and this one does not"
    for key in sorted(texts):
        if not isinstance(body[key], str):
            return f"the finding's {key} is no text"
    if body["verdict"] not in _VERDICTS:
        return f"{body['verdict']!r} is none of the five verdicts"
    if body["method"] not in _METHODS or body["confidence"] not in ("high", "medium", "low"):
        return f"method {body['method']!r} or confidence {body['confidence']!r} is not known"
    for key in ("meets_letter", "supported"):
        if not isinstance(body[key], bool | None):
            return f"the finding's {key} is not true, false or null"
    if not isinstance(body["verified_by"], str | None) or not isinstance(body["note"], str | None):
        return "the finding's verified_by or note is no text"
    evidence = body["evidence"]
    if not isinstance(evidence, list) or not all(_is_count(cited) and cited < index for cited in evidence):
        return "the finding cites what is no entry before it"
    return _threshold_problem(body["threshold"])


def finding_problem(
    body: Mapping[str, Any],
    measurements: Mapping[int, Mapping[str, Any]],
    attestations: Mapping[int, Mapping[str, Any]],
    latest: Mapping[str, int],
) -> str | None:
    """Why a finding of proper form does not follow from what it cites; None where it does.

    Args:
        measurements, attestations: bodies by entry index, of entries before the finding.
        latest: measure -> index of the last measurement of it before the finding.
    """
    cited = [index for index in body["evidence"] if index in measurements]
    if len(cited) > 1:
        return f"it rests on the measurements {cited}: it may rest on one, so that figures cannot be picked"
    measurement = measurements[cited[0]] if cited else None
    if measurement is not None:
        measure = measurement["measure"]
        if body.get("measure") not in (None, measure):
            return f"it is about {body['measure']}, but entry {cited[0]} measures {measure}"
        if latest[measure] != cited[0]:
            return f"it cites entry {cited[0]} for {measure}, which entry {latest[measure]} measured later"
    stated = [attestations[index] for index in body["evidence"] if index in attestations]
    if any(attestation.get("clause") != body["clause"] for attestation in stated):
        return "it cites an attestation about another clause"
    return (
        _figures_problem(body, measurement)
        or _parts_problem(body["threshold"], measurement)
        or _verdict_problem(body, measurement, stated[-1] if stated else None)
    )


def _verdict_problem(
    body: Mapping[str, Any], measurement: Mapping[str, Any] | None, stated: Mapping[str, Any] | None
) -> str | None:
    verdict = Verdict(body["verdict"])
    if body["confidence"] == "low" and not body["verified_by"] and verdict is not Verdict.NOT_ASSESSED:
        return f"it says {verdict} on a clause of low confidence that nobody has verified"
    parts = _parts(body["threshold"])
    held = [_held(part, measurement) for part in parts]
    by_figures = max((part[0] for part in held), key=_SEVERITY.index) if held else None
    by_person = None if stated is None else Verdict.PASS if stated.get("holds", True) is True else Verdict.FAIL
    if body["meets_letter"] is not None and body["meets_letter"] != (bool(held) and all(part[1] for part in held)):
        return "its meets_letter does not follow from the figures"
    if body["supported"] is not None and body["supported"] != (by_figures is Verdict.PASS):
        return "its supported does not follow from the figures"
    if verdict in _OPEN:
        # Holding back a verdict is allowed where a reason is written down; claiming one is not.
        unverified = body["confidence"] == "low" and not body["verified_by"]
        excused = body["note"] or unverified
        return None if by_figures in (None, verdict) or excused else f"the figures say {by_figures}, it says {verdict}"
    if body["method"] == "attested":
        allowed = {by_person}
    else:
        allowed = {by_figures}
        if by_figures is not None and by_person is not None:
            allowed.add(max(by_figures, by_person, key=_SEVERITY.index))
    if verdict in allowed:
        return None
    expected = " or ".join(sorted(str(one) for one in allowed if one is not None)) or "no verdict at all"
    return f"it says {verdict}, but what it cites gives {expected}"


def _held(part: Mapping[str, Any], measurement: Mapping[str, Any] | None) -> tuple[Verdict, bool]:
    """Verdict on one bound, and whether the bare figure keeps it."""
    if measurement is None:
        return Verdict.NOT_ASSESSED, False
    threshold = Threshold(part["comparator"], part["value"])
    count, n, value = measurement["count"], measurement["n"], measurement["value"]
    kind = _kind_of(part, measurement)
    if kind == "rate":
        if count is None or not n:
            return Verdict.NOT_ASSESSED, False
        if measurement["sampled"]:
            return rate_verdict(count, n, threshold), meets_letter(count, n, threshold)
        return exact_verdict(count / n, threshold), meets_letter(count, n, threshold)
    if kind == "n":
        actual = n
    elif kind == "share":
        population = measurement["details"].get("population")
        actual = n / population if n is not None and _is_count(population) and population else None
    else:
        actual = value if _is_number(value) else None
    if actual is None:
        return Verdict.NOT_ASSESSED, False
    return exact_verdict(actual, threshold), threshold.holds(actual)


def _figures_problem(body: Mapping[str, Any], measurement: Mapping[str, Any] | None) -> str | None:
    expected = _figures(measurement)
    for name, value in zip(_FIGURES, expected, strict=True):
        if not _same(body[name], value):
            return f"its {name} is {body[name]}, but what it cites gives {value}"
    if measurement is None:
        allowed = {"none", "attested"}
    elif measurement["count"] is not None and measurement["sampled"]:
        allowed = {"rate", "attested"}
    else:
        allowed = {"exact", "attested"}
    return None if body["method"] in allowed else f"its method {body['method']} does not fit what it cites"


def _figures(measurement: Mapping[str, Any] | None) -> tuple[float | None, ...]:
    """count, n, estimate, low, high as a measurement gives them."""
    if measurement is None:
        return None, None, None, None, None
    count, n, value = measurement["count"], measurement["n"], measurement["value"]
    if count is None:
        number = value if _is_number(value) else None
        return None, n, number, number, number
    if n == 0:
        return count, n, None, None, None
    if not measurement["sampled"]:
        return count, n, count / n, count / n, count / n
    interval = clopper_pearson(count, n)
    return count, n, count / n, interval.low, interval.high


def _parts_problem(threshold: Any, measurement: Mapping[str, Any] | None) -> str | None:
    """Where the bounds of a clause are several, each carries its own figures and verdict."""
    for part in threshold if isinstance(threshold, list) else []:
        verdict, _ = _held(part, measurement)
        if part["verdict"] != verdict:
            return f"its part {part['part']} says {part['verdict']}, but what it cites gives {verdict}"
        if measurement is None:
            figures: tuple[float | None, ...] = (None,) * 5
        else:
            figures = _figures(measurement)
        for name, value in zip(("count", "n", "actual", "low", "high"), figures, strict=True):
            if part.get(name) is not None and part["part"] == "rate" and not _same(part[name], value):
                return f"the {name} of its part {part['part']} is {part[name]}, but what it cites gives {value}"
    return None


def _parts(threshold: Any) -> list[Mapping[str, Any]]:
    if threshold is None:
        return []
    return threshold if isinstance(threshold, list) else [threshold]


def _kind_of(part: Mapping[str, Any], measurement: Mapping[str, Any]) -> str:
    return str(part.get("part") or ("value" if measurement["count"] is None else "rate"))


def _threshold_problem(threshold: Any) -> str | None:
    if threshold is not None and not isinstance(threshold, dict | list):
        return "the finding's threshold is neither a bound nor a list of bounds"
    for part in _parts(threshold):
        if not isinstance(part, dict) or not isinstance(part.get("comparator"), str):
            return "a bound of the finding has no comparator"
        if part["comparator"] not in _COMPARATORS or not _is_number(part.get("value")):
            return "a bound of the finding has no known comparator, or no number"
        if part.get("part") not in (_PARTS if isinstance(threshold, list) else (*_PARTS, None)):
            return f"a bound of the finding is about {part.get('part')!r}, which is not known"
        if isinstance(threshold, list) and part.get("verdict") not in _VERDICTS:
            return "a bound among several has no verdict of its own"
    return None


def _same(given: Any, expected: float | None) -> bool:
    if expected is None or not _is_number(given):
        return given is None and expected is None
    return math.isclose(given, expected, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
