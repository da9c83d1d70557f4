"""Adapters through Hugging Face's peft, both ways, and folders that are not believed."""

from __future__ import annotations

import json
import shutil

import peft
import pytest
import safetensors.torch
import torch
import transformers
from foreign_models import VOCABULARY, ids, made, padding, saved

from guiju.errors import ModelError
from guiju.model import (
    AdapterBase,
    LoraSettings,
    add_lora,
    load_model,
    load_peft,
    lora_layers,
    merge_lora,
    quantize,
    save_model,
    save_peft,
    weights_digest,
    with_head,
)

# peft asks transformers in a way that transformers will no longer answer in its next version.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

BERT = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 80,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "num_labels": 3,
}
LLAMA = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 80,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": VOCABULARY, "n_positions": 80, "n_embd": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0}
T5 = {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
T5 |= {"decoder_start_token_id": 0}
BART = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 80,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "forced_eos_token_id": None,
}
PHI3 = {**LLAMA, "num_key_value_heads": 2, "eos_token_id": 2, "bos_token_id": 1}
MODELS = {
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "gpt2 classes": ("GPT2ForSequenceClassification", {**GPT2, "num_labels": 3}),
    "llama": ("LlamaForCausalLM", LLAMA),
    "llama classes": ("LlamaForSequenceClassification", {**LLAMA, "num_labels": 3}),
    "phi3": ("Phi3ForCausalLM", PHI3),
    "bert": ("BertForMaskedLM", BERT),
    "bert body": ("BertModel", BERT),
    "bert classes": ("BertForSequenceClassification", BERT),
    "bert tokens": ("BertForTokenClassification", BERT),
    "bert span": ("BertForQuestionAnswering", {**BERT, "num_labels": 2}),
    "roberta classes": (
        "RobertaForSequenceClassification",
        {**BERT, "max_position_embeddings": 82, "type_vocab_size": 1},
    ),
    "t5": ("T5ForConditionalGeneration", T5),
    "bart": ("BartForConditionalGeneration", BART),
}
TARGETS = {
    "gpt2": ["c_attn"],
    "gpt2 all": ["c_attn", "attn.c_proj", "mlp.c_proj", "c_fc"],
    "llama": ["q_proj", "v_proj"],
    "phi3": ["qkv_proj", "gate_up_proj"],
    "bert": ["query", "value"],
    "bert dense": ["attention.output.dense", "intermediate.dense"],
    "t5": ["q", "v", "wo"],
    "bart": ["q_proj", "v_proj", "fc1"],
}
TARGETS |= {name: TARGETS[name.partition(" ")[0].replace("roberta", "bert")] for name in MODELS if name not in TARGETS}
BASE = "a/base"


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Folders of transformers' models, made when asked for."""
    folder = tmp_path_factory.mktemp("bases")

    def base(name: str):
        class_name, fields = MODELS[name]
        place = folder / name.replace(" ", "-")
        if not place.exists():
            saved(made(class_name, fields), place)
        return place

    return base


def opened(folder):
    """A folder by the class that it names: a shape of Phi-3 that is written anew is a Llama's."""
    (class_name,) = json.loads((folder / "config.json").read_text())["architectures"]
    return getattr(transformers, class_name).from_pretrained(folder).eval()


def theirs_say(name: str, model):
    with torch.no_grad():
        if name in ("t5", "bart"):
            return model(input_ids=ids(seed=9), decoder_input_ids=ids()).logits
        real = padding([24, 24, 24], 24)
        out = model(input_ids=ids(), attention_mask=real.long())
    if name == "bert span":
        return torch.stack((out.start_logits, out.end_logits), dim=-1)
    return out.last_hidden_state if name == "bert body" else out.logits


def ours_say(name: str, model):
    with torch.no_grad():
        return model(ids(), **({"source": ids(seed=9)} if name in ("t5", "bart") else {}))


def enliven(tensors) -> None:
    torch.manual_seed(11)
    with torch.no_grad():
        for tensor in tensors:
            tensor.add_(torch.randn_like(tensor) * 0.08)


def foreign_adapter(name: str, bases, folder, targets=None, **options):
    """Write an adapter with peft; gives what its model says."""
    model = opened(bases(name))
    fan = {"fan_in_fan_out": True} if name.startswith("gpt2") else {}
    config = peft.LoraConfig(target_modules=targets or TARGETS[name], **{"r": 4, "lora_alpha": 6, **fan, **options})
    adapted = peft.get_peft_model(model, config).eval()
    enliven(weight for key, weight in adapted.named_parameters() if weight.requires_grad)
    adapted.save_pretrained(folder)
    return theirs_say(name, adapted)


