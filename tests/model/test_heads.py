"""Heads beside the vocabulary's: a decoder that says labels, as transformers has it, and another head on a body."""

from __future__ import annotations

import pytest
import torch
import transformers
from foreign_models import VOCABULARY, ids, lively, made, padding, saved

from guiju.errors import ConfigError, ModelError
from guiju.model import bert_config, gpt2_config, llama_config, load_model, save_model, with_head

GPT2 = {"vocab_size": VOCABULARY, "n_positions": 80, "n_embd": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0}
LLAMA = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 80,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
FAMILIES = {
    "gpt2": ("GPT2ForSequenceClassification", GPT2),
    "llama": ("LlamaForSequenceClassification", LLAMA),
    "qwen2": ("Qwen2ForSequenceClassification", LLAMA),
    "mistral": ("MistralForSequenceClassification", LLAMA),
}


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_decoder_says_the_labels_that_transformers_says_and_is_saved_as_it_was(family, left, tmp_path):
    name, fields = FAMILIES[family]
    labels = {0: "bad", 1: "so-so", 2: "good"}
    theirs = made(name, {**fields, "num_labels": 3, "id2label": labels})
    ours = load_model(saved(theirs, tmp_path / "theirs"))
    assert ours.config.labels == tuple(labels.values())
    real = padding([24, 7, 15], 24, left)
    text = ids().where(real, 0)
    with torch.no_grad():
        expected = theirs(text, attention_mask=real.long()).logits
        if family == "gpt2" and left:  # transformers counts its learned positions from padding on
            place = (real.long().cumsum(-1) - 1).clamp(min=0)
            expected = theirs(text, attention_mask=real.long(), position_ids=place).logits
        torch.testing.assert_close(ours(text, padding=real), expected, rtol=1e-5, atol=1e-5)
        save_model(ours, tmp_path / "ours")
        again = getattr(transformers, name).from_pretrained(tmp_path / "ours").eval()
        torch.testing.assert_close(again(ids()[:1]).logits, theirs(ids()[:1]).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("config", [gpt2_config, llama_config, bert_config])
def test_another_head_keeps_the_body(config):
    model = lively(config(vocab_size=VOCABULARY, context=80, width=32, layers=2, heads=4))
    other = with_head(model, "classes", ("no", "yes"))
    assert other(ids()).shape == (3, 2)
    torch.testing.assert_close(other.hidden(ids()), model.hidden(ids()))
    torch.testing.assert_close(with_head(other, "classes", ("no", "yes"))(ids()), other(ids()))


def test_a_decoder_has_no_other_heads_and_a_classifier_does_not_go_on_with_a_text(tmp_path):
    model = lively(gpt2_config(vocab_size=VOCABULARY, context=80, width=32, layers=2, heads=4))
    with pytest.raises(ConfigError, match=r"its head can be vocabulary or classes"):
        with_head(model, "span")
    classifier = with_head(model, "classes", ("no", "yes"))
    with pytest.raises(ConfigError, match="was taken from this decoder"):
        with_head(classifier, "vocabulary")
    save_model(classifier, tmp_path)
    assert not (tmp_path / "generation_config.json").exists()
    with pytest.raises(ModelError, match=r"holds a decoder with the head classes \(no, yes\), which says no tokens"):
        load_model(tmp_path, kind="decoder")
