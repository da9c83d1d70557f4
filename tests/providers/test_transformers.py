"""`transformers:FOLDER`: what the library computes, through our interface; compared with the library called plainly."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from guiju.errors import ConfigError, DataError, ModelError
from guiju.providers import load
from guiju.tokens import TokenizerSettings, train_tokenizer

TEXT = "Once upon a time there was a little dog. 床前明月光，疑是地上霜。 "
PROMPT = "Once upon a"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A BLOOM: a shape that is none of ours (ALiBi)."""
    place = tmp_path_factory.mktemp("bloom")
    train_tokenizer([TEXT * 20], TokenizerSettings(vocab_size=300), place)
    torch.manual_seed(0)
    config = transformers.BloomConfig(
        vocab_size=300, hidden_size=32, n_layer=2, n_head=4, bos_token_id=256, eos_token_id=256, pad_token_id=256
    )
    model = transformers.BloomForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(place)
    return place


@pytest.fixture(scope="module")
def model(folder):
    with pytest.raises(ModelError):
        load(folder)
    return load(f"transformers:{folder}")


def test_scores_are_those_of_a_full_pass(model):
    texts = [TEXT, "dog", "Once upon a time there was a time"]
    for text, found in zip(texts, model.score_each(iter(texts)), strict=True):
        ids = [model.words.start_id, *model.words.encode(text)]
        with torch.inference_mode():
            logs = model.network(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        expected = -sum(logs[place, token].item() for place, token in enumerate(ids[1:]))
        assert (found.tokens, found.nll_nats) == (len(ids) - 1, pytest.approx(expected, rel=1e-5))


def test_text_is_what_the_library_writes(model, folder):
    words = transformers.AutoTokenizer.from_pretrained(folder)
    ids = words(PROMPT, return_tensors="pt")
    expected = model.network.generate(**ids, do_sample=False, max_new_tokens=12)[0, ids.input_ids.shape[1] :]
    [found] = model.generate(PROMPT, greedy=True, max_new_tokens=12)
    assert list(found.ids) == expected.tolist()
    assert found.text == words.decode(expected, skip_special_tokens=True)
    assert "".join(model.stream(PROMPT, greedy=True, max_new_tokens=12)) == found.text
    beams = model.network.generate(**ids, num_beams=3, max_new_tokens=8, do_sample=False)[0, ids.input_ids.shape[1] :]
    searched = model.generate(PROMPT, num_beams=3, max_new_tokens=8)[0]
    assert list(searched.ids) == beams[: len(searched.ids)].tolist() and searched.score is not None


def test_a_seed_repeats_a_text_and_stops_and_logprobs_are_heeded(model):
    drawn = [model.generate(PROMPT, seed=4, num_return_sequences=3, top_k=40, max_new_tokens=9) for _ in range(2)]
    assert drawn[0] == drawn[1] and len({one.ids for one in drawn[0]}) == 3 and drawn[0][0].seed == 4
    state = torch.random.get_rng_state()
    model.generate(PROMPT, max_new_tokens=2)
    assert torch.equal(state, torch.random.get_rng_state())
    whole = model.generate(PROMPT, greedy=True, max_new_tokens=12)[0]
    stop = whole.text[4:6]
    cut = model.generate(PROMPT, greedy=True, max_new_tokens=12, stop=(stop,))[0]
    assert cut.finish_reason == "stop" and cut.text == whole.text[: whole.text.index(stop)]
    given = "".join(model.stream(PROMPT, greedy=True, max_new_tokens=12, stop=(stop,)))
    assert given == cut.text
    ids = [*model.words.prompt_ids(PROMPT), *whole.ids]
    with torch.inference_mode():
        logs = model.network(torch.tensor([ids])).logits[0].log_softmax(-1)
    told = model.generate(PROMPT, greedy=True, max_new_tokens=12, logprobs=2)[0]
    begin = len(ids) - len(whole.ids)
    expected = [float(logs[begin + place - 1, token]) for place, token in enumerate(whole.ids)]
    assert [one.logprob for one in told.logprobs] == pytest.approx(expected, abs=1e-4)
    assert all(one.top[0][0] == token for one, token in zip(told.logprobs, whole.ids, strict=True))


def test_embeddings_are_the_mean_of_the_last_layer(model):
    ids = torch.tensor([model.words.encode("a dog")])
    with torch.inference_mode():
        expected = model.network(ids, output_hidden_states=True).hidden_states[-1][0].mean(0)
    np.testing.assert_allclose(model.embed(["a dog"])[0], expected.numpy(), atol=1e-5)
    with pytest.raises(DataError, match="text 0 is empty"):
        model.embed([""])


def test_a_sequence_to_sequence_model_that_is_none_of_ours_is_computed(tmp_path):
    tokenizer = train_tokenizer([TEXT * 20], TokenizerSettings(vocab_size=300), tmp_path)
    torch.manual_seed(0)
    config = transformers.LEDConfig(
        vocab_size=300, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_encoder_position_embeddings=64,
        max_decoder_position_embeddings=32, attention_window=[8], pad_token_id=tokenizer.eos_id,
        decoder_start_token_id=tokenizer.eos_id, eos_token_id=tokenizer.eos_id, bos_token_id=tokenizer.eos_id,
    )  # fmt: skip
    transformers.LEDForConditionalGeneration(config).save_pretrained(tmp_path)
    model = load(f"transformers:{tmp_path}")
    assert model.abilities == {"generate", "stream", "score_continuations", "embed"} and not model.continues
    [found] = model.generate("a little dog", greedy=True, max_new_tokens=6)
    [(nats, tokens, greedy)] = model.score_continuations([("a little dog", found.text)])
    assert nats > 0 and tokens > 0
    with pytest.raises(ModelError, match="cannot score: it has a probability of a text only beside its source"):
        model.score(["a"])
    with pytest.raises(DataError, match="continuation of pair 0 is empty"):
        model.score_continuations([("a", "")])
    assert isinstance(greedy, bool)


@pytest.mark.parametrize(("wish", "message"), [
    ({"runner": "openvino"}, "runner is 'openvino', but a transformers: model"),
    ({"precision": "int8"}, "precision is 'int8', but"),
    ({"record": True}, "record is asked for, but"),
    ({"prompt_lookup": 4}, "prompt_lookup is 4, but"),
    ({"regex": "a+"}, "a form is asked for"),
    ({"logprobs": 1000}, "logprobs is 1000; it must be"),
    ({"beams": 3}, "no setting beams"),
])  # fmt: skip
def test_a_wish_that_cannot_be_is_refused(wish, message, model):
    with pytest.raises(ConfigError, match=message):
        model.generate(PROMPT, **wish)


def test_no_code_of_a_folder_is_run_and_nothing_is_fetched(folder, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert load(f"transformers:{folder}").digest
    with pytest.raises(ModelError, match="no model of that name in the Hugging Face cache; nothing is fetched"):
        load("transformers:someone/some-model-that-is-not-here")
    place = shutil.copytree(folder, tmp_path / "own-code")
    config = json.loads((place / "config.json").read_text())
    config |= {"model_type": "own", "architectures": ["Own"], "auto_map": {"AutoConfig": "own.Config"}}
    (place / "config.json").write_text(json.dumps(config))
    (place / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError, match="transformers cannot load"):
        load(f"transformers:{place}")
    assert not (tmp_path / "ran").exists()
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="weights must be safetensors"):
        load(f"transformers:{pickled}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="transformers cannot load"):
        load(f"transformers:{tmp_path / 'empty'}")
