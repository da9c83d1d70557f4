"""A task is put to real small models and to answers made elsewhere; samples outlive kills, and figures say their n."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from asking_child import SlowModel, records

from guiju.errors import ConfigError, DataError, ModelError
from guiju.model import bert_config, build_model, save_model, transformer_config
from guiju.providers import LocalModel, load
from guiju.tasks import Labelled, Pair, Question, TaskSettings, ask, compare, evaluate, read_predictions, task_named
from guiju.tasks.store import ASKED, SAMPLES, SampleLog, read_samples
from guiju.tasks.table import sample_table
from guiju.tasks.windows import blocks, passages
from guiju.tokens import Chat, TokenizerSettings, Turn, choose_template, train_tokenizer

pytest.importorskip("sacrebleu", reason="needs pip install 'guiju[eval]'")

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K" / "stories260K.bin"


@pytest.fixture(scope="module")
def stories():
    return load(STORIES)


def given(**answers: object) -> dict[str, tuple[object, str]]:
    return {id: (value, f"line {id}") for id, value in answers.items()}


def finished(folder: Path) -> list[str]:
    if not (folder / ASKED).exists():
        return []
    return [sample.record.id for sample in read_samples(folder).samples]


# --- kept samples


def test_a_killed_evaluation_goes_on_where_it_was_and_asks_no_one_twice(tmp_path):
    folder, answered, count = tmp_path / "out", tmp_path / "answered", 30
    chance, kills = random.Random(7), 0
    for _ in range(30):
        before = finished(folder)
        start = answered.read_text().splitlines() if answered.exists() else []
        arguments = [str(Path(__file__).with_name("asking_child.py")), str(folder), str(answered), str(count), "0.005"]
        child = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL)
        wait_until(child, folder, len(before) + 1, 60)
        time.sleep(chance.random() * 0.06)
        child.kill()
        code = child.wait()
        now = [f"source {id}" for id in before]
        asked = answered.read_text().splitlines()[len(start) :]
        assert not set(asked) & set(now), "a sample that was kept was asked again"
        assert set(before) <= set(finished(folder)), "a sample was lost"
        kills += code == -signal.SIGKILL
        if code == 0 or len(finished(folder)) == count:
            break
    assert kills >= 3
    result = evaluate("translation", records(count), model=SlowModel(answered, 0), out=folder)
    assert finished(folder) == [str(n) for n in range(count)]
    assert (result.n, result.unanswered, round(result.metrics["chrf++"].value)) == (count, 0, 100)


def wait_until(child, folder, count, patience_s):
    end = time.monotonic() + patience_s
    while len(finished(folder)) < count and child.poll() is None:
        assert time.monotonic() < end, "the child did not come so far"
        time.sleep(0.005)


def test_a_line_that_a_kill_cut_is_asked_again_and_the_others_are_not(tmp_path):
    answered = tmp_path / "answered"
    evaluate("translation", records(4), model=SlowModel(answered, 0), out=tmp_path / "out")
    place = tmp_path / "out" / SAMPLES
    whole = place.read_bytes()
    place.write_bytes(whole[: whole.rstrip(b"\n").rfind(b"\n") + 20])
    answered.unlink()
    evaluate("translation", records(4), model=SlowModel(answered, 0), out=tmp_path / "out")
    assert answered.read_text() == "source 3\n"
    assert place.read_bytes() == whole


def test_more_of_the_same_data_may_follow_and_only_it_is_asked(tmp_path):
    answered = tmp_path / "answered"
    model = SlowModel(answered, 0)
    evaluate("translation", records(6), model=model, settings=TaskSettings(limit=2), out=tmp_path / "out")
    assert evaluate("translation", records(6), model=model, out=tmp_path / "out").n == 6
    assert answered.read_text().split("\n")[:-1] == [f"source {n}" for n in range(6)]


def test_a_folder_takes_no_samples_of_another_question(tmp_path):
    model = SlowModel(tmp_path / "answered", 0)
    evaluate("translation", records(2), model=model, out=tmp_path / "out")
    with pytest.raises(ConfigError, match="its settings is"):
        evaluate("translation", records(2), model=model, settings=TaskSettings(num_beams=2), out=tmp_path / "out")
    changed = [replace(one, source="something else") for one in records(2)]
    with pytest.raises(ConfigError, match="an answer to '0', but of other data"):
        evaluate("translation", changed, model=model, out=tmp_path / "out")
    other = SlowModel(tmp_path / "answered", 0)
    other.digest = "1" * 64
    with pytest.raises(ConfigError, match="its digest is"):
        evaluate("translation", records(2), model=other, out=tmp_path / "out")


def test_two_processes_do_not_write_into_one_folder(tmp_path):
    with SampleLog(tmp_path, {"task": "translation"}):
        code = f"from guiju.tasks.store import SampleLog; SampleLog({str(tmp_path)!r}, {{'task': 'translation'}})"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 1
    assert "is being written by another process" in found.stderr


def test_a_damaged_sample_is_named_with_its_line(tmp_path):
    model = SlowModel(tmp_path / "answered", 0)
    evaluate("translation", records(2), model=model, out=tmp_path / "out")
    place = tmp_path / "out" / SAMPLES
    place.write_bytes(b'{"kind": "Pair"}\n' + place.read_bytes())
    with pytest.raises(DataError, match="line 1 is no sample"):
        evaluate("translation", records(2), model=model, out=tmp_path / "out")


class Failing(SlowModel):
    """A server that goes down after some answers, of which one came out of turn."""

    def generate_each(self, prompts, settings=None, **wishes):
        prompts = list(prompts)
        yield from super().generate_each(prompts[:3])
        problem = ModelError("the endpoint is down")
        problem.finished = {5: next(super().generate_each([prompts[5]]))}
        raise problem


def test_what_an_endpoint_answered_before_it_failed_is_kept(tmp_path):
    answered = tmp_path / "answered"
    with pytest.raises(ModelError, match="is down"):
        evaluate("translation", records(8), model=Failing(answered, 0), out=tmp_path / "out")
    assert finished(tmp_path / "out") == ["0", "1", "2", "5"]
    answered.unlink()
    assert evaluate("translation", records(8), model=SlowModel(answered, 0), out=tmp_path / "out").n == 8
    assert answered.read_text().split() == "source 3 source 4 source 6 source 7".split()  # noqa: SIM905


# --- predictions


def test_answers_made_elsewhere_are_scored_and_one_that_is_missing_is_wrong(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"id": 0, "prediction": "0 ecruos"}\n{"id": "2", "prediction": null}\n{"id": "3", "prediction": ""}\n'
    )
    result = evaluate("translation", records(4), predictions=read_predictions(path), out=tmp_path / "out")
    assert (result.n, result.unanswered) == (4, 3)
    assert result.metrics["chrf++"].value < 50
    assert result.metrics["chrf++"].n == 4
    samples = read_samples(tmp_path / "out").samples
    assert [sample.status for sample in samples] == ["answered", "unanswered", "unanswered", "unanswered"]
    assert "no prediction" in samples[1].details["why"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "9", "prediction": "x"}\n', "no record '9' in the data"),
        ('{"id": "0", "prediction": "x"}\n{"id": 0, "prediction": "y"}\n', "line 2 has the id 0, which came before"),
        ('{"id": "0", "answer": "x"}\n', "line 1 must be such as"),
        ('{"id": "0", "prediction": ["x"]}\n', "it must be a text, or null"),
        ("", "holds no prediction"),
        ("{\n", "line 1 is not valid JSON"),
    ],
)
def test_predictions_that_cannot_be_meant_are_told_with_their_line(content, message, tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        evaluate("translation", records(2), predictions=read_predictions(path))


def test_squads_own_form_of_predictions_is_read(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"a": "Ann", "b": ""}')
    asked = [
        Question(id="a", place="", question="Who?", context="It was Ann.", answers=("Ann",), starts=(7,)),
        Question(id="b", place="", question="When?", context="It was Ann.", answers=(), starts=()),
    ]
    assert evaluate("question-answering", asked, predictions=read_predictions(path)).metrics["f1"].value == 1


def test_two_records_of_one_id_are_refused():
    with pytest.raises(DataError, match=r"row 0 has the id '0', which row 0 has, too"):
        evaluate("translation", records(1) * 2, predictions=given())


def test_reference_solutions_pass_and_wrong_ones_do_not():
    from guiju.tasks import read_records

    problems = list(read_records(STORIES.parents[1] / "humaneval" / "HumanEval.even.jsonl", task_named("code").kind))[
        :6
    ]
    answers = {problem.id: (problem.solution, "here") for problem in problems}
    answers[problems[2].id] = ("    return None\n", "here")
    answers[problems[3].id] = ("```python\n" + problems[3].prompt + problems[3].solution + "\n```", "here")
    result = evaluate("code", problems, predictions=answers)
    assert result.metrics["pass@1"].value == pytest.approx(5 / 6)


# --- models


def test_a_model_that_goes_on_with_text_does_every_task_and_every_figure_has_its_n(stories, tmp_path):
    pairs = [Pair(id=str(n), place="", source="Lily saw a dog.", targets=("Lily sah einen Hund.",)) for n in range(3)]
    texts = [Labelled(id=str(n), place="", text="It was a good day.", label=str(n % 2)) for n in range(4)]
    asked = [Question(id="q", place="", question="Who?", context="It was Ann.", answers=("Ann",), starts=(7,))]
    for task, held in (
        ("translation", pairs),
        ("summarization", pairs),
        ("question-answering", asked),
        ("sentiment", texts),
    ):
        result = evaluate(task, held, model=stories, settings=TaskSettings(new_tokens=8), out=tmp_path / task)
        assert result.n == len(held)
        assert all(one.low <= one.value <= one.high for one in result.metrics.values())
        assert (tmp_path / task / "samples.html").exists()
        assert json.loads((tmp_path / task / "result.json").read_text())["n"] == len(held)
    assert result.metrics["accuracy"].value == 0.5
    assert {"ece", "brier", "macro_f1"} < set(result.metrics)


def test_labels_words_are_weighed_as_the_model_scores_them(stories):
    texts = [Labelled(id="0", place="", text="The little girl was very happy.", label="1")]
    [sample] = ask(task_named("sentiment"), stories, texts, TaskSettings(language="en"), ["0", "1"])
    scores = stories.score_continuations(
        [(f"Review: {texts[0].text}\nSentiment:", word) for word in (" negative", " positive")]
    )
    shares = torch.tensor([-one.nll_nats for one in scores]).softmax(dim=0).tolist()
    assert [sample.details["probabilities"][label] for label in ("0", "1")] == pytest.approx(shares, rel=1e-4)


def test_a_source_longer_than_the_context_is_read_in_windows_or_refused(stories):
    long = "The cat sat on the mat. " * 150 + "It was Ann who came. " + "The dog ran home. " * 150
    asked = [
        Question(id="q", place="", question="Who came?", context=long, answers=("Ann",), starts=(long.find("Ann"),))
    ]
    short = TaskSettings(new_tokens=8, long_sources="refuse")
    refused = evaluate("question-answering", asked, model=stories, settings=short)
    assert (refused.refused, refused.unanswered, refused.metrics["f1"].value) == (1, 1, 0)
    read = evaluate("question-answering", asked, model=stories, settings=TaskSettings(new_tokens=8))
    assert read.refused == 0
    pair = [Pair(id="0", place="", source=long, targets=("x",))]
    assert evaluate("summarization", pair, model=stories, settings=TaskSettings(new_tokens=8)).refused == 0
    text = [Labelled(id=str(n), place="", text=long, label=str(n)) for n in range(2)]
    assert evaluate("sentiment", text, model=stories).refused == 0


def test_windows_leave_nothing_out_and_overlap_as_they_should():
    text = " ".join(f"Sentence number {n} is here." for n in range(60))
    parts = list(passages(text, lambda part: len(part) <= 200, 0.25))
    assert all(text[begin : begin + len(part)] == part and len(part) <= 200 for begin, part in parts)
    ends = [begin + len(part) for begin, part in parts]
    assert ends[-1] == len(text)
    overlaps = [end - begin for end, (begin, _) in zip(ends, parts[1:], strict=False)]
    assert all(40 <= overlap <= 50 for overlap in overlaps)
    cut = list(blocks(text, lambda part: len(part) <= 200))
    assert " ".join(cut) == text
    assert all(part.endswith(".") for part in cut)
    assert "".join(blocks("一" * 500, lambda part: len(part) <= 200)) == "一" * 500
    assert list(passages("abc", lambda part: not part, 0.5)) == []


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Makes tiny random encoders with a head, in Hugging Face folders, and loads them."""

    def make(head: str, **fields: object):
        folder = tmp_path_factory.mktemp(head)
        torch.manual_seed(5)
        tokenizer = train_tokenizer(["it was a good day and ann came home " * 30], TokenizerSettings(vocab_size=280))
        config = bert_config(vocab_size=280, context=32, width=16, layers=1, heads=2, head=head, **fields)
        model = build_model(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.5)
        save_model(model.eval(), folder)
        tokenizer.save(folder)
        return load(folder)

    return make


