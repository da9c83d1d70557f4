"""Ways to tune a model, each against another implementation of its loss on the same weights, and through the loop."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from tuning import CONTEXT, LABELS, OBJECTIVES, SHAPES, make_rows, make_tuned, make_tuning_examples
from worlds import FixedBatches, make_example_batches, make_settings, make_shape

from guiju.errors import ConfigError, DataError
from guiju.model import LoraSettings, add_lora, lora_layers, quantize, save_model
from guiju.tokens import IGNORED, Batch, BucketedBatches, PreferenceExamples
from guiju.training import make_objective, objective_name, reference_log_probs, score_targets, train

WAYS = tuple(SHAPES)


def name_of(way: str) -> str:
    return way.partition(" of ")[0]


def settings_for(way: str, **changes: object):
    return make_settings(objective=name_of(way), **{"batch": 8, "evaluate_every": 0, **changes})


def some_batch(way: str, rows: int = 8, **options) -> Batch:
    return BucketedBatches(make_tuning_examples(way, **options), batch=rows, seed=1).next()


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def lively(model):
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.15)
    return model.eval()


def loss_of(way: str, model, batch: Batch, **settings) -> torch.Tensor:
    """The mean, as the loop takes it."""
    objective = make_objective(settings_for(way, **settings), model.config)
    objective.check([batch])
    return objective.loss(model, model.hidden, batch) / objective.weigh(batch)


def theirs(model, folder, name: str):
    save_model(model, folder)
    return getattr(transformers, name).from_pretrained(folder).eval()


def mask(batch: Batch) -> torch.Tensor:
    return (torch.ones_like(batch.ids) if batch.padding is None else batch.padding).long()


# -- the losses -------------------------------------------------------------------------------------------------


def test_answers_cost_what_gpt2_says_with_labels_of_minus_100(tmp_path):
    model, batch = lively(make_tuned("answers")), some_batch("answers")
    other = theirs(model, tmp_path, "GPT2LMHeadModel")
    # transformers shifts by itself: its labels stand at the tokens' own places, and one more token is read.
    ids = F.pad(batch.ids, (0, 1))
    labels = F.pad(batch.targets, (1, 0), value=IGNORED)
    ids = ids.where(labels == IGNORED, labels)
    real = F.pad(mask(batch), (1, 0), value=1)
    expected = other(ids, attention_mask=real, labels=labels).loss
    torch.testing.assert_close(loss_of("answers", model, batch), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shape", "name"), [("transformer", "MarianMTModel"), ("t5", "T5ForConditionalGeneration")])
def test_pairs_cost_what_transformers_says(world, tmp_path, shape, name):
    model = lively(make_shape(shape, pad_id=1, start_id=0))
    batch = make_example_batches(world, "pairs").next()
    other = theirs(model, tmp_path, name)
    given = {"input_ids": batch.source, "decoder_input_ids": batch.ids, "labels": batch.targets}
    if batch.source_padding is not None:
        given["attention_mask"] = batch.source_padding.long()
    objective = make_objective(make_settings(objective="pairs", label_smoothing=0.0), model.config)
    found = objective.loss(model, model.hidden, batch) / objective.weigh(batch)
    torch.testing.assert_close(found, other(**given).loss, rtol=1e-5, atol=1e-5)


def test_labels_cost_what_bert_says(tmp_path):
    model, batch = lively(make_tuned("classes")), some_batch("classes")
    other = theirs(model, tmp_path, "BertForSequenceClassification")
    expected = other(batch.ids, attention_mask=mask(batch), token_type_ids=batch.segments, labels=batch.targets).loss
    assert batch.segments is not None
    torch.testing.assert_close(loss_of("classes", model, batch), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weights", ["balanced", (0.2, 1.0, 4.0)])
def test_weighted_labels_cost_what_torch_says_of_berts_logits(tmp_path, weights):
    examples = make_tuning_examples("classes", class_weights=weights)
    batch = BucketedBatches(examples, batch=16, seed=1).next()
    model = lively(make_tuned("classes"))
    other = theirs(model, tmp_path, "BertForSequenceClassification")
    logits = other(batch.ids, attention_mask=mask(batch), token_type_ids=batch.segments).logits
    expected = F.cross_entropy(logits, batch.targets, weight=torch.from_numpy(examples.class_weights))
    torch.testing.assert_close(loss_of("classes", model, batch), expected, rtol=1e-5, atol=1e-5)
    assert abs(float((expected - F.cross_entropy(logits, batch.targets)).detach())) > 1e-3


def test_a_decoders_labels_cost_what_llama_says(tmp_path):
    model, batch = lively(make_tuned("classes of a decoder")), some_batch("classes of a decoder")
    other = theirs(model, tmp_path, "LlamaForSequenceClassification")
    other.config.pad_token_id = 0
    expected = other(batch.ids, attention_mask=mask(batch), labels=batch.targets).loss
    torch.testing.assert_close(loss_of("classes of a decoder", model, batch), expected, rtol=1e-5, atol=1e-5)


def test_labels_of_tokens_cost_what_bert_says(tmp_path):
    model, batch = lively(make_tuned("token-classes")), some_batch("token-classes")
    other = theirs(model, tmp_path, "BertForTokenClassification")
    expected = other(batch.ids, attention_mask=mask(batch), labels=batch.targets).loss
    torch.testing.assert_close(loss_of("token-classes", model, batch), expected, rtol=1e-5, atol=1e-5)


def test_spans_cost_what_bert_says_of_each_row_without_its_padding(tmp_path):
    model, batch = lively(make_tuned("extractive")), make_tuning_examples("extractive").read(np.arange(8), 0, 0)
    other = theirs(model, tmp_path, "BertForQuestionAnswering")
    expected = []
    for row, length in enumerate(mask(batch).sum(dim=1).tolist()):
        first, last = batch.targets[row].tolist()
        kinds = None if batch.segments is None else batch.segments[row : row + 1, :length]
        given = {
            "token_type_ids": kinds,
            "start_positions": torch.tensor([first]),
            "end_positions": torch.tensor([last]),
        }
        expected.append(other(batch.ids[row : row + 1, :length], **given).loss)
    assert len({int(length) for length in mask(batch).sum(dim=1)}) > 1
    torch.testing.assert_close(loss_of("extractive", model, batch), torch.stack(expected).mean(), rtol=1e-5, atol=1e-5)


def plain_log_probs(model, batch: Batch) -> torch.Tensor:
    logs = model(batch.ids).log_softmax(dim=-1)
    chosen = logs.gather(2, batch.targets.clamp(min=0)[:, :, None])[:, :, 0]
    return (chosen * (batch.targets != IGNORED)).sum(dim=1)


@pytest.mark.parametrize("wrong", [0.0, 0.2])
def test_preferences_cost_what_the_paper_says(wrong):
    """arXiv:2305.18290, equation 7; with wrong ones as in the authors' note on conservative DPO."""
    model, batch = lively(make_tuned("preferences")), some_batch("preferences")
    policy = plain_log_probs(model, batch)
    margin = 0.3 * ((policy[0::2] - batch.reference[0::2]) - (policy[1::2] - batch.reference[1::2]))
    expected = -((1 - wrong) * margin.sigmoid().log() + wrong * (-margin).sigmoid().log()).mean()
    found = loss_of("preferences", model, batch, preference_beta=0.3, label_smoothing=wrong)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    expected.backward()
    grads = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    found.backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, grads[name], rtol=1e-4, atol=1e-6, msg=name)


