"""Adapters: what they compute, what moves, and what of a base they remember."""

from __future__ import annotations

import copy

import pytest
import torch
from foreign_models import VOCABULARY, ids, lively

from guiju.errors import ConfigError, ModelError
from guiju.model import (
    LoraSettings,
    add_lora,
    bert_config,
    gpt2_config,
    llama_config,
    load_model,
    lora_layers,
    merge_lora,
    quantize,
    save_model,
    t5_config,
    weights_digest,
    with_head,
    without_lora,
)

SIZES = {"vocab_size": VOCABULARY, "context": 80, "width": 32, "layers": 2, "heads": 4}
CONFIGS = {"gpt2": gpt2_config, "llama": llama_config, "bert": bert_config, "t5": t5_config}


def adapted(name: str, seed: int = 5, **settings):
    """A base, and the same with adapters that have learned something."""
    base = lively(CONFIGS[name](**SIZES)).double()  # so that a difference is one of the formula, not of rounding
    model = copy.deepcopy(base)
    torch.manual_seed(seed)
    add_lora(model, LoraSettings(**settings))
    enliven(model.double())
    return base, model


def enliven(model) -> None:
    with torch.no_grad():
        for adapter in lora_layers(model).values():
            adapter.up.normal_(std=0.2)


def said(model):
    extra = {"source": ids(seed=9)} if model.config.kind == "encoder-decoder" else {}
    return model(ids(), **extra)


@pytest.mark.parametrize("settings", [{}, {"layers": ("all",), "rank": 3, "rslora": True}], ids=["usual", "all"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_merged_model_says_what_the_adapted_one_says_and_not_what_the_base_says(name, settings):
    base, model = adapted(name, **settings)
    with torch.no_grad():
        found = said(model)
        assert (found - said(base)).abs().max() > 0.01
        with without_lora(model):
            torch.testing.assert_close(said(model), said(base), rtol=0, atol=0)
        merge_lora(model)
        torch.testing.assert_close(said(model), found, rtol=1e-5, atol=1e-5)
    assert not lora_layers(model)
    assert all(weight.requires_grad for weight in model.parameters())
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in base.named_parameters()]


def test_a_new_adapter_changes_nothing_and_leaves_only_itself_to_move():
    base = lively(gpt2_config(**SIZES))
    model = copy.deepcopy(base)
    add_lora(model, LoraSettings(rank=4, layers=("to_query", "mlp.to_output")))
    torch.testing.assert_close(model(ids()), base(ids()), rtol=0, atol=0)
    moving = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert moving == {
        f"layers.{layer}.{part}.{side}"
        for layer in (0, 1)
        for part in ("attention.to_query", "mlp.to_output")
        for side in ("down", "up")
    }


def test_the_sum_is_the_papers():
    """h = W x + (alpha / r) B A x (arXiv:2106.09685, equation 3)."""
    _, model = adapted("llama", rank=4, alpha=6.0)
    adapter = lora_layers(model)["layers.1.attention.to_value"]
    x = torch.randn(5, 32).double()
    expected = adapter.base.weight @ x.T + 6.0 / 4 * adapter.up @ (adapter.down @ x.T)
    torch.testing.assert_close(adapter(x), expected.T, rtol=1e-5, atol=1e-5)


def test_dropout_falls_on_what_the_adapter_reads_alone():
    _, model = adapted("gpt2", dropout=0.5)
    adapter = lora_layers(model)["layers.0.attention.to_query"].train()
    x = torch.ones(1, 4000, 32).double()
    spread = adapter(x) - adapter.base(x)
    assert spread.std(dim=1).min() > 0
    torch.testing.assert_close(spread.mean(dim=1), (adapter.eval()(x) - adapter.base(x))[:, 0], rtol=0.2, atol=0.05)


def test_a_head_that_a_base_does_not_bring_learns_whole():
    model = with_head(lively(bert_config(**SIZES)), "classes", ("no", "yes"))
    add_lora(model, LoraSettings())
    moving = {name for name, weight in model.named_parameters() if weight.requires_grad and ".up" not in name}
    assert {name for name in moving if ".down" not in name} == {
        "pooler.weight",
        "pooler.bias",
        "to_labels.weight",
        "to_labels.bias",
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, r"lora\.rank is 0"),
        ({"rank": 2.5}, r"lora\.rank is 2\.5"),
        ({"alpha": 0.0}, r"lora\.alpha is 0\.0"),
        ({"alpha": float("nan")}, r"lora\.alpha is nan"),
        ({"dropout": 1.0}, r"lora\.dropout is 1\.0"),
        ({"layers": ()}, r"lora\.layers names no layer"),
        (
            {"layers": ("to_querry",)},
            r"lora\.layers has 'to_querry', but the model's linear layers are attention\.to_key",
        ),
    ],
)
def test_settings_that_would_adapt_nothing_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        add_lora(lively(gpt2_config(**SIZES)), LoraSettings(**settings))


