"""One interface: four programs with the same weights say the same; what one cannot, it says by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from guiju.errors import ConfigError, DataError, ModelError
from guiju.model import Encoder, EncoderDecoder, bert_config, save_model, transformer_config
from guiju.providers import export_model, load
from guiju.tokens import TokenizerSettings, train_tokenizer

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K" / "stories260K.bin"
TEXTS = ["Once upon a time, there was a little girl.", "x", "Lily and Tom went to the park. " * 3]
PAIRS = [
    ("Once upon a", " time"),
    ("Once upon a", " dragon"),
    ("Lily had a red ball. She liked to play with it in", " the park"),
    ("Lily had a red ball. She liked to play with it in", " her room with Tom"),
    ("", "One day"),
]
PROMPTS = ["Once upon a time", "Lily had a red ball", "The dog"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    export_model(STORIES, to="huggingface", out=folder / "huggingface")
    return folder


@pytest.fixture
def four(exported, stories_in_tensorflow, serve):
    """The same weights, computed by four programs."""
    serve()
    return {
        "local": load(STORIES),
        "transformers": load(f"transformers:{exported / 'huggingface'}"),
        "openai": load("openai:test-model"),
        "tensorflow": stories_in_tensorflow,
    }


def test_all_four_providers_score_and_write_alike(four):
    local = four.pop("local")
    scores, continuations = local.score(TEXTS), local.score_continuations(PAIRS)
    greedy = {"greedy": True, "max_new_tokens": 24}
    texts = [one.text for (one,) in local.generate(PROMPTS, runner="torch", **greedy)]
    for name, model in four.items():
        for ours, theirs in zip(scores, model.score(TEXTS), strict=True):
            assert (theirs.tokens, theirs.nll_nats) == (ours.tokens, pytest.approx(ours.nll_nats, abs=1e-4)), name
        for ours, theirs in zip(continuations, model.score_continuations(PAIRS), strict=True):
            assert theirs == (pytest.approx(ours.nll_nats, abs=1e-4), ours.tokens, ours.greedy), name
        found = model.generate(PROMPTS, **greedy)
        assert [one.text for (one,) in found] == texts, name
        assert {one.finish_reason for (one,) in found} == {"length"}
        assert "".join(model.stream(PROMPTS[0], **greedy)) == texts[0], name
        assert [one.text for (one,) in model.generate_each(iter(PROMPTS), **greedy)] == texts, name
        assert {"generate", "stream", "score", "score_continuations"} <= model.abilities
        assert len(model.digest) == 64 and model.labels == () and model.downloads == ()
        with pytest.raises(ModelError, match=f"{model.reference} cannot classify: "):
            model.classify(TEXTS)


def test_a_stream_gives_the_text_and_ends_when_nobody_listens():
    model = load(STORIES)
    pieces = list(model.stream("Once upon a time", greedy=True, max_new_tokens=20, runner="torch"))
    assert "".join(pieces) == model.generate("Once upon a time", greedy=True, max_new_tokens=20)[0].text
    assert len(pieces) > 10
    endless = model.stream("Once", greedy=True, max_new_tokens=500, ignore_eos=True, runner="torch")
    next(endless)
    endless.close()
    with pytest.raises(ModelError, match="context is 512"):
        list(model.stream("word " * 900, runner="torch"))


def test_a_decoder_embeds_by_the_mean_of_its_last_vectors():
    model = load(STORIES)
    found = model.embed([*TEXTS, "Once"])
    for text, vector in zip([*TEXTS, "Once"], found, strict=True):
        ids = torch.tensor([[*model.tokenizer.prefix_ids, *model.tokenizer.encode(text)]])
        with torch.inference_mode():
            expected = model.model.hidden(ids)[0].mean(dim=0)
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)
    with pytest.raises(DataError, match="text 1 is empty"):
        model.embed(["x", ""])
    with pytest.raises(DataError, match=r"text 0 has \d+ tokens, but the model's context is 512"):
        model.embed(["word " * 900])
    with pytest.raises(ConfigError, match="texts is one text"):
        model.embed("x")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A tiny BERT with a head of three classes, as transformers writes it."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    text = "good bad fine 好 坏 the film was and not very " * 30
    tokenizer = train_tokenizer([text], TokenizerSettings(kind="wordpiece", vocab_size=59))
    config = bert_config(
        vocab_size=tokenizer.vocab_size, context=24, width=32, layers=2, heads=4, head="classes",
        labels=("no", "maybe", "yes"), pooler=True,
    )  # fmt: skip
    model = Encoder(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    save_model(model.eval(), folder, tokenizer)
    return folder


def test_an_encoder_with_a_head_of_classes_classifies_as_transformers_does(classifier):
    model = load(classifier)
    texts = ["the film was good", "bad", "not very good and not very bad", "好"]
    assert model.abilities == {"embed", "classify"} and model.labels == ("no", "maybe", "yes")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    words = transformers.AutoTokenizer.from_pretrained(classifier)
    read = words(texts, return_tensors="pt", padding=True)
    with torch.inference_mode():
        expected = theirs(**read).logits.softmax(-1).numpy()
        pooled = theirs.bert(**read).pooler_output.numpy()
    np.testing.assert_allclose(model.classify(texts), expected, atol=1e-5)
    np.testing.assert_allclose(model.embed(texts), pooled, atol=1e-5)
    for ability in ("generate", "score", "score_continuations"):
        with pytest.raises(ModelError, match="encoder"):
            getattr(model, ability)([("a", "b")] if ability.endswith("s") else ["good"])


def test_a_text_longer_than_the_context_is_refused_or_read_in_windows(classifier):
    model = load(classifier)
    long = "good bad fine " * 20
    with pytest.raises(DataError, match=r"text 1 has \d+ tokens, but the model's context is 24.*stride"):
        model.classify(["good", long])
    with pytest.raises(DataError, match="text 0 is empty"):
        model.classify([""])
    ids = model.tokenizer.encode(long)
    begins = [*range(0, len(ids) - 22, 10), len(ids) - 22]
    with torch.inference_mode():
        rows = [model.model(torch.tensor([model.tokenizer.with_template(ids[at : at + 22])[0]])) for at in begins]
    expected = torch.cat(rows).softmax(-1).mean(dim=0).numpy()
    np.testing.assert_allclose(model.classify(["good", long], stride=10)[1], expected, atol=1e-5)
    np.testing.assert_allclose(model.classify(["good"], stride=10), model.classify(["good"]), atol=1e-6)
    assert model.classify([]).shape == (0, 3)


def test_beside_an_encoder_a_text_is_scored_with_its_source_and_never_alone(tmp_path):
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a dog and a cat " * 20], TokenizerSettings(vocab_size=266))
    config = transformer_config(
        vocab_size=tokenizer.vocab_size, context=32, width=32, layers=2, heads=4, start_id=tokenizer.eos_id
    )
    save_model(EncoderDecoder(config).eval(), tmp_path, tokenizer)
    model, theirs = load(tmp_path), load(f"transformers:{tmp_path}")
    for one in (model, theirs):
        assert "score" not in one.abilities and "score_continuations" in one.abilities and not one.continues
        with pytest.raises(ModelError, match="beside its source"):
            one.score(["a dog"])
    pairs = [("a dog", "a cat"), ("a cat and a dog", "dog")]
    for ours, other in zip(model.score_continuations(pairs), theirs.score_continuations(pairs), strict=True):
        assert other == (pytest.approx(ours.nll_nats, abs=1e-4), ours.tokens, ours.greedy)
    greedy = {"greedy": True, "max_new_tokens": 10}
    assert [one.ids for (one,) in model.generate(["a dog", "cat"], **greedy)] == [
        one.ids for (one,) in theirs.generate(["a dog", "cat"], **greedy)
    ]
    np.testing.assert_allclose(model.embed(["a dog", "a"]), theirs.embed(["a dog", "a"]), atol=1e-4)
