"""A recipe's stages: done once, redone only where something changed, whole after any cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guiju.errors import ConfigError
from guiju.evidence import Kind, read_entries, read_manifest, verify_run
from guiju.pipeline import STAGES, plan_states, read_recipe, run_recipe
from guiju.settings import load_yaml
from guiju.storage import sha256_file

NAMES = [stage.name for stage in STAGES]


def test_a_run_holds_what_it_claims(tiny_run):
    _, run = tiny_run
    result = verify_run(run)
    assert result.ok, result.problems
    kinds = {entry.kind for entry in read_entries(run)}
    assert kinds >= {
        Kind.RUN_CREATED,
        Kind.STAGE_STARTED,
        Kind.STAGE_FINISHED,
        Kind.SOURCE_REGISTERED,
        Kind.SAMPLE_DRAWN,
        Kind.MEASUREMENT,
        Kind.PLAN,
        Kind.TRAINING_EVENT,
        Kind.CHECKPOINT,
        Kind.COST,
        Kind.GENERATION,
        Kind.FINDING,
        Kind.RUN_FINISHED,
    }
    spoken = [entry.body for entry in read_entries(run) if entry.kind == Kind.GENERATION]
    assert [(body["prompt"], len(body["sequences"])) for body in spoken] == [("Once upon a time", 2), ("春风", 2)]
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "Once upon a time" in report
    assert "GBT45654/5.1/trace-open-source" in report


def test_both_verifiers_agree_on_a_run_and_on_any_changed_file(copied_run):
    _, run = copied_run
    standalone = [sys.executable, "-S", "-E", str(Path(__file__).parents[2] / "verify.py"), str(run)]
    assert subprocess.run(standalone, capture_output=True).returncode == 0
    for path in read_manifest(run):
        content = (run / path).read_bytes()
        at = len(content) // 2
        (run / path).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] if content else b"x")
        result = verify_run(run)
        assert path in {problem.file for problem in result.problems}, path
        assert any(problem.entry is not None for problem in result.problems if problem.file == path), path
        ended = subprocess.run(standalone, capture_output=True, text=True)
        assert ended.returncode == 1, path
        assert path in ended.stdout, path
        (run / path).write_bytes(content)
    assert verify_run(run).ok


def test_a_second_run_does_nothing(tiny_run, steps):
    recipe, run = tiny_run
    before = (run / "ledger" / "entries.jsonl").read_bytes()
    summary = run_recipe(recipe, reporter=steps, out=run)
    assert summary.done == []
    assert [status for _, status, _ in steps.stages] == ["up to date"] * len(NAMES)
    assert (run / "ledger" / "entries.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("override", "redone"),
    [
        ("generation.sampling.temperature=0.7", ["generate", "audit", "report"]),
        ("audit.standard=tc260-003", ["audit", "report"]),
        ("cost.price_per_hour=2.5", ["plan", "report"]),
        ("training.learning_rate=0.002", ["plan", "pretrain", "evaluate", "generate", "audit", "report"]),
        ("tokenizer.vocab_size=420", NAMES[1:]),
        ("corpus.split.seed=9", NAMES),
        ("corpus.processes=1", []),
    ],
)
def test_a_changed_setting_redoes_its_stage_and_what_depends_on_it(copied_run, steps, override, redone):
    recipe, run = copied_run
    foretold = [
        state.stage.name for state in plan_states(recipe, overrides=[override], out=run) if state.status == "to do"
    ]
    summary = run_recipe(recipe, reporter=steps, overrides=[override], out=run)
    assert summary.done == redone == foretold
    why = {name: why for name, status, why in steps.stages if status == "to do"}
    if redone:
        assert (
            override.partition("=")[0].partition(".")[2].split("=")[0] in why[redone[0]] or "changed" in why[redone[0]]
        )
    assert verify_run(run).ok


def test_a_stage_whose_file_was_changed_from_outside_is_redone(copied_run, steps):
    recipe, run = copied_run
    (run / "tasks" / "generation.json").write_text("[]")
    assert not verify_run(run).ok
    assert "generate" in run_recipe(recipe, reporter=steps, out=run).done
    assert verify_run(run).ok


def test_a_changed_source_file_redoes_the_corpus(tiny, write_recipe, steps, tmp_path):
    text = tmp_path / "own.txt"
    text.write_text(
        "\n\n".join(f"The {n}th hen laid an egg in the warm barn, and a fox saw it all." for n in range(60))
    )
    tiny["corpus"]["sources"][0] |= {"path": str(text), "split_on": "blank-lines"}
    tiny["corpus"]["duplicates"] = {"threshold": 1.0}
    recipe, run = write_recipe(tiny), tmp_path / "run"
    run_recipe(recipe, reporter=steps, out=run, only="corpus")
    text.write_text(text.read_text() + "\n\nAnother morning came, and the old dog slept behind the stove until noon.")
    assert run_recipe(recipe, reporter=steps, out=run, only="corpus").done == ["corpus"]
    assert run_recipe(recipe, reporter=steps, out=run, only="corpus").done == []


def test_only_one_stage_needs_those_before_it(tiny, write_recipe, steps, tmp_path):
    recipe = write_recipe(tiny)
    with pytest.raises(ConfigError, match="it needs corpus, which is not up to date"):
        run_recipe(recipe, reporter=steps, out=tmp_path / "run", only="tokenizer")
    with pytest.raises(ConfigError, match="there is no such stage; the stages are corpus"):
        run_recipe(recipe, reporter=steps, out=tmp_path / "other", only="sing")
    assert not (tmp_path / "other").exists()


def test_a_dry_run_writes_nothing(tiny, write_recipe, tmp_path):
    states = plan_states(write_recipe(tiny), out=tmp_path / "run")
    assert [state.stage.name for state in states] == NAMES
    assert not (tmp_path / "run").exists()


def test_the_runs_own_recipe_repeats_it(tiny_run):
    recipe, run = tiny_run
    resolved = load_yaml(run / "recipe.yaml")
    assert resolved["training"]["weight_decay"] == 0.1  # every default is written out
    assert read_recipe(run / "recipe.yaml").root.resolve() == read_recipe(recipe).root.resolve()
    assert all(state.status == "up to date" for state in plan_states(run / "recipe.yaml", out=run))


CHILD = """
import sys
from pathlib import Path
from guiju.cli import main
sys.argv = ["guiju", "run", sys.argv[1], "--out", sys.argv[2]]
main()
"""


def child(recipe: Path, run: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, recipe, run], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_run_that_was_killed_goes_on_to_the_same_weights(tiny_run, tmp_path):
    recipe, undisturbed = tiny_run
    run = tmp_path / "run"
    kills = 0
    # Killed once in the corpus, once among the tokens, twice in training: whatever stands then is whole.
    for landmark in [
        "ledger/entries.jsonl",
        "tokenizer/tokenizer.json",
        "checkpoints/step-00000004",
        "checkpoints/step-00000008",
    ]:
        process = child(recipe, run)
        limit = time.monotonic() + 60
        while not (run / landmark).exists() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
        assert [entry.index for entry in read_entries(run)] == list(range(len(list(read_entries(run)))))
    process = child(recipe, run)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert kills >= 3
    for path in ("model/model.safetensors", "tokenizer/tokenizer.json", "corpus/train.jsonl", "tasks/generation.json"):
        assert sha256_file(run / path) == sha256_file(undisturbed / path), path
    assert verify_run(run).ok


CUT = """
import os, signal
from guiju.training import checkpoints
real = checkpoints.remove_old
def remove_old(*arguments):
    gone = real(*arguments)
    if gone: os.kill(os.getpid(), signal.SIGKILL)
    return gone
