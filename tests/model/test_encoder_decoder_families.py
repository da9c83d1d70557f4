"""Encoders with decoder: logits and greedy tokens are those of transformers, in both directions."""

from __future__ import annotations

import dataclasses

import pytest
import safetensors.torch
import torch
import transformers
from foreign_models import VOCABULARY, edit, ids, made, padding, saved

from guiju.errors import ModelError
from guiju.model import EncoderDecoder, build_model, load_model, save_model, t5_config, transformer_config

BART = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 60,
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
MARIAN = {**BART, "pad_token_id": 0, "decoder_start_token_id": 0, "scale_embedding": True}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 12,
    "d_ff": 48,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
}
GATED = {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
THEIRS = {
    "marian": ("MarianMTModel", {**MARIAN, "activation_function": "swish"}),
    "marian unscaled, relu": ("MarianMTModel", {**MARIAN, "scale_embedding": False, "activation_function": "relu"}),
    "pegasus": ("PegasusForConditionalGeneration", {**MARIAN, "activation_function": "relu"}),
    "bart": ("BartForConditionalGeneration", BART),
    "bart scaled": ("BartForConditionalGeneration", {**BART, "scale_embedding": True}),
    "mbart": ("MBartForConditionalGeneration", BART),
    "t5": ("T5ForConditionalGeneration", T5),
    "t5 1.1": ("T5ForConditionalGeneration", GATED),
    "t5 gated-silu": ("T5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-silu"}),
    "t5 with its buckets": (
        "T5ForConditionalGeneration",
        {**T5, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128},
    ),
}


def _open(folder):
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


def _require_equal(ours: EncoderDecoder, theirs) -> None:
    """Logits beside padded sources on either side, and greedy tokens by the cache and its memory."""
    source, target = ids(least=6), ids(length=20, seed=2, least=6)
    target[:, 0] = ours.config.start_id
    with torch.no_grad():
        for left in (False, True):
            real = padding([24, 17, 6], 24, left)
            found = ours(target, source=source, source_padding=real)
            if left and ours.config.positions != "relative":  # transformers counts places from the padding's first
                aligned = torch.stack([row.roll(-int(24 - own.sum())) for row, own in zip(source, real, strict=True)])
                expected = theirs(aligned, attention_mask=padding([24, 17, 6], 24).long(), decoder_input_ids=target)
            else:
                expected = theirs(source, attention_mask=real.long(), decoder_input_ids=target)
            assert expected.logits.std() > 0.2
            assert (found - expected.logits).abs().max() <= 1e-4
        real = padding([24, 17, 6], 24)
        expected = theirs.generate(
            source,
            attention_mask=real.long(),
            do_sample=False,
            num_beams=1,
            max_new_tokens=30,
            eos_token_id=None,
            forced_eos_token_id=None,
        )
        cache = ours.new_cache(ours.remember(source, real), capacity=31)
        row = torch.full((3, 1), ours.config.start_id)
        for _ in range(30):
            row = torch.cat([row, ours(row[:, cache.length :], cache)[:, -1:].argmax(-1)], dim=1)
    assert row.tolist() == expected.tolist()


@pytest.mark.parametrize("name", THEIRS)
def test_an_encoder_with_decoder_goes_in_and_out_with_equal_logits_and_tokens(name, tmp_path):
    theirs = made(*THEIRS[name])
    ours = load_model(saved(theirs, tmp_path / "theirs"))
    assert isinstance(ours, EncoderDecoder)
    assert (ours.config.encoder_layers, ours.config.layers) == (3, 2)
    _require_equal(ours, theirs)
    save_model(ours, tmp_path / "ours")
    again, report = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values()), report
    assert type(_open(tmp_path / "ours")) is type(theirs)
    _require_equal(ours, again.eval())
    assert load_model(tmp_path / "ours").config == ours.config