CASES = [
    *((name, None, {}) for name in MODELS),
    ("gpt2", TARGETS["gpt2 all"], {"use_rslora": True}),
    (
        "bert",
        TARGETS["bert dense"],
        {"alpha_pattern": {"intermediate.dense": 3}, "rank_pattern": {"intermediate.dense": 2}},
    ),
    ("bert classes", ["query"], {"task_type": "SEQ_CLS"}),
    ("gpt2 classes", ["c_attn"], {"task_type": "SEQ_CLS"}),
    ("llama", "all-linear", {}),
]


@pytest.mark.parametrize(
    ("name", "targets", "options"), CASES, ids=[f"{case[0]} {number}" for number, case in enumerate(CASES)]
)
def test_what_peft_wrote_is_read_and_written_again_and_says_the_same(name, targets, options, bases, tmp_path):
    expected = foreign_adapter(name, bases, tmp_path / "theirs", targets, **options)
    ours = load_model(bases(name))
    before = ours_say(name, ours)
    base = load_peft(ours, tmp_path / "theirs")
    assert base.digest == ""
    torch.testing.assert_close(ours_say(name, ours), expected, rtol=1e-5, atol=1e-5)
    assert (expected - before).abs().max() > 0.01
    save_peft(ours, tmp_path / "ours", AdapterBase(str(bases(name)), weights_digest(ours), base.family))
    again = peft.PeftModel.from_pretrained(opened(bases(name)), tmp_path / "ours").eval()
    torch.testing.assert_close(theirs_say(name, again), expected, rtol=1e-5, atol=1e-5)
    merge_lora(ours)
    torch.testing.assert_close(ours_say(name, ours), expected, rtol=1e-5, atol=1e-5)
    save_model(ours, tmp_path / "merged")
    merged = opened(tmp_path / "merged")
    torch.testing.assert_close(theirs_say(name, merged), expected, rtol=1e-5, atol=1e-5)


SETTINGS = {
    "usual": {},
    "one side": {"layers": ("to_value",)},
    "all": {"layers": ("all",), "rank": 3, "alpha": 5.0, "rslora": True},
}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(
    "name", ["gpt2", "gpt2 classes", "llama", "phi3", "bert", "bert classes", "bert span", "t5", "bart"]
)
def test_peft_opens_ours_and_says_the_same_and_so_do_we(name, settings, bases, tmp_path):
    ours = load_model(bases(name))
    digest = weights_digest(ours)
    torch.manual_seed(2)
    add_lora(ours, LoraSettings(**SETTINGS[settings]))
    enliven(weight for weight in ours.parameters() if weight.requires_grad)
    expected = ours_say(name, ours)
    base = AdapterBase(BASE, digest, name.partition(" ")[0])
    save_peft(ours, tmp_path, base)
    theirs = peft.PeftModel.from_pretrained(opened(bases(name)), tmp_path).eval()
    torch.testing.assert_close(theirs_say(name, theirs), expected, rtol=1e-5, atol=1e-5)
    merged = theirs.merge_and_unload()
    torch.testing.assert_close(theirs_say(name, merged), expected, rtol=1e-5, atol=1e-5)
    back = load_model(bases(name))
    assert load_peft(back, tmp_path) == base
    torch.testing.assert_close(ours_say(name, back), expected, rtol=1e-5, atol=1e-5)
    assert lora_layers(back).keys() == lora_layers(ours).keys()
    assert {adapter.rank for adapter in lora_layers(back).values()} == {SETTINGS[settings].get("rank", 8)}


def test_an_adapter_of_a_new_head_brings_the_head_along(bases, tmp_path):
    torch.manual_seed(1)
    ours = with_head(load_model(bases("bert")), "classes", ("no", "yes"))
    add_lora(ours, LoraSettings())
    enliven(weight for weight in ours.parameters() if weight.requires_grad)
    save_peft(ours, tmp_path, AdapterBase(BASE, weights_digest(ours)))
    torch.manual_seed(77)  # another random head, which the folder's replaces
    back = with_head(load_model(bases("bert")), "classes", ("no", "yes"))
    load_peft(back, tmp_path)
    torch.testing.assert_close(ours_say("bert classes", back), ours_say("bert classes", ours), rtol=0, atol=0)


def test_an_adapter_goes_beside_its_base_of_few_bits(bases, tmp_path):
    foreign_adapter("llama", bases, tmp_path)
    exact, base = load_model(bases("llama")), load_model(bases("llama"))
    digest = weights_digest(base)
    load_peft(exact, tmp_path)
    few = quantize(base, "int8")
    load_peft(few, tmp_path, digest=digest)
    found, expected = ours_say("llama", few), ours_say("llama", exact)
    assert (found - expected).norm() / expected.norm() < 0.05


def own_adapter(bases, folder, name="llama"):
    ours = load_model(bases(name))
    digest = weights_digest(ours)
    add_lora(ours, LoraSettings())
    save_peft(ours, folder, AdapterBase(BASE, digest))
    return folder


