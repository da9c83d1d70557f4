from __future__ import annotations

import gzip
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("openvino", reason="needs the extra cpu, which .ci/run installs")

from guiju.errors import ConfigError, ModelError
from guiju.generation import Chunk, SamplingSettings, generate, open_runner
from guiju.generation.openvino_runner import OpenVinoRunner, suits
from guiju.model import ModelConfig, Transformer, gpt2_config, llama_config

STORIES = Path(__file__).parents[2] / "examples" / "data" / "tinystories" / "tinystories_sample.train.txt.gz"
SIZES = {"vocab_size": 101, "context": 128, "width": 64, "layers": 2, "heads": 4}
SHAPES: dict[str, ModelConfig] = {
    "GPT-2": gpt2_config(**SIZES),
    "GPT-2 with exact GELU and a head of its own": gpt2_config(**SIZES, activation="gelu", tied=False),
    "Llama with grouped heads": llama_config(**SIZES, kv_heads=2),
    "heads of 8": llama_config(**SIZES | {"heads": 8}),
    "heads of 20": llama_config(**SIZES | {"width": 80}),
    "Mistral's window": replace(llama_config(**SIZES, kv_heads=2), window=7),
    "Qwen2's window from the second layer": replace(llama_config(**SIZES), window=7, window_from=1, qkv_bias=True),
    "Qwen3's norms of queries and keys": replace(llama_config(**SIZES, kv_heads=1, head_width=32), query_key_norm=True),
    "scales, a bias of the logits, half-turned heads": replace(
        llama_config(**SIZES),
        rotary_share=0.5,
        attention_scale=0.3,
        embedding_scale=2.0,
        logit_scale=0.5,
        logits_bias=True,
    ),
    "the Transformer of 2017, its decoder alone": replace(
        gpt2_config(**SIZES), norm_place="after", positions="sinusoidal", embedding_norm=True, activation="relu"
    ),
}