def test_a_head_of_classes_classifies_and_a_label_that_it_has_not_is_told(encoder):
    model = encoder("classes", labels=("negative", "positive"))
    texts = ["it was a good day", "ann came home", "and a day " * 30]
    held = [Labelled(id=str(n), place="", text=text, label=str(n % 2)) for n, text in enumerate(texts)]
    [*samples] = ask(task_named("sentiment"), model, held, TaskSettings(language="en"), ["0", "1"])
    table = model.classify(texts, stride=24)
    assert [sample.prediction for sample in samples] == [model.labels[place] for place in table.argmax(axis=1)]
    for sample, row in zip(samples, table.tolist(), strict=True):
        assert list(sample.details["probabilities"].values()) == pytest.approx(row, rel=1e-5)
    refused = evaluate("sentiment", held, model=model, settings=TaskSettings(long_sources="refuse"))
    assert (refused.n, refused.refused) == (3, 1)
    assert refused.metrics["ece"].n == 2
    with pytest.raises(DataError, match="the label 'so-so', which the model's head has not"):
        evaluate("sentiment", [*held, Labelled(id="x", place="", text="x", label="so-so")], model=model)


def test_a_head_over_spans_points_at_the_answer_of_the_highest_logits(encoder):
    model = encoder("span")
    asked, passage = "ann", "it was a good day and home"
    question = Question(id="q", place="", question=asked, context=passage, answers=("day",), starts=(14,))
    [sample] = ask(task_named("question-answering"), model, [question], TaskSettings(language="en"))
    (words, _), (ids, places) = model.tokenizer.encode_with_places([asked, passage])
    row, segments = model.tokenizer.with_template(words, ids)
    logits = model.model(torch.tensor([row]), segments=torch.tensor([segments]))[0].detach()
    begin = len(row) - len(ids) - len(model.tokenizer.suffix_ids)
    sums = {
        (first, last): float(logits[begin + first, 0] + logits[begin + last, 1])
        for first in range(len(ids))
        for last in range(first, len(ids))
    }
    (first, last), best = max(sums.items(), key=lambda item: item[1])
    if best > float(logits[0].sum()):
        assert sample.details["span"] == [places[first][0], places[last][1]]
        assert sample.prediction == passage[places[first][0] : places[last][1]]
    else:
        assert sample.prediction == ""
    assert sample.details["score"] == pytest.approx(best - float(logits[0].sum()), rel=1e-3)
    long = replace(question, id="r", context=passage + " and ann came home" * 20)
    assert evaluate("question-answering", [question, long], model=model).refused == 0
    settings = TaskSettings(long_sources="refuse")
    assert evaluate("question-answering", [question, long], model=model, settings=settings).refused == 1


