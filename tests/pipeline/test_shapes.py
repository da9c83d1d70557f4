"""Recipes of encoders and encoder-decoders run from corpus to report, small but whole."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from guiju.errors import ConfigError, DataError
from guiju.evidence import Kind, read_entries, verify_run
from guiju.generation import SamplingSettings, generate
from guiju.model import load_model
from guiju.pipeline import plan_recipe, plan_states, read_recipe, run_recipe
from guiju.pipeline.building import split_pair
from guiju.pipeline.filling import fill_masks, fill_spans, runs_of
from guiju.settings import load_yaml
from guiju.tokens import Marks, Tokenizer, TokenizerSettings

ROOT = Path(__file__).parents[2]
VOCABULARY = {"encoder": 2400, "encoder-decoder": 500, "translation": 1000}
MEASURES = {
    "encoder": ("masked_bits_per_byte", "masked-tokens.json", "fill"),
    "encoder-decoder": ("target_bits_per_byte", "targets.json", "fill"),
    "translation": ("target_bits_per_byte", "targets.json", "answer"),
}


class Notes:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def stage(self, name: str, status: str, why: str) -> None: ...

    def progress(self, done: int, total: int, label: str) -> None: ...

    def finished(self, name: str, seconds: float, line: str) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


def small(name: str) -> dict[str, Any]:
    """A recipe of recipes/ with fewer documents, a tiny model and a few steps."""
    recipe: dict[str, Any] = copy.deepcopy(load_yaml(ROOT / "recipes" / f"{name}.yaml"))
    recipe["root"] = str(ROOT)
    for source in recipe["corpus"]["sources"]:
        source["max_documents"] = 600 if name == "translation" else 120
    recipe["corpus"]["split"] = {"validation_share": 0.1}
    recipe["tokenizer"]["vocab_size"] = VOCABULARY[name]
    recipe["model"] |= {"width": 32, "layers": 1, "heads": 2}
    recipe["training"] |= {"steps": 16, "batch": 8, "warmup_steps": 2, "evaluate_every": 8, "checkpoint_every": 8}
    recipe["training"] |= {"dtype": "float32"}
    recipe["generation"]["sampling"] |= {"num_return_sequences": 2}
    if "max_new_tokens" in recipe["generation"]["sampling"]:
        recipe["generation"]["sampling"]["max_new_tokens"] = 8
    return recipe


def written(recipe: dict[str, Any], folder: Path) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


Made = tuple[str, Path, list[str]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Callable[[str], Made]:
    """By a recipe's name: (name, folder, notes) of its run, which is made once."""
    made: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in made:
            folder, reporter = tmp_path_factory.mktemp(name), Notes()
            run_recipe(written(small(name), folder), reporter=reporter, out=folder / "run")
            made[name] = name, folder / "run", reporter.notes
        return made[name]

    return get


@pytest.fixture(params=VOCABULARY)
def run(request, runs) -> Made:
    return runs(request.param)


def bodies(run: Path, kind: Kind) -> list[dict[str, Any]]:
    return [entry.body for entry in read_entries(run) if entry.kind == kind]


def test_a_run_holds_what_it_claims_and_verifies_both_ways(run):
    name, folder, _ = run
    result = verify_run(folder)
    assert result.ok, result.problems
    standalone = [sys.executable, "-S", "-E", str(ROOT / "verify.py"), str(folder)]
    assert subprocess.run(standalone, capture_output=True).returncode == 0
    assert all(state.status == "up to date" for state in plan_states(folder / "recipe.yaml", out=folder))
    kinds = {entry.kind for entry in read_entries(folder)}
    assert kinds >= {Kind.PLAN, Kind.CHECKPOINT, Kind.COST, Kind.GENERATION, Kind.FINDING, Kind.RUN_FINISHED}
    assert (name == "translation") == (folder / "tokens" / "train-sources").is_dir()


def test_the_evaluation_stands_beside_its_baselines_and_its_control(run):
    name, folder, notes = run
    measure, file, _ = MEASURES[name]
    [measured] = [body for body in bodies(folder, Kind.MEASUREMENT) if body["measure"] == measure]
    kept = json.loads((folder / "tasks" / file).read_text())
    assert measured["details"] == kept
    assert measured["value"] == kept["model"] < kept["untrained"]
    assert set(kept["nats_per_token"]) == set(kept["accuracy"])
    assert {"model", "untrained", "unigram"} <= set(kept["nats_per_token"])
    if name == "encoder":
        assert "other_source" not in kept
    else:
        # So short a training teaches no reading: the run says so, and does not claim it.
        assert kept["heeds_source"] == (kept["other_source_costs"] >= 1.02)
        assert any("does not heed what it reads" in note for note in notes) == (not kept["heeds_source"])
    evaluations = [body for body in bodies(folder, Kind.TRAINING_EVENT) if body["event"] == "evaluation"]
    assert [body["step"] for body in evaluations] == [8, 16]


