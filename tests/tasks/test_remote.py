"""Tasks put to a server that misbehaves: what was answered is kept, and what was refused is told."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from guiju.errors import ModelError
from guiju.providers import RemoteSettings, load
from guiju.tasks import Labelled, Pair, TaskSettings, evaluate
from guiju.tasks.store import read_samples

pytest.importorskip("sacrebleu", reason="needs pip install 'guiju[eval]'")

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K" / "stories260K.bin"
QUICK = RemoteSettings(concurrency=2, retries=2, timeout_s=20)


@pytest.fixture(scope="module")
def servers():
    """tests/servers/openai_server.py: a real server on loopback."""
    if importlib.util.find_spec("openai") is None:
        pytest.skip("needs pip install 'guiju[openai]'")
    spec = importlib.util.spec_from_file_location(
        "openai_server", STORIES.parents[3] / "tests/servers/openai_server.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["openai_server"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def serve(servers, monkeypatch):
    running = []

    def start(**options):
        server = servers.OpenAIServer(load(STORIES), **options).__enter__()
        running.append(server)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
        return server

    yield start
    for server in running:
        server.__exit__()


def pairs(count: int, **sources: str) -> list[Pair]:
    texts = [sources.get(f"at{n}", f"Once upon a time, number {n}") for n in range(count)]
    return [Pair(id=str(n), place="", source=text, targets=("x",)) for n, text in enumerate(texts)]


SHORT = TaskSettings(language="en", new_tokens=4, prompt="{source}")


def test_a_server_that_stumbles_is_asked_again_and_every_sample_comes(serve, tmp_path):
    server = serve()
    server.faults.extend(["429 after 0.1", "", "500", "", "garbage"])
    calls = []
    model = load("openai:test-model", remote=RemoteSettings(concurrency=1, retries=2), record_call=calls.append)
    result = evaluate("translation", pairs(4), model=model, settings=SHORT, out=tmp_path / "out")
    assert (result.n, result.unanswered) == (4, 0)
    assert len(calls) == 7
    local = evaluate("translation", pairs(4), model=load(STORIES), settings=SHORT, out=tmp_path / "local")
    there, here = (read_samples(tmp_path / name).samples for name in ("out", "local"))
    assert [sample.prediction for sample in there] == [sample.prediction for sample in here]
    assert local.n == 4


def test_a_server_that_goes_down_loses_no_answer_and_the_next_call_goes_on(serve, tmp_path):
    server = serve()
    server.faults.extend(["", "", "", *["500"] * 20])
    model = load("openai:test-model", remote=RemoteSettings(concurrency=1, retries=0))
    with pytest.raises(ModelError, match="failed \\(500\\)"):
        evaluate("translation", pairs(6), model=model, settings=SHORT, out=tmp_path)
    assert [sample.record.id for sample in read_samples(tmp_path).samples] == ["0", "1", "2"]
    server.faults.clear()
    server.requests.clear()
    assert evaluate("translation", pairs(6), model=model, settings=SHORT, out=tmp_path).n == 6
    assert len(server.requests) == 3


def test_a_request_that_is_refused_leaves_its_sample_unanswered_and_the_others_go_on(serve, tmp_path):
    serve()
    model = load("openai:test-model", remote=QUICK)
    long = "The dog ran home. " * 300
    result = evaluate("translation", pairs(6, at2=long, at5=long), model=model, settings=SHORT, out=tmp_path)
    assert (result.n, result.unanswered) == (6, 2)
    samples = {sample.record.id: sample for sample in read_samples(tmp_path).samples}
    assert "refuses the request (400)" in samples["2"].details["why"]
    assert samples["5"].prediction is None
    with pytest.raises(ModelError, match="refuses the request"):
        evaluate("translation", pairs(3, at0=long, at1=long, at2=long), model=model, settings=SHORT)


def test_sentiment_is_asked_by_likelihood_or_of_a_chat_in_words(serve):
    texts = [Labelled(id=str(n), place="", text="It was a good day.", label=str(n % 2)) for n in range(4)]
    serve()
    there = evaluate("sentiment", texts, model=load("openai:test-model", remote=QUICK))
    here = evaluate("sentiment", texts, model=load(STORIES))
    assert there.metrics["brier"].value == pytest.approx(here.metrics["brier"].value, abs=1e-4)
    serve(chat_only=True)
    chat = evaluate("sentiment", texts, model=load("openai:test-model", remote=QUICK))
    assert (chat.n, "brier" in chat.metrics) == (4, False)


def test_the_command_records_each_call_and_no_text_in_it(serve, tmp_path, guiju):
    serve()
    rows = [{"source": f"Once upon a time {n}", "target": "x"} for n in range(3)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = guiju(
        "eval", "--model", "openai:test-model", "--task", "translation", "--data", tmp_path / "d.jsonl",
        "--new-tokens", "4", "--remote", "concurrency=1", "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert told.code == 0, told.err
    calls = [json.loads(line) for line in (tmp_path / "out" / "calls.jsonl").read_text().splitlines()]
    assert len(calls) == 3
    assert all(call["bytes_out"] > 0 and call["status"] == 200 for call in calls)
    assert "upon" not in (tmp_path / "out" / "calls.jsonl").read_text()
    wrong = guiju(
        "eval", "--model", "openai:test-model", "--task", "translation", "--data", "x.jsonl", "--remote", "sauce=1"
    )
    assert wrong.code == 2
    assert "remote.sauce is not a setting" in wrong.err
