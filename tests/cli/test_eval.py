"""guiju eval and the five verbs as people and scripts call them: what they print, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sacrebleu", reason="needs pip install 'guiju[eval]'")

DATA = Path(__file__).parents[2] / "examples" / "data"
STORIES = DATA / "stories260K" / "stories260K.bin"


@pytest.fixture
def answers(tmp_path):
    """Two sets of answers to the same three questions, one better than the other, and their data."""
    data = tmp_path / "data.jsonl"
    rows = [{"source": f"line {n} here", "target": f"Zeile {n} hier"} for n in range(3)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, text in (("good", "Zeile {} hier"), ("bad", "Satz {} dort")):
        lines = [json.dumps({"id": n, "prediction": text.format(n)}) for n in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_answers_made_elsewhere_print_task_n_and_metrics_with_their_intervals(guiju, answers):
    told = guiju(
        "eval",
        "--predictions",
        answers / "good.jsonl",
        "--task",
        "translation",
        "--data",
        answers / "data.jsonl",
        "--json",
    )
    assert told.code == 0
    found = json.loads(told.out)
    assert (found["task"], found["n"]) == ("translation", 3)
    assert found["metrics"]["bleu"].keys() == {"value", "low", "high", "n"}
    assert found["metrics"]["chrf++"]["value"] == pytest.approx(100)
    shown = guiju(
        "eval", "--predictions", answers / "good.jsonl", "--task", "translation", "--data", answers / "data.jsonl"
    )
    assert "chrf++" in shown.out
    assert "signature" not in shown.out
    assert "nrefs:1|case:mixed" in shown.out


def test_two_evaluations_are_compared_by_one_command(guiju, answers):
    for name in ("bad", "good"):
        guiju(
            "eval", "--predictions", answers / f"{name}.jsonl", "--task", "translation",
            "--data", answers / "data.jsonl",
            "--out", answers / name,
        )  # fmt: skip
    told = guiju("eval", "--compare", answers / "bad", answers / "good", "--json")
    assert told.code == 0
    assert json.loads(told.out)["verdict"] == "better"
    shown = guiju("eval", "--compare", answers / "good", answers / "bad")
    assert shown.out.rstrip().endswith("verdict by chrf++: worse")


def test_a_model_is_measured_and_its_samples_stay(guiju, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = DATA / "xquad" / "xquad.en.dev.json"
    call = (
        "eval",
        "--model",
        STORIES,
        "--task",
        "question-answering",
        "--data",
        data,
        "--limit",
        "3",
        "--new-tokens",
        "8",
    )
    told = guiju(*call, "--json")
    assert told.code == 0
    found = json.loads(told.out)
    assert found["n"] == 3
    folder = Path(found["out"])
    assert folder == Path("evaluations/stories260K.bin/question-answering-xquad")
    assert len((folder / "samples.jsonl").read_text().splitlines()) == 3
    again = guiju(*call, "--json")
    assert json.loads(again.out) == found
    assert "3 of 3 samples are there already" in again.err


def test_a_run_is_measured_without_a_file_put_into_it_and_still_verifies(guiju, copied_run, tmp_path, monkeypatch):
    _, run = copied_run
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.jsonl").write_text('{"text": "a fine day", "label": "1"}\n{"text": "a sad day", "label": "0"}\n')
    told = guiju("eval", run, "--task", "sentiment", "--data", tmp_path / "t.jsonl", "--json")
    assert told.code == 0, told.err
    assert json.loads(told.out)["out"] == "evaluations/run/sentiment-t"
    assert guiju("verify", run).code == 0


def test_the_baseline_of_sentiment_learns_from_the_file_beside_the_data(guiju, tmp_path):
    good, bad = "a fine and lovely film", "a dull and awful film"
    rows = "".join(f"{good} {n}\t1\n{bad} {n}\t0\n" for n in range(20))
    (tmp_path / "train.tsv").write_text(rows)
    (tmp_path / "dev.tsv").write_text("a lovely one\t1\nso awful\t0\nreally fine\t1\n")
    lines = [json.dumps({"id": n, "prediction": word}) for n, word in enumerate(("positive", "negative", "negative"))]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    told = guiju(
        "eval", "--predictions", tmp_path / "p.jsonl", "--task", "sentiment", "--data", tmp_path / "dev.tsv", "--json"
    )
    found = json.loads(told.out)
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert found["baselines"]["tfidf-logistic-regression"]["accuracy"]["value"] == 1
    assert found["gaps"]["tfidf-logistic-regression"]["accuracy"]["difference"] == pytest.approx(-1 / 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --model REF or --predictions FILE"),
        (("--model", STORIES, "--task", "translation"), "give --model REF or --predictions FILE"),
        (("--model", STORIES, "--task", "poetry", "--data", "x.jsonl"), "there is no task 'poetry'"),
        (("--model", STORIES, "--task", "translation", "--data", "x.jsonl"), "x.jsonl cannot be read"),
        (("--model", STORIES, "--task", "translation", "--data", "x.jsonl", "--limit", "0"), "limit is 0"),
        (
            ("--model", STORIES, "--task", "translation", "--data", "x", "--columns", "a"),
            "not of the form field=column",
        ),
        (("--model", STORIES, "--battery", "--task", "code"), "--battery needs --model, and brings its own"),
        (("--against", STORIES), "belong to --battery"),
        (("--compare", "a", "b"), "a holds no evaluation"),
        (("--model", "nowhere", "--task", "translation", "--data", DATA / "x.jsonl"), "there is no model at"),
    ],
)
def test_wishes_that_cannot_be_are_told_in_a_line_with_exit_code_2(guiju, arguments, message):
    told = guiju("eval", *arguments)
    assert told.code == 2
    assert message in told.err
    assert "Traceback" not in told.err


def test_one_text_is_translated_summarised_answered_coded_and_felt(guiju, tmp_path):
    (tmp_path / "passage.txt").write_text("It was Ann who came to the party.")
    small = ("--new-tokens", "8", "--json")
    calls = {
        "translate": ("Good morning.", *small),
        "summarize": ("Lily saw a dog. It was a big dog.", *small),
        "answer": ("Who came?", "--file", tmp_path / "passage.txt", *small),
        "code": ("def add(a, b):\n", *small),
        "sentiment": ("It was a good day.", "--json"),
    }
    for verb, arguments in calls.items():
        told = guiju(verb, "--model", STORIES, *arguments)
        [result] = json.loads(told.out)["results"]
        answer = {
            "translate": "translation",
            "summarize": "summary",
            "answer": "answer",
            "code": "completion",
            "sentiment": "label",
        }[verb]
        assert told.code == (0 if result[answer] is not None else 1), verb
    assert sum(result["probabilities"].values()) == pytest.approx(1)


def test_a_file_of_texts_gives_a_result_each_under_its_id(guiju, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"id": "a", "text": "One day."}\n{"id": 7, "text": "A dog ran."}\n')
    told = guiju("sentiment", "--model", STORIES, "--file", tmp_path / "t.jsonl", "--json")
    assert [one["id"] for one in json.loads(told.out)["results"]] == ["a", "7"]
    (tmp_path / "t.txt").write_text("One day.\nA dog ran.\n")
    told = guiju("sentiment", "--model", STORIES, "--file", tmp_path / "t.txt")
    assert [line.split("  ")[1] for line in told.out.splitlines()] == ["One day.", "A dog ran."]


@pytest.mark.parametrize("verb", ["eval", "translate", "summarize", "answer", "code", "sentiment"])
def test_every_verb_shows_an_example_and_refuses_empty_input(verb, guiju):
    assert "Example: guiju" in guiju(verb, "--help").out
    assert guiju(verb, "--model", STORIES).code == 2
    if verb not in ("eval", "answer"):
        told = guiju(verb, "--model", STORIES, "  ")
        assert told.code == 2
        assert "is empty" in told.err


RECIPE = """
root: ..
seconds: 5.0
least: 2
rows:
  - {task: translation, language: de, data: pairs.jsonl, limit: 4}
  - {task: sentiment, language: en, data: texts.jsonl, limit: 4}
  - {task: summarization, language: zh, data: nowhere.jsonl}
