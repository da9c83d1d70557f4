from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from guiju.compute import forward_flops, parameters, training_flops
from guiju.errors import ConfigError
from guiju.model import Transformer, gpt2_config, llama_config
from guiju.training import cross_entropy_in_chunks

SHAPES = {
    "gpt2": gpt2_config(vocab_size=101, context=32, width=24, layers=2, heads=3),
    "gpt2, untied": gpt2_config(vocab_size=101, context=32, width=24, layers=3, heads=3, hidden=50, tied=False),
    "llama": llama_config(vocab_size=101, context=32, width=24, layers=2, heads=6, head_width=8),
    "llama, grouped": llama_config(vocab_size=99, context=32, width=24, layers=2, heads=6, kv_heads=2, head_width=8),
    "llama, one key head, tied": llama_config(
        vocab_size=101, context=32, width=24, layers=1, heads=6, kv_heads=1, head_width=4, tied=True
    ),
}
aten = torch.ops.aten
# torch's counter knows the fused kernels of GPUs, and passes over the CPU's: here its own formulas for those are taken.
FUSED = {
    aten._scaled_dot_product_flash_attention_for_cpu: lambda *given, out_shape, **named: sdpa_flop_count(*given[:3]),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda *given, out_shape, **named: (
        sdpa_backward_flop_count(*given[:4])
    ),
}
# Nor does it know a product that is added in place.
IN_PLACE = {aten.addmm_: lambda kept, left, right, out_shape, **named: 2 * left[0] * left[1] * right[1]}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def shape(request):
    return request.param


def test_parameters_equal_the_sum_over_the_models_weights(shape):
    model = Transformer(shape)
    count = parameters(shape)
    assert count.total == sum(weight.numel() for weight in model.parameters())
    assert count.total == sum(value for name, value in count.to_json().items() if name != "total")
    layers = sum(weight.numel() for weight in model.layers.parameters())
    final = sum(weight.numel() for weight in model.final_norm.parameters())
    assert count.without_embeddings == layers + final


def test_parameters_equal_transformers_and_the_published_counts():
    with torch.device("meta"):
        gpt2 = GPT2LMHeadModel(GPT2Config())
        llama = LlamaForCausalLM(LlamaConfig())  # the defaults are Llama 7B
    assert parameters(gpt2_config(vocab_size=50257)).total == gpt2.num_parameters() == 124_439_808
    seven = llama_config(vocab_size=32000, context=2048, width=4096, layers=32, heads=32, hidden=11008)
    assert parameters(seven).total == llama.num_parameters() == 6_738_415_616
    # Llama 2 70B (arXiv:2307.09288): grouped queries; TinyLlama 1.1B (arXiv:2401.02385): 1,100,048,384
    seventy = llama_config(vocab_size=32000, context=4096, width=8192, layers=80, heads=64, kv_heads=8, hidden=28672)
    assert parameters(seventy).total == 68_976_648_192
    tiny = llama_config(vocab_size=32000, context=2048, width=2048, layers=22, heads=32, kv_heads=4, hidden=5632)
    assert parameters(tiny).total == 1_100_048_384


@pytest.mark.parametrize("documents", [False, True], ids=["one document a row", "packed rows"])
@pytest.mark.parametrize("attention", ["plain", "fused", "uncounted"])
def test_flops_equal_torchs_counter_forward_and_backward(shape, attention, documents):
    model = Transformer(shape)
    ids = torch.randint(0, shape.vocab_size, (3, 17))
    numbers = (torch.arange(17) // 5).expand(3, 17) if documents else None
    kernel = SDPBackend.MATH if attention == "plain" else SDPBackend.FLASH_ATTENTION
    counter = FlopCounterMode(display=False, custom_mapping=FUSED if attention == "fused" else None)
    with sdpa_kernel(kernel):
        with counter:
            loss = model(ids, documents=numbers).sum()
        forward = counter.get_total_flops()
        with counter:
            loss.backward()
        backward = counter.get_total_flops()
    counted = training_flops(shape, 3, 17, attention=attention)
    assert (counted.forward, counted.backward) == (forward, backward)
    assert counted.total == forward + backward
    assert forward_flops(shape, 3, 17, attention=attention) == forward


def test_the_loss_in_chunks_executes_what_the_formula_says_and_no_product_twice(shape):
    model = Transformer(shape)
    ids = torch.randint(0, shape.vocab_size, (2, 9))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        cross_entropy_in_chunks(model, model.hidden(ids), ids, chunk_tokens=5).backward()
    assert counter.get_total_flops() == training_flops(shape, 2, 9).total


def test_activation_checkpointing_costs_one_more_forward_pass_of_the_layers(shape):
    model = Transformer(shape)
    model.activation_checkpointing = True
    ids = torch.randint(0, shape.vocab_size, (2, 9))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    executed = counter.get_total_flops()
    # torch stops the second forward pass early: the last product of a layer feeds no gradient.
    spared = shape.layers * 2 * 18 * shape.hidden * shape.width
    assert executed in (
        training_flops(shape, 2, 9, activation_checkpointing=True).total,
        training_flops(shape, 2, 9, activation_checkpointing=True).total - spared,
    )


def test_six_flops_a_parameter_and_token_is_what_large_models_come_to():
    shape = llama_config(vocab_size=32000, context=4096, width=4096, layers=32, heads=32, hidden=11008)
    counted = training_flops(shape, 1, 512).total / 512
    without_input = parameters(shape).total - parameters(shape).embedding
    assert counted == pytest.approx(6 * without_input, rel=0.04)  # attention's own products are the difference


def test_a_size_that_cannot_be_is_refused():
    shape = SHAPES["gpt2"]
    with pytest.raises(ConfigError, match="batch is 0"):
        training_flops(shape, 0, 8)
    with pytest.raises(ConfigError, match="length is -1"):
        forward_flops(shape, 1, -1)
    with pytest.raises(ConfigError, match="attention is 'half'"):
        forward_flops(shape, 1, 1, attention="half")

    class Odd:
        def __getattr__(self, name):
            return "conv" if name == "activation" else getattr(replace(shape), name)

    with pytest.raises(ConfigError, match=r"model\.activation is 'conv'"):
        parameters(Odd())
