"""Folders of every family whose parts do not fit: the message names the tensor, the value and the way out."""

from __future__ import annotations

import re
import shutil

import pytest
import safetensors.torch
import torch

from guiju.errors import ModelError
from guiju.model import bart_config, bert_config, build_model, gpt2_config, llama_config, save_model, t5_config
from guiju.providers import export_model, load
from guiju.tokens import TokenizerSettings, train_tokenizer

SIZES = {"vocab_size": 300, "width": 16, "layers": 2, "heads": 2}
FAMILIES = {
    "gpt2": gpt2_config(**SIZES, context=32),
    "llama": llama_config(**SIZES, context=32, hidden=32),
    "qwen3": llama_config(**SIZES, context=32, hidden=32, query_key_norm=True),
    "bert": bert_config(**SIZES, context=32),
    "t5": t5_config(**SIZES, head_width=8, hidden=32, start_id=0, pad_id=0),
    "bart": bart_config(**SIZES, context=32, hidden=32, start_id=0, pad_id=0),
}


@pytest.fixture(scope="module")
def tokenizer():
    text = "床前明月光，疑是地上霜。 Once upon a time there was a little dog who ran and ran. " * 20
    return train_tokenizer([text], TokenizerSettings(vocab_size=300))


@pytest.fixture(scope="module")
def folders(tokenizer, tmp_path_factory):
    place = tmp_path_factory.mktemp("families")
    for name, config in FAMILIES.items():
        torch.manual_seed(0)
        save_model(build_model(config).eval(), place / name, tokenizer)
    return place


@pytest.fixture(params=FAMILIES)
def folder(request, folders, tmp_path):
    return shutil.copytree(folders / request.param, tmp_path / request.param)


def _change(folder, change) -> str:
    """Change one tensor of the last layer, which is named."""
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    name = sorted(name for name in tensors if "1" in name and name.endswith(".weight"))[-1]
    change(tensors, name)
    safetensors.torch.save_file(tensors, path)
    return name


@pytest.mark.parametrize(("change", "message"), [
    (lambda tensors, name: tensors.pop(name), r"tensor {name} of shape \(.*\) is missing.*copy or download it again"),
    (lambda tensors, name: tensors.update({name: torch.ones(5, 7)}), r"tensor {name} has shape \(5, 7\), but .* Take"),
    (lambda tensors, name: tensors.update({name: tensors[name].int()}), r"tensor {name} in .* is of type I32.* Save"),
    (lambda tensors, name: tensors.update({f"{name}.evil": torch.ones(3)}), r"{name}\.evil of shape \(3,\) .*config\."),
], ids=["missing", "misshapen", "of another type", "too many"])  # fmt: skip
def test_a_tensor_that_does_not_fit_is_named_with_its_value_and_the_way_out(change, message, folder):
    name = _change(folder, change)
    with pytest.raises(ModelError) as told:
        load(folder)
    text = str(told.value)
    assert str(folder) in text
    assert re.search(message.format(name=re.escape(name)), text, re.DOTALL), text


def test_a_tokenizer_with_more_ids_than_the_model_is_refused_with_both_numbers(folder, tmp_path):
    text = "床前明月光，疑是地上霜。 Once upon a time there was a little dog who ran and ran and jumped. " * 20
    larger = train_tokenizer([text], TokenizerSettings(vocab_size=310))
    larger.save(folder)
    with pytest.raises(ModelError, match=r"has 310 ids, but the model knows 300: they do not .*--tokenizer"):
        load(folder)
    larger.save(tmp_path / "own")
    with pytest.raises(ModelError, match=r"own has 310 ids, but the model knows 300"):
        load(folder, tmp_path / "own")


def test_every_family_loads_and_comes_out_again_as_it_went_in(folder, tmp_path):
    export_model(folder, to="huggingface", out=tmp_path / "again")
    before, after = (safetensors.torch.load_file(place / "model.safetensors") for place in (folder, tmp_path / "again"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("name", ["bert", "t5"])
@pytest.mark.parametrize("to", ["gguf", "llama2c", "openai-gpt2", "tensorflow"])
def test_a_layout_for_decoders_refuses_other_kinds_by_name_and_writes_nothing(name, to, folders, tmp_path):
    with pytest.raises(ModelError, match=FAMILIES[name].kind):
        export_model(folders / name, to=to, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_encoder_alone_says_that_it_continues_and_scores_nothing(folders):
    model = load(folders / "bert")
    with pytest.raises(ModelError, match=r"is an encoder alone \(such as BERT\).*Take a decoder"):
        model.generate("once", max_new_tokens=3)
    with pytest.raises(ModelError, match=r"no probability of a next token"):
        model.score(["once"])


def test_an_encoder_decoder_answers_a_source_and_scores_no_text_alone(folders):
    model = load(folders / "t5")
    [sequence] = model.generate("once", max_new_tokens=3, greedy=True)
    assert 1 <= len(sequence.ids) <= 3
    with pytest.raises(ModelError, match="only beside its source"):
        model.score(["once"])
