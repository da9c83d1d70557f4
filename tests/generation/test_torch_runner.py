from __future__ import annotations

import copy
import dataclasses
import random

import pytest
import torch
from transformers import AutoModelForCausalLM

from guiju.errors import ConfigError, ModelError
from guiju.generation import Chooser, Chunk, Engine, Request, SamplingSettings, open_runner
from guiju.generation.step_programs import StepPrograms, has_programs
from guiju.generation.torch_runner import TorchRunner, lay_by_input
from guiju.model import Transformer, gpt2_config, llama_config, save_model
from guiju.storage import sha256_file


@pytest.fixture(params=["gpt2", "llama"])
def model(request):
    torch.manual_seed(4)
    sizes = {"vocab_size": 120, "context": 128, "width": 48, "layers": 3}
    if request.param == "gpt2":
        model = Transformer(gpt2_config(**sizes, heads=4))
    else:
        model = Transformer(llama_config(**sizes, heads=4, kv_heads=2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def _ids(chance, size):
    return tuple(chance.randrange(120) for _ in range(size))


def test_greedy_tokens_are_those_of_transformers_generate(model, tmp_path):
    save_model(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    chance = random.Random(1)
    for page_tokens in (1, 5, 16, 64):
        runner = TorchRunner(model, pages=400 // page_tokens, page_tokens=page_tokens)
        for size in (1, 7, 64, 100):
            prompt = _ids(chance, size)
            engine = Engine(runner, step_tokens=30)
            choice = Chooser(SamplingSettings(greedy=True), prompt, 120, 0, 0)
            handle = engine.add(Request(prompt, 20, [choice], [lambda token: False]))
            engine.run()
            row = torch.tensor([prompt])
            expected = theirs.generate(
                row, attention_mask=torch.ones_like(row), max_new_tokens=20, do_sample=False, eos_token_id=None
            )
            assert handle.branches[0].ids == expected[0, size:].tolist()


def test_logits_of_a_ragged_step_over_scattered_pages_are_those_of_full_passes(model):
    chance = random.Random(2)
    runner = TorchRunner(model, pages=40, page_tokens=8)
    rows = [_ids(chance, size) for size in (3, 17, 40, 9)]
    numbers = chance.sample(range(40), 40)
    tables = [tuple(numbers[place * 10 : place * 10 + 10]) for place in range(4)]
    held = [0, 0, 0, 0]
    for parts in ([3, 10, 30, 4], [0, 7, 1, 5], [0, 0, 9, 0]):
        chunks, whose = [], []
        for place, size in enumerate(parts):
            if size:
                ids = rows[place][held[place] : held[place] + size]
                chunks.append(Chunk(ids, held[place], tables[place], wanted=chance.randint(0, size)))
                whose.append(place)
                held[place] += size
        for place, chunk, logits in zip(whose, chunks, runner.step(chunks), strict=True):
            assert logits.shape == (chunk.wanted, 120)
            expected = model(torch.tensor([rows[place][: held[place]]]))[0, held[place] - chunk.wanted :]
            torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize("lengths", [(5,), (1, 40, 17), (100, 3, 64, 8, 30)])
def test_the_step_that_gpus_record_gives_the_logits_of_full_passes(lengths, model):
    chance = random.Random(4)
    runner = TorchRunner(model, pages=60, page_tokens=4)
    rows = [_ids(chance, size + 3) for size in lengths]
    pool = chance.sample(range(60), 60)
    tables = [tuple(pool.pop() for _ in range(-(-len(row) // 4))) for row in rows]
    runner.step([Chunk(row[:-3], 0, table, 0) for row, table in zip(rows, tables, strict=True)])
    programs = StepPrograms(model, runner.store)
    for step in (3, 2, 1):
        chunks = [
            Chunk((row[len(row) - step],), len(row) - step, table, 1) for row, table in zip(rows, tables, strict=True)
        ]
        assert programs.suits(chunks)
        with torch.inference_mode():
            logits = programs.run(chunks)
        for row, found in zip(rows, logits, strict=True):
            torch.testing.assert_close(found, model(torch.tensor([row[: len(row) - step + 1]]))[0, -1])
    assert not programs.suits([*chunks, Chunk((1, 2), 0, (0,), 1)])
    assert has_programs(model.config)
    assert not has_programs(dataclasses.replace(model.config, window=16))


def test_a_copied_page_holds_the_same(model):
    runner = TorchRunner(model, pages=4, page_tokens=16)
    ids = _ids(random.Random(3), 13)
    runner.step([Chunk(ids[:12], 0, (1,), 0)])
    runner.copy_page(1, 3)
    both = runner.step([Chunk(ids[12:], 12, (1,), 1), Chunk(ids[12:], 12, (3,), 1)])
    torch.testing.assert_close(both[0], both[1])
    torch.testing.assert_close(both[0][0], model(torch.tensor([ids]))[0, -1])


def test_weights_that_lie_by_input_have_the_same_values_and_the_same_file(model, tmp_path):
    before = copy.deepcopy(model)
    ids = torch.arange(20)[None]
    expected = model(ids)
    save_model(model, tmp_path / "before")
    lay_by_input(model)
    assert model.layers[0].mlp.to_hidden.weight.t().is_contiguous()
    for (name, ours), (_, theirs) in zip(model.named_parameters(), before.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        assert ours.shape == theirs.shape
    torch.testing.assert_close(model(ids), expected)
    save_model(model, tmp_path / "after")
    files = [sha256_file(tmp_path / name / "model.safetensors") for name in ("before", "after")]
    assert files[0] == files[1]
    addresses = [parameter.data_ptr() for parameter in model.parameters()]
    lay_by_input(model)  # a second time there is nothing to do
    assert addresses == [parameter.data_ptr() for parameter in model.parameters()]


def test_a_model_in_training_answers_without_dropout_and_is_left_as_it_was():
    torch.manual_seed(0)
    model = Transformer(gpt2_config(vocab_size=50, context=32, width=16, layers=1, heads=2, dropout=0.5)).train()
    model.layers[0].mlp.eval()  # someone froze a part
    strides = [parameter.stride() for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    runner = TorchRunner(model)
    found = [runner.step([Chunk((1, 2, 3), 0, (0,), 1)])[0] for _ in range(2)]
    assert torch.equal(found[0], found[1])
    assert [module.training for module in model.modules()] == modes
    assert [parameter.stride() for parameter in model.parameters()] == strides
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_hooks_see_each_step(model):
    seen = []
    runner = TorchRunner(model, pages=4, hooks={"layers.1.residual_after": lambda x: seen.append(tuple(x.shape))})
    runner.step([Chunk((1, 2, 3), 0, (0,), 1), Chunk((4,), 0, (1,), 1)])
    assert seen == [(1, 4, 48)]


def test_bfloat16_weights_are_computed_and_named_as_such(model):
    runner = open_runner(model, runner="torch", precision="bfloat16", pages=8)
    assert (runner.name, runner.precision) == ("torch", "bfloat16")
    assert model.embedding.weight.dtype == torch.float32
    ids = _ids(random.Random(5), 30)
    [logits] = runner.step([Chunk(ids, 0, (0, 1), 1)])
    assert logits.dtype == torch.float32
    expected = model(torch.tensor([ids]))[0, -1]
    assert 1e-4 < (logits[0] - expected).abs().max() / expected.abs().max() < 0.05
    back = open_runner(model.bfloat16(), runner="torch", pages=8)
    assert back.precision == "bfloat16"
    assert open_runner(model, runner="torch", precision="float32", pages=8).precision == "float32"


@pytest.mark.parametrize(("precision", "error"), [("int8", 0.05), ("int4", 0.3)])
def test_rounded_weights_are_computed_in_batches_too_and_named(precision, error, model):
    runner = open_runner(model, runner="torch", precision=precision, pages=16)
    assert runner.precision == precision
    rows = [_ids(random.Random(seed), 20 + seed) for seed in (6, 7)]
    found = runner.step([Chunk(row, 0, (4 * place, 4 * place + 1), 1) for place, row in enumerate(rows)])
    for row, logits in zip(rows, found, strict=True):
        expected = model(torch.tensor([row]))[0, -1]
        assert 1e-4 < (logits[0] - expected).abs().max() / expected.abs().max() < error


def test_unknown_runners_and_precisions_are_refused_by_name(model):
    with pytest.raises(ConfigError, match="runner is 'jax'; it can be auto, torch, openvino"):
        open_runner(model, runner="jax")
    with pytest.raises(ConfigError, match="precision is 'float16'; it can be auto, float32, bfloat16, int8, int4"):
        open_runner(model, precision="float16")
    with pytest.raises(ConfigError, match="openvino with record mode, but only the torch runner"):
        open_runner(model, runner="openvino", record=True)


def test_more_pages_than_memory_are_refused_with_their_size(model):
    with pytest.raises(
        ModelError, match=r"1000000000000 pages of keys and values take .* GiB, which cpu does not have"
    ):
        open_runner(model, runner="torch", pages=10**12)


def test_by_default_there_is_room_for_sixteen_contexts(model):
    runner = open_runner(model, runner="torch")
    assert runner.pages * runner.page_tokens == 16 * 128
