from __future__ import annotations

import json
import pickle
import shutil

import pytest
import safetensors.torch
import torch
import transformers

from guiju.errors import ModelError, StorageError
from guiju.model import Transformer, gpt2_config, llama_config, load_model, save_model

GPT2 = {"vocab_size": 97, "n_positions": 80, "n_embd": 32, "n_layer": 3, "n_head": 4, "initializer_range": 0.2}
LLAMA = {
    "vocab_size": 97,
    "max_position_embeddings": 80,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
}
ROPE = {"rope_type": "default", "rope_theta": 500000.0}
THEIRS = {
    "gpt2": ("gpt2", GPT2),
    "gpt2 exact gelu": ("gpt2", {**GPT2, "activation_function": "gelu", "n_inner": 40}),
    "gpt2 untied": ("gpt2", {**GPT2, "tie_word_embeddings": False}),
    "llama": ("llama", LLAMA),
    "llama grouped": ("llama", {**LLAMA, "num_key_value_heads": 2}),
    "llama one kv head, tied": ("llama", {**LLAMA, "num_key_value_heads": 1, "tie_word_embeddings": True}),
    "llama other base and head": ("llama", {**LLAMA, "head_dim": 16, "rope_parameters": ROPE, "rms_norm_eps": 1e-3}),
}


def _foreign(kind, fields):
    torch.manual_seed(0)
    if kind == "gpt2":
        config = transformers.GPT2Config(**fields, bos_token_id=0, eos_token_id=0)
        model = transformers.GPT2LMHeadModel(config)
    else:
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**fields, bos_token_id=0, eos_token_id=0))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "ln_" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def _save(model, folder, **options):
    model.save_pretrained(folder, **options)
    return folder


