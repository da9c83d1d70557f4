"""The verbs that people and scripts rely on: their flags, their JSON, their exit codes."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K" / "stories260K.bin"


def test_help_loads_neither_torch_nor_a_room():
    code = (
        "import sys; sys.argv = ['guiju', '--help']\n"
        "from guiju.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'transformers', 'guiju.pipeline', 'guiju.model', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "guiju run recipes/quickstart.yaml" in " ".join(ended.stdout.split())


@pytest.mark.parametrize(
    "verb",
    [
        "run",
        "plan",
        "generate",
        "score",
        "export",
        "audit",
        "verify",
        "corpus show",
        "standards list",
        "standards show",
    ],
)
def test_every_verb_has_help_with_an_example(guiju, verb):
    answer = guiju(*verb.split(), "--help")
    assert answer.code == 0
    assert f"guiju {verb}" in answer.out.split("Example:")[1]


def test_generate_prints_sequences_with_ids_and_reason(guiju, tiny_run):
    _, run = tiny_run
    answer = guiju("generate", "--model", run, "--prompt", "Once", "--seed", 3, "--max-new-tokens", 5,
                   "--num-return-sequences", 2, "--json")  # fmt: skip
    sequences = json.loads(answer.out)["sequences"]
    assert [set(sequence) for sequence in sequences] == [{"text", "ids", "finish_reason"}] * 2
    assert all(1 <= len(sequence["ids"]) <= 5 for sequence in sequences)
    again = guiju("generate", "--model", run, "--prompt", "Once", "--seed", 3, "--max-new-tokens", 5,
                  "--num-return-sequences", 2, "--json")  # fmt: skip
    assert again.out == answer.out


def test_generate_streams_the_published_story(guiju):
    published = json.loads((STORIES.parent / "reference.json").read_text())["published_greedy"]["text"]
    answer = guiju("generate", "--model", STORIES, "--greedy", "--max-new-tokens", 60)
    assert answer.code == 0
    assert published.startswith(answer.out.rstrip("\n"))
    assert len(answer.out) > 100


def test_greedy_search_for_several_sequences_is_refused(guiju):
    answer = guiju("generate", "--model", STORIES, "--greedy", "--num-return-sequences", 5)
    assert answer.code == 2
    assert "greedy" in answer.err
    assert answer.out == ""


def test_score_prints_a_line_a_text_in_order(guiju, tmp_path):
    lines = [{"id": "a", "text": "Once upon a time, there was a little girl named Lily."}, {"id": "b", "text": "Zq xv"}]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    answer = guiju("score", "--model", STORIES, "--file", tmp_path / "texts.jsonl", "--json")
    story, noise = [json.loads(line) for line in answer.out.splitlines()]
    assert story["bits_per_byte"] < noise["bits_per_byte"]
    size = len(lines[0]["text"].encode())
    assert story["bits_per_byte"] == pytest.approx(story["nll_nats"] / math.log(2) / size)
    alone = json.loads(guiju("score", "--model", STORIES, "--text", lines[0]["text"], "--json").out)
    assert alone["nll_nats"] == pytest.approx(story["nll_nats"], rel=1e-6)
    assert guiju("score", "--model", STORIES).code == 2


def test_export_writes_a_folder_that_transformers_opens(guiju, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    answer = guiju("export", STORIES, "--to", "huggingface", "--out", tmp_path / "out", "--json")
    written = json.loads(answer.out)
    assert written["format"] == "huggingface"
    assert "model.safetensors" in written["files"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = model.generate(tokenizer("", return_tensors="pt").input_ids, max_new_tokens=60, do_sample=False)
    ours = json.loads(guiju("generate", "--model", STORIES, "--greedy", "--max-new-tokens", 60, "--json").out)
    assert ids[0].tolist()[1:] == ours["sequences"][0]["ids"]
    assert (
        guiju("export", STORIES, "--to", "huggingface", "--out", tmp_path / "out").code == 2
    )  # never over what is there


def test_verify_tells_ok_and_not_ok_apart(guiju, copied_run):
    _, run = copied_run
    assert guiju("verify", run).code == 0
    (run / "plan.json").write_text("{}")
    answer = guiju("verify", run, "--json")
    assert answer.code == 1
    found = json.loads(answer.out)
    assert found["ok"] is False
    assert "plan.json" in [problem["file"] for problem in found["problems"]]


def test_verify_against_a_note_finds_a_run_that_was_swapped(guiju, tiny_run, tmp_path):
    recipe, run = tiny_run
    shutil.copy(run / "ledger" / "note", tmp_path / "kept.note")
    other = tmp_path / "other"
    assert guiju("run", recipe, "--out", other, "--only", "corpus").code == 0
    assert guiju("verify", other).code == 0  # by itself, nothing is wrong with it
    assert guiju("verify", other, "--against", tmp_path / "kept.note").code == 1
    assert guiju("verify", run, "--against", tmp_path / "kept.note").code == 0


def test_audit_prints_findings_and_its_exit_code_follows_fail_on(guiju, copied_run):
    _, run = copied_run
    answer = guiju("audit", run, "--standard", "gbt-45654", "--json")
    findings = json.loads(answer.out)["findings"]
    keys = {"clause", "verdict", "n", "estimate", "low", "high", "threshold", "evidence"}
    assert all(keys <= set(finding) for finding in findings)
    verdicts = {finding["verdict"] for finding in findings}
    assert verdicts <= {"pass", "fail", "inconclusive", "needs-person", "not-assessed"}
    assert answer.code == (1 if "fail" in verdicts else 0)
    assert guiju("audit", run, "--fail-on", "not-assessed").code == 1
    assert guiju("audit", run, "--fail-on", "inconclusive").code == (1 if "inconclusive" in verdicts else 0)
    assert guiju("audit", run, "--fail-on", "sometimes").code == 2
    assert guiju("audit", run, "--standard", "gbt-1").code == 2
    assert guiju("verify", run).code == 0


def test_plan_forecasts_a_recipe_and_a_fleet(guiju, tiny_run):
    recipe, _ = tiny_run
    small = json.loads(guiju("plan", recipe, "--json").out)
    large = json.loads(
        guiju("plan", "--params", "7e9", "--tokens", "2e12", "--device", "a100", "--count", 64,
              "--utilization", 0.4, "--json").out
    )  # fmt: skip
    priced = json.loads(guiju("plan", recipe, "--price-per-hour", 300, "--json").out)
    assert priced["cost"] == pytest.approx(priced["gpu_hours"] * 300)
    keys = {"flops", "gpu_hours", "memory_bytes", "energy_kwh", "co2_kg"}
    assert keys <= set(small) & set(large)
    assert large["flops"] == pytest.approx(6 * 7e9 * 2e12)
    assert guiju("plan", "--params", "7e9").code == 2
    assert guiju("plan", "--params", "7e9", "--tokens", "1", "--device", "abacus").code == 2


def test_standards_are_listed_and_shown(guiju):
    listed = json.loads(guiju("standards", "list", "--json").out)
    assert "gbt-45654" in {standard["id"] for standard in listed}
    assert "gbt-45654" in guiju("standards", "list").out
    shown = json.loads(guiju("standards", "show", "gbt-45654", "--clause", "GBT45654/5.1", "--json").out)
    assert len(shown["clauses"]) == 9
    assert "许可" in guiju("standards", "show", "gbt-45654", "--language", "zh").out


def test_corpus_show_explains_a_document(guiju, tiny_run):
    _, run = tiny_run
    answer = guiju("corpus", "show", run, "stories-1")
    assert answer.code == 0
    assert "stories-1" in answer.out
    assert json.loads(guiju("corpus", "show", run, "stories-1", "--json").out)["decision"]["id"] == "stories-1"
    assert guiju("corpus", "show", run, "stories-99999").code == 2


def test_a_second_run_says_that_all_is_up_to_date(guiju, tiny_run):
    recipe, run = tiny_run
    answer = guiju("run", recipe, "--out", run)
    assert answer.code == 0
    assert "up to date" in answer.out
    assert json.loads(guiju("run", recipe, "--out", run, "--json").out)["done"] == []
    states = json.loads(guiju("run", recipe, "--out", run, "--dry-run", "--json").out)
    assert {state["status"] for state in states} == {"up to date"}


def test_peoples_verdicts_go_on_record_and_the_audit_is_made_anew(guiju, copied_run, tmp_path):
    recipe, run = copied_run
    drawn = [json.loads(line) for line in (run / "corpus" / "inspection.jsonl").read_text().splitlines()]
    ids = [item["id"] for item in drawn if "people" in item["drawn_for"]]
    given = [
        {"id": one, "verdict": "qualified" if number else "not-qualified", "by": "Li"} for number, one in enumerate(ids)
    ]
    file = tmp_path / "verdicts.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in given[:-1]))
    refused = guiju("corpus", "judge", run, file)
    assert refused.code == 2
    assert "no verdict yet" in refused.err
    file.write_text("".join(json.dumps(line) + "\n" for line in given))
    body = json.loads(guiju("corpus", "judge", run, file, "--json").out)
    assert (body["count"], body["n"]) == (len(ids) - 1, len(ids))
    assert guiju("verify", run).code == 0
    assert json.loads(guiju("run", recipe, "--out", run, "--json").out)["done"] == ["audit", "report"]
    found = json.loads((run / "audit" / "findings.json").read_text())["findings"]
    [sample] = [finding for finding in found if finding["clause"] == "GBT45654/B/training-data-manual-sample"]
    assert (sample["n"], sample["verdict"] in ("fail", "needs-person", "inconclusive")) == (len(ids), True)
    assert guiju("verify", run).code == 0
