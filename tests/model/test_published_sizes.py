"""Shapes have the numbers of parameters that were published for them; weights are only counted, not made."""

from __future__ import annotations

import pytest
import torch

from guiju.model import (
    ModelConfig,
    bart_config,
    bert_config,
    build_model,
    gpt2_config,
    llama_config,
    t5_config,
    transformer_config,
)

LLAMA = {"vocab_size": 32000, "width": 4096, "layers": 32, "heads": 32}
QWEN = {"vocab_size": 151936, "tied": True}
ROBERTA = {"vocab_size": 50265, "position_offset": 2, "segments": 1}
# As counted by Hugging Face from the published weights, tied ones once; heads as named.
PUBLISHED = {
    "GPT-2 (124M)": (gpt2_config(vocab_size=50257), 124_439_808),
    "GPT-2 XL": (gpt2_config(vocab_size=50257, width=1600, layers=48, heads=25), 1_557_611_200),
    "Llama 2 7B": (llama_config(**LLAMA, hidden=11008), 6_738_415_616),
    "Llama 3 8B": (llama_config(**{**LLAMA, "vocab_size": 128256}, kv_heads=8, hidden=14336), 8_030_261_248),
    "Mistral 7B": (llama_config(**LLAMA, kv_heads=8, hidden=14336, window=4096), 7_241_732_096),
    "Qwen2 0.5B": (
        llama_config(**QWEN, width=896, layers=24, heads=14, kv_heads=2, hidden=4864, qkv_bias=True),
        494_032_768,
    ),
    "Qwen3 0.6B": (
        llama_config(
            **QWEN, width=1024, layers=28, heads=16, kv_heads=8, head_width=128, hidden=3072, query_key_norm=True
        ),
        596_049_920,
    ),
    "Phi-3 mini": (llama_config(vocab_size=32064, width=3072, layers=32, heads=32, hidden=8192), 3_821_079_552),
    "BERT base, body and pooler": (bert_config(vocab_size=30522, head="none", pooler=True), 109_482_240),
    "BERT base, masked": (bert_config(vocab_size=30522), 109_514_298),
    "BERT base, two classes": (
        bert_config(vocab_size=30522, head="classes", labels=("0", "1")),
        109_483_778,
    ),
    "RoBERTa base, body and pooler": (bert_config(**ROBERTA, head="none", pooler=True), 124_645_632),
    "RoBERTa base, masked": (bert_config(**ROBERTA), 124_697_433),
    "BART base": (bart_config(vocab_size=50265), 139_420_416),
    "BART large": (bart_config(vocab_size=50265, width=1024, layers=12, heads=16), 406_291_456),
    "T5 small": (t5_config(vocab_size=32128), 60_506_624),
    "T5 base": (t5_config(vocab_size=32128, width=768, layers=12, heads=12), 222_903_552),
    "T5 1.1 small": (
        t5_config(vocab_size=32128, layers=8, heads=6, head_width=64, hidden=1024, activation="geglu_tanh", tied=False),
        76_961_152,
    ),
}


def _count(config: ModelConfig) -> int:
    with torch.device("meta"):
        model = build_model(config)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_has_its_published_number_of_parameters(name):
    config, published = PUBLISHED[name]
    assert _count(config) == published


@pytest.mark.parametrize(
    ("width", "heads", "hidden", "stated_millions"),
    [(512, 8, 2048, 65), (1024, 16, 4096, 213)],
    ids=["base", "big"],
)
def test_the_transformer_of_2017_has_about_the_papers_number_of_parameters(width, heads, hidden, stated_millions):
    """arXiv:1706.03762, table 3, with the shared vocabulary of about 37,000 that section 5.1 names."""
    attention = 4 * (width * width + width)
    mlp = width * hidden + hidden + hidden * width + width
    norm = 2 * width
    encoder, decoder = attention + mlp + 2 * norm, 2 * attention + mlp + 3 * norm
    exact = 37_000 * width + 6 * (encoder + decoder)
    assert exact == {512: 63_082_496, 1024: 214_245_376}[width]
    config = transformer_config(vocab_size=37_000, width=width, heads=heads, hidden=hidden)
    assert _count(config) == exact
    assert exact / 1e6 == pytest.approx(stated_millions, rel=0.03)