def test_beside_an_encoder_the_source_alone_is_read_and_searched_by_beams():
    torch.manual_seed(1)
    tokenizer = train_tokenizer(["it was a good day and ann came home " * 30], TokenizerSettings(vocab_size=280))
    model = build_model(transformer_config(vocab_size=280, context=24, width=16, layers=1, heads=2)).eval()
    local = LocalModel("ours", model, tokenizer, ())
    settings = TaskSettings(language="de", new_tokens=6, num_beams=2)
    pair = Pair(id="0", place="", source="ann came home", targets=("x",))
    [sample] = ask(task_named("translation"), local, [pair], settings)
    [sequence] = local.generate("ann came home", num_beams=2, max_new_tokens=6)
    assert sample.details["text"] == sequence.text
    long = replace(pair, source="it was a good day. " * 30)
    [sample] = ask(task_named("translation"), local, [long], settings)
    assert isinstance(sample.details["text"], list)
    [sample] = ask(task_named("translation"), local, [long], replace(settings, long_sources="refuse"))
    assert sample.status == "refused"


def test_a_chat_template_of_the_models_own_carries_the_prompt(stories):
    text = "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}[assistant]"
    chatting = replace(stories, tokenizer=stories.tokenizer.with_chat_template(text))
    pair = Pair(id="0", place="", source="Hi", targets=("x",))
    settings = TaskSettings(language="en", prompt="Say {source}", new_tokens=8)
    [sample] = ask(task_named("translation"), chatting, [pair], settings)
    with Chat(choose_template("auto", chatting.tokenizer), chatting.tokenizer) as chat:
        ids = chat.prompt([Turn("user", "Say Hi")])
    assert sample.details["text"] == stories.generate([ids], greedy=True, max_new_tokens=8)[0][0].text
    [plain] = ask(task_named("translation"), chatting, [pair], replace(settings, template="none"))
    assert plain.details["text"] == stories.generate("Say Hi", greedy=True, max_new_tokens=8, stop=("\n\n",))[0].text


