"""Encoders and encoder-decoders: parameters, operations and memory against torch's own counts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from guiju.compute import forward_flops, parameters, plan_training, training_flops, training_memory
from guiju.errors import ConfigError
from guiju.model import bart_config, bert_config, build_model, gpt2_config, t5_config, transformer_config
from guiju.tokens import IGNORED, Batch
from guiju.training import TrainingSettings, make_objective

SIZES = {"vocab_size": 101, "context": 32, "width": 24, "layers": 2, "heads": 3}
SHAPES = {
    "bert": bert_config(**SIZES),
    "bert, classes": bert_config(**SIZES, head="classes", labels=("a", "b", "c")),
    "bert, span": bert_config(**SIZES, head="span"),
    "gpt2, classes": replace(gpt2_config(**SIZES), head="classes", labels=("a", "b"), tied=False),
    "roberta": bert_config(**SIZES, segments=1, position_offset=2, pooler=True),
    "2017": transformer_config(**SIZES, encoder_layers=3),
    "2017, norm before": transformer_config(**SIZES, norm_place="before", logits_bias=True),
    "bart": bart_config(**SIZES, encoder_layers=1, hidden=50),
    "t5": t5_config(**SIZES, head_width=4, relative_buckets=8, relative_distance=20),
    "t5 1.1": t5_config(**SIZES, activation="geglu_tanh", tied=False, encoder_layers=4),
}
PREDICTING = [name for name, shape in SHAPES.items() if shape.head == "vocabulary"]
# torch's counter does not know a product that is added in place.
IN_PLACE = {torch.ops.aten.addmm_: lambda kept, left, right, out_shape, **named: 2 * left[0] * left[1] * right[1]}


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_equal_the_sum_over_the_models_weights(name):
    model = build_model(SHAPES[name])
    assert parameters(SHAPES[name]).total == sum(weight.numel() for weight in model.parameters())


def test_parameters_equal_transformers_and_the_published_counts():
    with torch.device("meta"):
        bert = BertForMaskedLM(BertConfig())
        bart = BartForConditionalGeneration(BartConfig())
        t5 = T5ForConditionalGeneration(T5Config())
    assert parameters(bert_config(vocab_size=30522)).total == bert.num_parameters() == 109_514_298
    assert parameters(t5_config(vocab_size=32128)).total == t5.num_parameters() == 60_506_624
    large = bart_config(vocab_size=50265, width=1024, layers=12, heads=16)
    assert parameters(large).total == bart.num_parameters() == 406_291_456


def made_batch(shape, padded: bool) -> Batch:
    draw = torch.Generator().manual_seed(0)
    ids, targets = (torch.randint(0, shape.vocab_size, (3, 17), generator=draw) for _ in "ab")
    if shape.kind == "encoder":
        targets[torch.rand(3, 17, generator=draw) < 0.8] = IGNORED
        return Batch(ids, targets, padding=torch.arange(17) < torch.tensor([[17], [9], [17]]) if padded else None)
    targets[1, 12:] = IGNORED
    source = torch.randint(0, shape.vocab_size, (3, 11), generator=draw)
    real = torch.arange(11) < torch.tensor([[11], [4], [11]]) if padded else None
    return Batch(ids, targets, source=source, source_padding=real)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", PREDICTING)
def test_flops_equal_torchs_counter_forward_and_backward(name, padded):
    """Of the loss as it is trained with: the head's products for the targets alone."""
    shape = SHAPES[name]
    model, batch = build_model(shape), made_batch(shape, padded)
    objective = make_objective(TrainingSettings(objective="auto"), shape)
    counter = FlopCounterMode(display=False, custom_mapping=IN_PLACE)
    with sdpa_kernel(SDPBackend.MATH), counter:
        objective.loss(model, model.hidden, batch).backward()
    source = 0 if batch.source is None else 11
    counted = training_flops(shape, 3, 17, source=source, predicted=batch.target_count)
    assert counted.total == counter.get_total_flops()


@pytest.mark.parametrize("name", PREDICTING)
def test_a_forward_pass_with_all_logits_equals_torchs_counter(name):
    shape = SHAPES[name]
    model, batch = build_model(shape).eval(), made_batch(shape, padded=False)
    extra = {} if batch.source is None else {"source": batch.source}
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch.ids, **extra)
    assert forward_flops(shape, 3, 17, source=11 if extra else 0) == counter.get_total_flops()


