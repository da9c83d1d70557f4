from __future__ import annotations

import math

import pytest
import torch

from guiju.errors import ModelError
from guiju.model import Transformer, gpt2_config, hook_names, llama_config
from guiju.model import attention as attention_module


def _ids(rows=2, length=24, seed=1):
    return torch.randint(97, (rows, length), generator=torch.Generator().manual_seed(seed))


def test_decoding_by_cache_equals_one_full_pass(tiny_model):
    ids = _ids()
    cache = tiny_model.new_cache(batch=2)
    steps = [tiny_model(ids[:, t : t + 1], cache) for t in range(24)]
    torch.testing.assert_close(torch.cat(steps, dim=1), tiny_model(ids), atol=1e-5, rtol=0)


@pytest.mark.parametrize("pieces", [[5, 1, 9, 9], [24], [1, 22, 1], [23, 1]])
def test_a_prompt_read_in_pieces_equals_one_full_pass(tiny_model, pieces):
    ids = _ids()
    cache = tiny_model.new_cache(batch=2, capacity=24)
    parts = [tiny_model(part, cache) for part in ids.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), tiny_model(ids), atol=1e-5, rtol=0)
    assert cache.length == 24


def test_a_copied_cache_goes_on_alone(tiny_model):
    ids = _ids(rows=1)
    cache = tiny_model.new_cache()
    tiny_model(ids[:, :10], cache)
    twin = cache.copy()
    tiny_model(_ids(rows=1, seed=9), twin)
    after = tiny_model(ids[:, 10:], cache)
    torch.testing.assert_close(after, tiny_model(ids)[:, 10:], atol=1e-5, rtol=0)


def test_a_later_token_changes_no_bit_of_an_earlier_output(tiny_model):
    ids = _ids()
    other = ids.clone()
    other[:, 15:] = (other[:, 15:] + 1) % 97
    before, after = tiny_model(ids), tiny_model(other)
    assert torch.equal(before[:, :15], after[:, :15])
    assert not torch.equal(before[:, 15], after[:, 15])


def test_a_packed_document_has_the_logits_that_it_has_alone(tiny_model):
    ids = _ids(rows=1)
    documents = torch.tensor([[0] * 7 + [1] * 12 + [2] * 5])
    packed = tiny_model(ids, documents=documents)
    alone = torch.cat([tiny_model(part) for part in ids.split([7, 12, 5], dim=1)], dim=1)
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=0)


def test_another_document_in_the_row_changes_no_bit(tiny_model):
    ids = _ids(rows=1)
    documents = torch.tensor([[0] * 7 + [1] * 12 + [2] * 5])
    other = ids.clone()
    other[:, 7:19] = (other[:, 7:19] + 1) % 97
    before, after = tiny_model(ids, documents=documents), tiny_model(other, documents=documents)
    assert torch.equal(before[:, :7], after[:, :7])
    assert torch.equal(before[:, 19:], after[:, 19:])


def test_packed_documents_with_a_cache_are_refused(tiny_model):
    with pytest.raises(ModelError, match="read in one pass"):
        tiny_model(_ids(), tiny_model.new_cache(batch=2), documents=torch.zeros(2, 24, dtype=torch.long))


def test_more_tokens_than_the_context_are_refused(tiny_model):
    tiny_model(_ids(length=80))
    with pytest.raises(ModelError, match=r"81 tokens .* context of 80"):
        tiny_model(_ids(length=81))
    cache = tiny_model.new_cache(batch=2)
    tiny_model(_ids(length=80), cache)
    with pytest.raises(ModelError, match="context of 80"):
        tiny_model(_ids(length=1), cache)


def test_more_tokens_than_the_cache_holds_are_refused(tiny_model):
    cache = tiny_model.new_cache(batch=2, capacity=10)
    tiny_model(_ids(length=8), cache)
    with pytest.raises(ModelError, match=r"holds 8 of 10 tokens, so 3 more"):
        tiny_model(_ids(length=3), cache)
    assert cache.length == 8


def test_hooks_see_every_point_in_order_and_change_nothing(tiny_model):
    seen = []
    hooks = {name: lambda value, name=name: seen.append((name, tuple(value.shape))) for name in hook_names(3)}
    watched = tiny_model(_ids(), hooks=hooks)
    torch.testing.assert_close(watched, tiny_model(_ids()), atol=1e-5, rtol=0)
    assert [name for name, _ in seen] == hook_names(3)
    for name, shape in seen:
        assert shape == ((2, 4, 24, 24) if name.endswith("pattern") else (2, 24, 32))