def test_what_the_reference_holds_is_each_answers_log_probability():
    examples = make_tuning_examples("preferences")
    assert isinstance(examples, PreferenceExamples)
    model = lively(make_tuned("preferences"))
    told = []
    found = reference_log_probs(model, examples, batch=7, report=lambda *done: told.append(done))
    everything = examples.read(np.arange(len(examples.lengths)), 0, 0)
    with torch.no_grad():
        expected = plain_log_probs(model, everything).view(-1, 2).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert told[-1] == (60, 60)


def test_before_the_first_step_every_preference_costs_log_2(tmp_path):
    batches = BucketedBatches(make_tuning_examples("preferences"), batch=8, seed=1)
    result = train(make_tuned("preferences"), batches, settings_for("preferences", steps=3), folder=tmp_path)
    assert lines(result.log)[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)


# -- what fills up, accumulates, is told ------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_what_fills_a_row_up_changes_no_loss(way):
    model, batch = lively(make_tuned(way)), some_batch(way)
    wider = {name: getattr(batch, name) for name in ("ids", "targets", "segments", "weights", "reference")}
    wider["padding"] = F.pad(mask(batch).bool(), (0, 3))
    wider["ids"] = F.pad(batch.ids, (0, 3), value=7)
    if batch.segments is not None:
        wider["segments"] = F.pad(batch.segments, (0, 3))
    if batch.targets.shape == batch.ids.shape:
        wider["targets"] = F.pad(batch.targets, (0, 3), value=IGNORED)
    torch.testing.assert_close(loss_of(way, model, Batch(**wider)), loss_of(way, model, batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_parts_of_a_step_have_the_gradient_of_the_whole(way, tmp_path):
    options = {"class_weights": "balanced"} if way.startswith("classes") else {}
    whole = some_batch(way, **options)
    parts = [whole.rows(start, start + 2) for start in range(0, len(whole.ids), 2)]
    seen, losses = {}, []
    for name, batches in (("whole", [whole]), ("parts", parts)):
        model = make_tuned(way)
        for key, weight in model.named_parameters():
            weight.register_post_accumulate_grad_hook(
                lambda w, place=(name, key): seen.__setitem__(place, w.grad.clone())
            )
        settings = settings_for(way, steps=1, warmup_steps=0, accumulate=len(batches), clip_norm=1e9)
        losses.append(lines(train(model, FixedBatches(*batches), settings, folder=tmp_path / name).log)[0]["loss"])
    one, many = (
        torch.cat([seen[name, key].flatten() for key, _ in make_tuned(way).named_parameters()])
        for name in ("whole", "parts")
    )
    assert (one - many).norm() / one.norm() <= 1e-5
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_one_batch_can_be_learned_by_heart(way, tmp_path):
    settings = settings_for(way, steps=100, learning_rate=5e-3, weight_decay=0.0, checkpoint_every=0)
    result = train(make_tuned(way), FixedBatches(some_batch(way, rows=6)), settings, folder=tmp_path)
    assert result.final_loss < 0.15
    assert lines(result.log)[0]["loss"] > 0.5


def test_auto_follows_the_head_and_others_are_refused_with_what_it_can():
    found = {way: objective_name(make_settings(), make_tuned(way).config) for way in WAYS}
    assert found == {
        "answers": "next-token",
        "preferences": "next-token",
        "classes": "classes",
        "classes of a decoder": "classes",
        "token-classes": "token-classes",
        "extractive": "extractive",
    }
    for way, objective, message in (
        ("answers", "classes", r"objective is classes, but model\.head is vocabulary, .* the head classes first"),
        ("classes", "extractive", r"objective is extractive, but model\.head is classes, .* the head span first"),
        ("classes", "answers", r"objective is answers"),
        ("extractive", "masked-tokens", r"but model\.head is span"),
    ):
        with pytest.raises(ConfigError, match=message):
            objective_name(make_settings(objective=objective), make_tuned(way).config)
    with pytest.raises(ConfigError, match="the objective extractive knows none"):
        make_objective(settings_for("extractive", label_smoothing=0.1), make_tuned("extractive").config)
    with pytest.raises(ConfigError, match="no tokens, so they cannot be scored"):
        score_targets(make_tuned("classes"), make_objective(make_settings(), make_tuned("classes").config), [], [1])


def test_answers_are_scored_like_other_tokens():
    model, batch = lively(make_tuned("answers")), some_batch("answers")
    objective = make_objective(settings_for("answers"), model.config)
    found = score_targets(model, objective, [batch], [1] * 300)
    assert found.nats_per_token == pytest.approx(loss_of("answers", model, batch).item(), rel=1e-5)


# -- going on ---------------------------------------------------------------------------------------------------


class Enough(Exception):
    pass


def adapted(way: str, precision: str | None = None):
    model = make_tuned(way, dropout=0.1)
    if precision is not None:
        model = quantize(model, precision)
    torch.manual_seed(9)
    add_lora(model, LoraSettings(rank=2, layers=("all",), dropout=0.2))
    return model


@pytest.mark.parametrize("case", [*OBJECTIVES, "lora", "lora int8", "lora int4", "frozen, rates by layer"])
def test_training_goes_on_where_it_stopped_to_the_same_bits(case, tmp_path):
    way = case if case in OBJECTIVES else "answers"
    changes: dict[str, object] = {"accumulate": 2}
    if case.startswith("frozen"):
        changes |= {"freeze": ("embedding*", "layers.0.*"), "layer_rate_decay": 0.7}

    def make():
        return adapted(way, case.partition(" ")[2] or None) if case.startswith("lora") else make_tuned(way, dropout=0.1)

    def run(folder, model, on_event=None):
        batches = BucketedBatches(make_tuning_examples(way), batch=4, seed=2)
        return train(model, batches, settings_for(way, **changes), folder=folder, on_event=on_event)

    def stop(name, facts):
        if name == "checkpoint" and facts["step"] == 8:
            raise Enough

    whole, parts = make(), make()
    first = run(tmp_path / "whole", whole)
    with pytest.raises(Enough):
        run(tmp_path / "parts", make(), on_event=stop)
    second = run(tmp_path / "parts", parts)
    assert (second.resumed_from, second.bit_exact) == (8, True)
    assert first.log.read_bytes() == second.log.read_bytes()
    for name, weight in whole.named_parameters():
        assert torch.equal(weight, dict(parts.named_parameters())[name]), name


@pytest.mark.parametrize("precision", [None, "int8", "int4"])
def test_an_adapter_learns_and_nothing_else_moves(precision, tmp_path):
    model = adapted("answers", precision)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    batches = BucketedBatches(make_tuning_examples("answers"), batch=8, seed=2)
    result = train(model, batches, settings_for("answers", steps=60, learning_rate=2e-2), folder=tmp_path)
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {f"{name}.{side}" for name in lora_layers(model) for side in ("up", "down")}
    assert result.final_loss < lines(result.log)[0]["loss"] - 0.1


def test_a_checkpoint_of_an_adapter_holds_no_base_and_does_not_go_on_beside_another(tmp_path):
    from safetensors.torch import load_file

    from guiju.errors import CheckpointError

    model = adapted("answers")
    batches = BucketedBatches(make_tuning_examples("answers"), batch=8, seed=2)
    result = train(model, batches, settings_for("answers"), folder=tmp_path)
    held = load_file(result.checkpoint / "model.safetensors")
    assert held.keys() == {name for name, weight in model.named_parameters() if weight.requires_grad}
    other = adapted("answers")
    with torch.no_grad():
        other.embedding.weight[5, 5] += 1
    with pytest.raises(CheckpointError, match="was made with other frozen weights"):
        train(other, batches, settings_for("answers"), folder=tmp_path)


def test_labels_in_another_order_are_refused(tmp_path):
    from guiju.model import with_head

    model = with_head(make_shape("bert"), "classes", LABELS[::-1])
    batches = BucketedBatches(make_tuning_examples("classes"), batch=8, seed=2)
    with pytest.raises(ConfigError, match=r"the training data has the labels even, odd, none, but .* none, odd, even"):
        train(model, batches, settings_for("classes"), folder=tmp_path)


def test_rows_of_another_objective_are_refused_and_no_row_at_all_is_too(tmp_path):
    assert CONTEXT == 32
    from guiju.errors import TrainingError

    batches = BucketedBatches(make_tuning_examples("token-classes"), batch=8, seed=2)
    with pytest.raises(TrainingError, match="this objective learns a label for each row"):
        train(make_tuned("classes"), batches, settings_for("classes"), folder=tmp_path)
    for way in OBJECTIVES:
        with pytest.raises(DataError):
            make_tuning_examples(way, rows=[])
    assert make_rows("answers") == make_rows("answers")