def test_forecast_and_actual_operations_are_the_same_count(run):
    _, folder, _ = run
    [cost] = bodies(folder, Kind.COST)
    rows = {row["what"]: row for row in cost["rows"]}
    assert rows["flops"]["ratio"] == pytest.approx(1)
    assert rows["memory"]["forecast"] > 0


def test_prompts_are_filled_or_answered(run):
    name, folder, _ = run
    spoken = bodies(folder, Kind.GENERATION)
    prompts = [prompt.text for prompt in read_recipe(folder / "recipe.yaml").generation.prompts]
    assert [body["prompt"] for body in spoken] == prompts
    for body in spoken:
        assert body["task"] == MEASURES[name][2]
        assert len(body["sequences"]) == 2
        for sequence in body["sequences"]:
            assert "<mask>" not in sequence["text"]
            assert len(sequence.get("filled", [])) == body["prompt"].count("<mask>")


def test_the_report_says_what_the_model_learned_to_do(run):
    name, folder, _ = run
    report = (folder / "report.html").read_text(encoding="utf-8")
    said = {
        "encoder": ["masked tokens learned from", "what was hidden from it", "Filling the blanks of"],
        "encoder-decoder": ["cut out of held-out text", "Filling the blanks of", "given another text to read"],
        "translation": ["held-out targets", "Writing of", "given another text to read", "Where is the library?"],
    }[name]
    assert not [words for words in said if words not in report]
    assert "Continuing" not in report


def test_transformers_opens_the_model_and_gives_the_same_logits(run):
    name, folder, _ = run
    ours, tokenizer = load_model(folder / "model"), Tokenizer.load(folder / "tokenizer")
    ids = torch.tensor([tokenizer.with_template(tokenizer.encode("Once upon a time, he has lived here."))[0]])
    assert (
        AutoTokenizer.from_pretrained(folder / "model")("Once upon a time, he has lived here.").input_ids
        == ids[0].tolist()
    )
    with torch.no_grad():
        if name == "encoder":
            theirs = AutoModelForMaskedLM.from_pretrained(folder / "model")(ids).logits
            mine = ours(ids)
        else:
            begun = torch.tensor([[ours.config.start_id, 20, 30]])
            theirs = AutoModelForSeq2SeqLM.from_pretrained(folder / "model")(ids, decoder_input_ids=begun).logits
            mine = ours(begun, source=ids)
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_a_changed_objective_redoes_what_rests_on_it(runs):
    _, folder, _ = runs("translation")
    overrides = ["training.objective=spans", "model.context=64", "generation.prompts=[]"]
    redone = [s.stage.name for s in plan_states(folder / "recipe.yaml", overrides=overrides, out=folder)]
    states = {s.stage.name: s.status for s in plan_states(folder / "recipe.yaml", overrides=overrides, out=folder)}
    assert states["corpus"] == "up to date"
    assert {states[stage] for stage in redone if stage != "corpus"} == {"to do"}


# -- what a recipe may wish --------------------------------------------------------------------------------------


def test_a_shape_brings_the_special_tokens_that_its_objective_needs(tmp_path):
    recipe = small("encoder-decoder")
    tokens = read_recipe(written(recipe, tmp_path)).tokenizer.special_tokens
    assert tokens[:3] == ("<pad>", "</s>", "<unk>")
    assert tokens[3:] == tuple(f"<extra_id_{number}>" for number in range(len(tokens) - 3))
    assert len(tokens) - 3 == 5  # 66 tokens of text: 10 cut out, in 3 runs, and one sentinel to close, and to spare
    recipe["tokenizer"] = {"vocab_size": 600}
    assert read_recipe(written(recipe, tmp_path)).tokenizer.special_tokens[:3] == (
        "<|endoftext|>",
        "<pad>",
        "<extra_id_0>",
    )
    recipe = small("encoder")
    assert read_recipe(written(recipe, tmp_path)).tokenizer == TokenizerSettings(
        kind="wordpiece", vocab_size=2400, lower_case=True
    )
    recipe["tokenizer"] = {"vocab_size": 600}
    assert read_recipe(written(recipe, tmp_path)).tokenizer.special_tokens == ("<|endoftext|>", "<pad>", "<mask>")