def _open(folder, **options):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def _require_equal(ours: Transformer, theirs):
    ids = torch.randint(97, (2, 70), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        our_logits, their_logits = ours(ids), theirs(ids).logits
    assert their_logits.std() > 0.3  # or else any two models would be near each other
    assert (our_logits - their_logits).abs().max() <= 1e-4
    prompt = ids[:1, :10]
    expected = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=64,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert _greedy(ours, prompt, 64) == expected[0].tolist()


def _greedy(model, ids, steps):
    cache, row = model.new_cache(), ids
    with torch.no_grad():
        for _ in range(steps):
            row = torch.cat([row, model(row[:, cache.length :], cache)[:, -1:].argmax(-1)], dim=1)
    return row[0].tolist()


@pytest.fixture
def gpt2_folder(tmp_path):
    return _save(_foreign("gpt2", GPT2), tmp_path / "model")


@pytest.fixture
def llama_folder(tmp_path):
    return _save(_foreign("llama", LLAMA), tmp_path / "model")


@pytest.mark.parametrize("name", THEIRS)
def test_a_folder_of_transformers_gives_equal_logits_and_tokens(name, tmp_path):
    theirs = _foreign(*THEIRS[name])
    _require_equal(load_model(_save(theirs, tmp_path)), theirs)


@pytest.mark.parametrize("name", THEIRS)
def test_transformers_opens_our_folder_with_equal_logits_and_tokens(name, tmp_path):
    ours = load_model(_save(_foreign(*THEIRS[name]), tmp_path / "theirs"))
    save_model(ours, tmp_path / "ours")
    _require_equal(ours, _open(tmp_path / "ours"))


@pytest.mark.parametrize(
    "config",
    [
        gpt2_config(vocab_size=97, context=80, width=32, layers=2, heads=4),
        llama_config(vocab_size=97, context=80, width=32, layers=2, heads=4, kv_heads=2),
    ],
    ids=["gpt2", "llama"],
)
def test_a_new_model_comes_back_from_its_folder_bit_for_bit(config, tmp_path):
    torch.manual_seed(0)
    model = Transformer(config)
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert again.config == config
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert all(parameter.requires_grad for parameter in again.parameters())
    before = (tmp_path / "model.safetensors").read_bytes()
    save_model(again, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_the_file_we_write_is_what_the_safetensors_library_reads(tmp_path):
    model = Transformer(gpt2_config(vocab_size=97, context=80, width=32, layers=2, heads=4))
    save_model(model, tmp_path)
    theirs = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert torch.equal(theirs["transformer.wte.weight"], model.embedding.weight)
    assert torch.equal(theirs["transformer.h.1.mlp.c_fc.weight"], model.layers[1].mlp.to_hidden.weight.T)
    assert len(theirs) == 2 + 2 * 12 + 2


def test_a_folder_in_shards_gives_equal_logits(tmp_path):
    theirs = _foreign("llama", LLAMA)
    _save(theirs, tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    _require_equal(load_model(tmp_path), theirs)


def test_a_gpt2_body_saved_without_its_head_is_read(tmp_path):
    theirs = _foreign("gpt2", GPT2)  # so is the published gpt2 kept, with its mask among the weights
    _save(theirs.transformer, tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert "wte.weight" in tensors
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 80, 80).tril()
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    _require_equal(load_model(tmp_path), theirs)


def test_weights_in_bfloat16_are_computed_with_in_float32(tmp_path):
    theirs = _foreign("llama", LLAMA).to(torch.bfloat16)
    _save(theirs, tmp_path)
    ours = load_model(tmp_path)
    assert ours.embedding.weight.dtype == torch.float32
    _require_equal(ours, _open(tmp_path, dtype=torch.float32))


def test_the_older_name_of_the_rotary_base_is_read(llama_folder):
    _edit(llama_folder, rope_parameters=None, rope_theta=123.0)
    assert load_model(llama_folder).config.rotary_base == 123.0


def test_the_ids_that_end_a_text_come_from_the_generation_config(gpt2_folder):
    assert load_model(gpt2_folder).config.stop_ids == (0,)
    (gpt2_folder / "generation_config.json").write_text('{"eos_token_id": [5, 7, 50256]}')
    assert load_model(gpt2_folder).config.stop_ids == (5, 7)


def test_a_shape_that_no_published_family_has_is_not_written(tmp_path):
    import dataclasses

    mixed = dataclasses.replace(gpt2_config(vocab_size=97, context=80, width=32, layers=1, heads=4), norm="rms")
    with pytest.raises(ModelError, match=r"model\.norm is 'rms', but gpt2 has 'layer'"):
        save_model(Transformer(mixed), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _edit(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(("kind", "fields", "message"), [
    ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, r"rope_scaling: rope_type is 'dynamic'"),
    ("llama", {"rope_parameters": {"rope_type": "default", "factor": 8.0}}, r"factor is 8\.0; .* type default have no"),
    ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": "big"}}, r"rope_theta is 'big'"),
    ("llama", {"rope_theta": 5.0}, r"several values of rope_theta"),
    ("llama", {"attention_bias": True}, r"attention_bias is True"),
    ("llama", {"mlp_bias": True}, r"mlp_bias is True"),
    ("llama", {"hidden_act": "gelu"}, r"hidden_act is 'gelu'"),
    ("llama", {"pretraining_tp": 2}, r"pretraining_tp is 2"),
    ("llama", {"model_type": "mamba"}, r"model_type is 'mamba'; this version reads gpt2, llama, "),
    ("llama", {"auto_map": {"AutoModelForCausalLM": "evil.Evil"}}, r"auto_map.*never runs code"),
    ("llama", {"quantization_config": {"bits": 4}}, r"quantization_config"),
    ("llama", {"num_hidden_layers": 4}, r"model\.layers\.3\.input_layernorm\.weight of shape \(32,\) is missing"),
    ("llama", {"num_hidden_layers": 2}, r"model\.layers\.2\..* has no place"),
    ("llama", {"num_hidden_layers": 10**9}, r"states 1000000000 layers"),
    ("llama", {"vocab_size": 10**9}, r"embed_tokens\.weight has shape \(97, 32\), but .* \(1000000000, 32\)"),
    ("llama", {"hidden_size": "32"}, r"hidden_size is '32'"),
    ("llama", {"num_attention_heads": 0}, r"num_attention_heads is 0"),
    ("llama", {"num_attention_heads": 3}, r"shape that cannot be"),
    ("llama", {"rms_norm_eps": None}, r"rms_norm_eps is None"),
    ("llama", {"tie_word_embeddings": True}, r"tie_word_embeddings, but lm_head\.weight differs"),
    ("gpt2", {"tie_word_embeddings": False}, r"lm_head\.weight of shape \(97, 32\) is missing"),
    ("gpt2", {"activation_function": "quick_gelu"}, r"activation_function is 'quick_gelu'"),
    ("gpt2", {"activation_function": ["gelu"]}, r"activation_function is \['gelu'\]"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, r"scale_attn_by_inverse_layer_idx is True"),
    ("gpt2", {"scale_attn_weights": False}, r"scale_attn_weights is False"),
    ("gpt2", {"add_cross_attention": True}, r"add_cross_attention is True"),
    ("gpt2", {"n_head": 5}, r"shape that cannot be"),
    ("gpt2", {"n_positions": 81}, r"wpe\.weight has shape \(80, 32\), but .* \(81, 32\)"),
    ("gpt2", {"eos_token_id": "x"}, r"eos_token_id is 'x'"),
])  # fmt: skip
def test_a_config_that_is_not_computed_here_is_refused_by_field(kind, fields, message, tmp_path):
    _save(_foreign(*THEIRS[kind]), tmp_path)
    (tmp_path / "generation_config.json").unlink()
    _edit(tmp_path, **fields)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize(("change", "message"), [
    (lambda t: t.pop("model.norm.weight"), r"model\.norm\.weight of shape \(32,\) is missing"),
    (lambda t: t.update({"model.extra": torch.ones(2)}), r"model\.extra of shape \(2,\) has no place"),
    (lambda t: t.update({"model.norm.weight": torch.ones(9)}), r"model\.norm\.weight has shape \(9,\), but .* \(32,\)"),
    (lambda t: t.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)}), r"model\.norm\.weight .* of type I8"),
])  # fmt: skip
def test_a_tensor_that_is_missing_extra_or_misshapen_is_named(change, message, llama_folder):
    tensors = safetensors.torch.load_file(llama_folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, llama_folder / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        load_model(llama_folder)


def test_a_cut_off_file_of_weights_is_refused(llama_folder):
    path = llama_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors is missing or damaged"):
        load_model(llama_folder)


def test_a_key_that_stands_twice_is_refused(llama_folder):
    path = llama_folder / "config.json"
    path.write_text(path.read_text().rstrip().rstrip("}") + ', "hidden_size": 64}')
    with pytest.raises(ModelError, match="'hidden_size' twice"):
        load_model(llama_folder)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", '"text"', "[" * 100_000])
def test_a_config_that_is_no_object_is_refused(text, llama_folder):
    (llama_folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model(llama_folder)


class _Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_is_never_opened(llama_folder, tmp_path):
    (llama_folder / "model.safetensors").unlink()
    (llama_folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb(tmp_path / "ran")))
    with pytest.raises(ModelError, match="pickle, which can run code"):
        load_model(llama_folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "model.bin"])
def test_an_index_cannot_lead_out_of_its_folder(shard, llama_folder):
    shutil.move(llama_folder / "model.safetensors", llama_folder.parent / "model.safetensors")
    index = {"weight_map": {"model.norm.weight": shard}}
    (llama_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"shards must be \.safetensors files beside it"):
        load_model(llama_folder)


def test_an_index_that_does_not_fit_its_shards_is_refused(llama_folder):
    shutil.move(llama_folder / "model.safetensors", llama_folder / "one.safetensors")
    names = list(safetensors.torch.load_file(llama_folder / "one.safetensors"))
    index = llama_folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys([*names, "model.ghost"], "one.safetensors")}))
    with pytest.raises(ModelError, match=r"says that model\.ghost is in one\.safetensors, but it is not"):
        load_model(llama_folder)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names[1:], "one.safetensors")}))
    with pytest.raises(ModelError, match=r"which model\.safetensors\.index\.json does not name"):
        load_model(llama_folder)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "two.safetensors")}))
    with pytest.raises(ModelError, match=r"two\.safetensors is missing or damaged"):
        load_model(llama_folder)


def test_a_folder_without_model_says_what_it_lacks(tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        load_model(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    model = Transformer(gpt2_config(vocab_size=9, context=8, width=8, layers=1, heads=2))
    with pytest.raises(StorageError, match=r"file/model cannot be made"):
        save_model(model, tmp_path / "file" / "model")


@pytest.mark.parametrize(
    "rule",
    [
        {"begin_suppress_tokens": [3]},
        {"sequence_bias": [[[3, 4], -2.0]]},
        {"bad_words_ids": [[3], [4, 5]]},
        {"bad_words_ids": [3]},
        {"suppress_tokens": ["a"]},
    ],
)
def test_a_rule_for_generating_that_would_not_be_followed_is_refused_by_name(rule, tmp_path):
    folder = _save(_foreign("gpt2", GPT2), tmp_path / "theirs")
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **rule}))
    with pytest.raises(ModelError, match=next(iter(rule))):
        load_model(folder)
