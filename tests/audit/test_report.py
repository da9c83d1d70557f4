from __future__ import annotations

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from audited_runs import (
    CORPUS_MEASURES,
    build_all,
    build_corpus,
    measurement,
    open_run,
    put,
    record,
    records,
    stage,
    write_continuations,
)
from inert_pages import PAYLOADS, assert_inert

from guiju.audit import audit_run, write_report
from guiju.audit.report.figures import brief, duration, in_unit, large
from guiju.audit.report.writing import render_report
from guiju.evidence import Kind, canonical_json, verify_run
from guiju.pages import escape
from guiju.standards import load_standard


class Words(HTMLParser):
    """The text that a reader of one language sees, style sheet left out."""

    def __init__(self, text: str, hidden: str) -> None:
        super().__init__()
        self.hidden, self.depth, self.words = hidden, [], []
        self.feed(text)

    def handle_starttag(self, name, attributes):
        if name in ("meta", "input", "br"):
            return
        classes = (dict(attributes).get("class") or "").split()
        self.depth.append(name == "style" or self.hidden in classes)

    def handle_endtag(self, name):
        self.depth.pop()

    def handle_data(self, data):
        if not any(self.depth):
            self.words.append(data)


def read(text: str, language: str) -> str:
    return " ".join(Words(text, "zh" if language == "en" else "en").words)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUIJU_HOME", str(folder / "home"))
        with open_run(folder / "run") as run:
            build_all(run)
            run.append(
                Kind.MEASUREMENT, measurement("refusal_rate", count=285, n=300, sampled=True), reason="drawn and judged"
            )
            with stage(run, "audit") as result:
                audit_run(run, "gbt-45654", as_of="2026-01-01")
                result["outputs"] = put(run, "audit/findings.json", "{}")
            with stage(run, "report") as result:
                result["outputs"] = put(run, "report.html", write_report(run).read_bytes())
            yield run, (run.path / "report.html").read_text(encoding="utf-8")


def test_the_report_is_one_inert_file_and_the_run_still_verifies(reported):
    run, text = reported
    assert_inert(text)
    assert not re.search(r"""(src|href)=["'](?!#)""", text), "it fetches nothing"
    assert verify_run(run.path).ok


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_clause_is_told_with_its_requirement_in_the_readers_language(reported, language):
    words = read(reported[1], language)
    for clause in load_standard("gbt-45654").clauses:
        assert clause.title_in(language) in words
        assert clause.requirement_in(language) in words
        assert clause.id in words


def test_a_chinese_reader_meets_no_english_headings(reported):
    headings = re.findall(r"<(h[1-4]|th|summary|label)[^>]*>(.*?)</\1>", reported[1], re.S)
    for _, inner in headings:
        seen = Words(inner, "en").words
        latin = re.sub(
            r"quickstart|GB/T|A\.[1-5]|[Oo]nce upon a time|English|\d+ / [\d,]+|FLOP|API|IP", "", " ".join(seen)
        )
        assert not re.search(r"[A-Za-z]{4,}", latin), (seen, inner[:200])


def test_the_verdict_counts_in_the_summary_are_those_of_the_ledger(reported):
    run, text = reported
    counted: dict[str, int] = {}
    for entry in run.entries():
        if entry.kind == Kind.FINDING:
            counted[entry.body["verdict"]] = counted.get(entry.body["verdict"], 0) + 1
    tiles = re.findall(r'<b>(\d+)</b><span class="badge badge-([a-z-]+)">', text)
    assert {verdict: int(count) for count, verdict in tiles if int(count)} == counted
    assert len(tiles) == 5


def test_an_evidence_card_shows_the_digest_that_anyone_can_compute(reported):
    run, text = reported
    entries = list(run.entries())
    measured = [entry for entry in entries if entry.kind == Kind.MEASUREMENT]
    [cited] = [entry for entry in measured if entry.body["measure"] == "refusal_rate"]
    data = {
        "index": cited.index,
        "time": cited.time,
        "kind": str(cited.kind),
        "actor": cited.actor,
        "reason": cited.reason,
        "inputs": cited.inputs,
        "outputs": cited.outputs,
        "body": cited.body,
        "previous": cited.previous,
    }
    assert hashlib.sha256(b"\x00" + canonical_json(data)).hexdigest() in text  # RFC 6962, 2.1: a leaf
    assert f"Ledger entry {cited.index}" in text


def test_an_inconclusive_rate_shows_letter_support_interval_and_bound(reported):
    _, text = reported
    place = text.index("<code>GBT45654/B/should-refuse-rate<")
    part = text[text.rindex("<details", 0, place) : place]
    assert "285 / 300 = 95 %" in part
    assert "91.88 % – 97.18 %" in part  # exact (Clopper-Pearson) interval of 285 of 300
    assert '<svg class="interval-bar"' in part
    words = read(part, "en")
    assert "yes" in words
    assert "no" in words
    assert "inconclusive" in words


def test_the_report_tells_what_the_run_did(reported):
    words = read(reported[1], "en")
    for told in (
        "1.05 M",  # parameters
        "26,852",  # documents that stay: 26,020 kept and 832 changed
        "CDLA-Sharing-1.0",
        "near-duplicate",
        "there was a little girl named Lily",
        "風吹花落滿江城",
        "431 TFLOP",
        "It does better than all 4 that it is compared with.",
        "guiju verify RUN",
        "python3 verify.py RUN",
    ):
        assert told in words, told


