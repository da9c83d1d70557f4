"""Encoder, and encoder with decoder: caches, hook points, training, and shapes that cannot be."""

from __future__ import annotations

import math

import pytest
import torch
from foreign_models import VOCABULARY, ids, lively, padding

from guiju.errors import ConfigError, ModelError
from guiju.model import (
    DenseCache,
    Encoder,
    EncoderDecoder,
    ModelSettings,
    RotaryScaling,
    bart_config,
    bert_config,
    build_model,
    gpt2_config,
    hook_names,
    llama_config,
    load_model,
    save_model,
    t5_config,
    transformer_config,
)
from guiju.settings import from_mapping, to_mapping

SMALL = {"vocab_size": VOCABULARY, "context": 40, "width": 32, "heads": 4}
WITH_DECODER = {
    "2017": transformer_config(**SMALL, layers=2, encoder_layers=3),
    "2017, norm before": transformer_config(**SMALL, layers=2, encoder_layers=3, norm_place="before"),
    "bart": bart_config(**SMALL, layers=2, encoder_layers=3, logits_bias=True),
    "t5": t5_config(**SMALL, layers=2, encoder_layers=3, relative_buckets=8, relative_distance=16),
    "t5 1.1": t5_config(**SMALL, layers=2, encoder_layers=3, activation="geglu_tanh", tied=False),
}
ENCODERS = {
    "masked": bert_config(**SMALL, layers=3),
    "classes": bert_config(**SMALL, layers=3, head="classes", labels=("no", "yes")),
    "token classes": bert_config(**SMALL, layers=3, head="token_classes", labels=("O", "B", "I"), segments=1),
    "span": bert_config(**SMALL, layers=3, head="span", position_offset=2),
    "body": bert_config(**SMALL, layers=3, head="none", pooler=True),
}
WINDOWED = llama_config(**SMALL, layers=3, window=5, window_from=1)


@pytest.fixture(params=WITH_DECODER)
def pair_model(request) -> EncoderDecoder:
    return lively(WITH_DECODER[request.param])


@pytest.mark.parametrize("pieces", [[1] * 12, [5, 1, 6], [12], [1, 10, 1]])
def test_decoding_beside_a_memory_equals_one_pass(pair_model, pieces):
    source, target, real = ids(2, 9), ids(2, 12, seed=2), padding([9, 6], 9)
    cache = pair_model.new_cache(pair_model.remember(source, real), capacity=12)
    parts = [pair_model(part, cache) for part in target.split(pieces, dim=1)]
    whole = pair_model(target, source=source, source_padding=real)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)


def test_rows_of_a_memory_can_be_taken_in_any_order(pair_model):
    """As beam search does, which follows several continuations of one source."""
    source, target, real = ids(2, 9), ids(3, 4, seed=2), padding([9, 6], 9)
    rows = torch.tensor([1, 1, 0])
    cache = pair_model.new_cache(pair_model.remember(source, real).rows(rows), capacity=4)
    whole = pair_model(target, source=source[rows], source_padding=real[rows])
    torch.testing.assert_close(pair_model(target, cache), whole, atol=1e-5, rtol=0)


def test_a_copied_cache_keeps_its_memory(pair_model):
    source, target = ids(1, 9), ids(1, 6, seed=2)
    cache = pair_model.new_cache(pair_model.remember(source), capacity=6)
    pair_model(target[:, :3], cache)
    twin = cache.copy()
    pair_model(ids(1, 2, seed=9), twin)
    after = pair_model(target[:, 3:], cache)
    torch.testing.assert_close(after, pair_model(target, source=source)[:, 3:], atol=1e-5, rtol=0)


def test_a_decoder_without_a_source_is_refused(pair_model):
    with pytest.raises(ModelError, match="neither a cache nor a source"):
        pair_model(ids(1, 4))
    cache = pair_model.new_cache(pair_model.remember(ids(1, 4)))
    with pytest.raises(ModelError, match="both a cache and a source"):
        pair_model(ids(1, 4), cache, source=ids(1, 4))
    empty = DenseCache(pair_model.config, 1, 8, torch.device("cpu"), torch.float32)
    with pytest.raises(ModelError, match="no memory of a source"):
        pair_model(ids(1, 4), empty)


