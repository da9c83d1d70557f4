from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from guiju.errors import ConfigError, ModelError
from guiju.model import RotaryScaling, Transformer, gpt2_config, llama_config, load_model, save_model
from guiju.providers import export_model, load
from guiju.tokens import TokenizerSettings, train_tokenizer

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K" / "stories260K.bin"
TEXT = "床前明月光，疑是地上霜。举头望明月，低头思故乡。 Once upon a time a little dog ran 42 miles. " * 20
SHAPES = {
    # transformers 5.23 reads GPT-2's context under another name than its own, so that only the default one fits.
    "gpt2": gpt2_config(vocab_size=300, context=1024, width=64, layers=2, heads=4),
    "gpt2 untied": gpt2_config(vocab_size=300, context=1024, width=64, layers=2, heads=4, tied=False),
    "llama": llama_config(vocab_size=310, context=48, width=64, layers=2, heads=4, kv_heads=2, hidden=96),
    "llama tied, other base and head": llama_config(
        vocab_size=300, context=48, width=64, layers=2, heads=2, head_width=48, hidden=64, tied=True, rotary_base=5e5
    ),
}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([TEXT], TokenizerSettings(vocab_size=300))


@pytest.fixture
def folder(tokenizer, tmp_path):
    def of(config) -> Path:
        torch.manual_seed(0)
        model = Transformer(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.dim() > 1 else 0.3))
        save_model(model, tmp_path / "model", tokenizer)
        return tmp_path / "model"

    return of


def _reader(path: Path) -> tuple[dict[str, object], dict[str, gguf.ReaderTensor]]:
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return fields, {tensor.name: tensor for tensor in reader.tensors}


@pytest.mark.parametrize("name", SHAPES)
def test_transformers_reads_the_file_with_equal_logits_and_tokens(name, folder, tmp_path):
    source = folder(SHAPES[name])
    export_model(source, to="gguf", out=tmp_path / "out")
    ours = load_model(source)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", gguf_file="model-f32.gguf").eval()
    ids = torch.randint(300, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        our_logits, their_logits = ours(ids), theirs(ids).logits
    assert our_logits.std() > 0.3
    assert (our_logits - their_logits).abs().max() <= 1e-4


@pytest.mark.parametrize("type", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_names_shapes_and_values_come_back_within_the_bound_of_the_type(name, type, folder, tmp_path):
    source = folder(SHAPES[name])
    written = export_model(source, to="gguf", out=tmp_path / "out", type=type)
    assert written["files"] == [f"model-{type}.gguf"]
    _, tensors = _reader(tmp_path / "out" / f"model-{type}.gguf")
    model, config = load_model(source), SHAPES[name]
    assert len(tensors) == len(list(model.parameters())) - (2 * 2 * config.layers if name == "gpt2" else 0)
    embedding, inner = model.embedding.weight.detach().numpy(), model.layers[1].mlp.to_output.weight.detach().numpy()
    for theirs, ours in (("token_embd.weight", embedding), ("blk.1.ffn_down.weight", inner)):
        tensor = tensors[theirs]
        assert tensor.tensor_type.name == type.upper()
        assert tuple(reversed(tensor.shape.tolist())) == tuple(ours.shape)
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        error = np.abs(values - ours).max()
        bound = {"f32": 0.0, "f16": np.abs(ours).max() / 1024, "q8_0": np.abs(ours).max() / 254 + 1e-3}[type]
        assert error <= float(bound)
        assert error <= written["error"]
    kept = [tensor for tensor in tensors.values() if len(tensor.shape) == 1 or tensor.name == "position_embd.weight"]
    assert kept and all(tensor.tensor_type.name == "F32" for tensor in kept)


def test_the_shape_and_the_vocabulary_stand_in_the_metadata(folder, tokenizer, tmp_path):
    export_model(folder(SHAPES["llama"]), to="gguf", out=tmp_path / "out")
    fields, _ = _reader(tmp_path / "out" / "model-f32.gguf")
    assert fields["general.architecture"] == "llama"
    assert fields["llama.attention.head_count_kv"] == 2
    assert fields["llama.rope.dimension_count"] == 16
    assert (fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]) == ("gpt2", "gpt-2")
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert (len(tokens), tokens[309]) == (310, "[unused 309]")
    assert types[tokenizer.eos_id] == gguf.TokenType.CONTROL
    assert types[309] == gguf.TokenType.UNUSED
    assert fields["tokenizer.ggml.eos_token_id"] == tokenizer.eos_id
    assert fields["tokenizer.ggml.add_bos_token"] is False


def test_transformers_makes_the_same_ids_out_of_the_vocabulary(folder, tokenizer, tmp_path):
    export_model(folder(SHAPES["llama"]), to="gguf", out=tmp_path / "out")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out", gguf_file="model-f32.gguf")
    for text in ("Once upon a time", "床前明月光", "  two  spaces, 42\n"):
        assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text)


