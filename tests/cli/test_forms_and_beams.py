from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K" / "stories260K.bin"
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Lily", "小明"]}, "age": {"type": "integer", "minimum": 1, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("given", ["text", "file"])
def test_json_of_a_schema_comes_out_whether_it_is_given_as_text_or_as_a_file(given, guiju, tmp_path):
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA, ensure_ascii=False), encoding="utf-8")
    schema = json.dumps(SCHEMA) if given == "text" else file
    answer = guiju("generate", "--model", STORIES, "--prompt", "Once", "--json-schema", schema, "--seed", 1,
                   "--num-return-sequences", 4, "--json")  # fmt: skip
    for sequence in json.loads(answer.out)["sequences"]:
        value = json.loads(sequence["text"])
        assert value["name"] in ("Lily", "小明") and 1 <= value["age"] <= 99
        assert sequence["finish_reason"] == "stop"


def test_a_pattern_is_matched_behind_the_prompt(guiju):
    answer = guiju("generate", "--model", STORIES, "--prompt", "Date:", "--regex", r" [0-9]{4}-[0-9]{2}", "--greedy")
    assert re.fullmatch(r"Date: [0-9]{4}-[0-9]{2}\n", answer.out)


def test_beams_give_their_texts_with_scores_best_first(guiju):
    answer = guiju("generate", "--model", STORIES, "--prompt", "Once upon", "--num-beams", 5, "--length-penalty", 0.5,
                   "--early-stopping", "true", "--num-return-sequences", 5, "--max-length", 20, "--json")  # fmt: skip
    sequences = json.loads(answer.out)["sequences"]
    scores = [sequence["score"] for sequence in sequences]
    assert len({tuple(sequence["ids"]) for sequence in sequences}) == 5
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(("options", "words"), [
    (["--json-schema", "{"], ["json_schema", "JSON"]),
    (["--json-schema", "nowhere.json"], ["--json-schema", "nowhere.json"]),
    (["--json-schema", "."], ["--json-schema", "folder"]),
    (["--json-schema", '{"not": {}}'], ["json_schema", "not"]),
    (["--regex", "("], ["regex", "unclosed group"]),
    (["--regex", "a", "--json-schema", "{}"], ["json_schema", "regex", "both"]),
    (["--regex", "a", "--stop", "b"], ["stop", "regex"]),
    (["--num-beams", "0"], ["num_beams", "0"]),
    (["--num-beams", "2", "--num-return-sequences", "3"], ["num_return_sequences", "3", "2"]),
    (["--num-beams", "2", "--early-stopping", "soon"], ["--early-stopping", "soon"]),
    (["--num-beams", "2", "--length-penalty", "nan"], ["length_penalty", "nan"]),
    (["--num-beams", "2", "--logprobs", "1"], ["logprobs", "num_beams"]),
])  # fmt: skip
def test_what_cannot_be_is_refused_by_name_and_value(options, words, guiju):
    answer = guiju("generate", "--model", STORIES, "--prompt", "a", *options)
    assert answer.code == 2
    assert answer.out == ""
    for word in words:
        assert word in answer.err
    assert "Traceback" not in answer.err


def test_a_form_that_cannot_be_is_said_before_the_model_is_looked_for(guiju):
    answer = guiju("generate", "--model", "there/is/none", "--regex", "(")
    assert "unclosed group" in answer.err and "there/is/none" not in answer.err