def test_a_run_that_holds_only_a_corpus_has_a_report_without_the_rest(tmp_path):
    with open_run(tmp_path / "run") as run:
        build_corpus(run)
        text = render_report(run)
    assert_inert(text)
    assert 'id="corpus"' in text
    for absent in ("training", "writing", "cost", "findings-1"):
        assert f'id="{absent}"' not in text
    assert "No audit is on record yet." in text


def test_a_run_that_has_just_begun_has_a_report(tmp_path):
    with open_run(tmp_path / "run") as run:
        words = read(render_report(run, language="zh"), "zh")
    assert "尚无已完成的阶段" in words
    assert "尚无审计记录" in words


def test_odd_records_are_told_as_far_as_they_go(tmp_path):
    with open_run(tmp_path / "run") as run:
        record(run, Kind.GENERATION, "generate", {"prompt": 3, "sequences": "none"})
        record(run, Kind.COST, "pretrain", {"rows": [{"what": "time"}, "x"]})
        record(run, Kind.COST, "pretrain", {"rows": None})
        record(run, Kind.PLAN, "plan", {"forecast": {"flops": 1e12, "cost": None}})
        record(run, Kind.SOURCE_REGISTERED, "corpus", {"documents": 7})
        record(run, Kind.SAMPLE_DRAWN, "corpus", {})
        record(run, Kind.TRAINING_EVENT, "pretrain", {"event": "notice", "text": "slow"})
        run.append(Kind.STAGE_FINISHED, {"stage": "corpus", "summary": None, "seconds": "long"}, reason="odd")
        put(run, "checkpoints/train_log.jsonl", b'\xff\n[]\n{"step": 1, "loss": "nan"}\n{"step": 2, "loss": 3.5}\n')
        assert_inert(render_report(run))


def _report_full_of(text: str, folder: Path) -> str:
    """A report in which every free text of every record is `text`."""
    with open_run(folder, name=text) as run:
        body = {"name": text, "licence": text, "origin": text, "language": [text], "region": text, "date": text}
        details = {text: text, "list": [text], "map": {text: [text]}}
        odd = [
            (Kind.MEASUREMENT, known | {"what": text, "unit": text, "details": details}) for known in CORPUS_MEASURES
        ]
        rows = [{"what": text, "unit": text, "forecast": 1, "actual": 2, "ratio": 2}]
        said = {"clause": "GBT45654/5.2/ip-owner", "statement": text, "by": text, "date": "2025-01-01"}
        with stage(run, "corpus") as result:
            records(run, "corpus", [(Kind.SOURCE_REGISTERED, body), *odd])
            result["summary"] = {
                "documents": {"kept": 1, "changed": 0, "dropped": 2},
                "dropped_by": {text: 1},
                "changed_by": {text: 1},
            }
        event = {"event": "notice", "text": text}
        meter = {"energy_method": text, "assumptions": [text]}
        records(run, "pretrain", [(Kind.TRAINING_EVENT, event), (Kind.COST, {"rows": rows, "meter": meter})])
        write_continuations(run, {text: [text]})
        run.append(Kind.STAGE_STARTED, {"stage": text, "key": "k", "environment": {text: text}}, reason=text)
        run.append(Kind.ATTESTATION, said, reason=text)
        audit_run(run, "gbt-45654", as_of="2026-01-01")
        return render_report(run)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUIJU_HOME", str(tmp_path_factory.mktemp("home")))
        return assert_inert(_report_full_of("calm", tmp_path_factory.mktemp("calm") / "run"))


@pytest.mark.parametrize("start", range(3))
def test_nothing_that_a_source_a_model_or_a_person_wrote_can_act_in_the_report(tmp_path, calm, start):
    payload = "".join(PAYLOADS[start:-1:3])  # a lone surrogate is no JSON, and the ledger refuses it before
    text = _report_full_of(payload, tmp_path / "run")
    hostile = assert_inert(text)
    assert [name for name, _ in hostile.tags] == [name for name, _ in calm.tags]
    assert payload in "".join(hostile.text) or not payload.isprintable()
    assert text.count(str(escape(payload))) > 30


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (duration(42.4), "42.4 s"),
        (duration(125), "2 min 05 s"),
        (duration(119.8), "2 min 00 s"),
        (duration(59.99), "60 s"),
        (duration(4_320), "1 h 12 min"),
        (large(1_049_088), "1.05 M"),
        (large(999), "999"),
        (in_unit(4.31e14, "FLOP"), "431 TFLOP"),
        (in_unit(871_000_000, "bytes"), "831 MiB"),
        (in_unit(0.00037, "kWh"), "0.37 Wh"),
        (in_unit(0.0002, "kg"), "0.2 g"),
        (in_unit(None, "s"), "–"),
        (brief(0.000_012), "1.2e-05"),
        (brief("text"), "text"),
        (brief(float("nan")), "–"),
    ],
)
def test_quantities_read_as_people_write_them(shown, text):
    assert shown == text