def test_another_base_is_refused(bases, tmp_path):
    own_adapter(bases, tmp_path)
    other = load_model(bases("llama"))
    with torch.no_grad():
        other.embedding.weight[0, 0] += 1
    with pytest.raises(ModelError, match=r"was made for a/base with weights of SHA-256 \w{12}, but this model's are"):
        load_peft(other, tmp_path)
    assert not lora_layers(other)
    few = quantize(load_model(bases("llama")), "int8")
    with pytest.raises(ModelError, match="rounded to few bits"):
        load_peft(few, tmp_path)
    with pytest.raises(ModelError, match="was made for a/base"):
        load_peft(few, tmp_path, digest="0" * 64)


def test_an_adapter_is_not_saved_without_its_bases_digest_nor_where_there_is_none(bases, tmp_path):
    ours = load_model(bases("gpt2"))
    with pytest.raises(ModelError, match="no adapter, so there is nothing to save"):
        save_peft(ours, tmp_path / "none", AdapterBase(BASE, "1"))
    add_lora(ours, LoraSettings())
    with pytest.raises(ModelError, match="saved with the digest of its base"):
        save_peft(ours, tmp_path / "none", AdapterBase(BASE, ""))
    with pytest.raises(ModelError, match="said to be a llama, but this model has the shape of gpt2"):
        save_peft(ours, tmp_path / "none", AdapterBase(BASE, "1", "llama"))
    assert not (tmp_path / "none").exists()


FIELDS = {
    "another method": ({"peft_type": "IA3"}, r"peft_type is 'IA3'"),
    "biases": ({"bias": "all"}, r"bias is 'all'"),
    "dora": ({"use_dora": True}, r"use_dora is 'True', which this version does not compute"),
    "a start that changes the base": ({"init_lora_weights": "pissa"}, r"init_lora_weights is 'pissa'"),
    "tokens of its own": ({"trainable_token_indices": [1, 2]}, r"trainable_token_indices is"),
    "a field of another version": ({"use_something": 3}, r"use_something is '3'"),
    "dropout of everything": ({"lora_dropout": 1.0}, r"lora_dropout is 1\.0"),
    "alpha that is none": ({"lora_alpha": "many"}, r"lora_alpha is 'many'"),
    "a pattern that is no name": ({"alpha_pattern": {"(a+)+$": 3}}, r"alpha_pattern has '\(a\+\)\+\$'"),
}


@pytest.mark.parametrize("case", FIELDS)
def test_a_config_that_says_what_is_not_computed_is_refused(case, bases, tmp_path):
    fields, message = FIELDS[case]
    own_adapter(bases, tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    model = load_model(bases("llama"))
    with pytest.raises(ModelError, match=message):
        load_peft(model, tmp_path)
    assert not lora_layers(model)


def test_tensors_without_a_place_of_another_shape_or_missing_are_refused(bases, tmp_path):
    own_adapter(bases, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(file)
    first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    for changed, message in (
        (
            {**tensors, "base_model.model.model.layers.7.self_attn.q_proj.lora_A.weight": torch.ones(8, 32)},
            "has no place",
        ),
        ({**tensors, first: torch.ones(8, 16)}, r"has shape \(8, 16\)"),
        ({name: tensor for name, tensor in tensors.items() if name != first}, r"lora_B\.weight .* has no place"),
        ({}, "holds no adapter"),
    ):
        safetensors.torch.save_file(changed, file)
        model = load_model(bases("llama"))
        with pytest.raises(ModelError, match=message):
            load_peft(model, tmp_path)
        assert not lora_layers(model)
    file.unlink()
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="is a pickle, which can run code"):
        load_peft(load_model(bases("llama")), tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(ModelError):
        load_peft(load_model(bases("llama")), tmp_path)


def test_a_folder_of_another_family_has_no_place(bases, tmp_path):
    foreign_adapter("gpt2", bases, tmp_path)
    with pytest.raises(ModelError, match=r"c_attn\.lora_A\.weight .* has no place"):
        load_peft(load_model(bases("llama")), tmp_path)


def test_peft_keeps_no_more_than_ours_where_parts_read_alike(bases, tmp_path):
    """GPT-2's one adapter of c_attn stays one of the same rank, through us and back."""
    foreign_adapter("gpt2", bases, tmp_path / "theirs")
    ours = load_model(bases("gpt2"))
    load_peft(ours, tmp_path / "theirs")
    save_peft(ours, tmp_path / "ours", AdapterBase(BASE, weights_digest(ours)))
    before, after = (
        safetensors.torch.load_file(tmp_path / place / "adapter_model.safetensors") for place in ("theirs", "ours")
    )
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name]), name