@pytest.mark.parametrize("name", ["bert", "2017"])
def test_activation_checkpointing_costs_one_more_forward_pass_of_the_layers(name):
    shape = SHAPES[name]
    model, batch = build_model(shape).train(), made_batch(shape, padded=False)
    model.activation_checkpointing = True
    objective = make_objective(TrainingSettings(), shape)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        objective.loss(model, model.hidden, batch).backward()
    source = 0 if batch.source is None else 11
    given = {"source": source, "predicted": batch.target_count, "activation_checkpointing": True}
    # torch stops the second pass early where the last product of a layer feeds no gradient, and the keys and values of
    # the source are made outside the layers.
    spared = shape.layers * 2 * 3 * 17 * shape.hidden * shape.width
    spared += (shape.encoder_layers or 0) * 2 * 3 * source * shape.hidden * shape.width
    outside = shape.layers * 2 * 3 * source * 2 * shape.width * shape.width
    most = training_flops(shape, 3, 17, **given).total
    assert most - spared - outside <= counter.get_total_flops() <= most


def test_a_source_belongs_to_an_encoder_decoder_alone():
    with pytest.raises(ConfigError, match=r"source is 5, but model\.kind is encoder"):
        training_flops(SHAPES["bert"], 1, 8, source=5)
    with pytest.raises(ConfigError, match=r"source is 0, but model\.kind is encoder-decoder"):
        forward_flops(SHAPES["t5"], 1, 8)


@pytest.mark.parametrize("name", ["bert, classes", "bert, span", "roberta", "gpt2, classes"])
def test_flops_of_other_heads_equal_torchs_counter(name):
    model = build_model(SHAPES[name])
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(torch.randint(0, 101, (3, 17)))
    assert forward_flops(SHAPES[name], 3, 17) == counter.get_total_flops()


def test_a_plan_takes_counts_of_batches_that_differ_in_size():
    plan = plan_training(
        SHAPES["2017"], steps=10, batch=4, length=16, source=16, predicted=40, flops=1e9, tokens=777, peak_flops=1e10
    )
    assert (plan.flops, plan.tokens, plan.seconds) == (1e9, 777, pytest.approx(0.25))
    alike = plan_training(SHAPES["2017"], steps=10, batch=4, length=16, source=8, predicted=40, peak_flops=1e10)
    assert alike.flops == 10 * training_flops(SHAPES["2017"], 4, 16, source=8, predicted=40).total
    assert alike.tokens == 10 * 4 * 24


# A real training step in a process of its own, and its peak.
STEP = """
import json, sys, torch
from guiju.compute import Meter
from guiju.model import bert_config, build_model, t5_config, transformer_config
from guiju.tokens import IGNORED, Batch
from guiju.training import TrainingSettings, make_objective
from guiju.training.optimizer import make_optimizer
kind, sizes, batch, length, source, predicted = json.loads(sys.argv[1])
torch.set_num_threads(1)
with Meter(interval_s=0.1) as meter:
    config = {"bert": bert_config, "transformer": transformer_config, "t5": t5_config}[kind](**sizes)
    model = build_model(config).train()
    objective = make_objective(TrainingSettings(), config)
    optimizer = make_optimizer(model, TrainingSettings(steps=30))
    ids = torch.randint(0, sizes["vocab_size"], (batch, length))
    targets = torch.full_like(ids, IGNORED)
    targets[:, : predicted // batch] = 1
    read = torch.randint(0, sizes["vocab_size"], (batch, source)) if source else None
    for _ in range(2):
        objective.loss(model, model.hidden, Batch(ids, targets, source=read)).backward()
        optimizer.step()
        optimizer.zero_grad()
print(meter.result.peak_memory_bytes)
"""


@pytest.mark.parametrize(
    ("kind", "source", "predicted"), [("bert", 0, 304), ("transformer", 256, 2048), ("t5", 256, 2048)]
)
def test_the_forecast_of_memory_is_near_the_measured_peak_of_a_real_step(kind, source, predicted):
    sizes = {"vocab_size": 8000, "context": 256, "width": 320, "layers": 4, "heads": 5}
    given = json.dumps([kind, sizes, 8, 256, source, predicted])
    done = subprocess.run([sys.executable, "-c", STEP, given], capture_output=True, text=True, check=True)
    shape = {"bert": bert_config, "transformer": transformer_config, "t5": t5_config}[kind](**sizes)
    forecast = training_memory(shape, 8, 256, source=source, predicted=predicted)
    assert forecast.total == pytest.approx(json.loads(done.stdout), rel=0.2), forecast.to_json()