def test_what_a_layer_adds_is_what_its_hooks_show(tiny_model):
    kept = {}
    tiny_model(_ids(), hooks={name: lambda value, name=name: kept.update({name: value}) for name in hook_names(3)})
    for layer in range(3):
        of = f"layers.{layer}."
        total = kept[of + "residual_before"] + kept[of + "attention.output"] + kept[of + "mlp.output"]
        torch.testing.assert_close(kept[of + "residual_after"], total)
    assert torch.equal(kept["layers.0.residual_before"], kept["embedding"])


def test_a_hook_can_put_another_tensor_in_its_place(tiny_model):
    emptied = tiny_model(_ids(), hooks={"final_norm": torch.zeros_like})
    assert emptied.abs().max() == 0
    uniform = torch.ones(2, 4, 24, 24) / 24
    assert not torch.equal(
        tiny_model(_ids(), hooks={"layers.1.attention.pattern": lambda _: uniform}), tiny_model(_ids())
    )


def test_a_hook_that_no_point_bears_is_refused(tiny_model):
    with pytest.raises(ModelError, match=r"no hook point 'layers\.3\.mlp\.output' in a model of 3 layers"):
        tiny_model(_ids(), hooks={"layers.3.mlp.output": lambda _: None})


def test_a_hook_that_returns_another_shape_is_refused(tiny_model):
    with pytest.raises(ModelError, match=r"hook at embedding returned the shape \(2, 1, 32\)"):
        tiny_model(_ids(), hooks={"embedding": lambda value: value[:, :1]})


def test_without_a_hook_on_it_no_pattern_is_made(tiny_model, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a pattern of (T, S) was made")

    monkeypatch.setattr(attention_module, "attention_pattern", fail)
    tiny_model(_ids(), hooks={"layers.0.mlp.output": lambda _: None})
    with pytest.raises(AssertionError):
        tiny_model(_ids(), hooks={"layers.0.attention.pattern": lambda _: None})


def test_activation_checkpointing_gives_the_same_gradients(tiny_model):
    gradients = []
    for checkpointing in (False, True):
        tiny_model.zero_grad()
        tiny_model.activation_checkpointing = checkpointing
        tiny_model.train()(_ids(), documents=torch.tensor([[0] * 10 + [1] * 14] * 2)).logsumexp(-1).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in tiny_model.parameters()])
    for without, with_it in zip(*gradients, strict=True):
        torch.testing.assert_close(without, with_it)


def test_new_weights_are_drawn_as_in_gpt2():
    torch.manual_seed(0)
    model = Transformer(gpt2_config(vocab_size=1000, context=200, width=128, layers=8, heads=4))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert parameter.abs().max() == 0, name
        elif "norm" in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        else:
            wanted = 0.02 / math.sqrt(16) if "to_output" in name else 0.02
            assert parameter.std().item() == pytest.approx(wanted, rel=0.05), name


def test_an_untrained_model_finds_every_token_about_equally_likely():
    torch.manual_seed(0)
    model = Transformer(llama_config(vocab_size=97, context=80, width=64, layers=4, heads=4)).eval()
    loss = torch.nn.functional.cross_entropy(model(_ids())[:, :-1].flatten(0, 1), _ids()[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(97), rel=0.02)


def test_the_same_seed_gives_the_same_weights():
    config = llama_config(vocab_size=9, context=8, width=8, layers=1, heads=2)
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(Transformer(config).embedding.weight)
    assert torch.equal(models[0], models[1])
    assert not torch.equal(models[0], models[2])


def test_dropout_acts_in_training_alone():
    torch.manual_seed(0)
    model = Transformer(llama_config(vocab_size=97, context=80, width=32, layers=2, heads=4, dropout=0.5))
    assert not torch.equal(model.train()(_ids()), model(_ids()))
    assert torch.equal(model.eval()(_ids()), model(_ids()))


@pytest.mark.parametrize("packed", [False, True])
def test_training_compiles_in_one_graph(tiny_model, packed):
    documents = torch.tensor([[0] * 10 + [1] * 14] * 2) if packed else None
    compiled = torch.compile(tiny_model.train(), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(_ids(), documents=documents), tiny_model(_ids(), documents=documents))