def test_what_is_said_of_tokens_must_be_said_of_each(pair_model):
    source, target = ids(2, 9), ids(2, 12, seed=2)
    with pytest.raises(ModelError, match=r"padding has the shape \(2, 8\), but the ids have \(2, 9\)"):
        pair_model(target, source=source, source_padding=padding([8, 3], 8))
    documents, sources = torch.zeros(1, 12, dtype=torch.long), torch.zeros(2, 9, dtype=torch.long)
    with pytest.raises(ModelError, match=r"documents has the shape \(1, 12\), but the ids have \(2, 12\)"):
        pair_model(target, source=source, documents=documents, source_documents=sources)
    with pytest.raises(ModelError, match=r"documents alone was given"):
        pair_model(target, source=source, documents=torch.zeros(2, 12, dtype=torch.long))
    with pytest.raises(ModelError, match=r"segments has the shape \(2, 3\)"):
        lively(ENCODERS["masked"])(target, segments=torch.zeros(2, 3, dtype=torch.long))


def test_a_mask_of_ones_and_zeros_is_one_of_truths(pair_model):
    source, target, real = ids(2, 9), ids(2, 12, seed=2), padding([9, 6], 9)
    found = pair_model(target, source=source, source_padding=real.long())
    assert torch.equal(found, pair_model(target, source=source, source_padding=real))


@pytest.mark.parametrize("name", ["2017", "bart"])
def test_a_source_longer_than_the_context_is_refused(name):
    model = lively(WITH_DECODER[name])
    with pytest.raises(ModelError, match=r"41 tokens .* context of 40"):
        model.remember(ids(1, 41))
    with pytest.raises(ModelError, match=r"41 tokens .* context of 40"):
        model(ids(1, 41), source=ids(1, 4))


def test_relative_positions_set_no_limit():
    model = lively(WITH_DECODER["t5"])
    assert model(ids(1, 60), source=ids(1, 200)).isfinite().all()


def test_hooks_see_every_point_of_encoder_and_decoder_in_order(pair_model):
    seen = []
    names = hook_names(pair_model.config)
    hooks = {name: lambda value, name=name: seen.append((name, tuple(value.shape))) for name in names}
    source, target = ids(2, 9), ids(2, 12, seed=2)
    watched = pair_model(target, source=source, hooks=hooks)
    torch.testing.assert_close(watched, pair_model(target, source=source), atol=1e-5, rtol=0)
    assert [name for name, _ in seen] == names
    assert "encoder.layers.0.attention.pattern" in names and "decoder.layers.1.cross_attention.pattern" in names
    shapes = dict(seen)
    assert shapes["encoder.layers.2.attention.pattern"] == (2, 4, 9, 9)
    assert shapes["decoder.layers.0.attention.pattern"] == (2, 4, 12, 12)
    assert shapes["decoder.layers.0.cross_attention.pattern"] == (2, 4, 12, 9)
    assert {shape for name, shape in seen if not name.endswith("pattern")} == {(2, 9, 32), (2, 12, 32)}


def test_patterns_are_distributions_that_leave_padding_out(pair_model):
    kept = {}
    real = padding([9, 6], 9)
    hooks = {name: lambda value, name=name: kept.update({name: value}) for name in hook_names(pair_model.config)}
    pair_model(ids(2, 12, seed=2), source=ids(2, 9), source_padding=real, hooks=hooks)
    for name, pattern in kept.items():
        if name.endswith("pattern"):
            torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:-1]))
            if "cross" in name or "encoder" in name.split(".")[0]:
                assert pattern[1, :, :, 6:].abs().max() == 0
                assert pattern[1, :, :, :6].min() > 0
    assert kept["decoder.layers.0.attention.pattern"].triu(1).abs().max() == 0


def test_a_hook_on_cross_attention_changes_the_answer(pair_model):
    source, target = ids(2, 9), ids(2, 12, seed=2)
    uniform = torch.ones(2, 4, 12, 9) / 9
    changed = pair_model(target, source=source, hooks={"decoder.layers.0.cross_attention.pattern": lambda _: uniform})
    assert (changed - pair_model(target, source=source)).abs().max() > 1e-3
    seen = []
    cache = pair_model.new_cache(pair_model.remember(source), capacity=12)
    pair_model(target, cache, hooks={"decoder.layers.1.cross_attention.pattern": seen.append})
    assert [tuple(pattern.shape) for pattern in seen] == [(2, 4, 12, 9)]


