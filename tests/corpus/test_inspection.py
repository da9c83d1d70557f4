"""The draw can be repeated and is fair, and only verdicts on what was drawn count."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest
from scipy.stats import beta, chisquare

from guiju.corpus.inspection import draw, list_digest, read_verdicts
from guiju.errors import DataError

IDS = [f"source-{number}" for number in range(1, 1001)]


def drawn_ids(ids: list[str], count: int, seed: int, purpose: str = "people", listed: str = "") -> set[str]:
    listed = listed or list_digest(ids)
    return {ids[place] for place in draw(ids, count, seed=seed, listed=listed, purpose=purpose)}


def test_the_draw_is_what_its_rule_says():
    listed = hashlib.sha256("".join(f"{one}\n" for one in IDS).encode()).hexdigest()
    by_rule = sorted(IDS, key=lambda one: hashlib.sha256(f"{listed} 7 people {one}".encode()).digest())[:40]
    assert drawn_ids(IDS, 40, 7) == set(by_rule)


def test_the_draw_does_not_depend_on_the_order_in_which_ids_come():
    mixed = random.Random(1).sample(IDS, len(IDS))
    assert drawn_ids(mixed, 40, 7, listed=list_digest(IDS)) == drawn_ids(IDS, 40, 7)


def test_another_seed_purpose_or_list_draws_others():
    first = drawn_ids(IDS, 40, 7)
    assert len(first & drawn_ids(IDS, 40, 8)) < 20
    assert len(first & drawn_ids(IDS, 40, 7, "rules")) < 20
    assert len(first & drawn_ids([*IDS, "one-more"], 40, 7)) < 20


def test_a_larger_draw_holds_the_smaller_one_and_too_large_a_draw_is_everything():
    assert drawn_ids(IDS, 40, 7) < drawn_ids(IDS, 80, 7)
    assert draw(IDS, 5000, seed=7, listed="x", purpose="people") == list(range(1000))
    assert draw([], 5, seed=7, listed="x", purpose="people") == []
    assert draw(IDS, 0, seed=7, listed="x", purpose="people") == []


def test_every_document_is_as_likely_as_any_other():
    counts = dict.fromkeys(IDS[:50], 0)
    for seed in range(2000):
        for one in drawn_ids(IDS[:50], 10, seed):
            counts[one] += 1
    assert sum(counts.values()) == 20_000
    assert chisquare(list(counts.values())).pvalue > 0.001


@pytest.fixture
def inspection(tmp_path: Path) -> Path:
    path = tmp_path / "inspection.jsonl"
    lines = [
        {"id": f"d-{n}", "drawn_for": ["people", "rules"] if n % 2 else ["people"], "text": "x"} for n in range(10)
    ]
    lines.append({"id": "r-1", "drawn_for": ["rules"]})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def verdicts(folder: Path, lines: list[dict[str, object] | str]) -> Path:
    path = folder / "verdicts.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def good(number: int, verdict: str = "qualified", by: str = "Li") -> dict[str, object]:
    return {"id": f"d-{number}", "verdict": verdict, "by": by, "note": "读过"}


def test_verdicts_become_a_rate_with_its_exact_interval(tmp_path, inspection):
    given = [good(n, "not-qualified" if n == 3 else "qualified", "Li" if n < 4 else "王") for n in range(10)]
    path = verdicts(tmp_path, [*given])
    judgement = read_verdicts(path, inspection)
    assert (judgement.drawn, judgement.qualified, judgement.not_qualified, judgement.pending) == (10, 9, 1, ())
    assert judgement.by == {"Li": 4, "王": 6}
    assert judgement.interval.low == pytest.approx(beta.ppf(0.025, 9, 2))
    assert judgement.interval.high == pytest.approx(beta.ppf(0.975, 10, 1))
    body = judgement.measurement()
    assert (body["measure"], body["count"], body["n"]) == ("corpus_manual_sample_pass_rate", 9, 10)
    assert body["details"]["verdicts_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_document_without_a_verdict_is_pending_and_no_rate_is_given(tmp_path, inspection):
    judgement = read_verdicts(verdicts(tmp_path, [good(n) for n in range(8)]), inspection)
    assert judgement.pending == ("d-8", "d-9")
    with pytest.raises(DataError, match="2 of 10 drawn documents have no verdict yet, such as d-8"):
        judgement.measurement()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"id": "d-99", "verdict": "qualified", "by": "Li"}, "line 2: no document 'd-99' was drawn"),
        ({"id": "r-1", "verdict": "qualified", "by": "Li"}, "drawn for the rules, not for people"),
        ({"id": "d-0", "verdict": "qualified", "by": "Li"}, r"has a verdict already, on line 1"),
        ({"id": "d-1", "verdict": "ok", "by": "Li"}, "verdict is 'ok'"),
        ({"id": "d-1", "verdict": "qualified", "by": " "}, "by is empty"),
        ({"id": "d-1", "verdict": "qualified"}, "must be an object with"),
        ({"id": "d-1", "verdict": "qualified", "by": "Li", "reason": "x"}, "unknown key 'reason'"),
        ({"id": "d-1", "verdict": "qualified", "by": "Li", "note": 3}, "note must be text"),
        ({"id": 1, "verdict": "qualified", "by": "Li"}, "must be an object with"),
        ("[1]", "must be an object with"),
        ("{", "is not JSON"),
    ],
)
def test_a_bad_verdict_is_refused_with_its_line(tmp_path, inspection, bad, message):
    with pytest.raises(DataError, match=message):
        read_verdicts(verdicts(tmp_path, [good(0), bad]), inspection)


def test_a_missing_file_and_a_foreign_inspection_are_refused(tmp_path, inspection):
    with pytest.raises(DataError, match="cannot be read"):
        read_verdicts(tmp_path / "none.jsonl", inspection)
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text('{"a": 1}\n', encoding="utf-8")
    with pytest.raises(DataError, match="no line of an inspection"):
        read_verdicts(verdicts(tmp_path, []), foreign)
