"""`tf:FOLDER`: a SavedModel continues and scores as the model that it was made from, and without torch."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from guiju.errors import ConfigError, DataError, ModelError
from guiju.generation import SamplingSettings
from guiju.providers import export_model, load
from guiju.providers.tensorflow_library import import_tensorflow
from guiju.providers.tensorflow_model import load_graph
from guiju.tokens import TokenizerSettings, train_tokenizer

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K" / "stories260K.bin"
PROMPT = "Once upon a time"


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def exported(stories_saved) -> Path:
    for name in ("saved_model.pb", "guiju.json", "tokenizer.json", "variables/variables.index"):
        assert (stories_saved / name).is_file()
    facts = json.loads((stories_saved / "guiju.json").read_text())
    assert facts["context"] == 512 and facts["vocab_size"] == 512 and facts["stop_ids"] == [1, 2]
    return stories_saved


@pytest.fixture(scope="module")
def model(stories_in_tensorflow):
    return stories_in_tensorflow


@pytest.fixture(scope="module")
def original():
    return load(STORIES)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    text = "床前明月光，疑是地上霜。 Once upon a time there was a little dog. " * 20
    train_tokenizer([text], TokenizerSettings(vocab_size=280), folder)
    return folder


def test_greedy_text_is_that_of_the_model_it_was_made_from(model, original):
    prompts = [PROMPT, "", "Lily had a red ball"]
    ours = model.generate(prompts, greedy=True, max_new_tokens=60)
    theirs = original.generate(prompts, greedy=True, max_new_tokens=60)
    assert [[part.ids for part in one] for one in ours] == [[part.ids for part in one] for one in theirs]
    assert list(ours) == list(theirs)
    assert (ours.runner, ours.precision) == ("tensorflow", "float32")


def test_a_token_costs_one_step(model):
    found = model.generate(PROMPT, greedy=True, max_new_tokens=20)
    prompt = len(model.tokenizer.encode(PROMPT)) + 1
    assert found.work.steps == 20 and found.work.read == prompt + 19


def test_a_long_prompt_is_read_in_chunks_with_the_same_text(model, original):
    prompt = PROMPT + ", there was a dog." * 45
    assert len(model.tokenizer.encode(prompt)) > 256
    ours, theirs = (one.generate(prompt, greedy=True, max_new_tokens=12) for one in (model, original))
    assert ours[0] == theirs[0]
    assert ours.work.steps == 2 + 11


def test_several_sequences_share_their_prompt_and_a_seed_repeats_them(model):
    found = model.generate(PROMPT, seed=5, num_return_sequences=3, max_new_tokens=12)
    assert len({part.ids for part in found}) == 3 and {part.seed for part in found} == {5}
    assert found == model.generate(PROMPT, seed=5, num_return_sequences=3, max_new_tokens=12)
    assert found.work.steps == 1 + 3 * 11
    assert model.generate(["x", PROMPT], seed=5, max_new_tokens=12)[1][0] == found[0]


@pytest.mark.parametrize("wish", [
    {"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}, {"temperature": 1e-6}, {"temperature": 0},
    {"greedy": True, "repetition_penalty": 1.5},
])  # fmt: skip
def test_settings_that_leave_no_choice_give_torchs_text(wish, model, original):
    settings = {"max_new_tokens": 16, **wish}
    assert model.generate(PROMPT, **settings)[0].ids == original.generate(PROMPT, **settings)[0].ids


def test_stop_texts_limits_and_ends_are_heeded(model):
    stopped = model.generate(PROMPT, greedy=True, stop=("Lily",), max_new_tokens=60)[0]
    assert stopped.finish_reason == "stop" and stopped.text.endswith("named ") and "Lily" not in stopped.text
    assert model.generate(PROMPT, greedy=True, max_length=9)[0].finish_reason == "length"
    prompt = len(model.tokenizer.encode(PROMPT)) + 1
    assert len(model.generate(PROMPT, greedy=True, max_length=9)[0].ids) == 9 - prompt
    ended = model.generate("The end.", greedy=True, max_new_tokens=400)[0]
    longer = model.generate("The end.", greedy=True, max_new_tokens=len(ended.ids) + 3, ignore_eos=True)[0]
    assert ended.finish_reason == "stop" and len(longer.ids) == len(ended.ids) + 3


def test_text_is_given_out_as_it_comes(model):
    pieces: dict[int, str] = {}
    found = model.generate(
        PROMPT,
        seed=1,
        num_return_sequences=2,
        max_new_tokens=10,
        on_text=lambda number, text: pieces.update({number: pieces.get(number, "") + text}),
    )
    assert pieces == {0: found[0].text, 1: found[1].text}


def test_a_form_is_kept(model):
    found = model.generate(PROMPT, regex="[a-d]+ [0-9]{2}", seed=2, max_new_tokens=40)[0]
    assert found.finish_reason == "length" or len(found.text.split(" ")[1]) == 2
    text = model.generate(PROMPT, json_schema={"type": "boolean"}, seed=2)[0].text
    assert isinstance(json.loads(text), bool)


def test_log_probabilities_are_those_of_the_original(model, original):
    ours, theirs = (one.generate(PROMPT, greedy=True, max_new_tokens=8, logprobs=3)[0] for one in (model, original))
    for mine, other in zip(ours.logprobs, theirs.logprobs, strict=True):
        assert mine.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [token for token, _ in mine.top] == [token for token, _ in other.top]


def test_scores_are_those_of_the_original_also_beyond_the_context(model, original):
    texts = ["Once there was a cat.", "春天", "Lily and Tom went to the park to play. " * 90]
    assert len(model.tokenizer.encode(texts[-1])) > 2 * model.config.context
    for ours, theirs in zip(model.score(texts), original.score(texts), strict=True):
        assert ours.tokens == theirs.tokens
        assert ours.nll_nats == pytest.approx(theirs.nll_nats, rel=1e-5)
        assert ours.bits_per_byte == pytest.approx(theirs.bits_per_byte, rel=1e-5)
    with pytest.raises(DataError, match="text 0 is empty"):
        model.score([""])


@pytest.mark.parametrize(("wish", "message"), [
    ({"num_beams": 3}, "num_beams is 3, but a tf: model"),
    ({"runner": "openvino"}, "runner is 'openvino', but a tf: model"),
    ({"runner": "cloud"}, "runner is 'cloud'; it can be"),
    ({"precision": "int8"}, "precision is 'int8', but"),
    ({"record": True}, "record is asked for, but"),
    ({"prompt_lookup": 4}, "prompt_lookup is 4, but"),
    ({"logprobs": 1000}, "logprobs is 1000; it must be"),
    ({"beams": 3}, "no setting beams"),
    ({"max_length": 2}, "max_length is 2, but the prompt alone"),
    ({"temperature": math.nan}, "temperature is nan"),
])  # fmt: skip
def test_a_wish_that_cannot_be_is_refused(wish, message, model):
    with pytest.raises(ConfigError, match=message):
        model.generate(PROMPT, **wish)


def test_what_exceeds_the_context_is_refused(model):
    with pytest.raises(ModelError, match="context is 512"):
        model.generate("word " * 800)
    with pytest.raises(ModelError, match="context of 512"):
        model.generate(PROMPT, max_new_tokens=600)


def test_the_digest_names_the_content(model, exported, tmp_path):
    shutil.copytree(exported, tmp_path / "copy")
    copied = load(f"tf:{tmp_path / 'copy'}")
    assert copied.digest == model.digest
    facts = json.loads((tmp_path / "copy" / "guiju.json").read_text())
    (tmp_path / "copy" / "guiju.json").write_text(json.dumps({**facts, "context": 511}))
    del copied.__dict__["digest"]
    assert copied.digest != model.digest


def test_what_another_program_saved_is_not_exported_again(tensorflow, tokenizer, tmp_path):
    saved = Bigrams(tensorflow).save(tmp_path / "model")
    with pytest.raises(ModelError, match="cannot be taken out of the graph"):
        export_model(f"tf:{saved}", to="huggingface", out=tmp_path / "out", tokenizer=str(tokenizer))


def test_continuations_are_scored_as_by_the_original(model, original):
    pairs = [("Once upon a", " time"), ("Once upon a", " dragon"), ("", "Once"), ("Lily " * 300, "had a red ball")]
    for ours, theirs in zip(model.score_continuations(pairs), original.score_continuations(pairs), strict=True):
        assert ours == (pytest.approx(theirs.nll_nats, abs=1e-4), theirs.tokens, theirs.greedy)


def test_a_stream_ends_its_writing_when_nobody_listens(model):
    stream = model.stream(PROMPT, seed=1, max_new_tokens=400, ignore_eos=True)
    next(stream)
    stream.close()
    assert model.generate(PROMPT, greedy=True, max_new_tokens=3)[0].text  # the process answers the next request


# The process


def test_the_child_ends_with_its_parent_however_that_ends(exported):
    code = (
        "import sys, time, guiju\n"
        "model = guiju.load(sys.argv[1])\n"
        "print(model.child.process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, f"tf:{exported}"], stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    child.wait(timeout=10)


def test_a_child_that_is_killed_is_an_error_and_no_hang(exported):
    model = load(f"tf:{exported}")
    model.child.process.kill()
    for _ in range(2):
        with pytest.raises(ModelError, match="TensorFlow's process ended by signal 9"):
            model.generate(PROMPT, max_new_tokens=3)
    pid = model.child.process.pid
    del model
    gc.collect()
    assert not psutil.pid_exists(pid)


CHILD = """
import sys, guiju
from guiju.cli import main

