from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers

from guiju.errors import ConfigError, DataError, ModelError
from guiju.generation import SamplingSettings
from guiju.model import Transformer, gpt2_config, save_model
from guiju.providers import export_model, load, read_texts
from guiju.tokens import TokenizerSettings, train_tokenizer

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K"
PROMPT = "Once upon a time"


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def checkpoint(tmp_path):
    """The llama2.c checkpoint with its tokenizer, in a folder of its own."""
    for name in ("stories260K.bin", "tok512.bin"):
        shutil.copy(STORIES / name, tmp_path / name)
    return tmp_path / "stories260K.bin"


@pytest.fixture(scope="module")
def gpt2():
    """A random model of GPT-2's shape over a vocabulary of 300, with its tokenizer."""
    torch.manual_seed(0)
    text = "床前明月光，疑是地上霜。举头望明月，低头思故乡。 Once upon a time there was a little dog. " * 20
    tokenizer = train_tokenizer([text], TokenizerSettings(vocab_size=300))
    model = Transformer(gpt2_config(vocab_size=300, context=64, width=32, layers=2, heads=4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval(), tokenizer


def test_a_llama2c_checkpoint_finds_the_tokenizer_beside_it(checkpoint):
    [sequence] = load(str(checkpoint)).generate("", greedy=True, max_new_tokens=20)
    assert sequence.text.startswith("Once upon a time, there was a little girl")


def test_of_several_tokenizers_the_one_of_the_right_size_is_taken(checkpoint):
    (checkpoint.parent / "tokenizer.bin").write_bytes((STORIES / "tok512.bin").read_bytes()[:-14])
    (checkpoint.parent / "tok_broken.bin").write_bytes(b"nothing")
    assert load(checkpoint).tokenizer.vocab_size == 512


def test_two_tokenizers_that_fit_leave_the_choice_to_the_user(checkpoint):
    shutil.copy(STORIES / "tok512.bin", checkpoint.parent / "tok_other.bin")
    with pytest.raises(ModelError, match=r"several tokenizers of 512 pieces: tok512\.bin, tok_other\.bin"):
        load(checkpoint)
    assert load(checkpoint, checkpoint.parent / "tok_other.bin").tokenizer.vocab_size == 512


def test_a_checkpoint_without_its_tokenizer_says_so(checkpoint):
    (checkpoint.parent / "tok512.bin").unlink()
    with pytest.raises(ModelError, match=r"stands no tok\*\.bin of 512 pieces.*--tokenizer"):
        load(checkpoint)
    assert load(checkpoint, STORIES / "tok512.bin").score([PROMPT])[0].tokens == 4


def test_a_tokenizer_that_is_not_the_models_is_refused(checkpoint, tmp_path):
    larger = train_tokenizer(
        [(STORIES / "reference.json").read_text()], TokenizerSettings(vocab_size=520), tmp_path / "large"
    )
    assert larger.vocab_size == 520
    with pytest.raises(ModelError, match="has 520 ids, but the model knows 512"):
        load(checkpoint, tmp_path / "large")
    with pytest.raises(ModelError, match=r"there is no tokenizer at .*nothing"):
        load(checkpoint, tmp_path / "nothing")


def test_an_exported_llama2c_checkpoint_opens_in_transformers_with_equal_logits(checkpoint, tmp_path):
    out = tmp_path / "exported"
    written = export_model(str(checkpoint), to="huggingface", out=out)
    assert written == {
        "out": str(out),
        "format": "huggingface",
        "files": sorted(path.name for path in out.iterdir()),
        "tokenizer_check": {"lines": 1000, "different": 0},
    }
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert type(theirs).__name__ == "LlamaForCausalLM"
    ours = load(checkpoint)
    ids = tokenizer(PROMPT + ", there was a dog. 床", return_tensors="pt")
    assert ids.input_ids[0].tolist() == ours.tokenizer.encode(PROMPT + ", there was a dog. 床", bos=True)
    with torch.no_grad():
        difference = theirs(**ids).logits - ours.model(ids.input_ids)
    assert difference.abs().max() <= 1e-4
    prompt = tokenizer(PROMPT, return_tensors="pt")
    expected = theirs.generate(**prompt, do_sample=False, max_new_tokens=64)[0, prompt.input_ids.size(1) :]
    for reference in (checkpoint, out):
        [sequence] = load(reference).generate(PROMPT, greedy=True, max_new_tokens=64)
        assert list(sequence.ids) == expected.tolist()
        assert sequence.text == tokenizer.decode([403, *expected])[len("Once") :]


def test_an_exported_checkpoint_scores_as_before(checkpoint, tmp_path):
    export_model(checkpoint, to="huggingface", out=tmp_path / "exported")
    assert load(tmp_path / "exported").score([PROMPT, "床"]) == load(checkpoint).score([PROMPT, "床"])


def test_a_folder_of_transformers_answers_as_transformers_does(gpt2, tmp_path):
    model, tokenizer = gpt2
    save_model(model, tmp_path, tokenizer)
    theirs, theirs_tokens = (
        kind.from_pretrained(tmp_path) for kind in (transformers.AutoModelForCausalLM, transformers.AutoTokenizer)
    )
    for prompt in ("Once upon a", "床前明月", "<|endoftext|> is text"):
        ids = theirs_tokens(prompt, return_tensors="pt")
        start = ids.input_ids.size(1)
        for limit in ({"max_new_tokens": 30}, {"max_length": 40}):
            expected = theirs.generate(**ids, do_sample=False, **limit)[0, start:].tolist()
            [sequence] = load(tmp_path).generate(prompt, greedy=True, **limit)
            assert list(sequence.ids) == expected
            assert sequence.text == theirs_tokens.decode(expected, skip_special_tokens=True)


def test_the_plain_transformers_way_samples_five_sequences_from_our_folder(gpt2, tmp_path):
    save_model(gpt2[0], tmp_path, gpt2[1])
    model, tokenizer = (
        kind.from_pretrained(tmp_path) for kind in (transformers.GPT2LMHeadModel, transformers.AutoTokenizer)
    )
    ids = tokenizer(PROMPT, return_tensors="pt")
    out = model.generate(**ids, max_length=50, num_return_sequences=5, do_sample=True)
    assert out.shape[0] == 5
    assert len(load(tmp_path).generate(PROMPT, max_length=50, num_return_sequences=5)) == 5


def test_a_run_folder_is_a_reference(gpt2, tmp_path):
    save_model(gpt2[0], tmp_path / "model")
    gpt2[1].save(tmp_path / "tokenizer")
    beside = load(tmp_path).generate(PROMPT, greedy=True)
    gpt2[1].save(tmp_path / "model")
    assert load(tmp_path).generate(PROMPT, greedy=True) == beside
    assert load(tmp_path / "model").generate([PROMPT, ""], greedy=True)[0] == beside


def test_the_verbs_read_a_pickle_only_where_that_is_allowed(gpt2, tmp_path, guiju):
    save_model(gpt2[0], tmp_path / "in", gpt2[1])
    before = guiju("score", "--model", tmp_path / "in", "--text", PROMPT, "--json")
    weights = tmp_path / "in" / "model.safetensors"
    torch.save(safetensors.torch.load_file(weights), tmp_path / "in" / "pytorch_model.bin")
    weights.unlink()
    for verb in (
        ("score", "--model", tmp_path / "in", "--text", PROMPT),
        ("generate", "--model", tmp_path / "in"),
        ("export", tmp_path / "in", "--to", "huggingface", "--out", tmp_path / "out"),
    ):
        answer = guiju(*verb)
        assert answer.code == 2 and "--allow-pickle" in answer.err
    assert not (tmp_path / "out").exists()
    after = guiju("score", "--model", tmp_path / "in", "--text", PROMPT, "--json", "--allow-pickle")
    assert (after.code, after.out) == (0, before.out)
    assert guiju(*verb, "--allow-pickle").code == 0
    assert load(tmp_path / "out").score([PROMPT]) == load(tmp_path / "in", pickles=True).score([PROMPT])


def test_a_run_without_a_model_yet_says_so(tmp_path):
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(ModelError, match="a run that has no model yet"):
        load(tmp_path)


def test_what_is_no_model_is_refused(tmp_path, gpt2):
    with pytest.raises(ModelError, match=r"there is no model at gpt2.*hf:gpt2 for one of the Hugging Face hub"):
        load("gpt2")
    with pytest.raises(ModelError, match=r"neither config\.json"):
        load(tmp_path)
    save_model(gpt2[0], tmp_path)
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        load(tmp_path)


def test_the_digest_names_the_content_and_not_the_place(checkpoint, tmp_path):
    first = load(checkpoint).digest
    other = tmp_path / "elsewhere"
    shutil.copytree(STORIES, other)
    assert load(other / "stories260K.bin").digest == first
    data = bytearray(checkpoint.read_bytes())
    data[5000] ^= 1
    checkpoint.write_bytes(data)
    assert load(checkpoint).digest != first


def test_settings_can_be_given_as_fields_or_whole(checkpoint):
    model = load(checkpoint)
    settings = SamplingSettings(seed=3, max_new_tokens=9)
    assert model.generate(PROMPT, settings) == model.generate(PROMPT, seed=3, max_new_tokens=9)
    assert model.generate([PROMPT], settings, seed=4) == [model.generate(PROMPT, seed=4, max_new_tokens=9)]
    with pytest.raises(ConfigError, match="no setting beams; there are: greedy"):
        model.generate(PROMPT, beams=3)


def test_texts_are_read_in_order_with_their_ids(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"id": "a", "text": "one\\u2028two"}\n\n{"id": 2, "text": ""}\n{"text": "床"}', encoding="utf-8")
    assert read_texts(path) == [("a", "one\u2028two"), (2, ""), (None, "床")]


@pytest.mark.parametrize(("line", "message"), [
    ("{", "line 2 is not JSON"),
    ("[1]", "line 2 must be an object"),
    ('{"id": 1}', "line 2 must be an object"),
    ('{"id": 1, "text": 5}', "line 2 must be an object"),
    (json.dumps({"id": [1], "text": "x"}), r"line 2: id is \[1\]"),
])  # fmt: skip
def test_a_line_that_is_no_text_is_named(line, message, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"id": 1, "text": "x"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        read_texts(path)


def test_a_file_of_texts_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.jsonl cannot be read"):
        read_texts(tmp_path / "nothing.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "\xe9"}')
    with pytest.raises(DataError, match=r"latin\.jsonl is not UTF-8"):
        read_texts(tmp_path / "latin.jsonl")