def lively(config: ModelConfig, seed: int = 0, size: float = 0.15) -> Transformer:
    """Random weights, vectors included, so large that answers differ from prompt to prompt."""
    torch.manual_seed(seed)
    model = Transformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, size)
    return model


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest, as a share of the greatest logit."""
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", SHAPES)
def test_a_ragged_step_over_scattered_pages_gives_the_models_own_logits(name):
    model = lively(SHAPES[name])
    first, second = torch.randint(0, 101, (2, 100))
    with torch.no_grad():
        wanted, other = model(first[None])[0], model(second[None])[0]
    runner = OpenVinoRunner(model, precision="float32", pages=12)
    whole = runner.step([Chunk(tuple(first[:40].tolist()), 0, (3, 5), 40)])[0]
    assert difference(whole, wanted[:40]) < 1e-5
    # One goes on in the middle of a page, one begins, one is a prompt's inner chunk, of which nothing is wanted.
    later, begun, inner = runner.step(
        [
            Chunk(tuple(first[40:45].tolist()), 40, (3, 5), 3),
            Chunk(tuple(second[:30].tolist()), 0, (7,), 1),
            Chunk((3, 4), 0, (8,), 0),
        ]
    )
    assert difference(later, wanted[42:45]) < 1e-5
    assert difference(begun, other[29:30]) < 1e-5
    assert inner.shape == (0, 101)
    # A page of a shared beginning is copied before it is written, in all layers.
    runner.copy_page(5, 9)
    runner.step([Chunk((100,) * 10, 45, (3, 5), 0)])
    last = runner.step([Chunk(tuple(first[45:].tolist()), 45, (3, 9, 10, 11), 55)])[0]
    assert difference(last, wanted[45:]) < 1e-5


def test_a_step_of_which_nothing_is_wanted_gives_empty_logits(random_model):
    runner = OpenVinoRunner(random_model, pages=4)
    assert [logits.shape for logits in runner.step([Chunk((1, 2), 0, (0,), 0), Chunk((3,), 0, (1,), 0)])] == [
        (0, 257)
    ] * 2


def test_greedy_texts_are_those_of_the_reference_runner(stories):
    model, tokenizer = stories
    settings = SamplingSettings(greedy=True, max_new_tokens=40)
    prompts = ["Once upon a time", "Lily and Tom went to the park. They", "", "The dog"]
    texts = {}
    for name in ("torch", "openvino"):
        answers = generate(model, tokenizer, prompts, settings, runner=open_runner(model, runner=name, pages=64))
        texts[name] = [answer[0].text for answer in answers]
    assert texts["openvino"] == texts["torch"]


def test_the_fast_runner_is_chosen_where_the_model_suits_it_and_named(random_model):
    assert open_runner(random_model, pages=2).name == "openvino"
    assert open_runner(random_model, pages=2, record=True).name == "torch"
    assert open_runner(random_model, pages=2).precision == "float32"
    assert open_runner(random_model, pages=2, precision="int8").precision == "int8"


@pytest.fixture(scope="module")
def real_text(stories) -> list[list[int]]:
    _, tokenizer = stories
    with gzip.open(STORIES, "rt", encoding="utf-8") as file:
        texts = file.read().split("<|endoftext|>")[:24]
    return [[tokenizer.start_id, *tokenizer.encode(text.strip())][:513] for text in texts]


def nats(model: Transformer | OpenVinoRunner, rows: list[list[int]]) -> float:
    """Mean loss over real text."""
    total = count = 0.0
    for row in rows:
        if isinstance(model, OpenVinoRunner):
            logits = model.step([Chunk(tuple(row[:-1]), 0, tuple(range(16)), len(row) - 1)])[0]
        else:
            with torch.no_grad():
                logits = model(torch.tensor([row[:-1]]))[0]
        total += F.cross_entropy(logits, torch.tensor(row[1:]), reduction="sum").item()
        count += len(row) - 1
    return total / count


# Measured: bfloat16 +0.02 %, int8 +0.1 %, int4 +5.5 % (of 260,000 weights few are superfluous).
@pytest.mark.parametrize(
    ("precision", "worse"), [("float32", 1e-5), ("bfloat16", 0.003), ("int8", 0.01), ("int4", 0.08)]
)
def test_rounded_weights_cost_little_on_real_text_with_a_real_checkpoint(stories, real_text, precision, worse):
    model, _ = stories
    runner = OpenVinoRunner(model, precision=precision, pages=16)
    assert runner.precision == precision
    plain = nats(model, real_text)
    assert abs(nats(runner, real_text) / plain - 1) < worse


def test_a_row_has_the_same_logits_alone_and_among_others_within_the_stated_rounding():
    model = lively(llama_config(**SIZES | {"width": 256}), size=0.06)
    rows = torch.randint(0, 101, (8, 41)).tolist()
    for precision in ("float32", "bfloat16", "int8", "int4"):
        runner = OpenVinoRunner(model, precision=precision, pages=16)
        tables = [(2 * index, 2 * index + 1) for index in range(8)]
        runner.step([Chunk(tuple(row[:40]), 0, table, 0) for row, table in zip(rows, tables, strict=True)])
        last = [Chunk((row[40],), 40, table, 1) for row, table in zip(rows, tables, strict=True)]
        together = torch.cat(runner.step(last))
        alone = torch.cat([runner.step([chunk])[0] for chunk in last])
        assert difference(together, alone) < runner.rounding


def test_what_it_does_not_compute_is_refused_by_name():
    relative = replace(gpt2_config(**SIZES), positions="relative")
    model = Transformer(relative)
    assert not suits(model)
    with pytest.raises(ModelError, match="runner torch"):
        OpenVinoRunner(model)
    with pytest.raises(ConfigError, match="int3"):
        OpenVinoRunner(lively(SHAPES["GPT-2"]), precision="int3")


def test_a_missing_extra_is_named_with_the_way_to_it():
    code = (
        "import sys; sys.modules['openvino'] = None\n"
        "from guiju.generation.openvino_library import load_openvino\n"
        "load_openvino()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'guiju[cpu]'" in done.stderr