def test_wishes_that_nothing_would_heed_are_refused(stories, encoder, tmp_path):
    for wish, message in (
        ({"template": "fancy"}, "template is 'fancy'"),
        ({"long_sources": "cut"}, "long_sources is 'cut'"),
        ({"overlap": 1.0}, "overlap is 1.0"),
        ({"tries": 2, "temperature": 0.0}, "all would be the same"),
    ):
        with pytest.raises(ConfigError, match=message):
            TaskSettings(**wish)
    with pytest.raises(ConfigError, match="for the task code alone"):
        evaluate("translation", records(1), predictions=given(), settings=TaskSettings(tries=2))
    text = [Labelled(id="0", place="", text="x", label="a")]
    model = encoder("classes", labels=("a", "b"))
    with pytest.raises(ConfigError, match="would not heed it"):
        list(ask(task_named("sentiment"), model, text, TaskSettings(language="en", prompt="{text}")))
    evaluate("translation", records(1), model=SlowModel(tmp_path / "answered", 0), out=tmp_path / "out")
    with pytest.raises(ConfigError, match="holds samples of another evaluation"):
        evaluate("translation", records(1), predictions={"0": ("x", "")}, out=tmp_path / "out")


def test_a_prompt_of_ones_own_is_filled_in_and_a_field_that_is_not_there_is_told(stories):
    pair = Pair(id="0", place="", source="Once upon a time", targets=("x",))
    settings = TaskSettings(language="en", prompt="{source}", new_tokens=8)
    [sample] = ask(task_named("translation"), stories, [pair], settings)
    assert sample.prediction == stories.generate("Once upon a time", greedy=True, max_new_tokens=8)[0].text.strip()
    with pytest.raises(ConfigError, match=r"no field sauce.*in braces may stand id, place, source"):
        list(ask(task_named("translation"), stories, [pair], replace(settings, prompt="{sauce}")))


