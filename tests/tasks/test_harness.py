"""guiju inside the harnesses that people know, through the real libraries, on a real small model."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from guiju.errors import ConfigError, ModelError
from guiju.providers import load

for name in ("lm_eval", "inspect_ai"):
    if importlib.util.find_spec(name) is None:
        pytest.skip("needs pip install 'guiju[harness]'", allow_module_level=True)

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K" / "stories260K.bin"
PAIRS = [
    ("Once upon a time, there was a little", [" girl", " the"]),
    ("Lily and Ben went to the park to", [" play", " zebra"]),
    ("The dog was very", [" happy", " window"]),
]
_TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{text}}}}"
{rest}
"""


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """A folder with two tasks of the harness: one by likelihood, one by generation; and their data."""
    folder = tmp_path_factory.mktemp("lm_eval_tasks")
    rows = [{"text": text, "choices": choices, "label": 0} for text, choices in PAIRS]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    by_choice = (
        'doc_to_choice: "{{choices}}"\ndoc_to_target: "{{label}}"\ntarget_delimiter: ""\nmetric_list: [{metric: acc}]'
    )
    by_text = (
        'doc_to_target: "x"\ngeneration_kwargs: {until: ["."], max_gen_toks: 8, do_sample: false}\n'
        "metric_list: [{metric: exact_match}]"
    )
    for name, kind, rest in (
        ("stories_choice", "multiple_choice", by_choice),
        ("stories_text", "generate_until", by_text),
    ):
        text = _TASK.format(name=name, kind=kind, data=folder / "data.jsonl", rest=rest)
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.mark.slow
def test_lm_eval_by_its_own_command_scores_and_generates_as_we_do(tasks, tmp_path):
    command = [sys.executable, "-W", "ignore", "-m", "guiju.tasks.lm_eval_model", "--model", "guiju"]
    command += [
        "--model_args",
        f"run={STORIES}",
        "--tasks",
        "stories_choice,stories_text",
        "--include_path",
        str(tasks),
    ]
    command += ["--output_path", str(tmp_path / "out"), "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env={**os.environ, **offline})
    assert done.returncode == 0, done.stderr[-2000:]
    model = load(STORIES)
    [place] = (tmp_path / "out").rglob("samples_stories_choice*.jsonl")
    for line in place.read_text().splitlines():
        sample = json.loads(line)
        text, choices = PAIRS[sample["doc_id"]]
        for (answer,), choice in zip(sample["resps"], choices, strict=True):
            [score] = model.score_continuations([(text, choice)])
            assert float(answer[0]) == pytest.approx(-score.nll_nats, abs=1e-3)
    [place] = (tmp_path / "out").rglob("samples_stories_text*.jsonl")
    for line in place.read_text().splitlines():
        sample = json.loads(line)
        [[said]] = sample["resps"]
        [sequence] = model.generate(PAIRS[sample["doc_id"]][0], greedy=True, max_new_tokens=8, stop=(".",))
        assert said == sequence.text


def test_lm_evals_whole_texts_have_our_likelihood(tmp_path):
    from lm_eval.api.instance import Instance

    from guiju.tasks.lm_eval_model import GuijuLM

    harness = GuijuLM.create_from_arg_string(f"run={STORIES}", {"batch_size": 1, "device": None})
    request = Instance(request_type="loglikelihood_rolling", doc={}, arguments=("Once upon a time.",), idx=0)
    [found] = harness.loglikelihood_rolling([request])
    assert found == pytest.approx(-load(STORIES).score(["Once upon a time."])[0].nll_nats)
    assert math.isfinite(found)
    for wrong in ("", f"run={STORIES},sauce=1"):
        with pytest.raises(ConfigError, match="--model guiju"):
            GuijuLM.create_from_arg_string(wrong)
    with pytest.raises(ConfigError, match="gen_kwargs holds sauce"):
        harness.generate_until([Instance("generate_until", {}, ("x", {"sauce": 1}), 0)])


@pytest.fixture
def quiet_inspect(monkeypatch, tmp_path):
    monkeypatch.setenv("INSPECT_LOG_DIR", str(tmp_path / "logs"))
    monkeypatch.setenv("INSPECT_DISPLAY", "none")
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_inspect_asks_a_model_of_ours_by_name(quiet_inspect):
    import inspect_ai
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes

    import guiju.tasks.inspect_provider  # noqa: F401 -- what the entry point loads

    [sequence] = load(STORIES).generate("Once upon a time", greedy=True, max_new_tokens=8)
    task = inspect_ai.Task(
        dataset=[Sample(input="Once upon a time", target=sequence.text.strip()), Sample(input="The", target="zebra")],
        scorer=includes(),
    )
    [log] = inspect_ai.eval(task, model=f"guiju/{STORIES}", max_tokens=8, display="none")
    assert log.status == "success", log.error
    assert log.samples[0].output.completion == sequence.text.strip()
    assert [sample.scores["includes"].value for sample in log.samples] == ["C", "I"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inspects_tools_are_refused_by_name():
    import asyncio

    from inspect_ai.model import GenerateConfig

    from guiju.tasks.inspect_provider import GuijuAPI

    with pytest.raises(ModelError, match="calls no tools, but the task gives 1"):
        asyncio.run(GuijuAPI(str(STORIES)).generate([], [object()], "auto", GenerateConfig()))
