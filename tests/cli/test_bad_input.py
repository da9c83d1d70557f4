"""Whatever a user gets wrong: one clear message, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from guiju.evidence import verify_run


def refused(answer, *words: str) -> None:
    assert answer.code == 2, answer
    assert answer.out == ""
    assert "Traceback" not in answer.err
    message = answer.err.strip().splitlines()[-1]
    assert message.startswith("guiju: ")
    for word in words:
        assert word in message, message


def test_an_unknown_key(guiju, tiny, write_recipe, tmp_path):
    tiny["training"]["learning_rat"] = 0.1
    refused(guiju("run", write_recipe(tiny), "--out", tmp_path / "run"), "training.learning_rat", "learning_rate")
    assert not (tmp_path / "run").exists()


def test_a_missing_recipe_and_a_missing_source(guiju, tiny, write_recipe, tmp_path):
    refused(guiju("run", tmp_path / "none.yaml"), "none.yaml", "does not exist")
    tiny["corpus"]["sources"][0]["path"] = "nowhere.txt"
    refused(guiju("run", write_recipe(tiny), "--out", tmp_path / "run"), "stories", "nowhere.txt")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("field", ["licence", "origin", "language", "date"])
def test_a_source_that_does_not_state_its_provenance(guiju, tiny, write_recipe, tmp_path, field):
    del tiny["corpus"]["sources"][0][field]
    refused(guiju("run", write_recipe(tiny), "--out", tmp_path / "run"), "stories", field, "accept_without")
    assert not (tmp_path / "run").exists()
    tiny["corpus"]["sources"][0]["accept_without"] = "a test accepts it"
    if field != "language":
        assert guiju("run", write_recipe(tiny), "--out", tmp_path / "run", "--only", "corpus").code == 0


def test_a_file_that_is_not_utf8(guiju, tiny, write_recipe, tmp_path):
    text = "从前有一座山，山里有一座庙，庙里有一个老和尚在讲故事。" * 20
    (tmp_path / "gb.txt").write_bytes(text.encode("gb18030"))
    tiny["corpus"]["sources"][1] = tiny["corpus"]["sources"][1] | {"path": str(tmp_path / "gb.txt")}
    del tiny["corpus"]["sources"][1]["text_fields"]
    refused(guiju("run", write_recipe(tiny), "--out", tmp_path / "run"), "gb.txt", "encoding")
    assert not (tmp_path / "run" / "corpus").exists()
    tiny["corpus"]["sources"][1]["encoding"] = "gb18030"
    assert guiju("run", write_recipe(tiny), "--out", tmp_path / "run", "--only", "corpus").code == 0


def test_an_empty_corpus(guiju, tiny, write_recipe, tmp_path):
    (tmp_path / "short.txt").write_text("Hi.")
    tiny["corpus"]["sources"] = [tiny["corpus"]["sources"][0] | {"path": str(tmp_path / "short.txt")}]
    refused(guiju("run", write_recipe(tiny), "--out", tmp_path / "run"), "too-short")
    assert not (tmp_path / "run" / "corpus").exists()


def test_a_vocabulary_larger_than_the_text_can_carry(guiju, tiny, write_recipe, tmp_path):
    tiny["tokenizer"]["vocab_size"] = 500_000
    refused(guiju("run", write_recipe(tiny), "--out", tmp_path / "run"), "vocab_size", "500")
    assert not (tmp_path / "run" / "tokenizer").exists()


def test_a_context_longer_than_the_model(guiju, tiny, tiny_run, write_recipe, tmp_path):
    _, run = tiny_run
    refused(guiju("generate", "--model", run, "--prompt", "a fox and a hen " * 60), "context", "64")
    refused(guiju("generate", "--model", run, "--max-new-tokens", 5000), "context", "64")
    tiny["generation"]["sampling"]["max_new_tokens"] = 500
    refused(guiju("run", write_recipe(tiny), "--out", tmp_path / "run"), "max_new_tokens", "64")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk(guiju, tiny, write_recipe, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        refused(guiju("run", write_recipe(tiny), "--out", disk / "run"), "free", "--out")
        assert not (disk / "run" / "corpus").exists()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_disk_that_fills_while_a_file_is_written(tiny, write_recipe, tmp_path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (120_000, 120_000))

    code = "import sys; from guiju.cli import main; sys.argv = ['guiju', *sys.argv[1:]]; main()"
    tiny["training"]["steps"] = 3
    tiny["corpus"]["cleaning"] = {"detect_language": False}  # the detector unpacks a large file of its own first
    command = [sys.executable, "-c", code, "run", write_recipe(tiny), "--out", tmp_path / "run"]
    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "could not be written" in ended.stderr
    assert not list((tmp_path / "run").rglob(".*partial*"))
    whole = subprocess.run(command, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    assert verify_run(tmp_path / "run").ok


def test_damaged_checkpoints(guiju, tiny, write_recipe, tmp_path):
    tiny["training"] |= {"steps": 3000, "checkpoint_every": 5, "evaluate_every": 0}
    recipe, run = write_recipe(tiny), tmp_path / "run"
    code = "import sys; from guiju.cli import main; sys.argv = ['guiju', *sys.argv[1:]]; main()"
    command = [sys.executable, "-c", code, "run", recipe, "--out", run]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 90
    while not (run / "checkpoints" / "step-00000010").exists() and process.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143, errors
    for weights in (run / "checkpoints").glob("step-*/model.safetensors"):
        content = bytearray(weights.read_bytes())
        content[len(content) // 2] ^= 1
        weights.write_bytes(content)
    refused(guiju("run", recipe, "--out", run), "checkpoints", "damaged")


def test_a_run_folder_of_another_version(guiju, tiny_run, copied_run):
    recipe, run = copied_run
    entries = run / "ledger" / "entries.jsonl"
    lines = entries.read_bytes().splitlines(keepends=True)
    first = json.loads(lines[0])
    first["body"]["format"] = 99
    encoded = json.dumps(first, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    entries.write_bytes(b"".join([encoded + b"\n", *lines[1:]]))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    refused(guiju("run", recipe, "--out", run), "99")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_folder_that_is_no_run(guiju, tiny_run, tmp_path):
    recipe, _ = tiny_run
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    refused(guiju("run", recipe, "--out", tmp_path / "mine"), "mine", "--out")
    refused(guiju("verify", tmp_path / "nowhere"), "nowhere")
    refused(guiju("generate", "--model", tmp_path / "mine"), "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["diary.txt"]


def test_what_can_be_known_beforehand_is_said_before_an_hour_is_spent(guiju, tiny, write_recipe, tmp_path):
    recipe = write_recipe(tiny)
    refused(guiju("run", recipe, "--out", tmp_path / "run", "--set", "audit.standard=gbt-1"), "gbt-1")
    refused(guiju("run", recipe, "--out", tmp_path / "run", "--set", "cost.grid=XX"), "XX")
    refused(guiju("run", recipe, "--out", tmp_path / "run", "--set", f"training.steps={10**25}"), "training.steps")
    refused(guiju("run", recipe, "--out", recipe), "--out")
    refused(guiju("run", tmp_path), "folder")
    refused(guiju("run", recipe, "--dry-run", "--only", "sing"), "sing")
    refused(guiju("plan", recipe, "--count", "64"), "--count")
    refused(guiju("plan", "--params", 1, "--tokens", 1, "--device", "a100", "--set", "a=1"), "--set")
    assert not (tmp_path / "run").exists()


def test_an_empty_text_is_named_before_any_line_is_printed(guiju, tiny_run, tmp_path):
    _, run = tiny_run
    lines = [{"id": "a", "text": "One day"}, {"id": "b", "text": ""}]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    refused(guiju("score", "--model", run, "--file", tmp_path / "texts.jsonl", "--json"), "text 2", "'b'")


@pytest.mark.parametrize(
    ("flag", "value", "word"),
    [
        ("--temperature", "nan", "temperature"),
        ("--temperature", "-1", "temperature"),
        ("--top-p", "2", "top_p"),
        ("--num-return-sequences", "0", "num_return_sequences"),
        ("--max-new-tokens", "0", "max_new_tokens"),
    ],
)
def test_sampling_that_cannot_be(guiju, tiny_run, flag, value, word):
    _, run = tiny_run
    refused(guiju("generate", "--model", run, "--prompt", "a", flag, value), word)


def test_a_truncated_llama2c_file(guiju, tmp_path):
    source = Path(__file__).parents[2] / "examples" / "data" / "stories260K"
    shutil.copy(source / "tok512.bin", tmp_path)
    (tmp_path / "m.bin").write_bytes((source / "stories260K.bin").read_bytes()[:-100])
    refused(guiju("generate", "--model", tmp_path / "m.bin"), "m.bin")