def test_a_t5_with_a_head_of_its_own_goes_in_and_out(tmp_path):
    theirs = made(*THEIRS["t5 1.1"])
    folder = saved(theirs, tmp_path / "theirs")
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn(VOCABULARY, 32, generator=torch.Generator().manual_seed(5))
    safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    edit(folder, tie_word_embeddings=False)
    ours, theirs = load_model(folder), _open(folder)
    assert not ours.config.tied
    assert not torch.equal(theirs.lm_head.weight, theirs.shared.weight)
    _require_equal(ours, theirs)
    save_model(ours, tmp_path / "ours")
    _require_equal(ours, _open(tmp_path / "ours"))


@pytest.mark.parametrize("name", ["t5", "bart", "marian"])
def test_tensors_that_older_versions_kept_as_well_are_known(name, tmp_path):
    theirs = made(*THEIRS[name])
    tensors = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}  # with every copy
    assert len([key for key in tensors if "embed_tokens" in key or "shared" in key]) == 3
    if name == "t5":
        tensors["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.ones(8, 4)
    if name == "bart":
        tensors["model.encoder.version"] = torch.ones(1)
    if name == "marian":
        assert "model.encoder.embed_positions.weight" in tensors
    saved(theirs, tmp_path)
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    _require_equal(load_model(tmp_path), theirs)


def test_other_positions_than_those_computed_are_refused(tmp_path):
    theirs = made(*THEIRS["marian"])
    tensors = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    tensors["model.decoder.embed_positions.weight"][3, 4] += 0.1
    safetensors.torch.save_file(tensors, saved(theirs, tmp_path) / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.decoder\.embed_positions\.weight holds other positions"):
        load_model(tmp_path)


def test_positions_that_the_weights_do_not_hold_are_not_computed(tmp_path):
    """A table of a billion rows would take 250 GB."""
    edit(saved(made(*THEIRS["pegasus"]), tmp_path), max_position_embeddings=10**9)
    with pytest.raises(ModelError, match=r"embed_positions\.weight has shape \(\d+, 32\), but .* \(1000000000, 32\)"):
        load_model(tmp_path)


def test_a_copy_that_differs_is_refused(tmp_path):
    theirs = made(*THEIRS["bart"])
    tensors = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    tensors["model.decoder.embed_tokens.weight"] += 1
    safetensors.torch.save_file(tensors, saved(theirs, tmp_path) / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.decoder\.embed_tokens\.weight differs from model\.shared\.weight"):
        load_model(tmp_path)


def test_a_body_without_prefix_and_bias_is_read(tmp_path):
    theirs = made(*THEIRS["bart"])
    theirs.final_logits_bias.zero_()
    ours = load_model(saved(theirs.model, tmp_path))
    assert not ours.config.logits_bias
    _require_equal(ours, theirs)


def test_the_bias_of_the_logits_makes_a_difference(tmp_path):
    theirs = made(*THEIRS["marian"])
    ours = load_model(saved(theirs, tmp_path))
    assert ours.config.logits_bias
    assert torch.equal(ours.logits_bias, theirs.final_logits_bias[0])
    source, target = ids(), ids(length=5)
    with_bias = ours(target, source=source)
    with torch.no_grad():
        ours.logits_bias.zero_()
    torch.testing.assert_close(with_bias - ours(target, source=source), theirs.final_logits_bias.expand(3, 5, -1))


def test_the_first_id_of_a_text_comes_from_the_generation_config(tmp_path):
    saved(made(*THEIRS["bart"]), tmp_path)
    (tmp_path / "generation_config.json").write_text('{"decoder_start_token_id": 9, "eos_token_id": [3, 4]}')
    config = load_model(tmp_path).config
    assert (config.start_id, config.stop_ids, config.pad_id) == (9, (3, 4), 1)


@pytest.mark.parametrize(("name", "fields", "message"), [
    ("bart", {"is_encoder_decoder": False}, r"is_encoder_decoder is False"),
    ("bart", {"tie_word_embeddings": False}, r"tie_word_embeddings is False"),
    ("bart", {"is_decoder": True}, r"is_decoder is True"),
    ("bart", {"decoder_attention_heads": 2}, r"encoder_attention_heads is 4 and decoder_attention_heads is 2"),
    ("bart", {"encoder_ffn_dim": 64}, r"encoder_ffn_dim is 64 and decoder_ffn_dim is 48"),
    ("bart", {"activation_function": "tanh"}, r"activation_function is 'tanh'"),
    ("bart", {"scale_embedding": "no"}, r"scale_embedding is 'no'"),
    ("bart", {"architectures": ["BartForSequenceClassification"]}, r"architectures is .*BartForConditionalGeneration"),
    ("bart", {"max_position_embeddings": 50}, r"embed_positions\.weight has shape \(62, 32\), but .* \(52, 32\)"),
    ("bart", {"decoder_layers": 3}, r"decoder\.layers\.2\..* is missing"),
    ("bart", {"encoder_layers": 2}, r"encoder\.layers\.2\..* has no place .*2 encoder and 2 decoder layers"),
    ("bart", {"encoder_layers": 10**9}, r"states 1000000002 layers"),
    ("bart", {"decoder_start_token_id": "x"}, r"decoder_start_token_id is 'x'"),
    ("bart", {"is_causal": False}, r"is_causal is False"),
    ("t5", {"sliding_window": 4}, r"sliding_window is 4"),
    ("marian", {"share_encoder_decoder_embeddings": False}, r"share_encoder_decoder_embeddings is False"),
    ("marian", {"decoder_vocab_size": 50}, r"decoder_vocab_size is 50"),
    ("t5", {"feed_forward_proj": "gated-relu"}, r"feed_forward_proj is 'gated-relu'"),
    ("t5", {"feed_forward_proj": "tanh"}, r"feed_forward_proj is 'tanh'"),
    ("t5", {"is_gated_act": True}, r"is_gated_act is True; but feed_forward_proj is 'relu'"),
    ("t5", {"dense_act_fn": "gelu"}, r"dense_act_fn is 'gelu'"),
    ("t5", {"is_decoder": True}, r"is_decoder is True"),
    ("t5", {"architectures": ["T5EncoderModel"]}, r"architectures is .*T5ForConditionalGeneration"),
    ("t5", {"relative_attention_num_buckets": 2}, r"relative_buckets is 2"),
    ("t5", {"relative_attention_max_distance": 3}, r"relative_distance is 3; it must be more than half"),
    ("t5", {"d_kv": 16}, r"SelfAttention\.q\.weight has shape \(48, 32\), but .* \(64, 32\)"),
])  # fmt: skip
def test_a_field_that_is_not_computed_here_is_refused_by_name(name, fields, message, tmp_path):
    folder = saved(made(*THEIRS[name]), tmp_path)
    edit(folder, **fields)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize("norm_place", ["after", "before"])
def test_a_transformer_of_2017_opens_in_transformers(norm_place, tmp_path):
    torch.manual_seed(0)
    config = transformer_config(
        vocab_size=VOCABULARY, context=60, width=32, layers=2, encoder_layers=3, heads=4, norm_place=norm_place,
        pad_id=0, start_id=1, stop_ids=(2,),
    )  # fmt: skip
    ours = build_model(config).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    save_model(ours, tmp_path)
    theirs = _open(tmp_path)
    assert type(theirs).__name__ == {"after": "MarianMTModel", "before": "PegasusForConditionalGeneration"}[norm_place]
    _require_equal(ours, theirs)


def test_a_head_of_its_own_that_is_scaled_is_not_written(tmp_path):
    config = t5_config(vocab_size=VOCABULARY, width=32, layers=1, heads=4)
    mixed = build_model(dataclasses.replace(config, tied=False))
    with pytest.raises(ModelError, match=r"model\.tied is False, but model\.logit_scale"):
        save_model(mixed, tmp_path / "out")