def test_llama2cs_vocabulary_keeps_its_scores_and_bytes(tmp_path):
    export_model(STORIES, to="gguf", out=tmp_path / "out")
    fields, _ = _reader(tmp_path / "out" / "model-f32.gguf")
    own = load(STORIES).tokenizer
    assert fields["tokenizer.ggml.model"] == "llama"
    assert fields["tokenizer.ggml.scores"] == [score for score, _ in own.entries]
    types = fields["tokenizer.ggml.token_type"]
    kinds = gguf.TokenType
    assert types[:4] == [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, kinds.BYTE]
    assert types.count(kinds.BYTE) == 256
    assert fields["tokenizer.ggml.tokens"][:4] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert fields["tokenizer.ggml.tokens"][own.encode("Once upon")[0]] == "\u2581Once"
    assert fields["tokenizer.ggml.add_space_prefix"] is True
    assert fields["tokenizer.ggml.add_bos_token"] is True


def test_llama3s_slowed_turns_become_a_tensor_of_factors(folder, tmp_path):
    scaling = RotaryScaling(kind="llama3", factor=8.0, low=1.0, high=4.0, original_context=256)
    config = replace(SHAPES["llama"], rotary_scaling=scaling)
    export_model(folder(config), to="gguf", out=tmp_path / "out")
    _, tensors = _reader(tmp_path / "out" / "model-f32.gguf")
    factors = tensors["rope_freqs.weight"].data
    # Fast turns (many rounds within the first context) stay, slow ones are 8 times slower.
    assert factors[0] == 1.0 and factors[-1] == 8.0 and (np.diff(factors) >= 0).all()  # (D / 2,)


def test_llama3s_tokenizer_has_its_name(folder, tmp_path):
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+"
    )
    source = folder(SHAPES["llama"])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: token for token, symbol in enumerate(["<|endoftext|>", *alphabet])}
    backend = Tokenizer(models.BPE(vocabulary, [], ignore_merges=True))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|endoftext|>"])
    backend.save(str(source / "tokenizer.json"))
    export_model(source, to="gguf", out=tmp_path / "out")
    fields, _ = _reader(tmp_path / "out" / "model-f32.gguf")
    assert fields["tokenizer.ggml.pre"] == "llama-bpe"
    layout = json.loads((source / "tokenizer.json").read_text())
    layout["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{L}+|\p{N}|."
    (source / "tokenizer.json").write_text(json.dumps(layout))
    with pytest.raises(ModelError, match=r"cuts texts by Split and ByteLevel in a way that has no name here"):
        export_model(source, to="gguf", out=tmp_path / "other")


def test_a_width_that_blocks_do_not_divide_is_refused_by_name_and_nothing_is_written(tmp_path):
    with pytest.raises(ModelError, match=r"blk\.0\.ffn_down\.weight has rows of 172 numbers.*Take --type f16"):
        export_model(STORIES, to="gguf", out=tmp_path / "out", type="q8_0")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("change", "message"), [
    ({"qkv_bias": True}, r"model\.qkv_bias is True, but llama\.cpp's llama has False"),
    ({"window": 8}, r"model\.window is 8"),
    ({"rotary_share": 0.5}, r"model\.rotary_share is 0\.5"),
    ({"query_key_norm": True}, r"model\.query_key_norm"),
])  # fmt: skip
def test_a_model_that_llama_cpp_does_not_compute_is_refused_by_field(change, message, folder, tmp_path):
    source = folder(replace(SHAPES["llama"], **change))
    with pytest.raises(ModelError, match=message):
        export_model(source, to="gguf", out=tmp_path / "out")


def test_exact_gelu_is_refused_by_field(folder, tmp_path):
    source = folder(replace(SHAPES["gpt2"], activation="gelu"))
    with pytest.raises(ModelError, match=r"model\.activation is 'gelu', but llama\.cpp's gpt2 has 'gelu_tanh'"):
        export_model(source, to="gguf", out=tmp_path / "out")


def test_a_type_that_is_none_and_numbers_that_f16_has_not_are_refused(folder, tmp_path):
    source = folder(SHAPES["gpt2"])
    with pytest.raises(ConfigError, match=r"--type is 'q4_k'; gguf can be f32, f16, q8_0"):
        export_model(source, to="gguf", out=tmp_path / "out", type="q4_k")
    model = load_model(source)
    for value, message in ((1e6, r"token_embd\.weight holds numbers above 65504"), (float("nan"), "not finite")):
        with torch.no_grad():
            model.embedding.weight[5, 5] = value
        save_model(model, source)
        with pytest.raises(ModelError, match=message):
            export_model(source, to="gguf", out=tmp_path / "out", type="f16")
        assert not (tmp_path / "out").exists()


def test_the_same_model_gives_the_same_bytes(folder, tmp_path):
    source = folder(SHAPES["gpt2"])
    for name in ("one", "two"):
        export_model(source, to="gguf", out=tmp_path / name, type="q8_0")
    first, second = ((tmp_path / name / "model-q8_0.gguf").read_bytes() for name in ("one", "two"))
    assert first == second
