"""Encoders: body, pooled vector and every head give what transformers gives, in both directions."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
import transformers
from foreign_models import VOCABULARY, edit, ids, made, padding, saved

from guiju.errors import ModelError
from guiju.model import Encoder, load_model, save_model, with_head

BERT = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "layer_norm_eps": 1e-5,
}
ROBERTA = {**BERT, "max_position_embeddings": 42, "pad_token_id": 1, "type_vocab_size": 1}
LABELS = {"id2label": {0: "bad", 1: "good", 2: "so-so"}}
HEADS = ["Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"]
THEIRS = {
    **{f"bert {head}": (f"Bert{head}", {**BERT, **(LABELS if "Class" in head else {})}) for head in HEADS},
    **{f"roberta {head}": (f"Roberta{head}", {**ROBERTA, **(LABELS if "Class" in head else {})}) for head in HEADS},
    "bert ForPreTraining": ("BertForPreTraining", BERT),
    "bert relu": ("BertForMaskedLM", {**BERT, "hidden_act": "relu"}),
    "bert gelu_new": ("BertForMaskedLM", {**BERT, "hidden_act": "gelu_new"}),
    "roberta pad 5": ("RobertaForMaskedLM", {**ROBERTA, "pad_token_id": 5, "max_position_embeddings": 46}),
}


def _their_answers(theirs, rows, real, segments):
    """Their outputs, with places counted from a row's first real token, as RoBERTa counts them itself."""
    given = {"attention_mask": real.long()}
    if theirs.config.model_type == "bert":
        given["position_ids"] = (real.cumsum(1) - 1).clamp(min=0)
        given["token_type_ids"] = segments
    return theirs(rows.masked_fill(~real, theirs.config.pad_token_id), **given)


def _require_equal(ours: Encoder, theirs) -> None:
    rows = ids(least=6)
    for left in (False, True):
        real = padding([24, 17, 6], 24, left)
        segments = (torch.arange(24) > 9).long().expand(3, 24)
        ours_given = {"padding": real, "segments": segments if theirs.config.model_type == "bert" else None}
        pooled = ours.config.head == "classes"
        if pooled and left:
            continue  # transformers reads a label at a row's first place, padding or not
        with torch.no_grad():
            expected = _their_answers(theirs, rows, real, segments)
            found = ours(rows, **ours_given)
            if ours.config.head == "none" and ours.config.pooler and not left:
                close(ours.pooled(found, real), expected.pooler_output)
        if ours.config.head == "span":
            wanted = torch.stack([expected.start_logits, expected.end_logits], dim=-1)
        else:
            wanted = next(iter(expected.values())) if ours.config.head != "vocabulary" else _logits(expected)
        assert wanted.std() > 0.1
        close(found if pooled else found[real], wanted if pooled else wanted[real])


def _logits(answer):
    return answer.prediction_logits if "prediction_logits" in answer else answer.logits


