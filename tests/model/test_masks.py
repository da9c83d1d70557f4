"""Masks: each says what a loop over queries and keys says, and each holds, bit for bit, in the models themselves."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from foreign_models import VOCABULARY, ids, lively, padding

from guiju.model import bart_config, bert_config, gpt2_config, hook_names, llama_config, t5_config, transformer_config
from guiju.model.masks import (
    both,
    causal_mask,
    document_mask,
    never_blind,
    padding_mask,
    positions_among,
    positions_without_padding,
    prefix_mask,
    same_document_mask,
    window_mask,
)

ROOT = Path(__file__).parents[2]
T = 14
SMALL = {"vocab_size": VOCABULARY, "context": 40, "width": 32, "heads": 4}
DECODERS = {
    "gpt2": gpt2_config(**SMALL, layers=2),
    "llama": llama_config(**SMALL, layers=2, kv_heads=2),
    "window": llama_config(**SMALL, layers=2, window=4),
    "window above": llama_config(**SMALL, layers=2, window=4, window_from=1),
}
ENCODER = bert_config(**SMALL, layers=2, head="none")
ENCODER_DECODERS = {
    "2017": transformer_config(**SMALL, layers=2),
    "2017, norm before": transformer_config(**SMALL, layers=2, norm_place="before"),
    "bart": bart_config(**SMALL, layers=2),
    "t5": t5_config(**SMALL, layers=2),
}
DOCUMENTS = torch.tensor([[0] * 4 + [1] * 7 + [2] * 3])


def _loop(allowed, new=T, total=T):
    return torch.tensor([[allowed(total - new + row, column) for column in range(total)] for row in range(new)])


@pytest.mark.parametrize(("new", "total"), [(14, 14), (1, 9), (4, 9), (1, 1)])
def test_each_mask_says_what_a_loop_says(new, total):
    assert torch.equal(causal_mask(new, total), _loop(lambda row, column: column <= row, new, total))
    for window in (1, 3, 20):
        expected = _loop(lambda row, column: row - window < column <= row, new, total)  # noqa: B023
        assert torch.equal(window_mask(new, total, window), expected)


def test_masks_of_rows_say_what_a_loop_says():
    prefix = prefix_mask(torch.tensor([0, 5, 14]), T)
    for length, mask in zip((0, 5, 14), prefix[:, 0], strict=True):
        assert torch.equal(mask, _loop(lambda row, column: column <= row or column < length))  # noqa: B023
    real = padding([3, 14], T)
    assert torch.equal(padding_mask(real)[:, 0, 0], real)
    numbers = DOCUMENTS[0]
    assert torch.equal(same_document_mask(DOCUMENTS)[0, 0], _loop(lambda row, column: numbers[row] == numbers[column]))
    back = _loop(lambda row, column: numbers[row] == numbers[column] and column <= row)
    assert torch.equal(document_mask(DOCUMENTS)[0, 0], back)
    crossed = same_document_mask(DOCUMENTS, torch.tensor([[0, 2, 2, 1]]))
    assert crossed[0, 0, 5].tolist() == [False, False, False, True]


def test_two_masks_allow_what_each_allows():
    one, other = causal_mask(T, T), padding_mask(padding([3, 14], T))
    assert both(None, None) is None
    assert both(one, None) is one
    together = both(one, other)
    assert together.shape == (2, 1, T, T)
    assert torch.equal(together[0, 0], _loop(lambda row, column: column <= row and column < 3))


def test_who_sees_nothing_sees_everything_and_nobody_else_sees_more():
    mask = both(causal_mask(5, 5), padding_mask(padding([3], 5, left=True)))[0, 0]
    seen = never_blind(mask)
    assert torch.equal(seen[2:], mask[2:])
    assert seen[:2].all()


def test_positions_count_from_the_start_of_a_text():
    assert positions_among(DOCUMENTS).tolist() == [[*range(4), *range(7), *range(3)]]
    assert positions_without_padding(padding([3], 5, left=True)).tolist() == [[0, 0, 0, 1, 2]]
    assert positions_without_padding(padding([3], 5))[0, :3].tolist() == [0, 1, 2]


def _after(masks: list[torch.Tensor]) -> torch.Tensor:
    """(T, T): whose output a token reaches, through layers of these masks, and by staying where it is."""
    reached = torch.eye(len(masks[0]), dtype=torch.bool)
    for mask in masks:
        reached = ((mask | torch.eye(len(mask), dtype=torch.bool)).float() @ reached.float()) > 0
    return reached


def _require_sight(answer, row, expected, looked_at=None) -> None:
    """Change each token in turn: exactly those outputs change that may see it, and no bit of any other.

    Args:
        answer: (1, S) ids -> (1, T, width). expected: (T, S), whether output t may depend on token s.
        looked_at: outputs to look at; all by default.
    """
    before = answer(row)
    kept = torch.ones(before.size(1), dtype=torch.bool) if looked_at is None else looked_at
    for place in range(row.size(1)):
        other = row.clone()
        other[0, place] = 3 + (other[0, place] - 2) % (VOCABULARY - 3)
        changed = (answer(other) != before).any(dim=-1)[0]
        assert torch.equal(changed[kept], expected[:, place][kept]), place


def _decoder_masks(config):
    far, near = causal_mask(T, T), causal_mask(T, T)
    if config.window is not None:
        near = window_mask(T, T, config.window)
    return [far if layer < config.window_from else near for layer in range(config.layers)]


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoders_tokens_see_what_their_mask_allows_and_no_bit_more(name):
    config = DECODERS[name]
    model, row, masks = lively(config), ids(1, T), _decoder_masks(config)
    with torch.no_grad():
        _require_sight(model.hidden, row, _after(masks))
        packed = same_document_mask(DOCUMENTS)[0, 0]
        reached = _after([mask & packed for mask in masks])
        _require_sight(lambda given: model.hidden(given, documents=DOCUMENTS), row, reached)
        for left in (False, True):
            real = padding([9], T, left)
            reached = _after([mask & real for mask in masks])
            _require_sight(lambda given: model.hidden(given, padding=real), row, reached, real[0])  # noqa: B023
        prefix = torch.tensor([5])
        wide = prefix_mask(prefix, T)[0, 0]
        if config.window is None:
            _require_sight(lambda given: model.hidden(given, prefix=prefix), row, _after([wide, wide]))


@pytest.mark.parametrize("name", DECODERS)
def test_a_window_and_the_causal_mask_hold_when_tokens_are_read_in_pieces(name):
    config = DECODERS[name]
    model, row = lively(config), ids(1, T)

    def in_pieces(given):
        cache = model.new_cache()
        return torch.cat([model.hidden(part, cache) for part in given.split([6, 1, 1, 4, 1, 1], dim=1)], dim=1)

    with torch.no_grad():
        _require_sight(in_pieces, row, _after(_decoder_masks(config)))


def test_an_encoders_tokens_see_what_their_mask_allows_and_no_bit_more():
    model, row = lively(ENCODER), ids(1, T)
    everything = torch.ones(T, T, dtype=torch.bool)
    with torch.no_grad():
        _require_sight(model, row, everything)
        packed = same_document_mask(DOCUMENTS)[0, 0]
        _require_sight(lambda given: model(given, documents=DOCUMENTS), row, packed)
        for left in (False, True):
            real = padding([9], T, left)
            _require_sight(lambda given: model(given, padding=real), row, everything & real, real[0])  # noqa: B023


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_an_encoder_with_decoder_sees_what_its_masks_allow_and_no_bit_more(name):
    model, source, target = lively(ENCODER_DECODERS[name]), ids(1, 11), ids(1, T, seed=2)
    everything = torch.ones(T, 11, dtype=torch.bool)
    sources = torch.tensor([[0] * 5 + [1] * 2 + [2] * 4])
    with torch.no_grad():
        _require_sight(lambda given: model.hidden(given, source=source), target, causal_mask(T, T))
        _require_sight(lambda given: model.hidden(target, source=given), source, everything)
        for left in (False, True):
            real = padding([7], 11, left)
            _require_sight(
                lambda given: model.hidden(target, source=given, source_padding=real),  # noqa: B023
                source,
                everything & real,
            )
            kept = padding([9], T, left)
            _require_sight(
                lambda given: model.hidden(given, source=source, padding=kept),  # noqa: B023
                target,
                causal_mask(T, T) & kept,
                kept[0],
            )
        given_documents = {"documents": DOCUMENTS, "source_documents": sources}
        crossed = same_document_mask(DOCUMENTS, sources)[0, 0]
        _require_sight(lambda given: model.hidden(target, source=given, **given_documents), source, crossed)
        back = document_mask(DOCUMENTS)[0, 0]
        _require_sight(lambda given: model.hidden(given, source=source, **given_documents), target, back)


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_the_padding_of_a_source_is_not_seen_by_a_cache_either(name):
    model, source, target = lively(ENCODER_DECODERS[name]), ids(1, 11), ids(1, 5, seed=2)
    real = padding([7], 11)

    def by_cache(given):
        cache = model.new_cache(model.remember(given, real), capacity=5)
        return torch.cat([model.hidden(part, cache) for part in target.split([2, 1, 1, 1], dim=1)], dim=1)

    with torch.no_grad():
        _require_sight(by_cache, source, torch.ones(5, 11, dtype=torch.bool) & real)


@pytest.mark.parametrize("left", [False, True])
def test_a_row_of_padding_alone_is_finite_and_touches_no_other_row(left):
    rows, real = ids(2, T), padding([9, 0], T, left)
    decoder, encoder = lively(DECODERS["gpt2"]), lively(ENCODER)
    pair = lively(ENCODER_DECODERS["t5"])
    given = {"source": rows, "source_padding": real, "padding": real}
    for model, answer in (
        (decoder, lambda hooks: decoder.hidden(rows, padding=real, hooks=hooks)),
        (encoder, lambda hooks: encoder(rows, padding=real, hooks=hooks)),
        (pair, lambda hooks: pair.hidden(rows, **given, hooks=hooks)),
    ):
        watched = {name: lambda _: None for name in hook_names(model.config) if name.endswith("pattern")}
        with torch.no_grad():
            for found in (answer(None), answer(watched)):  # the kernel's way, and the one that shows its pattern
                assert found.isfinite().all()
            torch.testing.assert_close(answer(watched)[0][real[0]], answer(None)[0][real[0]], atol=1e-5, rtol=0)
    with torch.no_grad():
        alone = encoder(rows[:1], padding=real[:1])
        torch.testing.assert_close(encoder(rows, padding=real)[:1], alone, atol=1e-5, rtol=0)


def test_gradients_of_padded_rows_are_finite_and_do_not_reach_the_padding():
    model = lively(DECODERS["gpt2"]).train()
    rows, real = ids(2, T), padding([9, 5], T, left=True)
    rows = rows.masked_fill(~real, 0)  # no real token has this id
    model.hidden(rows, padding=real)[real].square().sum().backward()
    for parameter in model.parameters():
        assert parameter.grad.isfinite().all()
    assert model.embedding.weight.grad[0].abs().max() == 0


def test_the_pictures_are_what_the_code_draws():
    spec = importlib.util.spec_from_file_location("make_masks", ROOT / "docs" / "make_masks.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_masks"] = module  # its dataclasses look there
    spec.loader.exec_module(module)
    drawn = {f"{picture.name}.svg": module.draw(picture) for picture in module.pictures()}
    folder = ROOT / "docs" / "images" / "masks"
    assert {path.name for path in folder.iterdir()} == set(drawn)
    for name, text in drawn.items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"{name}: python docs/make_masks.py"


def test_the_page_shows_every_picture():
    page = (ROOT / "docs" / "model.md").read_text(encoding="utf-8")
    drawn = sorted((ROOT / "docs" / "images" / "masks").glob("*.svg"))
    assert len(drawn) == 7
    for picture in drawn:
        assert f"images/masks/{picture.name}" in page