rule: {largest_loss: 0.05, when_undecided: keep}
"""


def test_a_battery_gives_one_table_and_a_verdict_by_its_rule(guiju, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    battery = Path("recipes/battery.yaml")
    battery.write_text(RECIPE)
    pairs = [{"source": f"The dog {n} ran.", "target": f"Der Hund {n} lief."} for n in range(6)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    texts = [{"text": f"It was day {n}.", "label": n % 2} for n in range(6)]
    Path("texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    call = ("eval", "--model", STORIES, "--battery", "--recipe", battery, "--out", "out")
    told = guiju(*call, "--json")
    lines = json.loads(told.out)["battery"]
    assert [(line["task"], line["language"]) for line in lines] == [
        ("translation", "de"), ("sentiment", "en"), ("summarization", "zh"),
    ]  # fmt: skip
    assert 2 <= lines[0]["n"] <= 4
    assert "its data is not here" in lines[2]["why"]
    same = json.loads(guiju(*call, "--against", STORIES, "--json").out)
    assert same["verdict"] == "keep"
    assert same["rule"]["largest_loss"] == 0.05
    assert [line["n"] for line in same["battery"]] == [line["n"] for line in lines]
    shown = guiju(*call, "--against", STORIES)
    assert "verdict: keep" in shown.out
    battery.write_text(RECIPE.replace("largest_loss: 0.05", "largest_loss: 5"))
    assert "a loss is a share" in guiju(*call).err


def test_the_how_tos_commands_have_only_options_that_there_are():
    import shlex

    import typer

    from guiju.cli.application import application

    text = (DATA.parents[1] / "docs" / "howto" / "evaluate.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("guiju ")]
    assert len(lines) >= 4
    for line in lines:
        _, verb, *arguments = shlex.split(line)
        typer.main.get_command(application).commands[verb].make_context(verb, arguments)  # raises at an unknown option


def test_a_classifier_tells_its_own_classes(guiju, tmp_path):
    import torch

    from guiju.model import bert_config, build_model, save_model
    from guiju.tokens import TokenizerSettings, train_tokenizer

    torch.manual_seed(0)
    tokenizer = train_tokenizer(["it was a good day " * 30], TokenizerSettings(vocab_size=270))
    sizes = {"vocab_size": 270, "context": 32, "width": 16, "layers": 1, "heads": 2}
    save_model(build_model(bert_config(**sizes, head="classes", labels=("sad", "glad"))).eval(), tmp_path / "model")
    tokenizer.save(tmp_path / "model")
    told = guiju("sentiment", "--model", tmp_path / "model", "it was a good day", "--json")
    [result] = json.loads(told.out)["results"]
    assert result["probabilities"].keys() == {"sad", "glad"}
    assert result["label"] == max(result["probabilities"], key=result["probabilities"].get)
    refused = guiju("translate", "--model", tmp_path / "model", "it was a good day")
    assert refused.code == 2
    assert "cannot do translation: it can classify, embed" in refused.err