def close(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("name", THEIRS)
def test_an_encoder_goes_in_and_out_with_equal_answers(name, tmp_path):
    theirs = made(*THEIRS[name])
    ours = load_model(saved(theirs, tmp_path / "theirs"))
    assert isinstance(ours, Encoder)
    _require_equal(ours, theirs)
    save_model(ours, tmp_path / "ours")
    kind = type(theirs) if name != "bert ForPreTraining" else transformers.BertForMaskedLM
    again, report = kind.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    _require_equal(ours, again.eval())
    assert load_model(tmp_path / "ours").config == ours.config


def test_labels_keep_their_names(tmp_path):
    ours = load_model(saved(made(*THEIRS["bert ForSequenceClassification"]), tmp_path / "theirs"))
    assert ours.config.labels == ("bad", "good", "so-so")
    save_model(ours, tmp_path / "ours")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    assert (config.id2label, config.label2id["so-so"]) == ({0: "bad", 1: "good", 2: "so-so"}, 2)


def test_a_row_has_the_same_answers_however_it_is_padded(tmp_path):
    for name in ("bert ForMaskedLM", "roberta ForSequenceClassification"):
        ours = load_model(saved(made(*THEIRS[name]), tmp_path / name[:4]))
        row = ids(rows=1, length=10, least=6)
        filled = torch.cat([row, torch.zeros(1, 7, dtype=torch.long)], dim=1)
        right, left = ours(filled, padding=padding([10], 17)), ours(filled.roll(7, 1), padding=padding([10], 17, True))
        alone = ours(row)
        if alone.dim() == 3:
            right, left = right[:, :10], left[:, 7:]
        torch.testing.assert_close(right, alone, atol=1e-5, rtol=0)
        torch.testing.assert_close(left, alone, atol=1e-5, rtol=0)


def test_names_of_old_files_and_tensors_of_other_heads_are_known(tmp_path):
    """As the published bert-base-uncased is kept: gamma and beta, a pooler, two heads, and a table of places."""
    theirs = made("BertForPreTraining", BERT)
    tensors = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    for name in list(tensors):
        older = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        tensors[older] = tensors.pop(name)
    tensors["bert.embeddings.position_ids"] = torch.arange(40)[None]
    saved(theirs, tmp_path)
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    edit(tmp_path, architectures=["BertForMaskedLM"])
    _require_equal(load_model(tmp_path), theirs)


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_a_body_without_pooler_is_read(kind, tmp_path):
    fields = {"Bert": BERT, "Roberta": ROBERTA}[kind]
    theirs = made(f"{kind}ForMaskedLM", fields)
    body = getattr(theirs, kind.lower())
    ours = load_model(saved(body, tmp_path))
    assert (ours.config.head, ours.config.pooler) == ("none", False)
    _require_equal(ours, body)
    with pytest.raises(ModelError, match="no pooler"):
        ours.pooled(ours(ids()))


def test_a_head_that_is_kept_under_the_decoders_name_alone_is_read(tmp_path):
    theirs = made(*THEIRS["roberta ForMaskedLM"])
    tensors = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    tensors.pop("roberta.embeddings.word_embeddings.weight")
    tensors.pop("lm_head.bias")
    saved(theirs, tmp_path)
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    _require_equal(load_model(tmp_path), theirs)


@pytest.mark.parametrize(("name", "fields", "message"), [
    ("bert Model", {"is_decoder": True}, r"is_decoder is True"),
    ("bert Model", {"add_cross_attention": True}, r"add_cross_attention is True"),
    ("bert Model", {"position_embedding_type": "relative_key"}, r"position_embedding_type is 'relative_key'"),
    ("bert Model", {"hidden_act": "mish"}, r"hidden_act is 'mish'"),
    ("bert Model", {"architectures": ["BertForNextSentencePrediction"]}, r"architectures is .*BertForMaskedLM"),
    ("bert Model", {"type_vocab_size": 3}, r"token_type_embeddings\.weight has shape \(2, 32\), but .* \(3, 32\)"),
    ("bert Model", {"quantization_config": {}}, r"quantization_config"),
    ("bert ForMaskedLM", {"tie_word_embeddings": False}, r"tie_word_embeddings is False"),
    ("bert ForMaskedLM", {"architectures": ["BertModel"]}, None),
    ("bert Model", {"architectures": ["BertForMaskedLM"]}, r"cls\.predictions\.transform\.dense\.weight .* is missing"),
    ("bert ForSequenceClassification", {"id2label": {"0": "a", "2": "b"}}, r"id2label has the keys 0, 2"),
    ("bert ForSequenceClassification", {"id2label": {"0": "a"}}, r"classifier\.weight has shape \(3, 32\)"),
    ("bert ForQuestionAnswering", {"id2label": {"0": "a"}}, r"id2label .*two logits"),
    ("roberta ForMaskedLM", {"pad_token_id": None}, r"pad_token_id is None"),
    ("roberta ForMaskedLM", {"hidden_act": "relu"}, r"hidden_act is 'relu'"),
    ("roberta ForMaskedLM", {"max_position_embeddings": 2}, r"shape that cannot be.*context is 0"),
])  # fmt: skip
def test_a_field_that_is_not_computed_here_is_refused_by_name(name, fields, message, tmp_path):
    folder = saved(made(*THEIRS[name]), tmp_path)
    edit(folder, **fields)
    if message is None:
        assert load_model(folder).config.head == "none"
        return
    with pytest.raises(ModelError, match=message):
        load_model(folder)


def test_an_encoder_where_text_is_to_be_continued_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"holds an encoder \(bert\), but a decoder is wanted"):
        load_model(saved(made(*THEIRS["bert Model"]), tmp_path), kind="decoder")


def test_a_body_gets_another_head_and_keeps_its_weights(tmp_path):
    ours = load_model(saved(made(*THEIRS["bert Model"]), tmp_path / "theirs"))
    judge = with_head(ours, "classes", ("yes", "no"))
    rows = ids()
    assert torch.equal(judge.hidden(rows), ours(rows))
    assert torch.equal(judge.pooler.weight, ours.pooler.weight)
    assert judge(rows).shape == (3, 2)
    save_model(judge, tmp_path / "ours")
    theirs = transformers.BertForSequenceClassification.from_pretrained(tmp_path / "ours").eval()
    close(judge(rows), theirs(rows).logits)