def test_hooks_that_no_point_bears_are_refused_by_shape(pair_model):
    source, target = ids(2, 9), ids(2, 12, seed=2)
    for name in (
        "layers.0.attention.pattern",
        "encoder.layers.0.cross_attention.pattern",
        "decoder.layers.2.mlp.output",
    ):
        with pytest.raises(ModelError, match=rf"no hook point '{name}' in a model of 3 encoder and 2 decoder layers"):
            pair_model(target, source=source, hooks={name: lambda _: None})
    encoder = lively(ENCODERS["masked"])
    with pytest.raises(ModelError, match=r"no hook point 'encoder\.embedding' in a model of 3 layers"):
        encoder(target, hooks={"encoder.embedding": lambda _: None})


@pytest.mark.parametrize("name", ENCODERS)
def test_hooks_see_every_point_of_an_encoder(name):
    model, seen = lively(ENCODERS[name]), []
    hooks = {point: lambda value, point=point: seen.append(point) for point in hook_names(model.config)}
    torch.testing.assert_close(model(ids(), hooks=hooks), model(ids()), atol=1e-5, rtol=0)
    assert seen == hook_names(model.config) == hook_names(3)


def test_a_pattern_within_a_window_shows_zeros_for_what_is_outside():
    model, kept = lively(WINDOWED), {}
    hooks = {name: lambda value, name=name: kept.update({name: value}) for name in hook_names(3) if "pattern" in name}
    rows, cache = ids(2, 12), model.new_cache(batch=2)
    model(rows[:, :11], cache)
    model(rows[:, 11:], cache, hooks=hooks)
    for layer, first in ((0, 0), (1, 7), (2, 7)):
        pattern = kept[f"layers.{layer}.attention.pattern"]
        assert pattern.shape == (2, 4, 1, 12)
        assert (pattern > 0)[0, 0, 0].tolist() == [place >= first for place in range(12)]


SHAPES = {**WITH_DECODER, **ENCODERS, "window": WINDOWED}


def _answer(model, shape=None):
    if (shape or model.config).kind == "encoder-decoder":
        return model(ids(2, 12, seed=2), source=ids(2, 9), source_padding=padding([9, 6], 9))
    return model(ids(2, 12), padding=padding([12, 7], 12))


@pytest.mark.parametrize("name", SHAPES)
def test_activation_checkpointing_gives_the_same_gradients(name):
    model, gradients = lively(SHAPES[name]).train(), []
    for checkpointing in (False, True):
        model.zero_grad()
        model.activation_checkpointing = checkpointing
        _answer(model).square().sum().backward()
        gradients.append(
            {key: weight.grad.clone() for key, weight in model.named_parameters() if weight.grad is not None}
        )
    unread = {"pooler.weight", "pooler.bias"} if name == "body" else set()
    assert {key for key, _ in model.named_parameters()} - set(gradients[0]) == unread
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)
        if key.endswith("to_key.bias"):
            continue  # a softmax does not change when all its scores do
        assert gradient.abs().max() > 0, key


@pytest.mark.parametrize(
    ("name", "checkpointing"), [("2017", True), ("t5", False), ("masked", False), ("window", True)]
)
def test_training_compiles_in_one_graph(name, checkpointing):
    model = lively(SHAPES[name]).train()
    model.activation_checkpointing = checkpointing
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(_answer(compiled, SHAPES[name]), _answer(model))


@pytest.mark.parametrize("name", WITH_DECODER)
def test_a_new_model_finds_every_token_about_equally_likely(name):
    torch.manual_seed(0)
    model = build_model(WITH_DECODER[name]).eval()
    logits = model(ids(8, 12, seed=2), source=ids(8, 9))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids(8, 12, seed=5).flatten())
    assert loss.item() < math.log(VOCABULARY) * 1.35
    assert logits.std() > 0.005


@pytest.mark.parametrize("name", SHAPES)
def test_a_new_model_comes_back_from_its_folder_bit_for_bit(name, tmp_path):
    torch.manual_seed(0)
    model = build_model(SHAPES[name])
    if name == "window":
        with pytest.raises(ModelError, match=r"model\.window_from is 1, but mistral has 0"):
            save_model(model, tmp_path)
        return
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert type(again) is type(model)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[key]), key