def test_adapters_are_not_added_twice_not_dropped_by_a_save_and_not_merged_where_there_are_none(tmp_path):
    _, model = adapted("gpt2")
    with pytest.raises(ModelError, match="has adapters already"):
        add_lora(model, LoraSettings())
    with pytest.raises(ModelError, match="adapters beside its weights, which a folder of weights would not hold"):
        save_model(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(ModelError, match="no adapter, so there is nothing to merge"):
        merge_lora(lively(gpt2_config(**SIZES)))


def test_the_digest_is_the_bases_whatever_stands_beside_it():
    base, model = adapted("llama")
    assert weights_digest(model) == weights_digest(base) == weights_digest(copy.deepcopy(base).double().float())
    other = copy.deepcopy(base)
    with torch.no_grad():
        other.layers[1].mlp.to_output.weight[3, 4] += 1e-6
    assert weights_digest(other) != weights_digest(base)
    classifier = with_head(lively(bert_config(**SIZES)), "classes", ("no", "yes"))
    before = weights_digest(classifier)
    with torch.no_grad():
        classifier.to_labels.weight += 1
    assert weights_digest(classifier) == before


# -- few bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("name", ["llama", "t5"])
def test_gradients_beside_few_bits_are_those_beside_the_same_weights_written_out(name, precision):
    few = quantize(lively(CONFIGS[name](**SIZES)), precision)
    torch.manual_seed(1)
    add_lora(few, LoraSettings(layers=("all",), rank=2))
    enliven(few)
    written = copy.deepcopy(few)
    for place, adapter in lora_layers(written).items():
        plain = torch.nn.Linear(adapter.base.columns, adapter.base.rows, bias=adapter.base.bias is not None)
        plain.weight.data, plain.bias = adapter.base.weight(), adapter.base.bias
        adapter.base = plain.requires_grad_(False)
        assert place
    grads = []
    for model in (few.train(), written.train()):
        said(model).square().mean().backward()
        grads.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    assert len(grads[0]) == 2 * len(lora_layers(few))
    for name, grad in grads[0].items():
        torch.testing.assert_close(grad, grads[1][name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_merged_beside_few_bits_equals_what_was_trained_and_is_saved_like_any_other(precision, tmp_path):
    model = quantize(lively(gpt2_config(**SIZES)), precision)
    add_lora(model, LoraSettings())
    enliven(model)
    with torch.no_grad():
        found = model.train()(ids())
        merged = merge_lora(model)(ids())
        torch.testing.assert_close(merged, found, rtol=1e-5, atol=1e-5)
        save_model(model, tmp_path)
        torch.testing.assert_close(load_model(tmp_path)(ids()), merged, rtol=1e-6, atol=1e-6)


def test_no_written_out_weights_are_kept_between_forward_and_backward():
    model = quantize(lively(llama_config(**SIZES)), "int8")
    add_lora(model, LoraSettings(layers=("all",)))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda x: x):
        model.train()(ids()).sum()
    matrices = {(module.base.rows, module.base.columns) for module in lora_layers(model).values()}
    assert matrices
    assert not matrices & {tuple(shape) for shape in kept}


def test_a_digest_of_rounded_weights_is_refused():
    with pytest.raises(ModelError, match="rounded to few bits"):
        weights_digest(quantize(lively(gpt2_config(**SIZES)), "int8"))
