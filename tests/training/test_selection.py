"""Which weights move, and how fast."""

from __future__ import annotations

import pytest
import torch
from worlds import FixedBatches, fixed_batch, make_model, make_settings, make_shape

from guiju.errors import ConfigError, TrainingError
from guiju.training import train
from guiju.training.optimizer import make_optimizer, set_rate
from guiju.training.selection import only_selected, rate_shares, trainable


def moved_by(model, tmp_path, **settings) -> set[str]:
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    train(model, FixedBatches(fixed_batch()), make_settings(steps=6, **settings), folder=tmp_path)
    return {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}


def test_only_what_is_named_moves(tmp_path):
    model = make_model()
    everything = {name for name, _ in model.named_parameters()}
    assert moved_by(make_model(), tmp_path / "all") == everything
    found = moved_by(model, tmp_path / "some", train=("layers.1.*", "final_norm.*"), freeze=("*.bias",))
    assert found == {
        name for name in everything if name.startswith(("layers.1.", "final_norm.")) and not name.endswith("bias")
    }
    assert all(weight.requires_grad for weight in model.parameters())  # as it was before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": ("layer.1.*",)}, r"training\.train has 'layer\.1\.\*', which names no weight of the model"),
        ({"freeze": ("layers.9.*",)}, r"training\.freeze has 'layers\.9\.\*', which names no weight"),
        ({"train": ("",)}, r"training\.train is \(''\,\)"),
        ({"freeze": "embedding*"}, r"training\.freeze is 'embedding\*'"),
        ({"layer_rate_decay": 0.0}, r"training\.layer_rate_decay is 0\.0"),
        ({"layer_rate_decay": 1.5}, r"training\.layer_rate_decay is 1\.5"),
        ({"preference_beta": 0.0}, r"training\.preference_beta is 0\.0"),
        ({"objective": "preferences", "label_smoothing": 0.5}, r"training\.label_smoothing is 0\.5"),
    ],
)
def test_patterns_and_rates_that_do_nothing_are_refused(settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train(make_model(), FixedBatches(fixed_batch()), make_settings(**settings), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_patterns_that_leave_nothing_or_name_what_is_frozen_anyway_are_refused(tmp_path):
    model = make_model()
    with pytest.raises(TrainingError, match=r"training\.freeze \['\*'\] leave no weight that moves"):
        train(model, FixedBatches(fixed_batch()), make_settings(freeze=("*",)), folder=tmp_path)
    assert all(weight.requires_grad for weight in model.parameters())
    model.layers[0].requires_grad_(False)
    with pytest.raises(ConfigError, match="names frozen weights only"):
        train(model, FixedBatches(fixed_batch()), make_settings(train=("layers.0.*",)), folder=tmp_path)


def test_rates_fall_by_layer_from_the_head_down_to_the_embeddings():
    model = make_shape("bert", head="classes", labels=("a", "b"))
    shares = rate_shares([name for name, _ in model.named_parameters()], model.config, 0.5)
    found = {name.removesuffix(".weight"): share for name, share in shares.items()}
    assert {found[name] for name in ("to_labels", "pooler")} == {1.0}
    assert found["layers.1.mlp.to_output"] == found["layers.1.attention_norm"] == 0.5
    assert found["layers.0.attention.to_query"] == 0.25
    assert {found[f"{name}embedding"] for name in ("", "position_", "segment_")} == {0.125}
    assert found["embedding_norm"] == 0.125


def test_an_encoder_stands_below_its_decoder():
    model = make_shape("t5")
    found = rate_shares([name for name, _ in model.named_parameters()], model.config, 0.5)
    chain = [
        "embedding.weight",
        "encoder.layers.0.mlp.to_output.weight",
        "encoder.layers.1.mlp.to_output.weight",
        "decoder.layers.0.mlp.to_output.weight",
        "decoder.layers.1.mlp.to_output.weight",
        "decoder.final_norm.weight",
    ]
    assert [found[name] for name in chain] == [0.5**power for power in (5, 4, 3, 2, 1, 0)]
    assert found["encoder.relative_bias.weight"] == found["embedding.weight"]
    assert found["encoder.final_norm.weight"] == found["encoder.layers.1.mlp.to_output.weight"]


def test_an_update_moves_each_layer_by_its_share():
    """AdamW's first update moves a weight by the rate, whatever its gradient."""
    model = make_model()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = make_optimizer(model, make_settings(layer_rate_decay=0.5, weight_decay=0.0))
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    set_rate(optimizer, 1e-2)
    optimizer.step()
    shares = rate_shares(list(before), model.config, 0.5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(
            before[name] - weight, torch.full_like(weight, 1e-2 * shares[name]), rtol=1e-2, atol=1e-6, msg=name
        )


def test_without_a_decay_the_groups_are_those_of_plain_adamw():
    optimizer = make_optimizer(make_model(), make_settings())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert {group["rate_share"] for group in optimizer.param_groups} == {1.0}


def test_what_moved_before_moves_again_also_after_an_error():
    model = make_model()
    found = []

    def fail():
        found.extend(trainable(model))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), only_selected(model, make_settings(freeze=("layers.*",))):
        fail()
    assert found
    assert not any(name.startswith("layers.") for name in found)
    assert len(trainable(model)) == len(dict(model.named_parameters()))
