"""Fine-tunings from recipe to report: every objective and format, done once, whole after a cut."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

sys.path.insert(0, str(Path(__file__).parent))

from tuning_worlds import make_base, recipe, rows, write_rows

import guiju
from guiju.errors import ConfigError, DataError
from guiju.evidence import Kind, read_entries, verify_run
from guiju.model import load_model
from guiju.pipeline import plan_finetune, read_finetune_recipe, run_finetune
from guiju.settings import load_yaml
from guiju.storage import sha256_file

STAGES = ["data", "base", "examples", "finetune", "evaluate", "report"]
WAYS = {
    # objective     format               base's shape
    "answers": ("messages", "llama"),
    "answers-plain": ("prompt-completion", "llama"),
    "answers-pairs": ("source-target", "llama"),
    "next-token": ("prompt-completion", "llama"),
    "preferences": ("preferences", "llama"),
    "classes": ("text-label", "bert"),
    "classes-last": ("text-label", "llama"),
    "extractive": ("squad", "bert"),
    "pairs": ("source-target", "transformer"),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """By shape: a folder with a model, made once."""
    made: dict[str, Path] = {}

    def get(shape: str) -> Path:
        if shape not in made:
            made[shape] = make_base(tmp_path_factory.mktemp(shape) / "base", shape)
        return made[shape]

    return get


@pytest.fixture(scope="module")
def chat_run(bases, tmp_path_factory, steps_of) -> tuple[Path, Path]:
    """(recipe, run) of a model that learned from conversations; whoever changes it takes a copy."""
    place = tmp_path_factory.mktemp("chat")
    data = write_rows(place / "chats.jsonl", rows("messages"))
    held = write_rows(place / "held.jsonl", rows("messages", 8, seed=1))
    file = recipe(place, "answers", data, base=str(bases("llama")), data={"evaluation": str(held)})
    run_finetune(file, reporter=steps_of(), out=place / "run")
    return file, place / "run"


@pytest.fixture(scope="session")
def steps_of():
    class Silent:
        def __init__(self) -> None:
            self.stages: list[tuple[str, str, str]] = []
            self.notes: list[str] = []

        def stage(self, name: str, status: str, why: str) -> None:
            self.stages.append((name, status, why))

        def progress(self, done: int, total: int, label: str) -> None: ...

        def finished(self, name: str, seconds: float, line: str) -> None: ...

        def note(self, text: str) -> None:
            self.notes.append(text)

    return Silent


def bodies(run: Path, kind: Kind) -> list[dict]:
    return [entry.body for entry in read_entries(run) if entry.kind == kind]


@pytest.fixture
def copied(chat_run, tmp_path, monkeypatch) -> tuple[Path, Path]:
    file, run = chat_run
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(os.environ["GUIJU_HOME"], tmp_path / "home")
    monkeypatch.setenv("GUIJU_HOME", str(tmp_path / "home"))
    return file, tmp_path / "run"


# -- every way --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_every_objective_learns_from_its_format_and_leaves_a_run_that_verifies(way, bases, tmp_path, steps):
    format, shape = WAYS[way]
    data = write_rows(tmp_path / "rows.jsonl", rows(format))
    objective = way if way == "next-token" else way.partition("-")[0]
    file = recipe(tmp_path, objective, data, base=str(bases(shape)), data={"format": format})
    summary = run_finetune(file, reporter=steps, out=tmp_path / "run")
    assert summary.done == STAGES
    result = verify_run(tmp_path / "run")
    assert result.ok, result.problems
    held = json.loads((tmp_path / "run" / "tasks" / "held-out.json").read_text())
    assert held["loss"]["after"] < held["loss"]["before"], held
    assert {event["event"] for event in bodies(tmp_path / "run", Kind.TRAINING_EVENT)} >= {"started", "evaluation"}
    mask = (tmp_path / "run" / "examples" / "mask.html").read_text()
    assert 'class="token token-learned"' in mask
    assert ('class="token token-read"' in mask) == (way != "next-token")
    assert ('class="token token-rejected"' in mask) == (way == "preferences")
    assert "How it learned" in (tmp_path / "run" / "report.html").read_text()
    again = run_finetune(file, reporter=steps, out=tmp_path / "run")
    assert again.done == []


def test_a_new_model_learns_labels_from_scratch_out_of_csv_and_parquet(tmp_path, steps):
    pyarrow = pytest.importorskip("pyarrow", reason="needs pip install 'guiju[parquet]'")
    from pyarrow import parquet

    made = rows("text-label", 120)
    with (tmp_path / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["label", "text"])
        writer.writeheader()
        writer.writerows(made[:100])
    parquet.write_table(pyarrow.Table.from_pylist(made[100:]), tmp_path / "held.parquet")
    file = recipe(
        tmp_path, "classes", tmp_path / "train.csv",
        data={"validation": str(tmp_path / "held.parquet")}, class_weights="balanced",
        model={"shape": "bert", "width": 32, "layers": 1, "heads": 2, "context": 32},
        tokenizer={"kind": "wordpiece", "vocab_size": 170},
        training={"steps": 200, "batch": 16, "learning_rate": 1.0e-2},
    )  # fmt: skip
    run_finetune(file, reporter=steps, out=tmp_path / "run")
    held = json.loads((tmp_path / "run" / "tasks" / "held-out.json").read_text())
    assert held["accuracy"]["after"] >= 0.9 > held["accuracy"]["before"]
    folder = tmp_path / "run" / "model"
    theirs = AutoModelForSequenceClassification.from_pretrained(folder)
    assert [theirs.config.id2label[number] for number in range(4)] == ["cold", "dark", "fresh", "warm"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    right = 0
    for row in made[100:]:
        with torch.no_grad():
            found = theirs(**tokenizer(row["text"], return_tensors="pt")).logits.argmax().item()
        right += theirs.config.id2label[found] == row["label"]
    assert right / 20 == held["accuracy"]["after"]


@pytest.mark.parametrize(
    ("task", "objective", "format", "shape", "metric"),
    [
        ("sentiment", "classes", "text-label", "bert", "accuracy"),
        ("translation", "pairs", "source-target", "transformer", "chrf++"),
        ("translation", "answers", "source-target", "llama", "chrf++"),
    ],
)
def test_the_task_of_a_recipe_measures_the_tuned_model_and_keeps_every_sample(
    task, objective, format, shape, metric, bases, tmp_path, steps
):
    pytest.importorskip("sacrebleu", reason="needs pip install 'guiju[eval]'")
    data = write_rows(tmp_path / "rows.jsonl", rows(format))
    held = write_rows(tmp_path / "held.jsonl", rows(format, 10, seed=1))
    file = recipe(
        tmp_path, objective, data, base=str(bases(shape)), data={"format": format, "evaluation": str(held)},
        task={"name": task, "settings": {"new_tokens": 4, "language": "en"}},
    )  # fmt: skip
    summary = run_finetune(file, reporter=steps, out=tmp_path / "run")
    assert summary.done == [*STAGES[:5], "task", "report"]
    figures = summary.built["task"]["metrics"][metric]
    assert figures["low"] <= figures["value"] <= figures["high"]
    samples = (tmp_path / "run" / "tasks" / task / "samples.jsonl").read_text().splitlines()
    assert len(samples) == summary.built["task"]["n"] == 10
    [measured] = [b for b in bodies(tmp_path / "run", Kind.MEASUREMENT) if b["measure"] == f"{task}.{metric}"]
    assert measured["value"] == figures["value"]
    assert metric in (tmp_path / "run" / "report.html").read_text()
    assert verify_run(tmp_path / "run").ok
    assert run_finetune(file, reporter=steps, out=tmp_path / "run").done == []


def test_preferences_are_written_by_a_chat_template_that_the_recipe_names(bases, tmp_path, steps):
    made = rows("preferences", 20)
    data = write_rows(tmp_path / "rows.jsonl", made)
    file = recipe(tmp_path, "preferences", data, base=str(bases("llama")), template="plain", data={"validation": 0.0})
    run_finetune(file, reporter=steps, out=tmp_path / "run", only="data")
    run_finetune(file, reporter=steps, out=tmp_path / "run", only="base")
    run_finetune(file, reporter=steps, out=tmp_path / "run", only="examples")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "tokenizer")
    kept = [json.loads(line) for line in (tmp_path / "run" / "examples" / "train.jsonl").read_text().splitlines()]
    assert len(kept) == 20
    for row, one in zip(made, kept, strict=True):
        asked = [{"role": "user", "content": row["prompt"]}]
        assert one["prompt"] == tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        for side in ("chosen", "rejected"):
            assert tokenizer.decode(one[side]) == row[side] + "<|endoftext|>"


@pytest.mark.parametrize("shape", ["bert", "llama"])
def test_labels_are_read_in_the_task_as_they_were_learned(shape, bases, tmp_path, steps):
    data = write_rows(tmp_path / "rows.jsonl", rows("text-label", 60))
    held = write_rows(tmp_path / "held.jsonl", rows("text-label", 30, seed=1))
    file = recipe(
        tmp_path, "classes", data, base=str(bases(shape)), data={"validation": str(held)},
        task={"name": "sentiment"}, training={"steps": 40},
    )  # fmt: skip
    built = run_finetune(file, reporter=steps, out=tmp_path / "run").built
    assert built["evaluate"]["accuracy"]["after"] == pytest.approx(built["task"]["metrics"]["accuracy"]["value"])


def test_answers_in_texts_are_found_in_the_task_as_they_were_learned(bases, tmp_path, steps):
    data = write_rows(tmp_path / "rows.jsonl", rows("squad", 120))
    held = write_rows(tmp_path / "held.jsonl", rows("squad", 20, seed=1))
    file = recipe(
        tmp_path, "extractive", data, base=str(bases("bert")), data={"validation": str(held)},
        task={"name": "question-answering"}, training={"steps": 60, "batch": 16},
    )  # fmt: skip
    built = run_finetune(file, reporter=steps, out=tmp_path / "run").built
    assert built["task"]["metrics"]["exact_match"]["value"] >= built["evaluate"]["accuracy"]["after"] > 0.2


def test_pairs_come_out_of_two_files_aligned_line_by_line(bases, tmp_path, steps):
    for name, made in (("train", rows("source-target")), ("test", rows("source-target", 6, seed=1))):
        for side, field in (("en", "source"), ("de", "target")):
            (tmp_path / f"{name}.{side}").write_text("".join(f"{row[field]}\n" for row in made))
    file = recipe(
        tmp_path, "pairs", "train.en,train.de", base=str(bases("transformer")),
        data={"evaluation": ["test.en,test.de"]}, task={"name": "translation", "settings": {"new_tokens": 3}},
    )  # fmt: skip
    summary = run_finetune(file, reporter=steps, out=tmp_path / "run")
    assert summary.built["data"]["evaluation"] == {"test.en,test.de": 6}
    assert summary.built["task"]["n"] == 6
    assert run_finetune(file, reporter=steps, out=tmp_path / "run").done == []


# -- what comes out ---------------------------------------------------------------------------------------------


def test_the_model_is_a_folder_that_transformers_chats_with(chat_run):
    _, run = chat_run
    ours = load_model(run / "model")
    theirs = AutoModelForCausalLM.from_pretrained(run / "model")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    shown = json.loads((run / "examples" / "train.jsonl").read_text().splitlines()[0])
    [record] = [
        line["messages"] for line in map(json.loads, (run / "data" / "train.jsonl").read_text().splitlines())
        if line["place"] == shown["place"]
    ]  # fmt: skip
    found = tokenizer.apply_chat_template(record, return_dict=True, return_assistant_tokens_mask=True)
    assert found["input_ids"] == shown["ids"]
    assert "".join(map(str, found["assistant_masks"])) == shown["learned"]
    ids = torch.tensor([shown["ids"]])
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-5)
    assert guiju.load(str(run)).generate("Room", max_new_tokens=3, greedy=True)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # in peft
@pytest.mark.parametrize(("precision", "layers"), [("float32", "all"), ("int8", "all"), ("int4", "to_query")])
def test_an_adapter_opens_in_peft_beside_its_base_and_is_the_merged_model(precision, layers, bases, tmp_path, steps):
    data = write_rows(tmp_path / "rows.jsonl", rows("prompt-completion"))
    base = bases("llama")
    file = recipe(
        tmp_path, "answers", data, base=str(base), data={"format": "prompt-completion"},
        lora={"rank": 4, "layers": [layers]}, base_precision=precision, training={"learning_rate": 1.0e-2},
    )  # fmt: skip
    run_finetune(file, reporter=steps, out=tmp_path / "run")
    merged = load_model(tmp_path / "run" / "model")
    ids = torch.arange(5, 25).view(1, 20)
    untouched = load_model(base)
    with torch.no_grad():
        assert (merged(ids) - untouched(ids)).abs().max() > 1e-3
        if precision == "float32":
            theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "run" / "adapter")
            torch.testing.assert_close(merged(ids), theirs(ids).logits, rtol=0, atol=1e-5)
    [summary] = [
        body["summary"] for body in bodies(tmp_path / "run", Kind.STAGE_FINISHED) if body["stage"] == "finetune"
    ]
    assert summary["trainable"] < summary["parameters"] / 4
    report = (tmp_path / "run" / "report.html").read_text()
    assert "rank 4" in report
    assert (precision in report) == (precision != "float32")


def test_spans_open_in_transformers_and_find_the_answer(bases, tmp_path, steps):
    data = write_rows(tmp_path / "rows.jsonl", rows("squad", 120))
    file = recipe(
        tmp_path, "extractive", data, base=str(bases("bert")), training={"steps": 80, "batch": 16}, stride=8
    )  # fmt: skip
    run_finetune(file, reporter=steps, out=tmp_path / "run")
    held = json.loads((tmp_path / "run" / "tasks" / "held-out.json").read_text())
    assert held["accuracy"]["after"] > 0.9
    model = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "run" / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    row = rows("squad", 1, seed=2)[0]
    given = tokenizer(row["question"], row["context"], return_tensors="pt")
    with torch.no_grad():
        found = model(**given)
    first, last = found.start_logits.argmax(), found.end_logits.argmax()
    assert tokenizer.decode(given["input_ids"][0, first : last + 1]) == row["answers"]["text"][0]


# -- the mask one can see ---------------------------------------------------------------------------------------


def test_the_mask_is_shown_before_any_step(chat_run, tmp_path, steps):
    file, _ = chat_run
    seen = []

    def show(shown):
        assert not (tmp_path / "run" / "checkpoints").exists()
        assert (tmp_path / "run" / "examples" / "mask.html").is_file()
        seen.extend(shown)

    run_finetune(file, reporter=steps, out=tmp_path / "run", examples=2, show=show)
    assert len(seen) == 2
    for row in seen:
        learned = "".join(token.text for token in row.tokens if token.part == "learned")
        assert learned.startswith("It feels ") and learned.endswith(".<|endoftext|>")
        read = "".join(token.text for token in row.tokens if token.part == "read")
        assert "What is in room" in read and "It feels" not in read


def test_the_command_line_shows_the_mask_in_brackets_and_its_summary_as_json(chat_run, guiju, tmp_path):
    file, run = chat_run
    answer = guiju("finetune", file, "--out", tmp_path / "run", "--show-examples", 3, "--only", "data")
    assert answer.code == 0, answer.err
    shown = guiju("finetune", file, "--out", run, "--show-examples", 3)
    assert shown.code == 0, shown.err
    assert shown.out.count("⟦It| feels|") == 3
    assert "|<|endoftext|>⟧" in shown.out
    told = guiju("finetune", file, "--out", run, "--show-examples", 1, "--json")
    assert json.loads(told.out)["done"] == []
    assert told.err.count("⟦It| feels|") == 1
    planned = guiju("finetune", file, "--out", run, "--dry-run", "--json", "--set", "training.steps=13")
    assert [one["stage"] for one in json.loads(planned.out) if one["status"] == "to do"] == STAGES[3:]


def test_colours_say_the_same_as_brackets(monkeypatch, capsys):
    from guiju.cli.finetune import show
    from guiju.pipeline.finetuning import ShownRow, ShownToken

    tokens = (ShownToken("a?", "read"), ShownToken("yes", "learned"), ShownToken("\x1b[2J", "rejected"))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    show([ShownRow("here", tokens, 2, 3)], err=False)
    out = capsys.readouterr().out
    assert "\x1b[1;4;32myes" in out and "2 of 3 tokens learned" in out
    assert "\x1b[2J" not in out and "\\x1b[2J" in out  # what a row holds cannot steer the terminal
    monkeypatch.delenv("FORCE_COLOR")
    show([ShownRow("here", tokens, 2, 3)], err=False)
    assert "a?⟦yes⟧⟦✗ " in capsys.readouterr().out


# -- done once --------------------------------------------------------------------------------------------------


def test_a_second_run_does_nothing_and_the_runs_own_recipe_repeats_it(chat_run, steps):
    file, run = chat_run
    before = (run / "ledger" / "entries.jsonl").read_bytes()
    assert run_finetune(file, reporter=steps, out=run).done == []
    assert (run / "ledger" / "entries.jsonl").read_bytes() == before
    assert load_yaml(run / "recipe.yaml")["training"]["weight_decay"] == 0.1
    assert "guiju finetune recipe.yaml repeats it" in (run / "recipe.yaml").read_text()
    assert all(state.status == "up to date" for state in plan_finetune(run / "recipe.yaml", out=run))


@pytest.mark.parametrize(
    ("override", "redone"),
    [
        ("training.learning_rate=0.002", STAGES[3:]),
        ("template=plain", STAGES[1:]),
        ("data.limit=30", STAGES),
        ("lora={rank: 2}", STAGES[3:]),
    ],
)
def test_a_changed_setting_redoes_its_stage_and_what_depends_on_it(copied, override, redone):
    file, run = copied
    states = plan_finetune(file, overrides=[override], out=run)
    assert [state.stage.name for state in states if state.status == "to do"] == redone


def test_nothing_of_an_earlier_recipe_is_left_among_the_examples(copied, steps):
    file, run = copied
    run_finetune(file, reporter=steps, overrides=["data.validation=0.0", "template=plain"], out=run)
    assert not (run / "examples" / "validation.jsonl").exists()
    assert json.loads((run / "tasks" / "held-out.json").read_text()) == {"held_out": 0}
    assert (run / "data" / "validation.jsonl").read_text() == ""
    assert verify_run(run).ok


def test_a_changed_base_or_data_file_is_noticed(copied, bases, tmp_path):
    file, run = copied
    base = tmp_path / "base"
    shutil.copytree(bases("llama"), base)
    (base / "generation_config.json").write_text("{}")
    changed = [s.stage.name for s in plan_finetune(file, overrides=[f"base={base}"], out=run) if s.status == "to do"]
    assert changed == STAGES[1:]


CHILD = "import sys; from guiju.cli import main; sys.argv = ['guiju', 'finetune', *sys.argv[1:]]; main()"


def test_a_run_that_was_killed_goes_on_to_the_same_weights(chat_run, tmp_path, steps):
    file, _ = chat_run
    run = tmp_path / "run"
    command = [sys.executable, "-c", CHILD, str(file), "--out", str(run), "--set", "training.steps=60"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 60
    while not (run / "checkpoints" / "step-00000006").exists() and time.monotonic() < limit and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (run / "report.html").exists()
    for out in (run, tmp_path / "whole"):
        run_finetune(file, reporter=steps, overrides=["training.steps=60"], out=out)
    assert sha256_file(run / "model" / "model.safetensors") == sha256_file(tmp_path / "whole/model/model.safetensors")
    assert [b["event"] for b in bodies(run, Kind.TRAINING_EVENT)].count("resumed") == 1
    assert verify_run(run).ok


# -- what a person gets wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"model": {"shape": "llama"}}, "names a base .* and model for a new model too"),
        ({"lora": {"rank": 0}}, "lora.rank is 0"),
        ({"base_precision": "int8"}, "whose rounded weights cannot learn"),
        ({"objective": "classes"}, "of the kind decoder|data.format is messages"),
        ({"labels": ["a"]}, "labels are for the objective classes"),
        ({"data": {"format": "squad"}}, "cannot be learned: it takes messages or prompt-completion or source-target"),
        ({"data": {"long": "cut"}}, "data.long is cut"),
        ({"prompt": "Say {source}"}, "prompt is for answers to prompts"),
        ({"task": {"name": "singing"}}, "task.name is 'singing'"),
        ({"task": {"name": "sentiment"}}, "has no data to be measured on"),
        ({"template": "none.jinja"}, "template is 'none.jinja', but .* is no file"),
        ({"corpus": {}}, "has corpus, so it is a recipe for guiju run, and not for guiju finetune"),
        ({"bases": "x"}, "bases is not a setting; did you mean base"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_before_anything_is_done(more, message, bases, tmp_path, steps):
    data = write_rows(tmp_path / "rows.jsonl", rows("messages", 4))
    more = {"objective": "answers", "base": str(bases("llama")), **more}
    held = {"format": "messages", **more.pop("data", {})}
    file = recipe(tmp_path, more.pop("objective"), data, data=held, **more)
    with pytest.raises(ConfigError, match=message):
        run_finetune(file, reporter=steps, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_base_of_another_kind_and_a_missing_file_are_named(bases, tmp_path, steps):
    data = write_rows(tmp_path / "rows.jsonl", rows("source-target", 12))
    file = recipe(tmp_path, "pairs", data, base=str(bases("llama")))
    with pytest.raises(ConfigError, match="of the kind decoder, and cannot learn pairs"):
        run_finetune(file, reporter=steps, out=tmp_path / "run")
    with pytest.raises(DataError, match=r"none.jsonl is no file"):
        run_finetune(file, reporter=steps, overrides=["data.train=none.jsonl"], out=tmp_path / "other")


def test_rows_longer_than_the_context_are_left_out_refused_or_cut_as_the_recipe_says(bases, tmp_path, steps):
    made = [*rows("text-label", 20), {"text": "the lamp " * 100, "label": "warm"}]
    data = write_rows(tmp_path / "rows.jsonl", made)
    file = recipe(tmp_path, "classes", data, base=str(bases("bert")), data={"validation": 0.0})
    for way, expected in (("leave-out", (20, 1, 0)), ("cut", (21, 0, 1))):
        summary = run_finetune(file, reporter=steps, overrides=[f"data.long={way}"], out=tmp_path / way)
        train = summary.built["examples"]["train"]
        assert (train["rows"], train["left_out"], train["cut"]) == expected
    with pytest.raises(DataError, match=r"line 21 is \d+ tokens long, but the model reads 64"):
        run_finetune(file, reporter=steps, overrides=["data.long=refuse"], out=tmp_path / "refused")


def test_a_bad_row_is_named_by_file_and_line(bases, tmp_path, guiju):
    data = tmp_path / "rows.jsonl"
    write_rows(data, rows("messages", 3))
    data.write_text(data.read_text() + '{"messages": [{"role": "user"}]}\n')
    file = recipe(tmp_path, "answers", data, base=str(bases("llama")))
    answer = guiju("finetune", file, "--out", tmp_path / "run")
    assert answer.code == 2
    assert "rows.jsonl, line 4" in answer.err and "Traceback" not in answer.err


def test_paths_may_begin_with_the_folder_of_measured_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("GUIJU_DATA", str(tmp_path))
    file = recipe(tmp_path, "answers", "$GUIJU_DATA/rows.jsonl")
    assert read_finetune_recipe(file).place(read_finetune_recipe(file).data.train) == str(tmp_path / "rows.jsonl")
