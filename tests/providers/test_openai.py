"""`openai:NAME`, against a real server on loopback that can be told to misbehave."""

from __future__ import annotations

import socket
import threading
import time

import openai
import pytest

from guiju.errors import ConfigError, DataError, ModelError
from guiju.providers import Prices, RemoteSettings, load
from guiju.providers.calls import RemoteError, concurrently

PROMPT = "Once upon a time"
REFERENCE = "openai:test-model"
KEY = "sk-secret-key"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Waits between tries are as they are, only shorter."""
    monkeypatch.setattr("guiju.providers.openai_endpoint._FIRST_WAIT_S", 0.01)


def remote(**settings):
    calls = []
    model = load(REFERENCE, remote=RemoteSettings(**settings), record_call=calls.append)
    return model, calls


# What the server is: the client of the field is content with it


def test_the_openai_client_itself_reads_what_the_server_says(server, stories_model):
    with openai.OpenAI(base_url=server.url, api_key="x", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["test-model"]
        echo = client.completions.create(model="test-model", prompt=PROMPT, max_tokens=0, echo=True, logprobs=2)
        held = echo.choices[0].logprobs
        assert echo.choices[0].text == PROMPT and "".join(held.tokens) == PROMPT and held.token_logprobs[0] is None
        nats = -sum(held.token_logprobs[1:])
        assert nats == pytest.approx(stories_model.score([PROMPT])[0].nll_nats, rel=1e-4)
        two = client.completions.create(model="test-model", prompt=PROMPT, max_tokens=5, n=2, seed=3, stop=["."])
        assert [choice.index for choice in two.choices] == [0, 1]
        messages = [{"role": "user", "content": PROMPT}]
        chat = client.chat.completions.create(model="test-model", messages=messages, max_tokens=9, temperature=0)
        events = client.chat.completions.create(
            model="test-model", messages=messages, max_tokens=9, temperature=0, stream=True
        )
        streamed = "".join(event.choices[0].delta.content or "" for event in events)
    expected = stories_model.generate(PROMPT, greedy=True, max_new_tokens=9, runner="torch")[0].text
    assert chat.choices[0].message.content == streamed == expected


# What a user gets


@pytest.mark.parametrize("api", ["completions", "chat", "auto"])
def test_greedy_text_is_that_of_the_model_behind_the_server(api, server, stories_model):
    model, _ = remote(api=api)
    prompts = [PROMPT, "Lily had a red ball", "The dog"]
    ours = model.generate(prompts, greedy=True, max_new_tokens=20)
    theirs = stories_model.generate(prompts, greedy=True, max_new_tokens=20, runner="torch")
    assert [(a.text, a.finish_reason) for (a,) in ours] == [(b.text, b.finish_reason) for (b,) in theirs]
    assert model.generate(PROMPT, greedy=True, max_new_tokens=20)[0].text == theirs[0][0].text
    assert list(model.generate_each(iter(prompts), greedy=True, max_new_tokens=20)) == list(ours)


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_stops_seeds_sequences_and_logprobs_reach_the_server(api, server, stories_model):
    model, _ = remote(api=api)
    stopped = model.generate(PROMPT, greedy=True, stop=("Lily",), max_new_tokens=40)[0]
    assert stopped.finish_reason == "stop" and stopped.text.endswith("named ")
    drawn = [
        model.generate(PROMPT, seed=7, temperature=2.0, num_return_sequences=3, max_new_tokens=9) for _ in range(2)
    ]
    assert drawn[0] == drawn[1] and len({one.text for one in drawn[0]}) == 3
    [one] = model.generate(PROMPT, greedy=True, max_new_tokens=5, logprobs=2)
    [same] = stories_model.generate(PROMPT, greedy=True, max_new_tokens=5, logprobs=2, runner="torch")
    assert [x.logprob for x in one.logprobs] == pytest.approx([x.logprob for x in same.logprobs], abs=1e-4)
    assert one.pieces == tuple(stories_model.piece(token) for token in same.ids) and one.ids == ()
    assert [len(x.top) for x in one.logprobs] == [2] * 5


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_a_text_streams_piece_by_piece(api, server, stories_model):
    model, calls = remote(api=api)
    pieces = list(model.stream(PROMPT, greedy=True, max_new_tokens=12))
    assert len(pieces) > 5
    assert "".join(pieces) == stories_model.generate(PROMPT, greedy=True, max_new_tokens=12, runner="torch")[0].text
    assert calls[0].purpose == "stream" and calls[0].completion_tokens == 12
    stream = model.stream(PROMPT, greedy=True, max_new_tokens=200)
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "guiju-stream"]
    given = {0: "", 1: ""}

    def take(number: int, text: str) -> None:
        given[number] += text

    found = model.generate(["The dog", PROMPT], greedy=True, max_new_tokens=6, on_text=take)
    assert given == {number: one.text for number, (one,) in enumerate(found)}


def test_scores_are_those_of_the_model_behind_the_server(server, stories_model):
    model, _ = remote()
    texts = ["Once there was a cat.", "Lily and Tom went to the park.", "x"]
    for ours, theirs in zip(model.score_each(iter(texts)), stories_model.score(texts), strict=True):
        assert ours.tokens == theirs.tokens and ours.nll_nats == pytest.approx(theirs.nll_nats, abs=1e-4)
        assert ours.bits_per_byte == pytest.approx(theirs.bits_per_byte, rel=1e-4)
    pairs = [("Once upon a", " time"), ("Once upon a", " dragon"), ("Once upon a", " time, there"), ("", "Once")]
    for ours, theirs in zip(model.score_continuations(pairs), stories_model.score_continuations(pairs), strict=True):
        assert ours == (pytest.approx(theirs.nll_nats, abs=1e-4), theirs.tokens, theirs.greedy)
    contexts = [body["prompt"] for _, body in server.requests if body.get("echo")]
    assert contexts.count("Once upon a") <= 3  # asked for once, unless several threads began at the same time


def test_a_server_that_puts_nothing_before_a_text_needs_the_tokenizer(serve, tmp_path):
    from guiju.model import Transformer, gpt2_config, save_model
    from guiju.tokens import TokenizerSettings, train_tokenizer

    tokenizer = train_tokenizer(["Once upon a time there was a dog. " * 9], TokenizerSettings(vocab_size=280))
    save_model(Transformer(gpt2_config(vocab_size=280, context=64, width=32, layers=2, heads=4)), tmp_path, tokenizer)
    local = load(tmp_path)
    serve(local)
    with pytest.raises(ModelError, match=r"cannot score: .* puts no token before a text,.*--tokenizer"):
        remote()[0].score([PROMPT])
    ours = load(REFERENCE, tmp_path).score([PROMPT, "a dog"])
    assert [one.nll_nats for one in ours] == pytest.approx(
        [one.nll_nats for one in local.score([PROMPT, "a dog"])], abs=1e-4
    )
    pairs = [("Once upon", " a time"), ("", "dog")]
    for one, other in zip(
        load(REFERENCE, tmp_path).score_continuations(pairs), local.score_continuations(pairs), strict=True
    ):
        assert one == (pytest.approx(other.nll_nats, abs=1e-4), other.tokens, other.greedy)


def test_what_it_cannot_raises_by_name(server):
    chat = remote(api="chat")[0]
    assert chat.abilities == {"generate", "stream"} and not chat.continues
    for ability in ("score", "score_continuations"):
        with pytest.raises(ModelError, match=f"{REFERENCE} cannot {ability}: it is reached over chat"):
            getattr(chat, ability)([PROMPT])
    model = remote()[0]
    for ability in ("embed", "classify"):
        assert ability not in model.abilities
        with pytest.raises(ModelError, match=f"cannot {ability}: "):
            getattr(model, ability)([PROMPT])
    for wish in ({"top_k": 5}, {"num_beams": 2}, {"regex": "a"}, {"runner": "torch"}, {"record": True}):
        with pytest.raises(ConfigError, match=f"{next(iter(wish))} is .*no such field"):
            model.generate(PROMPT, **wish)
    with pytest.raises(DataError, match="text 1 is empty"):
        model.score(["x", ""])


def test_auto_takes_chat_where_there_are_no_completions(serve):
    server = serve(chat_only=True)
    model, calls = remote()
    assert model.generate(PROMPT, greedy=True, max_new_tokens=4)[0].text
    assert [call.status for call in calls] == [404, 200] and model.abilities == {"generate", "stream"}
    with pytest.raises(ModelError, match="cannot score"):
        model.score([PROMPT])
    with pytest.raises(ModelError, match="cannot score: scoring needs completions"):
        remote()[0].score([PROMPT])
    with pytest.raises(RemoteError, match="does not know the model, or not this way"):
        remote(api="completions")[0].generate(PROMPT)
    assert server.requests


def test_a_chat_that_knows_the_limit_by_its_newer_name_alone_is_asked_so(server):
    server.new_limit = True
    model, calls = remote(api="chat")
    assert [len(one.text.split()) for (one,) in model.generate([PROMPT] * 2, greedy=True, max_new_tokens=3)]
    assert {call.status for call in calls} == {400, 200}
    assert list(model.stream(PROMPT, greedy=True, max_new_tokens=3)) and calls[-1].status == 200


# Records, limits, caps


def test_every_call_is_recorded_and_the_key_in_none_of_them(server):
    server.faults.extend(["500", "429"])
    model, calls = remote(purpose="a test")
    model.generate(PROMPT, greedy=True, max_new_tokens=4)
    model.score([PROMPT])
    assert [(call.status, call.attempt) for call in calls] == [(500, 1), (429, 2), (200, 3), (200, 1)]
    for call, (path, _) in zip(calls, server.requests, strict=True):
        assert call.purpose == "a test" and call.model == "test-model" and call.route == path
        assert call.host == server.url.split("/")[2]
        assert call.bytes_out > 30 and call.bytes_in > 10 and call.seconds > 0 and call.started > 1e9
    assert (calls[2].prompt_tokens, calls[2].completion_tokens) == (5, 4)
    assert [call.problem is None for call in calls] == [False, False, True, True]
    assert KEY not in repr(calls) and KEY not in repr(model.__dict__.values())
    assert remote()[0].score([PROMPT]) and remote()[1] == []
    assert "purpose='generate'" in repr(
        (lambda model, calls: (model.generate("x", max_new_tokens=1), calls))(*remote())
    )


def test_a_cap_on_tokens_or_money_is_never_exceeded(server):
    for cap in ({"max_tokens": 120}, {"max_cost": 120.0, "prices": Prices(input=1e6, output=1e6)}):
        model, calls = remote(concurrency=4, **cap)
        found = []
        with pytest.raises(RemoteError, match="leaves no room for the next call") as caught:
            found.extend(model.generate_each([PROMPT] * 50, greedy=True, max_new_tokens=4))
        spent = sum(call.prompt_tokens + call.completion_tokens for call in calls)
        assert 60 < spent <= 120 and spent == model.endpoint.budget.tokens
        assert len(found) + len(caught.value.finished) == len(calls) == spent // 9
    server.always = "uncounted"
    with pytest.raises(RemoteError, match="does not say how many tokens"):
        remote(max_tokens=1000)[0].generate(PROMPT)
    with pytest.raises(ConfigError, match="no prices are given, and none are guessed"):
        RemoteSettings(max_cost=1.0)


def test_a_rate_limit_is_kept(server):
    model, _ = remote(requests_per_minute=1200, concurrency=8)
    begin = time.perf_counter()
    model.generate([PROMPT] * 8, max_new_tokens=1)
    assert time.perf_counter() - begin >= 7 * 0.05


def test_many_requests_are_under_way_and_no_more_than_asked_for(serve):
    server = serve(slots=4, delay_s=0.05)
    model, calls = remote(concurrency=6)
    model.generate(["x"] * 40, max_new_tokens=1)
    assert (
        server.busy_share() > 0.6
    )  # of a machine that does much else; benchmarks/endpoint.py says how much of a calm one
    events = sorted([(call.started, 1) for call in calls] + [(call.started + call.seconds, -1) for call in calls])
    depth, most = 0, 0
    for _, change in events:
        depth += change
        most = max(most, depth)
    assert 4 <= most <= 6


# What goes wrong


def test_passing_trouble_is_waited_out(server):
    server.faults.extend(["429 after 0.1", "500", "garbage", "empty", "drop", "cut"])
    model, calls = remote(retries=6)
    begin = time.perf_counter()
    assert model.generate(PROMPT, greedy=True, max_new_tokens=3)[0].text
    assert time.perf_counter() - begin >= 0.1
    assert [call.status for call in calls] == [429, 500, 200, 200, None, 200, 200]
    server.slow_s = 0.4
    server.faults.append("slow")
    assert remote(timeout_s=0.2)[0].score([PROMPT])


@pytest.mark.parametrize(("fault", "message"), [
    ("429", r"asked too often \(429\): Rate limit reached, 3 times"),
    ("500", r"failed \(500\): The server had an error, 3 times"),
    ("garbage", r"answered what is no answer \(it is no JSON\): <html>502 Bad Gateway</html>, 3 times"),
    ("empty", r"answered what is no answer \(it has no list of choices\).*hello"),
    ("drop", "broke the connection"),
    ("cut", "broke the connection"),
    ("slow", r"did not answer within 0\.2 s, 3 times"),
    ("redirect", r"sends the request elsewhere \(307\)"),
    ("429 after 900", "asks to wait for 900 s"),
])  # fmt: skip
def test_lasting_trouble_is_named_with_the_server_and_the_reason(fault, message, server):
    server.always, server.slow_s = fault, 0.4
    model, calls = remote(retries=2, timeout_s=0.2)
    with pytest.raises(RemoteError, match=message) as caught:
        model.generate(PROMPT, max_new_tokens=3)
    assert f"{REFERENCE}: 127.0.0.1:" in str(caught.value) and KEY not in str(caught.value)
    assert all(call.problem for call in calls)


def test_a_server_that_is_down_a_wrong_model_and_a_wrong_key_are_named(server, monkeypatch):
    with pytest.raises(RemoteError, match=r"does not exist.*It offers: test-model"):
        load("openai:other").generate(PROMPT)
    with pytest.raises(RemoteError, match=r"refuses the request \(400\): .*context"):
        remote()[0].generate("word " * 900)
    server.key = "another"
    with pytest.raises(
        RemoteError, match=r"does not accept the key \(401\): .*\(the key\).* Check OPENAI_API_KEY"
    ) as caught:
        remote()[0].score([PROMPT])
    assert KEY not in str(caught.value)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{free.getsockname()[1]}/v1")
    with pytest.raises(RemoteError, match=r"cannot be reached.*Is it running"):
        remote(retries=1)[0].generate(PROMPT)
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000")
    with pytest.raises(ConfigError, match="must be such as"):
        remote()
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="neither OPENAI_BASE_URL"):
        remote()
    with pytest.raises(ConfigError, match="names no model"):
        load("openai:")


def test_a_stream_that_breaks_off_is_an_error_and_what_came_is_kept(server, stories_model):
    for api in ("completions", "chat"):
        server.faults.append("cut")
        pieces = []
        with pytest.raises(RemoteError, match="broke off in the middle"):
            pieces.extend(remote(api=api)[0].stream(PROMPT, greedy=True, max_new_tokens=20))
        assert pieces and stories_model.generate(PROMPT, greedy=True, max_new_tokens=20)[0].text.startswith(
            "".join(pieces)
        )


def test_what_is_finished_is_kept_when_one_request_fails(server):
    server.failing = ("Tom",)
    model, _ = remote(concurrency=2, retries=1)
    prompts = ["Once", "Lily", "Tom", *["Once"] * 20]
    found = []
    with pytest.raises(RemoteError, match=r"failed \(500\).*, 2 times") as caught:
        found.extend(model.generate_each(prompts, greedy=True, max_new_tokens=2))
    assert len(found) == 2 and 2 not in caught.value.finished and len(caught.value.finished) < 20
    with pytest.raises(RemoteError) as caught:
        model.generate(prompts, greedy=True, max_new_tokens=2)
    assert {0, 1} <= set(caught.value.finished) and caught.value.finished[0] == found[0]


def test_work_is_given_out_in_order_whatever_ends_first():
    def work(number: int, wait: float) -> int:
        time.sleep(wait)
        return number

    assert list(concurrently(work, [0.05, 0.0, 0.02, 0.0] * 5, 4)) == list(range(20))


def test_who_listens_no_longer_waits_for_a_moment_and_nothing_more_is_asked(server):
    begun: list[int] = []

    def work(number: int, wait: float) -> int:
        begun.append(number)
        time.sleep(wait)
        return number

    stream = concurrently(work, [0.0, *[20.0] * 30], 2)
    assert next(stream) == 0
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 5
    assert set(begun) <= {0, 1, 2}
    server.faults.extend(["", *["429 after 0.3"] * 50])
    model, calls = remote(concurrency=1, retries=40)
    answers = model.generate_each([PROMPT] * 9, greedy=True, max_new_tokens=2)
    next(answers)
    answers.close()
    asked = len(server.requests)
    time.sleep(1.5)  # time for four tries more
    assert len(server.requests) == asked == len(calls)


def test_the_verbs_take_a_remote_model(server, guiju, stories_model):
    answer = guiju("generate", "--model", REFERENCE, "--prompt", PROMPT, "--greedy", "--max-new-tokens", 5)
    assert answer.code == 0
    assert answer.out.strip() == PROMPT + stories_model.generate(PROMPT, greedy=True, max_new_tokens=5)[0].text
    assert f"asked test-model at {server.url.split('/')[2]}: 1 request, " in answer.err
    told = guiju(
        "generate", "--model", REFERENCE, "--prompt", PROMPT, "--greedy", "--max-new-tokens", 5, "--logprobs", 1
    )
    assert told.code == 0 and "',' -" in told.out
    assert guiju("score", "--model", REFERENCE, "--text", PROMPT, "--json").code == 0
    server.always = "redirect"
    failed = guiju("score", "--model", REFERENCE, "--text", PROMPT)
    assert failed.code == 2 and "sends the request elsewhere" in failed.err and "Traceback" not in failed.err
