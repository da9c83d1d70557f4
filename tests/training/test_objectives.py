"""Encoders and encoder-decoders learn through the one loop: what is asked of them, and that it has an effect."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from worlds import (
    EXAMPLES,
    FixedBatches,
    fixed_batch,
    make_example_batches,
    make_examples,
    make_model,
    make_settings,
    make_shape,
    marks,
)

from guiju.errors import ConfigError, TrainingError
from guiju.tokens import IGNORED, Batch
from guiju.training import effect, evaluation_batches, make_objective, objective_name, score_targets, train

SHAPES = list(EXAMPLES)


def settings_for(shape: str, **changes: object):
    objective = "pairs" if EXAMPLES[shape] == "pairs" else "auto"
    return make_settings(objective=objective, **{"batch": 8, "label_smoothing": 0.0, **changes})


def some_batch(world, shape: str, rows: int = 8) -> Batch:
    return make_example_batches(world, EXAMPLES[shape], batch=rows).next()


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def logits_of(model, batch: Batch) -> torch.Tensor:
    """The whole model's logits, every position's, by its own forward."""
    if batch.source is None:
        return model(batch.ids, padding=batch.padding)
    return model(batch.ids, source=batch.source, source_padding=batch.source_padding)


# -- the loss ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shape", SHAPES)
def test_loss_and_every_gradient_equal_plain_cross_entropy_of_the_whole_model(world, shape, smoothing):
    batch = some_batch(world, shape)
    model = make_shape(shape)
    plain = F.cross_entropy(
        logits_of(model, batch).flatten(0, 1), batch.targets.flatten(), reduction="sum", label_smoothing=smoothing
    )
    (plain / 17).backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    objective = make_objective(settings_for(shape, label_smoothing=smoothing), model.config)
    found = objective.loss(model, model.hidden, batch)
    (found / 17).backward()
    torch.testing.assert_close(found, plain, rtol=1e-6, atol=1e-4)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_fills_a_row_up_changes_no_loss(world, shape):
    batch = some_batch(world, shape)
    model = make_shape(shape).eval()
    objective = make_objective(settings_for(shape), model.config)
    before = objective.loss(model, model.hidden, batch)
    wider = {
        "ids": F.pad(batch.ids, (0, 3), value=7),
        "targets": F.pad(batch.targets, (0, 3), value=IGNORED),
        "padding": F.pad(torch.ones_like(batch.ids).bool() if batch.padding is None else batch.padding, (0, 3)),
    }
    if batch.source is not None:
        real = torch.ones_like(batch.source).bool() if batch.source_padding is None else batch.source_padding
        wider |= {"source": F.pad(batch.source, (0, 2), value=9), "source_padding": F.pad(real, (0, 2))}
    cut = {name: tensor[:, :32] for name, tensor in wider.items()}  # the context holds no more
    torch.testing.assert_close(objective.loss(model, model.hidden, Batch(**cut)), before, rtol=1e-5, atol=1e-3)


def test_auto_is_what_the_shape_can_and_smoothing_is_usual_for_pairs_alone():
    found = {}
    for shape in ("gpt2", "bert", "transformer"):
        config, settings = make_shape(shape).config, make_settings()
        found[shape] = objective_name(settings, config), make_objective(settings, config).label_smoothing
    assert found == {"gpt2": ("next-token", 0.0), "bert": ("masked-tokens", 0.0), "transformer": ("spans", 0.1)}


@pytest.mark.parametrize(
    ("shape", "objective"), [("gpt2", "masked-tokens"), ("bert", "next-token"), ("bert", "pairs"), ("t5", "next-token")]
)
def test_an_objective_that_the_shape_cannot_is_refused_with_the_ones_it_can(world, tmp_path, shape, objective):
    with pytest.raises(ConfigError, match=f"training.objective is {objective}, but the model is of the kind"):
        train(make_shape(shape), FixedBatches(), make_settings(objective=objective), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_head_that_says_nothing_or_no_tokens_is_refused(tmp_path):
    for head, objective, message in (
        ({"head": "none"}, "auto", r"model\.head is none, which says nothing that could be learned"),
        (
            {"head": "classes", "labels": ("a", "b")},
            "masked-tokens",
            r"model\.head is classes, which learns by classes",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            train(make_shape("bert", **head), FixedBatches(), make_settings(objective=objective), folder=tmp_path)


def test_a_pooler_that_no_target_reaches_is_named(world, tmp_path):
    model = make_shape("bert", pooler=True)
    with pytest.raises(TrainingError, match=r"no gradient reached pooler\.bias, pooler\.weight"):
        train(model, make_example_batches(world, "masked"), settings_for("bert"), folder=tmp_path)


def test_progress_says_what_it_counts(world, tmp_path):
    shown = []
    batches, settings = make_example_batches(world, "masked"), settings_for("bert", steps=3)
    train(make_shape("bert"), batches, settings, folder=tmp_path, report=lambda *told: shown.append(told[2]))
    assert all(" targets/s" in line for line in shown)


# -- learning ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_one_batch_can_be_learned_by_heart(world, tmp_path, shape):
    batch = some_batch(world, shape, rows=4)
    settings = settings_for(shape, steps=150, learning_rate=5e-3, weight_decay=0.0, checkpoint_every=0)
    result = train(make_shape(shape), FixedBatches(batch), settings, folder=tmp_path)
    assert lines(result.log)[0]["loss"] == pytest.approx(math.log(300), rel=0.25)
    assert result.final_loss < 0.1


@pytest.mark.parametrize("shape", ["bert", "transformer"])
def test_the_log_holds_the_smoothed_loss_and_evaluations_are_not_smoothed(world, tmp_path, shape):
    batch, model = some_batch(world, shape), make_shape(shape)
    settings = settings_for(shape, steps=1, warmup_steps=0, label_smoothing=0.3)
    objective = make_objective(settings, model.config)
    sharp = score_targets(model, objective, [batch], [1] * 300)
    logs = logits_of(model, batch).log_softmax(-1)[batch.targets != IGNORED]
    smoothed = 0.7 * sharp.nats / sharp.tokens - 0.3 * float(logs.detach().mean())
    result = train(model, FixedBatches(batch), settings, folder=tmp_path)
    assert lines(result.log)[0]["loss"] == pytest.approx(smoothed, rel=1e-5)
    assert abs(smoothed - sharp.nats_per_token) > 1e-3


@pytest.mark.parametrize("shape", ["bert", "transformer"])
def test_eight_batches_of_one_equal_one_of_eight_with_ragged_lengths(world, tmp_path, shape):
    examples = make_examples(world, EXAMPLES[shape])
    rows = examples.lengths.argsort()[:: len(examples.lengths) // 8][:8]
    whole = examples.read(rows, 0, 0)
    parts = [examples.read(rows[place : place + 1], 0, 0) for place in range(8)]
    assert len({part.target_count for part in parts}) > 2
    seen, losses = {}, {}
    for name, batches, accumulate in (("one", [whole], 1), ("eight", parts, 8)):
        model = make_shape(shape)
        captured = seen.setdefault(name, {})
        for weight_name, weight in model.named_parameters():
            weight.register_post_accumulate_grad_hook(
                lambda w, n=weight_name, c=captured: c.__setitem__(n, w.grad.clone())
            )
        settings = settings_for(shape, steps=1, warmup_steps=0, accumulate=accumulate, clip_norm=1e9)
        train(model, FixedBatches(*batches), settings, folder=tmp_path / name)
        losses[name] = lines(tmp_path / name / "train_log.jsonl")[0]["loss"]
    one, eight = (torch.cat([seen[name][weight].flatten() for weight in seen["one"]]) for name in ("one", "eight"))
    assert (one - eight).norm() / one.norm() <= 2e-6
    assert losses["one"] == pytest.approx(losses["eight"], rel=1e-6)


@pytest.mark.parametrize("shape", ["bert", "t5"])
def test_activation_checkpointing_gives_the_same_bits(world, tmp_path, shape):
    ends = []
    for name, on in (("plain", False), ("again", True)):
        model = make_shape(shape, dropout=0.1)
        batches = make_example_batches(world, EXAMPLES[shape])
        train(model, batches, settings_for(shape, activation_checkpointing=on, steps=6), folder=tmp_path / name)
        ends.append({name: weight.detach().clone() for name, weight in model.named_parameters()})
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("shape", ["bert", "transformer"])
def test_bfloat16_trains_with_float32_weights(world, tmp_path, shape):
    model = make_shape(shape)
    batches, settings = make_example_batches(world, EXAMPLES[shape]), settings_for(shape, dtype="bfloat16", steps=30)
    result = train(model, batches, settings, folder=tmp_path)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert result.final_loss < lines(result.log)[0]["loss"] - 0.3


class Enough(Exception):
    pass


@pytest.mark.parametrize("shape", SHAPES)
def test_training_goes_on_where_it_stopped_to_the_same_bits(world, tmp_path, shape):
    def run(folder, on_event=None):
        objective = make_objective(settings_for(shape), make_shape(shape).config)
        held_out = evaluation_batches(make_examples(world, EXAMPLES[shape], "validation"), batch=8, max_rows=16)
        return train(
            make_shape(shape, dropout=0.1),
            make_example_batches(world, EXAMPLES[shape]),
            settings_for(shape, label_smoothing=None),
            folder=tmp_path / folder,
            evaluate=lambda model: score_targets(model, objective, held_out, [1] * 300).bits_per_byte,
            on_event=on_event,
        )

    def leave(name, facts):
        if name == "checkpoint" and facts["step"] == 8:
            raise Enough

    with pytest.raises(Enough):
        run("half", leave)
    result = run("half")
    assert result.resumed_from == 8
    assert result.bit_exact
    run("whole")
    for file in ("model.safetensors", "optimizer.safetensors", "state.json", "train_log.jsonl", "manifest.json"):
        half, whole = (tmp_path / folder / "step-00000012" / file for folder in ("half", "whole"))
        assert half.read_bytes() == whole.read_bytes(), file


# -- no effect, no claim ----------------------------------------------------------------------------------------


def stopped(world, tmp_path, shape: str, batch: Batch, match: str) -> None:
    with pytest.raises(TrainingError, match=match):
        train(make_shape(shape), FixedBatches(batch), settings_for(shape), folder=tmp_path)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_that_leaves_no_target_stops_training(world, tmp_path, shape):
    batch = some_batch(world, shape)
    batch.targets[:] = IGNORED
    stopped(world, tmp_path, shape, batch, "no token of step 1 has a target: each is masked")


def test_a_mask_of_all_ones_stops_training(world, tmp_path):
    batch = some_batch(world, "bert")
    everywhere = torch.where(batch.targets == IGNORED, batch.ids, batch.targets)
    hidden = replace(batch, ids=torch.full_like(batch.ids, marks().mask), targets=everywhere)
    stopped(world, tmp_path, "bert", hidden, r"\d+ of \d+ tokens are masked, so nothing is left to guess them from")


def test_a_mask_that_hides_nothing_stops_training(world, tmp_path):
    batch = some_batch(world, "bert", rows=12)
    shown = replace(batch, ids=torch.where(batch.targets == IGNORED, batch.ids, batch.targets))
    stopped(world, tmp_path, "bert", shown, "stand in the input as they are: the mask hides nothing")


def test_text_that_is_padding_alone_stops_training(world, tmp_path):
    batch = some_batch(world, "bert")
    nothing = torch.zeros_like(batch.ids).bool()
    stopped(world, tmp_path, "bert", replace(batch, padding=nothing), "every token of the batch is padding")


def test_a_source_that_is_missing_or_padding_alone_stops_training(world, tmp_path):
    batch = some_batch(world, "transformer")
    stopped(world, tmp_path, "transformer", replace(batch, source=None), "the batch has no source")
    real = torch.ones_like(batch.source).bool()
    real[2] = False
    padded = replace(batch, source_padding=real)
    stopped(world, tmp_path, "transformer", padded, "a source of the batch is padding alone")


def test_a_target_that_the_decoder_can_read_off_stops_training(world, tmp_path):
    batch = some_batch(world, "transformer")
    leaky = replace(batch, ids=torch.where(batch.targets == IGNORED, batch.ids, batch.targets))
    stopped(world, tmp_path, "transformer", leaky, "the target must stand one place later")


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_that_do_not_move_are_an_error(world, tmp_path, shape):
    with pytest.raises(TrainingError, match="no weight moved in 5 updates"):
        train(
            make_shape(shape),
            make_example_batches(world, EXAMPLES[shape]),
            settings_for(shape, learning_rate=1e-30),
            folder=tmp_path,
        )


def cut_off_encoder(model) -> None:
    encode = model.encode
    model.encode = lambda *given, **named: encode(*given, **named).detach()


def cut_off_cross_attention(model) -> None:
    for layer in model.decoder.layers:
        layer.cross_attention.to_output.register_forward_hook(lambda module, given, out: out.detach())


@pytest.mark.parametrize(
    ("cut", "named"),
    [
        (cut_off_encoder, "encoder.layers.0.attention.to_query.weight"),
        (cut_off_cross_attention, "decoder.layers.1.cross_attention.to_value.weight"),
    ],
)
def test_an_encoder_or_cross_attention_that_learns_nothing_is_named(world, tmp_path, cut, named):
    model = make_shape("transformer")
    cut(model)
    with pytest.raises(TrainingError, match=f"no gradient reached .*{named}"):
        train(model, make_example_batches(world, "pairs"), settings_for("transformer"), folder=tmp_path)


@pytest.mark.parametrize("part", ["encoder.layers.1.mlp", "decoder.layers.0.cross_attention", "encoder.layers"])
def test_a_part_whose_gradients_move_nothing_is_named(world, tmp_path, monkeypatch, part):
    """The optimizer is kept from it: gradients come, and every update is undone."""
    model = make_shape("transformer")
    held = {name: weight.detach().clone() for name, weight in model.named_parameters() if name.startswith(part)}
    see_update = effect.EffectCheck.see_update

    def undone(check):
        with torch.no_grad():
            for name, weight in held.items():
                model.get_parameter(name).copy_(weight)
        see_update(check)

    monkeypatch.setattr(effect.EffectCheck, "see_update", undone)
    with pytest.raises(TrainingError, match=f"no weight of .*{part}.* moved in 5 updates, while others did"):
        train(model, make_example_batches(world, "pairs"), settings_for("transformer"), folder=tmp_path)


def test_a_decoder_still_learns_by_the_same_loop(world, tmp_path):
    settings = make_settings(steps=3, objective="next-token", label_smoothing=0.1)
    result = train(make_model(), FixedBatches(fixed_batch()), settings, folder=tmp_path)
    batch, model = fixed_batch(), make_model()
    expected = F.cross_entropy(model(batch.ids).flatten(0, 1), batch.targets.flatten(), label_smoothing=0.1)
    assert lines(result.log)[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)
