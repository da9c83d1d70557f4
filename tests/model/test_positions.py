"""Positions: buckets, waves and stretched turns are those of the programs that the weights come from."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding
from transformers.models.t5.modeling_t5 import T5Attention

from guiju.model import RotaryScaling, llama_config, t5_config
from guiju.model.positions import RelativeBias, relative_buckets, rotary_frequencies, sinusoids


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("count", "farthest"), [(32, 128), (8, 16), (33, 100), (4, 5), (64, 1000)])
def test_buckets_of_distances_are_t5s(count, farthest, causal):
    distances = torch.arange(-2000, 2001)
    expected = T5Attention._relative_position_bucket(
        distances, bidirectional=not causal, num_buckets=count, max_distance=farthest
    )
    found = relative_buckets(distances, count, farthest, causal)
    assert torch.equal(found, expected)
    assert found.min() >= 0 and found.max() < count


def test_a_bias_by_distance_is_the_same_for_tokens_read_at_once_and_in_pieces():
    config = t5_config(vocab_size=9, width=16, layers=1, heads=2, relative_buckets=8, relative_distance=20)
    torch.manual_seed(0)
    bias = RelativeBias(config, causal=True)
    whole = bias.between(30, 30)
    assert whole.shape == (1, 2, 30, 30)
    for new, total in ((1, 17), (5, 30), (30, 30)):
        assert torch.equal(bias.between(new, total), whole[:, :, total - new : total, :total])


def test_waves_are_marians_and_the_papers():
    width, places = 12, torch.arange(50)
    theirs = MarianSinusoidalPositionalEmbedding(50, width).create_weight()
    found = sinusoids(places, width, torch.float32)
    torch.testing.assert_close(found, theirs)
    for place in (0, 1, 49):  # arXiv:1706.03762, section 3.5; there sine and cosine take turns
        for pair in range(width // 2):
            angle = place / 10000 ** (2 * pair / width)
            assert found[place, pair].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert found[place, width // 2 + pair].item() == pytest.approx(math.cos(angle), abs=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (None, {"rope_type": "default"}),
        (RotaryScaling(kind="linear", factor=3.0), {"rope_type": "linear", "factor": 3.0}),
        (
            RotaryScaling(kind="llama3", factor=8.0, low=1.0, high=4.0, original_context=8192),  # Llama 3.1's own
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        ),
    ],
    ids=["plain", "linear", "llama3"],
)
def test_turns_are_those_of_transformers_in_llamas_own_size(ours, theirs):
    config = LlamaConfig(
        hidden_size=4096,
        num_attention_heads=32,
        max_position_embeddings=131072,
        rope_parameters={"rope_theta": 500000.0, **theirs},
    )
    if ours is None:
        expected = 1 / 500000.0 ** (torch.arange(0, 128, 2).float() / 128)
    else:
        expected, scale = ROPE_INIT_FUNCTIONS[theirs["rope_type"]](config, torch.device("cpu"))
        assert scale == 1
    sizes = {"vocab_size": 9, "width": 4096, "layers": 1, "heads": 32, "rotary_base": 500000.0}
    found = rotary_frequencies(llama_config(**sizes, rotary_scaling=ours))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    if ours is not None and ours.kind == "llama3":
        plain = rotary_frequencies(llama_config(**sizes))
        assert found[0] == plain[0]  # fast turns are left
        assert found[-1] == pytest.approx((plain[-1] / 8).item())  # slow ones are slowed in full
        assert ((found < plain * 0.999) & (found > plain / 7.99)).any()  # some lie between