def test_a_model_that_cannot_do_a_task_says_so():
    mute = SimpleNamespace(reference="mute", abilities=frozenset({"embed"}), labels=(), continues=True)
    with pytest.raises(ModelError, match="mute cannot do translation: it can embed"):
        list(ask(task_named("translation"), mute, records(1), TaskSettings(language="en")))


# --- comparing, and the page


def test_two_evaluations_are_compared_on_the_same_samples(tmp_path):
    good = {str(n): (f"source {n}"[::-1], "") for n in range(20)}
    bad = {str(n): ("something else", "") for n in range(20)}
    evaluate("translation", records(20), predictions=bad, out=tmp_path / "a")
    evaluate("translation", records(20), predictions=good, out=tmp_path / "b")
    evaluate("translation", records(30), predictions=good | {"25": ("x", "")}, out=tmp_path / "c")
    found = compare(tmp_path / "a", tmp_path / "b")
    assert (found.verdict, found.n, found.left_out) == ("better", 20, 0)
    assert found.changes["chrf++"].low > 50
    assert compare(tmp_path / "b", tmp_path / "b").verdict == "undecided"
    assert compare(tmp_path / "b", tmp_path / "c").left_out == 10
    evaluate("summarization", records(20), predictions=good, out=tmp_path / "d")
    with pytest.raises(DataError, match=r"of task translation, and .* of summarization"):
        compare(tmp_path / "a", tmp_path / "d")
    others = [replace(one, source="other") for one in records(20)]
    evaluate("translation", others, predictions=good, out=tmp_path / "e")
    with pytest.raises(DataError, match="another record"):
        compare(tmp_path / "a", tmp_path / "e")
    with pytest.raises(DataError, match="holds no evaluation"):
        compare(tmp_path / "a", tmp_path)