checkpoints.remove_old = remove_old
"""


def test_a_kill_between_a_removal_and_its_record_leaves_a_run_that_verifies_in_the_end(tiny, write_recipe, tmp_path):
    tiny["training"] |= {"keep": 1}
    recipe, run = write_recipe(tiny), tmp_path / "run"
    cut = subprocess.run([sys.executable, "-c", CUT + CHILD, recipe, run], capture_output=True, text=True)
    assert cut.returncode == -signal.SIGKILL, cut.stderr
    assert not verify_run(run).ok
    process = child(recipe, run)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert verify_run(run).ok, verify_run(run).problems


def test_a_file_that_the_ledger_names_and_the_run_lacks_makes_its_stage_anew(copied_run, steps):
    recipe, run = copied_run
    (run / "checkpoints" / "timing.jsonl").unlink()
    assert "pretrain" in run_recipe(recipe, reporter=steps, out=run).done
    assert verify_run(run).ok


def test_sigterm_in_training_leaves_a_checkpoint_and_says_how_to_go_on(tiny, write_recipe, tmp_path):
    tiny["training"] |= {"steps": 4000, "checkpoint_every": 2000, "evaluate_every": 0}
    recipe, run = write_recipe(tiny), tmp_path / "run"
    process = child(recipe, run)
    limit = time.monotonic() + 90
    log = run / "checkpoints" / "train_log.jsonl"
    while not log.exists() and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143, errors
    assert "Run the same command again" in errors
    assert "Traceback" not in errors
    saved = [entry for entry in read_entries(run) if entry.kind == Kind.CHECKPOINT]
    assert saved
    assert (run / "checkpoints" / saved[-1].body["folder"] / "manifest.json").is_file()


def test_what_a_report_of_bits_per_byte_rests_on_is_on_record(tiny_run):
    _, run = tiny_run
    [measured] = [
        entry.body for entry in read_entries(run)
        if entry.kind == Kind.MEASUREMENT and entry.body["measure"] == "bits_per_byte"
    ]  # fmt: skip
    kept = json.loads((run / "tasks" / "bits-per-byte.json").read_text())
    assert measured["details"] == kept
    assert measured["value"] == kept["model"] < kept["untrained"]
