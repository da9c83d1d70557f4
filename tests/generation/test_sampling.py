from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from scipy import stats
from transformers.generation import logits_process as theirs

from guiju.errors import ModelError
from guiju.generation.sampling import (
    Chooser,
    apply_temperature,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
)
from guiju.generation.settings import SamplingSettings

LOGITS = [torch.randn(200, generator=torch.Generator().manual_seed(seed)) * 3 for seed in range(40)]
# Ties at every border, and one certain token.
LOGITS += [torch.zeros(50), torch.arange(50).float().div(10).floor(), torch.tensor([100.0] + [0.0] * 49)]


def _same_filter(ours: torch.Tensor, processor, logits: torch.Tensor, ids=None) -> None:
    expected = processor(torch.tensor([[0]]) if ids is None else ids, logits[None])[0]
    assert torch.equal(ours.isinf(), expected.isinf())
    torch.testing.assert_close(ours.softmax(-1), expected.softmax(-1))


@pytest.mark.parametrize("count", [1, 2, 7, 50, 1000])
def test_top_k_keeps_what_transformers_keeps(count):
    for logits in LOGITS:
        _same_filter(keep_top_k(logits, count), theirs.TopKLogitsWarper(count), logits)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.9, 0.999, 1.0])
def test_top_p_keeps_what_transformers_keeps(share):
    for logits in LOGITS:
        _same_filter(keep_top_p(logits, share), theirs.TopPLogitsWarper(share), logits)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.99, 0.9999, 1.0])
@pytest.mark.parametrize("spread", [0.3, 2.0, 6.0])
def test_top_p_keeps_what_transformers_keeps_of_a_large_vocabulary(share, spread):
    logits = torch.randn(50_000, generator=torch.Generator().manual_seed(9)) * spread
    ours, processor = keep_top_p(logits, share), theirs.TopPLogitsWarper(share)
    expected = processor(torch.tensor([[0]]), logits[None].double())[0]  # in float32 its own sums are off by 1e-5
    assert abs(int(ours.isfinite().sum()) - int(expected.isfinite().sum())) <= (2 if share < 0.9999 else 1000)
    assert torch.equal(ours[ours.isfinite()], logits[ours.isfinite()])
    torch.testing.assert_close(ours.double().softmax(-1), expected.softmax(-1), atol=2e-4, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_min_p_keeps_what_transformers_keeps(share):
    for logits in LOGITS:
        _same_filter(keep_min_p(logits, share), theirs.MinPLogitsWarper(share), logits)


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0, 3.0])
def test_temperature_gives_transformers_probabilities(temperature):
    for logits in LOGITS:
        _same_filter(apply_temperature(logits, temperature), theirs.TemperatureLogitsWarper(temperature), logits)


@pytest.mark.parametrize("penalty", [0.5, 1.3, 2.0])
def test_repetition_penalty_is_transformers(penalty):
    for logits in LOGITS:
        ids = torch.tensor([[3, 4, 4, 40, 0]])
        seen = torch.zeros(len(logits), dtype=torch.bool)
        seen[ids[0]] = True
        processor = theirs.RepetitionPenaltyLogitsProcessor(penalty)
        assert torch.equal(penalise_repetition(logits, seen, penalty), processor(ids, logits[None])[0])


def test_a_tiny_temperature_takes_the_likeliest_and_does_not_overflow():
    generator = torch.Generator().manual_seed(0)
    for logits in LOGITS[:40]:
        assert draw(apply_temperature(logits, 1e-40), generator) == logits.argmax()


def test_tokens_come_as_often_as_their_probability_says():
    logits = torch.tensor([0.0, 1.0, -math.inf, 2.0, -1.0, -math.inf])
    generator = torch.Generator().manual_seed(0)
    counts = Counter(draw(logits, generator) for _ in range(5000))
    possible = [0, 1, 3, 4]
    assert set(counts) == set(possible)
    expected = logits.softmax(-1)[possible].double() * 5000
    expected *= 5000 / expected.sum()
    assert stats.chisquare([counts[token] for token in possible], expected.numpy()).pvalue > 0.001


def test_the_filters_apply_in_transformers_order():
    settings = SamplingSettings(repetition_penalty=1.5, temperature=0.7, top_k=20, top_p=0.9, min_p=0.02, seed=1)
    processors = theirs.LogitsProcessorList(
        [
            theirs.RepetitionPenaltyLogitsProcessor(1.5),
            theirs.TemperatureLogitsWarper(0.7),
            theirs.TopKLogitsWarper(20),
            theirs.TopPLogitsWarper(0.9),
            theirs.MinPLogitsWarper(0.02),
        ]
    )
    for logits in LOGITS:
        expected = processors(torch.tensor([[3, 4]]), logits[None])[0]
        kept = set((~expected.isinf()).nonzero().flatten().tolist())
        drawn = {Chooser(settings, [3, 4], len(logits), seed, 0).choose(logits) for seed in range(60)}
        assert drawn <= kept
        assert expected.argmax().item() in drawn or expected.softmax(-1).max() < 0.2


def test_what_was_chosen_counts_as_a_repetition():
    chooser = Chooser(SamplingSettings(greedy=True, repetition_penalty=2.0), [0], 3, 0, 0)
    logits = torch.tensor([5.0, 4.0, 3.0])
    assert [chooser.choose(logits) for _ in range(4)] == [1, 2, 0, 0]


@pytest.mark.parametrize("value", [math.nan, -math.inf, math.inf])
def test_logits_that_are_no_numbers_are_refused(value):
    with pytest.raises(ModelError, match="weights are damaged"):
        Chooser(SamplingSettings(), [0], 3, 0, 0).choose(torch.full((3,), value))
    if value != -math.inf:
        with pytest.raises(ModelError, match="weights are damaged"):
            Chooser(SamplingSettings(), [0], 3, 0, 0).choose(torch.tensor([1.0, value, 2.0]))
