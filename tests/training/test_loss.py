from __future__ import annotations

from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from worlds import make_model

from guiju.tokens import IGNORED
from guiju.training import cross_entropy_in_chunks
from guiju.training.loss import linear_cross_entropy


def case(tied: bool, ignored: float, seed: int = 0):
    model = make_model("gpt2" if tied else "llama", tied=tied)
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 300, (3, 20), generator=draw)
    targets = torch.randint(0, 300, (3, 20), generator=draw)
    targets[torch.rand(3, 20, generator=draw) < ignored] = IGNORED
    return model, ids, targets


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
@pytest.mark.parametrize("chunk_tokens", [None, 1, 7, 60, 1000])
def test_loss_and_every_gradient_equal_plain_cross_entropy(tied, ignored, chunk_tokens):
    model, ids, targets = case(tied, ignored)
    plain = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORED)
    (plain / 17).backward()
    expected = gradients(model)
    model.zero_grad()
    chunked = cross_entropy_in_chunks(model, model.hidden(ids), targets, chunk_tokens)
    (chunked / 17).backward()
    torch.testing.assert_close(chunked, plain, rtol=1e-6, atol=1e-4)
    found = gradients(model)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("chunk_tokens", [None, 1, 7, 50])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("bias", [True, False])
def test_label_smoothing_and_a_bias_give_the_value_and_gradients_of_torch_s_own(chunk_tokens, smoothing, bias):
    draw = torch.Generator().manual_seed(4)
    tensors = [torch.randn(50, 12, generator=draw), torch.randn(31, 12, generator=draw)]
    tensors += [torch.randn(31, generator=draw)] if bias else []
    targets = torch.randint(0, 31, (50,), generator=draw)
    targets[::6] = IGNORED
    mine = [tensor.clone().requires_grad_() for tensor in tensors]
    theirs = [tensor.double().requires_grad_() for tensor in tensors]
    plain = F.cross_entropy(
        F.linear(*theirs), targets, reduction="sum", ignore_index=IGNORED, label_smoothing=smoothing
    )
    (plain / 17).backward()
    given = mine if bias else [*mine, None]
    chunked = linear_cross_entropy(*given, targets, label_smoothing=smoothing, chunk_tokens=chunk_tokens)
    (chunked / 17).backward()
    torch.testing.assert_close(chunked.double(), plain, rtol=1e-6, atol=1e-4)
    for found, expected in zip(mine, theirs, strict=True):
        torch.testing.assert_close(found.grad.double(), expected.grad, rtol=1e-5, atol=1e-6)


def test_smoothing_changes_the_loss_by_the_closed_form():
    """(1 - epsilon) of the sharp loss, and epsilon of the mean over all tokens."""
    hidden, weight = torch.randn(8, 4, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64)
    targets = torch.arange(8)
    logs = (hidden @ weight.t()).log_softmax(-1)
    expected = -(0.9 * logs[torch.arange(8), targets] + 0.1 * logs.mean(-1)).sum()
    found = linear_cross_entropy(hidden.float(), weight.float(), None, targets, label_smoothing=0.1)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-5)


def test_no_position_at_all_gives_no_loss_and_a_gradient_of_zeros():
    hidden, weight = torch.zeros(0, 4, requires_grad=True), torch.randn(9, 4, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, None, torch.zeros(0, dtype=torch.int64), label_smoothing=0.1)
    loss.backward()
    assert loss.item() == 0
    assert not weight.grad.any()


def test_the_gradient_is_that_of_finite_differences():
    model, ids, targets = case(tied=False, ignored=0.2)
    model = model.double()
    hidden = model.hidden(ids[:1, :5]).detach().requires_grad_()

    def loss(x: torch.Tensor) -> torch.Tensor:
        # float32 inside the loss: so compare by hand, with a step that float32 resolves
        return cross_entropy_in_chunks(model, x, targets[:1, :5], chunk_tokens=2)

    loss(hidden).backward()
    direction = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    with torch.no_grad():
        slope = (loss(hidden + 1e-2 * direction) - loss(hidden - 1e-2 * direction)) / 2e-2
    torch.testing.assert_close(slope.double(), (hidden.grad * direction).sum(), rtol=2e-3, atol=1e-3)


def test_masked_targets_give_no_loss_and_no_gradient():
    model, ids, targets = case(tied=True, ignored=0.0)
    targets[:] = IGNORED
    loss = cross_entropy_in_chunks(model, model.hidden(ids), targets, chunk_tokens=8)
    loss.backward()
    assert loss.item() == 0
    assert not any(weight.grad.any() for weight in model.parameters())


def test_without_gradients_none_are_computed():
    model, ids, targets = case(tied=True, ignored=0.1)
    with torch.no_grad():
        loss = cross_entropy_in_chunks(model, model.hidden(ids), targets)
    assert not loss.requires_grad
    plain = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), reduction="sum", ignore_index=IGNORED)
    torch.testing.assert_close(loss, plain.detach())


def test_under_bfloat16_autocast_the_gradient_stays_near_float32_s():
    model, ids, targets = case(tied=True, ignored=0.1)
    cross_entropy_in_chunks(model, model.hidden(ids), targets).backward()
    expected = gradients(model)
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy_in_chunks(model, model.hidden(ids), targets)
    loss.backward()
    for name, gradient in gradients(model).items():
        assert gradient.dtype == torch.float32
        if expected[name].norm() < 1e-6:
            continue  # a key's bias moves all scores alike, so its gradient is rounding only
        assert F.cosine_similarity(gradient.flatten(), expected[name].flatten(), dim=0) > 0.98, name


def test_the_logits_of_all_tokens_never_exist_at_once():
    """Shapes of what is made inside, seen by the dispatcher: a chunk's logits, never all 60 tokens'."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Shapes(TorchDispatchMode):
        seen: ClassVar[set[tuple[int, ...]]] = set()

        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            out = function(*arguments, **(keywords or {}))
            if isinstance(out, torch.Tensor):
                self.seen.add(tuple(out.shape))
            return out

    model, ids, targets = case(tied=True, ignored=0.0)
    hidden = model.hidden(ids)
    with Shapes():
        cross_entropy_in_chunks(model, hidden, targets, chunk_tokens=10).backward()
    assert (10, 300) in Shapes.seen
    assert not {(60, 300), (3, 20, 300)} & Shapes.seen
