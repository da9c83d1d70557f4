from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K" / "stories260K.bin"
TEXT = "The cat sat. The cat sat. The cat sat."


def _json(guiju, *options):
    answer = guiju(
        "generate", "--model", STORIES, "--prompt", TEXT, "--greedy", "--max-new-tokens", 12, *options, "--json"
    )
    assert answer.code == 0, answer.err
    return json.loads(answer.out)


def test_json_names_the_runner_and_the_precision(guiju):
    plain = _json(guiju, "--runner", "torch")
    assert (plain["runner"], plain["precision"]) == ("torch", "float32")
    assert set(plain) == {"sequences", "runner", "precision", "arithmetic"}
    rough = _json(guiju, "--runner", "torch", "--precision", "bfloat16")
    assert (rough["runner"], rough["precision"]) == ("torch", "bfloat16")


def test_auto_takes_the_fast_runner_where_it_is_installed_and_record_mode_the_torch_one(guiju):
    installed = importlib.util.find_spec("openvino") is not None
    found = _json(guiju)
    assert found["runner"] == ("openvino" if installed else "torch")
    recorded = _json(guiju, "--record")
    assert (recorded["runner"], recorded["record"]) == ("torch", True)
    assert recorded["sequences"] == found["sequences"]


def test_log_probabilities_come_as_json_and_as_a_table(guiju):
    [sequence] = _json(guiju, "--logprobs", 2, "--runner", "torch")["sequences"]
    assert len(sequence["logprobs"]) == len(sequence["ids"])
    for token, told in zip(sequence["ids"], sequence["logprobs"], strict=True):
        assert told["top"][0] == {"id": token, "logprob": told["logprob"]}  # greedy takes the likeliest
        assert told["logprob"] > told["top"][1]["logprob"]
    shown = guiju("generate", "--model", STORIES, "--prompt", TEXT, "--greedy", "--max-new-tokens", 3,
                  "--logprobs", 2, "--runner", "torch")  # fmt: skip
    assert len(shown.out.splitlines()) == 1 + 3
    assert f"{sequence['logprobs'][0]['logprob']:.3f}" in shown.out.splitlines()[1]


def test_guesses_change_no_token_and_their_share_of_right_ones_is_told(guiju):
    options = ("--repetition-penalty", "0.9", "--max-new-tokens", 60, "--runner", "torch")
    plain, guessed = _json(guiju, *options), _json(guiju, *options, "--prompt-lookup", 6)
    assert guessed["sequences"] == plain["sequences"]
    assert 0.3 < guessed["acceptance"] <= 1
    shown = guiju(
        "generate", "--model", STORIES, "--prompt", TEXT, "--greedy", *options, "--prompt-lookup", 6
    )  # fmt: skip
    assert "guessed tokens were right" in shown.err
    assert "computed by torch with float32 weights" in shown.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--runner", "jax"), ["runner is 'jax'", "auto, torch, openvino"]),
        (("--precision", "float16"), ["precision is 'float16'", "float32, bfloat16, int8, int4"]),
        (("--runner", "openvino", "--record"), ["openvino with record mode"]),
        (("--logprobs", "-1"), ["logprobs is -1"]),
        (("--logprobs", "1000000000"), ["logprobs is 1000000000"]),
        (("--prompt-lookup", "1000000000"), ["prompt_lookup is 1000000000"]),
        (("--prompt-lookup", "4", "--record"), ["record mode, which computes token by token"]),
        (("--num-return-sequences", "1000000000", "--seed", "1"), ["num_return_sequences is 1000000000"]),
        (("--max-new-tokens", "1000000000"), ["1000000000 new tokens", "context of 512"]),
        (("--temperature", "nan"), ["temperature is nan"]),
        (("--stop", "x") * 100_000, ["stop holds 100000 texts; at most 1024"]),
        (("--stop", "y" * 70_000), ["stop holds 70000 characters"]),
        (("--prompt", "word " * 3000), ["context is 512"]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wishes_that_cannot_be_are_refused_with_the_value_and_no_traceback(guiju, options, words):
    greedy = () if "--num-return-sequences" in options else ("--greedy",)
    answer = guiju("generate", "--model", STORIES, "--prompt", "Once", *greedy, *options)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("guiju: ")
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err