def test_what_a_shape_cannot_is_said_when_the_recipe_is_read(tmp_path):
    recipe = small("encoder")
    recipe["training"]["objective"] = "next-token"
    with pytest.raises(ConfigError, match=r"objective is next-token, but the model is of the kind encoder"):
        read_recipe(written(recipe, tmp_path))
    recipe = small("encoder")
    recipe["generation"]["prompts"] = [{"text": "Once upon a time"}]
    with pytest.raises(ConfigError, match=r"a model that learns masked-tokens fills blanks.*write <mask>"):
        read_recipe(written(recipe, tmp_path))


@pytest.mark.parametrize("name", VOCABULARY)
def test_a_plan_needs_no_data(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = plan_recipe(written(small(name), tmp_path))
    assert plan.flops > 0
    assert plan.parameters > 32 * VOCABULARY[name]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("Hi.\n你好。", ("Hi.", "你好。")),
        ("one\ntwo\nthree", ("one", "two\nthree")),
        ("alone", None),
        ("\ntarget", None),
        ("source\n  ", None),
    ],
)
def test_a_pair_is_a_first_line_and_the_rest(text, pair):
    assert split_pair(text) == pair


# -- filling -----------------------------------------------------------------------------------------------------


def test_filled_masks_are_the_likeliest_tokens_of_the_whole_text(runs):
    _, folder, _ = runs("encoder")
    model, tokenizer = load_model(folder / "model"), Tokenizer.load(folder / "tokenizer")
    marks = Marks.of(tokenizer)
    spoken = fill_masks(model, tokenizer, "she was very <mask> and <mask>.", SamplingSettings(num_return_sequences=3))
    ids = [marks.before[0], *tokenizer.encode("she was very"), marks.mask, *tokenizer.encode("and")]
    ids += [marks.mask, *tokenizer.encode("."), marks.after[0]]
    with torch.no_grad():
        logits = model(torch.tensor([ids]))[0]
    logits[:, sorted(marks.special)] = -torch.inf
    for place, blank in enumerate(index for index, token in enumerate(ids) if token == marks.mask):
        best = logits[blank].topk(3).indices.tolist()
        assert [sequence["ids"][blank] for sequence in spoken.sequences] == best
        assert [s["filled"][place] for s in spoken.sequences] == [tokenizer.decode([token]) for token in best]
        chances = [sequence["probabilities"][place] for sequence in spoken.sequences]
        assert chances == sorted(chances, reverse=True)
    with pytest.raises(DataError, match="the model's context is 64"):
        fill_masks(model, tokenizer, "word " * 70 + "<mask>", SamplingSettings())


def test_filled_runs_are_what_the_model_writes_after_each_sentinel(runs):
    _, folder, _ = runs("encoder-decoder")
    model, tokenizer = load_model(folder / "model"), Tokenizer.load(folder / "tokenizer")
    marks, settings = Marks.of(tokenizer), SamplingSettings(max_new_tokens=6, seed=4)
    first, second = marks.sentinels[:2]
    source = [
        *tokenizer.encode("Once upon a"),
        first,
        *tokenizer.encode(" girl"),
        second,
        *tokenizer.encode("."),
        marks.end,
    ]
    [[plain]] = generate(model, tokenizer, [source], settings, record=True)
    [filled] = fill_spans(model, tokenizer, "Once upon a <mask> girl <mask>.", settings).sequences
    assert filled["ids"] == list(plain.ids)
    with pytest.raises(DataError, match="has 9 blanks, but the tokenizer has 5 sentinels"):
        fill_spans(model, tokenizer, "<mask>" * 9, settings)


def test_runs_are_read_off_between_sentinels():
    marks = Marks(start=0, end=1, pad=0, sentinels=(5, 6, 7), special=frozenset({0, 1, 5, 6, 7}))
    assert runs_of((5, 20, 21, 6, 22, 7, 1), marks) == {5: (20, 21), 6: (22,), 7: ()}
    assert runs_of((9, 5, 20, 6, 6, 23, 5, 24, 1), marks) == {5: (20,), 6: ()}
    assert runs_of((), marks) == {}
