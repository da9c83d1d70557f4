from __future__ import annotations

import io
import json
import re
import weakref
from collections.abc import Callable

import pytest
import sentencepiece
import tokenizers
import torch
from tokenizers.processors import TemplateProcessing
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    MarianTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from guiju import load as guiju_load
from guiju.errors import ConfigError, ModelError
from guiju.generation import Engine, Request, SamplingSettings, generate, open_runner, score
from guiju.generation.sampling import Chooser
from guiju.generation.sequence_to_sequence import Source
from guiju.generation.torch_runner import TorchRunner
from guiju.model import EncoderDecoder, bert_config, build_model, load_model, save_model, transformer_config
from guiju.tokens import Tokenizer, TokenizerSettings, train_tokenizer

EOS, PAD, BOS = 0, 1, 2
SIZE = 256 + 3
SOURCES = ["abc", "床前明月光，疑是地上霜", "x", "once upon a time there was", "ab"]
LAYERS = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
SIZES = {**LAYERS, "d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64}
IDS = {"vocab_size": SIZE, "eos_token_id": EOS, "pad_token_id": PAD}
MARIAN = MarianConfig(**SIZES, **IDS, bos_token_id=None, decoder_start_token_id=PAD, scale_embedding=True)
BART = BartConfig(**SIZES, **IDS, bos_token_id=BOS, decoder_start_token_id=EOS)
T5 = T5Config(**IDS, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=PAD)
GATED = T5Config(
    **IDS, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=PAD,
    feed_forward_proj="gated-gelu", tie_word_embeddings=False,
)  # fmt: skip
WISHES = {
    "marian": {"decoder_start_token_id": PAD, "bad_words_ids": [[PAD]], "forced_eos_token_id": EOS},
    "bart": {"decoder_start_token_id": EOS, "forced_bos_token_id": BOS, "forced_eos_token_id": EOS},
    "t5": {"decoder_start_token_id": PAD},
    "t5 1.1": {"decoder_start_token_id": PAD},
}
FAMILIES: dict[str, Callable] = {
    "marian": lambda: MarianMTModel(MARIAN),
    "bart": lambda: BartForConditionalGeneration(BART),
    "t5": lambda: T5ForConditionalGeneration(T5),
    "t5 1.1": lambda: T5ForConditionalGeneration(GATED),
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Bytes, with the end of text after every source."""
    settings = TokenizerSettings(vocab_size=SIZE, special_tokens=("</s>", "<pad>", "<s>"))
    backend = tokenizers.Tokenizer.from_str(train_tokenizer(["plain text 床"], settings)._data.decode())
    backend.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    return Tokenizer(backend.to_str().encode(), {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> dict[str, tuple[EncoderDecoder, object]]:
    """By family: a folder that transformers wrote, in our hands and in its own."""
    found = {}
    for name, build in FAMILIES.items():
        folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
        torch.manual_seed(len(found))
        theirs = build().eval().requires_grad_(False)
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight) * 0.25)
        for name_, weight in theirs.named_parameters():
            if re.search("encoder_attn|EncDecAttention", name_):  # the source shall make a difference
                weight.mul_(4)
        theirs.generation_config = GenerationConfig(eos_token_id=EOS, pad_token_id=PAD, **WISHES[name])
        theirs.save_pretrained(folder)
        theirs = type(theirs).from_pretrained(folder).eval()  # sines and cosines as they were before
        model = load_model(folder)
        assert isinstance(model, EncoderDecoder)
        found[name] = (model.requires_grad_(False), theirs)
    return found


def expected(theirs, tokenizer, sources, count=1, **options) -> list[list[tuple[list[int], float | None]]]:
    """What transformers generates of all sources in one padded batch: ids up to the end, and scores."""
    rows = [[*tokenizer.encode(source), EOS] for source in sources]
    width = max(map(len, rows))
    ids = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    found = theirs.generate(
        ids,
        attention_mask=mask,
        do_sample=False,
        num_return_sequences=count,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )
    texts = [row[: row.index(EOS) + 1] if EOS in row else row for row in found.sequences[:, 1:].tolist()]
    scores = found.sequences_scores.tolist() if options.get("num_beams", 1) > 1 else [None] * len(texts)
    both = list(zip(texts, scores, strict=True))
    return [both[place : place + count] for place in range(0, len(both), count)]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_those_of_transformers(family, pairs, tokenizer):
    model, theirs = pairs[family]
    for limit, penalty in ((1, 1.0), (2, 1.0), (14, 1.0), (14, 1.6)):
        options = {"max_new_tokens": limit, "repetition_penalty": penalty}
        found = generate(model, tokenizer, SOURCES, SamplingSettings(greedy=True, **options))
        wanted = expected(theirs, tokenizer, SOURCES, **options)
        assert [list(texts[0].ids) for texts in found] == [texts[0][0] for texts in wanted]
    assert len({texts[0].ids for texts in found}) > 2, "the sources make no difference"


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("family", FAMILIES)
def test_beams_find_the_texts_and_scores_of_transformers(family, early_stopping, pairs, tokenizer):
    model, theirs = pairs[family]
    for penalty, limit in ((1.0, 10), (2.0, 16), (0.0, 5)):
        options = {"num_beams": 4, "length_penalty": penalty, "early_stopping": early_stopping, "max_new_tokens": limit}
        found = generate(model, tokenizer, SOURCES, SamplingSettings(num_return_sequences=4, **options))
        wanted = expected(theirs, tokenizer, SOURCES, count=4, **options)
        for texts, others in zip(found, wanted, strict=True):
            assert [list(sequence.ids) for sequence in texts] == [ids for ids, _ in others]
            assert [sequence.score for sequence in texts] == pytest.approx([given for _, given in others], rel=1e-4)


@pytest.mark.parametrize("options", [{}, {"record": True}], ids=["plain", "record mode"])
@pytest.mark.parametrize("family", ["marian", "t5"])
def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(family, options, pairs, tokenizer):
    model = pairs[family][0]
    for settings in (
        SamplingSettings(greedy=True, max_new_tokens=12),
        SamplingSettings(seed=3, num_return_sequences=2, max_new_tokens=12),
        SamplingSettings(num_beams=3, num_return_sequences=2, max_new_tokens=12),
    ):
        together = generate(model, tokenizer, SOURCES, settings, **options)
        alone = [generate(model, tokenizer, [source], settings, **options)[0] for source in SOURCES]
        if options:
            assert together == alone
        else:
            assert [[s.ids for s in texts] for texts in together] == [[s.ids for s in texts] for texts in alone]


@pytest.mark.parametrize("settings", [
    SamplingSettings(seed=1, num_return_sequences=6, max_new_tokens=9),
    SamplingSettings(num_beams=6, num_return_sequences=6, max_new_tokens=9),
], ids=["sampling", "beams"])  # fmt: skip
def test_a_source_is_read_once_for_all_that_is_written_of_it_and_then_forgotten(settings, pairs, tokenizer):
    model = pairs["bart"][0]
    runner = TorchRunner(model)
    read, memories = [], []
    remember = runner.remember

    def counted(source):
        read.append(tuple(source))
        memory = remember(source)
        memories.append(weakref.ref(memory))
        return memory

    runner.remember = counted
    found = generate(model, tokenizer, SOURCES, settings, runner=runner)
    assert len({sequence.ids for sequence in found[0]}) > 3
    assert read == [(*tokenizer.encode(source), EOS) for source in SOURCES]
    assert not any(memory() for memory in memories)


def test_pages_of_one_source_are_never_taken_for_anothers(pairs):
    model = pairs["t5"][0]
    prompt = (PAD, 5, 9, 7, 44, 8, 80, 33, 7, 7, 12, 90)  # several pages of the decoder's own tokens, alike for both

    def written(engine, source):
        choice = Chooser(SamplingSettings(greedy=True), prompt, SIZE, 0, 0)
        given = Source(source)
        given.read_by(engine.runner)
        handle = engine.add(Request(prompt, 6, [choice], [lambda token: False], source=given))
        engine.run()
        return handle.branches[0].ids

    engine = Engine(TorchRunner(model, page_tokens=2))
    sources = [[5, 60, 7, EOS], [77, EOS], [5, 60, 7, EOS]]
    together = [written(engine, source) for source in sources]
    assert together == [written(Engine(TorchRunner(model, page_tokens=2)), source) for source in sources]
    assert together[0] != together[1]
    read = engine.counts.tokens
    assert read == 2 * (12 + 5) + (12 - 10) + 5  # the third one finds five of its six pages


def test_guesses_and_precision_leave_the_tokens(pairs, tokenizer):
    settings = SamplingSettings(greedy=True, max_new_tokens=20, ignore_eos=True)
    for family in ("marian", "t5"):
        model = pairs[family][0]
        plain = generate(model, tokenizer, SOURCES, settings)
        assert list(generate(model, tokenizer, SOURCES, settings, prompt_lookup=4)) == list(plain)
        rounded = generate(model, tokenizer, SOURCES, settings, runner=open_runner(model, precision="bfloat16"))
        assert rounded.precision == "bfloat16"
        assert [texts[0].ids[0] for texts in rounded] == [texts[0].ids[0] for texts in plain]


def test_streamed_pieces_make_up_the_texts(pairs, tokenizer):
    pieces: dict[int, str] = {}
    found = generate(
        pairs["marian"][0],
        tokenizer,
        SOURCES[:2],
        SamplingSettings(seed=1, num_return_sequences=2, max_new_tokens=12),
        on_text=lambda number, text: pieces.update({number: pieces.get(number, "") + text}),
    )
    texts = [sequence.text for sequences in found for sequence in sequences]
    assert [pieces.get(number, "") for number in range(4)] == texts
    assert len(set(texts)) == 4


def test_an_end_that_the_limit_forces_is_told_from_one_that_was_chosen(pairs, tokenizer):
    model = pairs["marian"][0]
    ends = set()
    for settings in (
        SamplingSettings(seed=2, num_return_sequences=40, max_new_tokens=9, temperature=1.5),
        SamplingSettings(num_beams=4, num_return_sequences=4, max_new_tokens=9),
    ):
        for sequence in generate(model, tokenizer, ["abc"], settings)[0]:
            assert sequence.ids[-1] == EOS
            assert sequence.finish_reason == ("length" if len(sequence.ids) == 9 else "stop")
            ends.add(sequence.finish_reason)
    assert ends == {"stop", "length"}
    ignored = SamplingSettings(seed=2, num_return_sequences=4, max_new_tokens=9, ignore_eos=True)
    assert {len(sequence.ids) for sequence in generate(model, tokenizer, ["abc"], ignored)[0]} == {9}


def test_what_a_config_bans_is_never_generated_and_what_it_asks_for_comes_first(pairs, tokenizer):
    settings = SamplingSettings(seed=2, num_return_sequences=60, max_new_tokens=20, temperature=3.0)
    marian = [s.ids for s in generate(pairs["marian"][0], tokenizer, ["abc"], settings)[0]]
    assert not any(PAD in ids for ids in marian)
    t5 = [s.ids for s in generate(pairs["t5"][0], tokenizer, ["abc"], settings)[0]]
    assert any(PAD in ids for ids in t5), "without the ban it comes"
    bart = [s.ids for s in generate(pairs["bart"][0], tokenizer, ["abc"], settings)[0]]
    assert {ids[0] for ids in bart} == {BOS}
    assert {ids[-1] for ids in bart if len(ids) == 20} <= {EOS}


def test_what_a_config_asks_of_generations_survives_our_own_folder(pairs, tmp_path):
    for name, (model, _) in pairs.items():
        save_model(model, tmp_path / name)
        again = load_model(tmp_path / name)
        assert again.config == model.config
    assert pairs["marian"][0].config.never_ids == (PAD,)
    assert pairs["bart"][0].config.forced_first_id == BOS


def test_max_length_counts_the_decoders_start_as_in_transformers(pairs, tokenizer):
    model, theirs = pairs["t5"]
    settings = SamplingSettings(greedy=True, max_length=7, ignore_eos=True)
    [[sequence]] = generate(model, tokenizer, ["abc"], settings)
    assert len(sequence.ids) == 6
    assert theirs.generate(torch.tensor([[5, EOS]]), max_length=7, eos_token_id=None).size(1) == 7


def test_a_form_holds_what_is_written_after_a_forced_beginning(pairs, tokenizer):
    for family in FAMILIES:
        for settings in (
            SamplingSettings(regex="(译文|text): [a-d]{3}", seed=1, num_return_sequences=3, max_new_tokens=30),
            SamplingSettings(regex="(译文|text): [a-d]{3}", num_beams=3, num_return_sequences=3, max_new_tokens=30),
        ):
            for sequence in generate(pairs[family][0], tokenizer, ["abc"], settings)[0]:
                assert sequence.finish_reason == "stop"
                assert re.fullmatch("(译文|text): [a-d]{3}", sequence.text), (family, sequence)


def test_the_shape_of_2017_generates(tokenizer):
    torch.manual_seed(0)
    model = build_model(transformer_config(vocab_size=SIZE, context=32, width=16, layers=2, heads=2, start_id=BOS))
    model.requires_grad_(False).eval()
    for weight in model.parameters():
        weight.add_(torch.randn_like(weight) * 0.2)
    [[sequence]] = generate(
        model, tokenizer, ["abc"], SamplingSettings(greedy=True, max_new_tokens=10, ignore_eos=True)
    )
    row = [BOS]
    for token in sequence.ids:
        logits = model(torch.tensor([row]), source=torch.tensor([[*tokenizer.encode("abc"), EOS]]))
        assert int(logits[0, -1].argmax()) == token
        row.append(token)


def test_sources_that_cannot_be_are_refused_before_any_work(pairs, tokenizer):
    model = pairs["marian"][0]
    with pytest.raises(ModelError, match="the source text has 65 tokens, but the model's context is 64"):
        generate(model, tokenizer, ["ok", "a" * 64], SamplingSettings(greedy=True))
    with pytest.raises(ModelError, match="65 new tokens after a prompt of 1"):
        generate(model, tokenizer, ["ok"], SamplingSettings(greedy=True, max_new_tokens=65))
    assert generate(pairs["t5"][0], tokenizer, ["a" * 600], SamplingSettings(greedy=True, max_new_tokens=3))
    assert generate(model, tokenizer, [""], SamplingSettings(greedy=True, max_new_tokens=3))  # the end of text alone
    with pytest.raises(ModelError, match=f"the source holds the id {SIZE}"):
        generate(model, tokenizer, [[5, SIZE]], SamplingSettings(greedy=True))


def test_a_decoder_without_a_start_is_refused():
    trained = train_tokenizer(["plain text"], TokenizerSettings(vocab_size=257, special_tokens=("<end>",)))
    nameless = Tokenizer(trained._data, {"eos_token": "<end>"})
    model = build_model(transformer_config(vocab_size=SIZE, context=32, width=16, layers=1, heads=2))
    with pytest.raises(ModelError, match="names no decoder_start_token_id"):
        generate(model, nameless, ["abc"], SamplingSettings(greedy=True))


def test_models_that_go_on_with_no_text_are_refused(pairs, tokenizer):
    encoder = build_model(bert_config(vocab_size=SIZE, context=32, width=16, layers=1, heads=2))
    with pytest.raises(ModelError, match=r"an encoder alone .* continues none"):
        generate(encoder, tokenizer, ["abc"], SamplingSettings(greedy=True))
    with pytest.raises(ModelError, match="the model is an encoder: it reads texts whole"):
        score(encoder, tokenizer, ["abc"])
    with pytest.raises(ModelError, match="an encoder-decoder: it has a probability of a text only beside its source"):
        score(pairs["t5"][0], tokenizer, ["abc"])


def test_a_runner_that_knows_no_encoder_is_refused(pairs, tokenizer):
    class Other(TorchRunner):
        name = "other"
        remember = None

    model = pairs["t5"][0]
    with pytest.raises(ConfigError, match="runner other knows no encoder"):
        generate(model, tokenizer, ["abc"], SamplingSettings(greedy=True), runner=Other(model))
    assert open_runner(model).name == "torch"


def test_a_folder_of_either_library_translates_by_the_public_functions(pairs, tokenizer, guiju, tmp_path):
    model, theirs = pairs["marian"]
    save_model(model, tmp_path / "ours", tokenizer)
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs")
    wanted = expected(theirs, tokenizer, ["床前明月"], count=3, num_beams=4, max_new_tokens=9)[0]
    for folder in ("ours", "theirs"):
        answer = guiju("generate", "--model", tmp_path / folder, "--prompt", "床前明月", "--num-beams", 4,
                       "--num-return-sequences", 3, "--max-new-tokens", 9, "--json")  # fmt: skip
        assert [one["ids"] for one in json.loads(answer.out)["sequences"]] == [ids for ids, _ in wanted]
    shown = guiju(
        "generate", "--model", tmp_path / "ours", "--prompt", "床前明月", "--num-beams", 4, "--max-new-tokens", 9
    )
    assert shown.out == tokenizer.decode(wanted[0][0]) + "\n"
    refused = guiju("score", "--model", tmp_path / "ours", "--text", "abc")
    assert refused.code == 2 and "encoder-decoder" in refused.err


LINES = [
    f"the small fox went home over bridge {number}. 从前有一只小狐狸，它走过旧桥{number}。" for number in range(99)
]


def _pieces(size: int, **options) -> bytes:
    """A SentencePiece model."""
    held = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_writer=held,
        model_type="unigram",
        vocab_size=size,
        minloglevel=2,
        **options,
    )
    return held.getvalue()


def _marian_tokenizer(folder):
    data = _pieces(120)
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(data)
    model = sentencepiece.SentencePieceProcessor(model_proto=data)
    tokens = ["</s>", "<unk>", *(model.id_to_piece(number) for number in range(3, model.vocab_size())), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "eng", "target_lang": "zho"}))
    return MarianTokenizer.from_pretrained(folder)


def _t5_tokenizer(folder):
    (folder / "spiece.model").write_bytes(_pieces(120, pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    tokenizer = T5Tokenizer.from_pretrained(folder, extra_ids=0)
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
@pytest.mark.parametrize("kind", ["marian", "t5"])
def test_a_published_folder_with_its_own_tokenizer_gives_transformers_texts(kind, tmp_path):
    make, config = {"marian": (_marian_tokenizer, MarianConfig), "t5": (_t5_tokenizer, T5Config)}[kind]
    tokenizer = make(tmp_path)
    sizes = SIZES if kind == "marian" else {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    start = {"decoder_start_token_id": tokenizer.pad_token_id}
    torch.manual_seed(2)
    build = MarianMTModel if kind == "marian" else T5ForConditionalGeneration
    theirs = build(config(vocab_size=len(tokenizer), **sizes, **ids, **start)).requires_grad_(False).eval()
    for weight in theirs.parameters():
        weight.add_(torch.randn_like(weight) * 0.3)
    theirs.generation_config = GenerationConfig(**ids, **start, bad_words_ids=[[tokenizer.pad_token_id]])
    theirs.save_pretrained(tmp_path)
    theirs = build.from_pretrained(tmp_path).eval()
    ours = guiju_load(tmp_path)
    sources = ["the small fox", "从前有一只小狐狸，它走过旧桥7。", "home"]
    for options in ({"num_beams": 1}, {"num_beams": 4, "length_penalty": 0.6}):
        inputs = tokenizer(sources, return_tensors="pt", padding=True)
        wanted = theirs.generate(**inputs, do_sample=False, max_new_tokens=12, **options)
        found = ours.generate(sources, greedy=True, max_new_tokens=12, **options)
        texts = [tokenizer.decode(row, skip_special_tokens=True) for row in wanted]
        assert [sequences[0].text.strip() for sequences in found] == [text.strip() for text in texts]
        assert all(texts)
