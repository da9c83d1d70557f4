from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from guiju.model import llama_config
from guiju.model.attention import attention_pattern, fused_attention, plain_attention
from guiju.model.masks import causal_mask, document_mask
from guiju.model.positions import rotate, rotation_angles


def _inputs(heads=4, kv_heads=2, new=7, total=7, width=8, seed=0):
    random = torch.Generator().manual_seed(seed)
    return (
        torch.randn(2, heads, new, width, generator=random),
        torch.randn(2, kv_heads, total, width, generator=random),
        torch.randn(2, kv_heads, total, width, generator=random),
    )


def _by_loops(query, key, value, allowed):
    """softmax(QK^T / sqrt(D)) V in float64, one query after the other."""
    query, key, value = (tensor.double().numpy() for tensor in (query, key, value))
    out = np.zeros(query.shape)
    group = query.shape[1] // key.shape[1]
    for batch, head, row in np.ndindex(*query.shape[:3]):
        seen = [place for place in range(key.shape[2]) if allowed(batch, row, place)]
        scores = [
            query[batch, head, row] @ key[batch, head // group, place] / math.sqrt(query.shape[3]) for place in seen
        ]
        weights = np.exp(np.array(scores) - max(scores))
        out[batch, head, row] = (weights / weights.sum()) @ value[batch, head // group, seen]
    return torch.from_numpy(out).float()


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_both_ways_of_causal_attention_equal_a_loop_over_queries(kv_heads):
    query, key, value = _inputs(kv_heads=kv_heads)
    expected = _by_loops(query, key, value, lambda batch, row, place: place <= row)
    torch.testing.assert_close(plain_attention(query, key, value, None), expected)
    torch.testing.assert_close(fused_attention(query, key, value, None), expected)


@pytest.mark.parametrize(("new", "total"), [(1, 1), (1, 9), (4, 9), (9, 9)])
def test_new_tokens_after_cached_ones_see_exactly_those_before_them(new, total):
    query, key, value = _inputs(new=new, total=total)
    mask = causal_mask(new, total, query.device)
    expected = _by_loops(query, key, value, lambda batch, row, place: place <= total - new + row)
    torch.testing.assert_close(plain_attention(query, key, value, mask), expected)
    torch.testing.assert_close(fused_attention(query, key, value, mask), expected)
    if new in (1, total):
        torch.testing.assert_close(fused_attention(query, key, value, None), expected)


def test_packed_documents_see_only_themselves():
    query, key, value = _inputs()
    documents = torch.tensor([[0, 0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 1, 1, 1]])
    mask = document_mask(documents)
    expected = _by_loops(
        query, key, value, lambda batch, row, place: place <= row and documents[batch, row] == documents[batch, place]
    )
    torch.testing.assert_close(plain_attention(query, key, value, mask), expected)
    torch.testing.assert_close(fused_attention(query, key, value, mask), expected)


def test_both_ways_have_the_same_gradients():
    gradients = []
    for way in (plain_attention, fused_attention):
        inputs = [tensor.requires_grad_() for tensor in _inputs()]
        way(*inputs, document_mask(torch.tensor([[0, 0, 1, 1, 1, 1, 1]] * 2))).square().sum().backward()
        gradients.append([tensor.grad for tensor in inputs])
    for plain, fused in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, fused)


def test_each_row_of_the_pattern_is_a_distribution_over_the_past():
    query, key, _ = _inputs()
    pattern = attention_pattern(query, key, None)
    torch.testing.assert_close(pattern.sum(-1), torch.ones(2, 4, 7))
    assert pattern.triu(1).abs().max() == 0


def test_rotation_makes_scores_depend_on_distance_alone():
    config = llama_config(vocab_size=2, context=100, width=8, layers=1, heads=1)
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(query_place, key_place):
        turned = [
            rotate(x, rotation_angles(torch.tensor([place]), config, torch.float32))
            for x, place in ((query, query_place), (key, key_place))
        ]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(9, 4), score(77, 72))
    assert not torch.isclose(score(9, 4), score(9, 5))


def test_rotation_equals_multiplication_by_complex_numbers():
    config = llama_config(vocab_size=2, context=100, width=8, layers=1, heads=1, rotary_base=500.0)
    x = torch.randn(1, 1, 5, 8)
    turned = rotate(x, rotation_angles(torch.arange(5), config, torch.float32))
    pairs = torch.complex(x[..., :4], x[..., 4:])
    angles = torch.arange(5)[:, None] * 500.0 ** (-torch.arange(4) / 4)
    expected = pairs * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(torch.complex(turned[..., :4], turned[..., 4:]), expected)


def test_short_rows_attend_in_float32_under_autocast_on_a_cpu_and_long_ones_in_bfloat16():
    for length, dtype in ((16, torch.float32), (600, torch.bfloat16)):
        query, key, value = (torch.randn(1, 2, length, 16).bfloat16() for _ in range(3))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = fused_attention(query, key, value, None)
        assert found.dtype == dtype
        exact = plain_attention(query.float(), key.float(), value.float(), None)
        torch.testing.assert_close(found.float(), exact, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.02)
