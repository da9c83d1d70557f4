"""What an encoder and an encoder-decoder are worth on held-out text, and against what it is held."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from worlds import (
    EXAMPLES,
    MARKED,
    make_example_batches,
    make_examples,
    make_settings,
    make_shape,
    open_side,
)

from guiju.errors import DataError
from guiju.tokens import IGNORED, Tokenizer
from guiju.training import (
    evaluation_batches,
    make_objective,
    score_targets,
    score_unigram,
    train,
    unigram_chances,
    with_other_sources,
)


def sizes(world) -> list[int]:
    return Tokenizer.load(world / MARKED / "tokenizer").bytes_per_token


def held_out(world, kind: str, batch: int = 8, max_rows: int | None = None):
    return evaluation_batches(make_examples(world, kind, "validation"), batch=batch, max_rows=max_rows)


def objective_of(shape: str, model):
    objective = "pairs" if EXAMPLES[shape] == "pairs" else "auto"
    return make_objective(make_settings(objective=objective), model.config)


@pytest.mark.parametrize("shape", list(EXAMPLES))
def test_scores_equal_the_direct_computation(world, shape):
    """Row by row, whole logits, from the definition; the end mark and the sentinels stand for no text."""
    model, sized = make_shape(shape).eval(), sizes(world)
    nats, tokens, size, right = 0.0, 0, 0, 0
    for batch in held_out(world, EXAMPLES[shape], batch=1):
        with torch.no_grad():
            extra = {} if batch.source is None else {"source": batch.source}
            if batch.source_padding is not None:
                extra["source_padding"] = batch.source_padding
            padding = {"padding": batch.padding} if batch.source is None else {}
            logits = model(batch.ids, **padding, **extra)[0].double()
        for place, target in enumerate(batch.targets[0].tolist()):
            if target == IGNORED or not sized[target]:
                continue
            nats -= float(logits[place].log_softmax(-1)[target])
            right += int(logits[place].argmax()) == target
            tokens, size = tokens + 1, size + sized[target]
    found = score_targets(model, objective_of(shape, model), held_out(world, EXAMPLES[shape]), sized)
    assert (found.tokens, found.bytes, found.right) == (tokens, size, right)
    assert found.nats_per_token == pytest.approx(nats / tokens, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_the_same_rows_and_masks_come_each_time_whatever_the_batch(world):
    def stream(batch):
        found = Counter()
        for made in held_out(world, "masked", batch=batch):
            real = torch.ones_like(made.ids).bool() if made.padding is None else made.padding
            for place in range(len(made.ids)):
                found[(*made.ids[place][real[place]].tolist(), *made.targets[place][real[place]].tolist())] += 1
        return found

    assert stream(8) == stream(8) == stream(3)
    assert len(held_out(world, "masked", batch=4, max_rows=8)) == 2


def test_evaluating_leaves_model_and_generators_as_they_were(world):
    model = make_shape("bert", dropout=0.5).train()
    before = torch.get_rng_state()
    rows, objective = held_out(world, "masked"), objective_of("bert", model)
    first, second = (score_targets(model, objective, rows, sizes(world)) for _ in "ab")
    assert first == second
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_the_unigram_is_a_distribution_over_text_that_counting_gives(world):
    data, sized = open_side(world / MARKED, "train"), sizes(world)
    chances = unigram_chances(data, sized)
    assert chances.sum() == pytest.approx(1)
    assert not chances[np.array(sized) == 0].any()
    assert (chances[np.array(sized) > 0] > 0).all()  # also of tokens never seen
    counted = Counter(token for token in data.read(0, data.tokens).tolist() if sized[token])
    total = sum(counted.values())
    for token, often in counted.most_common(20):
        assert chances[token] == pytest.approx(often / total, rel=0.05)
    rows = held_out(world, "masked")
    found = score_unigram(chances, rows, sized)
    wanted = [t for batch in rows for t in batch.targets.flatten().tolist() if t != IGNORED and sized[t]]
    assert found.nats == pytest.approx(-sum(math.log(chances[t]) for t in wanted))
    assert found.right == wanted.count(counted.most_common(1)[0][0])


def test_targets_without_text_are_an_error(world):
    model = make_shape("bert")
    with pytest.raises(DataError, match="no held-out target stands for a byte"):
        score_targets(model, objective_of("bert", model), held_out(world, "masked"), [0] * 300)
    with pytest.raises(DataError, match="no held-out target stands for a byte"):
        score_unigram(np.ones(300) / 300, held_out(world, "masked"), [0] * 300)


def trained(world, folder, shape: str, steps: int, **changes):
    model = make_shape(shape, **changes)
    objective = "pairs" if EXAMPLES[shape] == "pairs" else "auto"
    settings = make_settings(
        objective=objective, steps=steps, batch=16, warmup_steps=20, learning_rate=5e-3, checkpoint_every=0
    )
    train(model, make_example_batches(world, EXAMPLES[shape], batch=16), settings, folder=folder)
    return model


def test_a_trained_encoder_beats_the_untrained_one_and_the_unigram(world, tmp_path):
    rows, sized = held_out(world, "masked"), sizes(world)
    model = trained(world, tmp_path, "bert", steps=200, width=64, heads=4)
    objective = objective_of("bert", model)
    found = score_targets(model, objective, rows, sized)
    untrained = score_targets(make_shape("bert", width=64, heads=4), objective, rows, sized)
    unigram = score_unigram(unigram_chances(open_side(world / MARKED, "train"), sized), rows, sized)
    assert found.nats_per_token < 0.9 * unigram.nats_per_token < unigram.nats_per_token < untrained.nats_per_token
    assert found.accuracy > 1.2 * unigram.accuracy


def test_a_model_that_heeds_its_source_is_worse_with_another_one_and_one_that_does_not_is_not(world, tmp_path):
    rows, sized = held_out(world, "pairs"), sizes(world)
    model = trained(world, tmp_path, "transformer", steps=200, norm_place="before")
    objective = objective_of("transformer", model)
    found, other = (score_targets(model, objective, made, sized) for made in with_other_sources(rows))
    whole = score_targets(model, objective, rows, sized)
    assert whole.tokens >= found.tokens == other.tokens
    unigram = score_unigram(unigram_chances(open_side(world / MARKED, "train-targets"), sized), rows, sized)
    assert found.nats_per_token < 0.8 * unigram.nats_per_token
    assert other.nats_per_token > 1.4 * found.nats_per_token
    with torch.no_grad():  # the control of the control: a model that cannot look at its source
        for layer in model.decoder.layers:
            layer.cross_attention.to_output.weight.zero_()
            layer.cross_attention.to_output.bias.zero_()
    blind, other = (score_targets(model, objective, made, sized) for made in with_other_sources(rows))
    assert other.nats == pytest.approx(blind.nats, rel=1e-6)


def test_other_sources_are_really_others_and_rows_without_one_are_left_out(world):
    rows = held_out(world, "pairs", batch=4)
    for before, after in zip(*with_other_sources(rows), strict=True):
        same = (after.source == before.source).all(dim=1)
        assert not same.any() or (after.targets[same] == IGNORED).all()
        assert torch.equal(after.ids, before.ids)
        assert torch.equal(after.targets, before.targets)
        real = after.source_padding
        assert real is None or torch.equal(real, before.source_padding.roll(1, 0))
    assert with_other_sources(held_out(world, "pairs", batch=1)) == ([], [])
