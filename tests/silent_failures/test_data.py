"""Data that would look fine and teach nothing, or something else: each fault is planted, and stops the run.

`test_without_a_fault_the_run_goes_through` is the other half of each test.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "pipeline"))

from tuning_worlds import make_base, recipe, rows, write_rows

from guiju.errors import DataError, GuijuError, ModelError
from guiju.model import load_model, load_peft
from guiju.pipeline import run_finetune

# A template that has the roles and the end of each message, and forgets what the assistant said.
DROPS = """\
{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['role'] == 'user' %}{{ message['content'] }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"""
KEEPS = DROPS.replace("{%- if message['role'] == 'user' %}", "").replace("{% endif %}", "")
NEVER_ENDS = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
SHOUTS = KEEPS.replace("message['content']", "message['content'] | upper")


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    place = tmp_path_factory.mktemp("bases")
    return {shape: make_base(place / shape, shape) for shape in ("llama", "bert")}


@pytest.fixture
def tune(bases, tmp_path, steps):
    """A fine-tuning of made rows, or of others; whatever goes wrong is raised."""

    def run(format="messages", objective="answers", made=None, *, template=None, **more):
        data = write_rows(tmp_path / "rows.jsonl", rows(format) if made is None else made)
        if template is not None:
            (tmp_path / "own.jinja").write_text(template)
            more["template"] = str(tmp_path / "own.jinja")
        shape = "llama" if objective in ("answers", "preferences") else "bert"
        held = {"format": format, **more.pop("data", {})}
        file = recipe(tmp_path, objective, data, base=str(bases[shape]), data=held, **more)
        return run_finetune(file, reporter=steps, out=tmp_path / "run")

    return run


@pytest.mark.parametrize(
    ("format", "objective"),
    [("messages", "answers"), ("text-label", "classes"), ("squad", "extractive"), ("preferences", "preferences")],
)
def test_without_a_fault_the_run_goes_through(format, objective, tune, tmp_path):
    held = write_rows(tmp_path / "held.jsonl", rows(format, 8, seed=1))
    more = {"template": KEEPS} if format == "messages" else {}
    assert "finetune" in tune(format, objective, data={"evaluation": str(held)}, **more).done


# -- the template -----------------------------------------------------------------------------------------------


def test_a_chat_template_that_drops_the_answer(tune, tmp_path):
    with pytest.raises(ModelError, match=r"own.jinja drops the answer 'It feels \w+\.' of .*rows.jsonl, line 1"):
        tune(template=DROPS)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_chat_template_that_changes_the_answer(tune):
    with pytest.raises(ModelError, match=r"own.jinja changes the answer of .*: 'It feels \w+\.' becomes 'IT FEELS"):
        tune(template=SHOUTS)


def test_a_chat_template_after_which_a_model_would_never_stop(tune):
    with pytest.raises(ModelError, match="writes no token that ends the answer"):
        tune(template=NEVER_ENDS)


def test_a_chat_template_whose_generation_block_holds_nothing(tune):
    empty = KEEPS.replace("{% endfor %}", "{% generation %}{% endgeneration %}{% endfor %}")
    with pytest.raises(GuijuError, match=r"marks nothing of .*rows.jsonl, line 1 as the assistant's"):
        tune(template=empty)


# -- the mask ---------------------------------------------------------------------------------------------------


def test_a_row_without_an_answer(tune):
    made = rows("messages")
    made[7]["messages"] = made[7]["messages"][:1]
    with pytest.raises(DataError, match=r"rows.jsonl, line 8: no message of the assistant"):
        tune(made=made)
    made = rows("prompt-completion")
    made[5]["completion"] = "  "
    with pytest.raises(DataError, match=r"rows.jsonl, line 6: completion is empty"):
        tune("prompt-completion", made=made)


def test_an_empty_answer_among_others(tune):
    made = rows("messages")
    made[4]["messages"] += [{"role": "user", "content": "And?"}, {"role": "assistant", "content": " "}]
    with pytest.raises(DataError, match=r"rows.jsonl, line 5 has an empty answer"):
        tune(made=made)
    summary = tune(made=made, data={"empty": "leave-out"})
    counts = summary.built["examples"]
    assert sorted((counts["train"]["empty"], counts["validation"]["empty"])) == [0, 1]


def test_a_template_that_marks_everything_as_the_answer(tune):
    everything = "{% generation %}" + KEEPS + "{% endgeneration %}"
    with pytest.raises(DataError, match=r"every token of all .* rows is learned"):
        tune(template=everything)


def test_rows_nearly_all_of_which_are_too_long(tune):
    made = [{"prompt": "the lamp " * 90, "completion": f" {number}"} for number in range(30)]
    with pytest.raises(DataError, match=r"rows are longer than the 64 tokens that the model reads"):
        tune("prompt-completion", made=made)


# -- labels -----------------------------------------------------------------------------------------------------


def test_a_held_out_label_that_the_head_has_not(tune, tmp_path):
    held = write_rows(tmp_path / "held.jsonl", [*rows("text-label", 4, seed=1), {"text": "new", "label": "loud"}])
    with pytest.raises(DataError, match=r"held.jsonl, line 5.*'loud'"):
        tune("text-label", "classes", data={"validation": str(held)})


def test_a_label_outside_the_labels_that_the_recipe_names(tune):
    with pytest.raises(DataError, match=r"rows.jsonl, line \d+.*'(warm|cold|fresh|dark)'"):
        tune("text-label", "classes", labels=["yes", "no"])


def test_data_of_one_label(tune):
    made = [{**row, "label": "warm"} for row in rows("text-label")]
    with pytest.raises(DataError, match="has the label 'warm', so there is nothing to tell apart"):
        tune("text-label", "classes", made=made)


def test_an_answer_that_does_not_stand_where_the_data_says(tune):
    made = rows("squad")
    made[2]["answers"]["answer_start"] = [3]
    with pytest.raises(DataError, match=r"rows.jsonl, line 3.*does not stand at character 3"):
        tune("squad", "extractive", made=made)


# -- held out, and learned all the same -------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["evaluation", "validation"])
def test_an_evaluation_set_that_holds_a_row_of_the_training_set(side, tune, tmp_path):
    made = rows("text-label")
    held = write_rows(tmp_path / "held.jsonl", [*rows("text-label", 5, seed=1), {**made[3], "label": "warm"}])
    with pytest.raises(DataError, match=r"1 of 40 rows .*rows.jsonl, line 4 is .*held.jsonl, line 6"):
        tune("text-label", "classes", made=made, data={side: str(held)})


def test_an_evaluation_set_that_holds_a_row_of_the_training_set_nearly(tune, tmp_path):
    made = rows("text-label")
    near = made[3]["text"].upper().replace(" TODAY", ", today!") + " again"
    held = write_rows(tmp_path / "held.jsonl", [{"text": near, "label": "warm"}])
    with pytest.raises(DataError, match=r"rows.jsonl, line 4 is, to \d\d%, .*held.jsonl, line 1"):
        tune("text-label", "classes", made=made, data={"evaluation": str(held)})
    summary = tune("text-label", "classes", made=made, data={"evaluation": str(held), "overlap": "leave-out"})
    assert summary.built["data"]["overlapping"] == 1


def test_equal_rows_do_not_come_to_lie_on_both_sides_of_a_split(tune):
    made = rows("text-label", 20) * 3
    summary = tune("text-label", "classes", made=made)
    counts = summary.built["data"]
    assert counts["train"] % 3 == counts["validation"] % 3 == 0
    assert counts["train"] + counts["validation"] == 60


# -- the adapter ------------------------------------------------------------------------------------------------


def test_an_adapter_beside_a_base_that_it_was_not_made_for(tune, bases, tmp_path):
    tune(lora={"rank": 2})
    load_peft(load_model(bases["llama"]), tmp_path / "run" / "adapter")
    with pytest.raises(ModelError, match=r"was made for .* with weights of SHA-256 \w+, but this model's are"):
        load_peft(load_model(tmp_path / "run" / "model"), tmp_path / "run" / "adapter")