@pytest.mark.parametrize("name", ["bart", "masked"])
def test_a_folder_in_shards_holds_the_same(name, tmp_path):
    model = lively(SHAPES[name])
    save_model(model, tmp_path)
    save_model(model, tmp_path, max_shard_bytes=20_000)
    assert not (tmp_path / "model.safetensors").exists()
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 3
    assert all(shard.stat().st_size < 24_000 for shard in shards)
    torch.testing.assert_close(_answer(load_model(tmp_path)), _answer(model))
    import transformers

    kind = transformers.AutoModelForSeq2SeqLM if name == "bart" else transformers.AutoModelForMaskedLM
    theirs = kind.from_pretrained(tmp_path)
    assert theirs.num_parameters() >= 30_000
    save_model(model, tmp_path)
    assert not (tmp_path / "model.safetensors.index.json").exists()
    torch.testing.assert_close(_answer(load_model(tmp_path)), _answer(model))
    with pytest.raises(ConfigError, match="max_shard_bytes is 0"):
        save_model(model, tmp_path, max_shard_bytes=0)


@pytest.mark.parametrize(
    ("shape", "change", "message"),
    [
        ("bert", {"kv_heads": 2}, r"model\.kv_heads is 2, but model\.shape is bert.*shape: llama"),
        ("bert", {"tied": False}, r"model\.tied is False, but model\.shape is bert"),
        ("gpt2", {"window": 4}, r"model\.window is 4, but model\.shape is gpt2"),
        ("llama", {"window": 0}, r"model\.window is 0"),
        ("llama", {"encoder_layers": 2}, r"model\.encoder_layers is 2, .*transformer or bart or t5"),
        ("t5", {"norm_place": "after"}, r"model\.norm_place is after, .*shape: transformer"),
        ("transformer", {"norm_place": "between"}, r"model\.norm_place is 'between'"),
        ("transformer", {"encoder_layers": 0}, r"model\.encoder_layers is 0"),
        ("transformer", {"width": 33, "heads": 3}, r"model\.width is 33; sines and cosines come in pairs"),
        ("bart", {"heads": 5}, r"model\.width is 32; it must be a multiple of model\.heads"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_when_the_recipe_is_read(shape, change, message):
    with pytest.raises(ConfigError, match=message):
        ModelSettings(**{"shape": shape, "width": 32, "heads": 4, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "both"}, r"model\.kind is 'both'"),
        ({"encoder_layers": 2}, r"model\.encoder_layers is 2, but model\.kind is decoder"),
        ({"segments": 2}, r"only an encoder has a pooler or segments"),
        ({"head": "token_classes", "labels": ("a",), "tied": False}, r"its head can be vocabulary or classes"),
        ({"relative_buckets": 0}, r"model\.relative_buckets is 0"),
        ({"logit_scale": 0.0}, r"model\.logit_scale is 0"),
        ({"attention_scale": float("nan")}, r"model\.attention_scale is nan"),
        ({"position_offset": -1}, r"model\.position_offset is -1"),
        ({"pad_id": 97}, r"model\.pad_id is 97, but ids run from 0 to 96"),
        ({"positions": "rotary", "rotary_share": 0.4}, r"head_width is 8 and model\.rotary_share 0\.4"),
        ({"positions": "rotary", "rotary_share": 1.5}, r"model\.rotary_share is 1\.5"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(change, message):
    import dataclasses

    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(gpt2_config(**SMALL), **change)


def test_encoders_heads_need_what_they_read():
    for change, message in (
        ({"head": "classes", "labels": ("a", "b"), "pooler": False}, "reads the pooler's vector"),
        ({"head": "classes"}, "give the names of its classes"),
        ({"head": "span", "labels": ("a",)}, "it has no classes"),
    ):
        with pytest.raises(ConfigError, match=message):
            bert_config(**SMALL, **change)


def test_a_stretch_of_rotary_positions_that_cannot_be_is_refused():
    for change, message in (
        ({"kind": "yarn", "factor": 2.0}, "kind is 'yarn'"),
        ({"kind": "linear", "factor": 0.0}, "factor is 0"),
        ({"kind": "llama3", "factor": 8.0, "low": 4.0, "high": 1.0}, "low is 4.0; it must be less than high"),
    ):
        with pytest.raises(ConfigError, match=message):
            RotaryScaling(**change)


@pytest.mark.parametrize("shape", ["bert", "transformer", "bart", "t5"])
def test_settings_of_the_new_shapes_survive_the_way_through_a_recipe(shape, tmp_path):
    settings = ModelSettings(shape=shape, width=32, heads=4, layers=2, context=40)
    assert from_mapping(ModelSettings, to_mapping(settings)) == settings
    model = build_model(settings.config(vocab_size=VOCABULARY))
    assert isinstance(model, Encoder if shape == "bert" else EncoderDecoder)
    save_model(model, tmp_path)  # what a recipe trains opens elsewhere
    assert load_model(tmp_path).config == model.config