def test_the_page_has_wrong_ones_first_runs_only_its_own_script_and_shows_hostile_text_as_text(tmp_path):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    held = [*records(3), Pair(id="evil", place="", source=evil, targets=(evil,))]
    answers = {"0": ("0 ecruos", ""), "1": ("nothing of it", ""), "evil": (evil[::-1], "")}
    evaluate("translation", held, predictions=answers, out=tmp_path / "out")
    page = (tmp_path / "out" / "samples.html").read_text()
    assert evil not in page
    assert "onerror=alert(2)&gt;" in page
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page
    assert re.findall(r'data-state="(\w+)"', page)[-1] == "right"
    assert "".join(sample_table(task_named("translation"), *_scored(held))).count("<tr") == 1 + 4 + 1 + 3


def _scored(held):
    from guiju.tasks.evaluation import score_samples
    from guiju.tasks.samples import Sample

    samples = [Sample(one, "x") for one in held]
    result, marks = score_samples(task_named("translation"), samples, "en")
    return result, samples, marks


@pytest.mark.slow
def test_a_model_of_the_library_is_asked_as_ours_is_long_sources_in_windows(stories, tmp_path):
    from guiju.providers import export_model

    export_model(str(STORIES), to="huggingface", out=tmp_path / "hf")
    theirs = load(f"transformers:{tmp_path / 'hf'}")
    pairs = [Pair(id=str(n), place="", source="The cat sat. " * n, targets=("x",)) for n in (1, 300)]
    settings = TaskSettings(language="en", new_tokens=6)
    found = [
        [one.details["text"] for one in ask(task_named("summarization"), model, pairs, settings)]
        for model in (stories, theirs)
    ]
    assert found[0] == found[1]
    assert isinstance(found[0][1], list)
    [_, refused] = ask(task_named("summarization"), theirs, pairs, replace(settings, long_sources="refuse"))
    assert refused.status == "refused"