reference = sys.argv[1]
model = guiju.load(reference)
assert model.generate("Once", seed=1, top_k=9, top_p=0.9, min_p=0.01, repetition_penalty=1.1, max_new_tokens=4)
assert model.score(["Once"]) and model.digest
sys.argv = ["guiju", "score", "--model", reference, "--text", "Once", "--json"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
assert "torch" not in sys.modules, "torch was imported"
assert "tensorflow" not in sys.modules, "tensorflow was imported"
"""


def test_no_torch_comes_into_the_process_and_tensorflow_is_quiet(exported):
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    done = subprocess.run([sys.executable, "-c", CHILD, f"tf:{exported}"], capture_output=True, text=True, env=plain)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["tokens"] == 1


# Other programs' models


class Bigrams:
    """A model of one table, whose greedy text is known beforehand."""

    def __init__(self, tf, vocab_size: int = 280):
        self.table = np.random.default_rng(0).standard_normal((vocab_size, vocab_size)).astype("float32")
        self.tf, self.module = tf, tf.Module()
        self.module.table = tf.Variable(self.table)

    def save(self, folder: Path, name: str = "serving_default", *specs, mask: bool = False, key: str = "output_0"):
        tf, table = self.tf, self.module.table

        def look_up(tokens, attention_mask=None):
            logits = tf.gather(table, tokens)
            if attention_mask is not None:  # what is not real has no logits
                logits = logits * tf.cast(attention_mask, tf.float32)[:, :, None]
            return {key: logits}

        ids = specs or (tf.TensorSpec((None, None), tf.int64, name="tokens"),)
        if mask:
            ids = (*ids, tf.TensorSpec((None, None), tf.int32, name="attention_mask"))
        function = tf.function(look_up).get_concrete_function(*ids)
        tf.saved_model.save(self.module, str(folder), signatures={name: function})
        return folder

    def greedy(self, token: int, count: int) -> list[int]:
        ids = []
        for _ in range(count):
            token = int(self.table[token].argmax())
            ids.append(token)
        return ids


@pytest.mark.parametrize("mask", [False, True])
def test_a_foreign_model_with_a_signature_from_ids_to_logits_is_continued(mask, tensorflow, tokenizer, tmp_path):
    bigrams = Bigrams(tensorflow)
    model = load_graph(bigrams.save(tmp_path / "model", "predict", mask=mask), tokenizer)
    last = model.tokenizer.encode("dog")[-1]
    found = model.generate(["dog"], SamplingSettings(greedy=True, max_new_tokens=15, ignore_eos=True))
    assert list(found[0][0].ids) == bigrams.greedy(last, 15)
    assert found.work.read == sum(range(len(model.tokenizer.encode("dog")), len(model.tokenizer.encode("dog")) + 15))


def test_a_keras_model_is_continued_and_its_tokenizer_is_found_in_the_folder(tensorflow, tokenizer, tmp_path):
    keras = tensorflow.keras
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Embedding(280, 16), keras.layers.LayerNormalization(), keras.layers.Dense(280)]
    network = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    network.export(str(tmp_path / "model"), verbose=False)
    shutil.copytree(tokenizer, tmp_path / "model", dirs_exist_ok=True)
    model = load(f"tf:{tmp_path / 'model'}")
    ids = model.tokenizer.encode("a dog")
    logits = network(np.array([ids], dtype="int32")).numpy()[0]
    np.testing.assert_allclose(load_graph(tmp_path / "model").graph.read(ids), logits, atol=1e-5)
    assert model.generate("a dog", greedy=True, max_new_tokens=1)[0].ids[0] == logits[-1].argmax()


def test_a_signature_that_does_not_fit_is_listed(tensorflow, tokenizer, tmp_path):
    tf = tensorflow
    bigrams = Bigrams(tf)
    fixed = bigrams.save(tmp_path / "fixed", "predict", tf.TensorSpec((None, 7), tf.int64, name="tokens"))
    with pytest.raises(
        ModelError, match=r"no signature from token ids .*predict: tokens int64 \(None, 7\) -> output_0"
    ):
        load_graph(fixed, tokenizer)
    module = tf.Module()
    module.call = tf.function(lambda x: x * 2, input_signature=[tf.TensorSpec((None, 4), tf.float32, name="pixels")])
    tf.saved_model.save(module, str(tmp_path / "picture"), signatures=module.call)
    with pytest.raises(ModelError, match=r"serving_default: pixels float32 \(None, 4\)"):
        load_graph(tmp_path / "picture", tokenizer)
    tf.saved_model.save(tf.Module(), str(tmp_path / "none"))
    with pytest.raises(ModelError, match="has no signature at all"):
        load_graph(tmp_path / "none", tokenizer)


def test_ids_that_the_graph_refuses_are_an_error_and_no_crash(tensorflow, tokenizer, tmp_path):
    """A table of fewer rows than the logits have columns."""
    tf = tensorflow
    module = tf.Module()
    module.table = tf.Variable(tf.zeros((100, 280)))
    look_up = tf.function(lambda tokens: {"logits": tf.gather(module.table, tokens)})
    spec = tf.TensorSpec((None, None), tf.int32, name="tokens")
    tf.saved_model.save(module, str(tmp_path / "model"), signatures=look_up.get_concrete_function(spec))
    model = load(f"tf:{tmp_path / 'model'}", tokenizer=str(tokenizer))
    with pytest.raises(ModelError, match="TensorFlow could not compute it"):
        model.score(["时"])


# What is damaged or missing


@pytest.fixture
def copy(exported, tmp_path) -> Path:
    shutil.copytree(exported, tmp_path / "copy")
    return tmp_path / "copy"


def test_what_is_no_savedmodel_is_refused(tmp_path, copy):
    with pytest.raises(ModelError, match=r"nothing has no saved_model\.pb"):
        load(f"tf:{tmp_path / 'nothing'}")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (copy / name).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"no tokenizer"):
        load_graph(copy)


@pytest.mark.parametrize(("facts", "message"), [
    ("{", "is not valid JSON"),
    ("[1]", "must hold a JSON object"),
    ('{"format": 2}', "is of format 2; this version reads 1"),
    ('{"format": 1, "context": 0}', "context is 0"),
    ('{"format": 1, "context": "5"}', "context is '5'"),
    ('{"format": 1, "vocab_size": 99}', "vocab_size 99, but the graph's logits have 512 columns"),
    ('{"format": 1, "stop_ids": [-1]}', "stop_ids is -1"),
    ('{"format": 1, "colour": 1}', "field 'colour'"),
    ('{"format": 1, "never_ids": [512]}', "names the id 512, but ids run from 0 to 511"),
    ("[" * 100000, "is not valid JSON"),
])  # fmt: skip
def test_facts_that_cannot_be_are_refused_with_the_value(facts, message, copy):
    (copy / "guiju.json").write_text(facts)
    with pytest.raises(ModelError, match=message):
        load_graph(copy)


def test_damaged_weights_are_refused(copy):
    data = copy / "variables" / "variables.data-00000-of-00001"
    whole = data.read_bytes()
    data.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="TensorFlow cannot load"):
        load_graph(copy)
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    data.write_bytes(changed)
    with pytest.raises(ModelError, match="TensorFlow cannot load"):
        load_graph(copy)


def test_tensorflow_that_is_not_installed_is_said_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ConfigError, match=r"pip install 'guiju\[tensorflow\]'"):
        import_tensorflow.__wrapped__()
