from __future__ import annotations

import json
import subprocess
import sys

import pytest

from guiju.compute import parameters, training_memory
from guiju.model import gpt2_config, llama_config

# A real training step in a process of its own, and its peak.
STEP = """
import json, sys, torch
from guiju.compute import Meter
from guiju.model import Transformer, gpt2_config, llama_config
from guiju.training import TrainingSettings, cross_entropy_in_chunks
from guiju.training.optimizer import make_optimizer
kind, sizes, batch, length, dtype, checkpointing = json.loads(sys.argv[1])
torch.set_num_threads(1)
short = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16")
with Meter(interval_s=0.1) as meter:
    model = Transformer({"gpt2": gpt2_config, "llama": llama_config}[kind](**sizes)).train()
    model.activation_checkpointing = checkpointing
    optimizer = make_optimizer(model, TrainingSettings(steps=30))
    ids = torch.randint(0, sizes["vocab_size"], (batch, length))
    for _ in range(2):
        with short:
            loss = cross_entropy_in_chunks(model, model.hidden(ids), ids)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
print(meter.result.peak_memory_bytes)
"""

GPT2 = {"vocab_size": 8000, "context": 256, "width": 384, "layers": 6, "heads": 6}
LLAMA = {"vocab_size": 8000, "context": 256, "width": 384, "layers": 6, "heads": 6, "kv_heads": 2}


@pytest.mark.parametrize(
    ("kind", "sizes", "dtype", "checkpointing"),
    [
        ("gpt2", GPT2, "float32", False),
        ("llama", LLAMA, "float32", False),
        ("gpt2", GPT2, "float32", True),
        ("gpt2", GPT2, "bfloat16", False),
    ],
)
def test_the_forecast_is_near_the_measured_peak_of_a_real_step(kind, sizes, dtype, checkpointing):
    given = json.dumps([kind, sizes, 8, 256, dtype, checkpointing])
    done = subprocess.run([sys.executable, "-c", STEP, given], capture_output=True, text=True, check=True)
    peak = json.loads(done.stdout)
    shape = {"gpt2": gpt2_config, "llama": llama_config}[kind](**sizes)
    forecast = training_memory(shape, 8, 256, dtype=dtype, activation_checkpointing=checkpointing)
    assert forecast.total == pytest.approx(peak, rel=0.2), forecast.to_json()


def test_what_belongs_to_a_parameter_is_exact():
    shape = gpt2_config(**GPT2)
    count = parameters(shape).total
    memory = training_memory(shape, 1, 1)
    assert (memory.weights, memory.gradients, memory.optimizer) == (4 * count, 4 * count, 8 * count)
    assert memory.total == sum(value for name, value in memory.to_json().items() if name != "total")


def test_more_tokens_take_more_memory_and_checkpointing_takes_less():
    shape = gpt2_config(**GPT2)
    assert training_memory(shape, 16, 256).activations == 2 * training_memory(shape, 8, 256).activations
    kept = training_memory(shape, 8, 256).activations
    assert training_memory(shape, 8, 256, activation_checkpointing=True).activations < kept / 2
    assert training_memory(shape, 8, 256, dtype="bfloat16").activations < kept
