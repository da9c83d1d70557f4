from __future__ import annotations

import random

import pytest
import torch
import transformers

from guiju.errors import ConfigError, ModelError
from guiju.generation import SamplingSettings, generate
from guiju.model import Transformer, llama_config, load_model
from guiju.tokens import TokenizerSettings, train_tokenizer

SAMPLED = SamplingSettings(temperature=1.3, top_k=40, seed=11, max_new_tokens=20, num_return_sequences=2)
GREEDY = SamplingSettings(greedy=True, max_new_tokens=20)


def _prompts(count, seed=0):
    chance = random.Random(seed)
    letters = "abcdefgh 床前明月光"
    return ["".join(chance.choices(letters, k=chance.randint(0, 12))) for _ in range(count)]


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "seeded sampling"])
def test_an_answer_does_not_depend_on_what_else_is_in_the_batch(settings, random_model, bytes_tokenizer):
    prompts = _prompts(24)
    alone = [generate(random_model, bytes_tokenizer, [prompt], settings, record=True)[0] for prompt in prompts]
    assert len({sequences[0].ids for sequences in alone}) > 12
    chance = random.Random(1)
    for _ in range(4):
        order = chance.sample(range(24), k=chance.randint(2, 24))
        together = generate(random_model, bytes_tokenizer, [prompts[index] for index in order], settings, record=True)
        assert together == [alone[index] for index in order]


def test_an_answer_does_not_depend_on_how_many_sequences_are_asked_for(random_model, bytes_tokenizer):
    few, many = (
        generate(random_model, bytes_tokenizer, ["abc"], SamplingSettings(seed=5, num_return_sequences=count))[0]
        for count in (2, 6)
    )
    assert few == many[:2]
    assert len({sequence.ids for sequence in many}) == 6


def test_greedy_tokens_are_those_of_full_passes_without_cache(random_model, bytes_tokenizer):
    for prompt in _prompts(5, seed=2):
        [[sequence]] = generate(
            random_model, bytes_tokenizer, [prompt], SamplingSettings(greedy=True, max_new_tokens=20, ignore_eos=True)
        )
        row = bytes_tokenizer.encode(prompt) or [bytes_tokenizer.eos_id]
        for token in sequence.ids:
            assert random_model(torch.tensor([row]))[0, -1].argmax() == token
            row.append(token)


def test_the_same_seed_gives_the_same_and_another_seed_another_answer(stories):
    answers = [generate(*stories, ["Once"], SamplingSettings(seed=seed))[0][0] for seed in (1, 1, 2)]
    assert answers[0] == answers[1]
    assert answers[0].ids != answers[2].ids


def test_a_seed_that_was_drawn_is_named_and_gives_the_same_again(stories):
    settings = SamplingSettings(num_return_sequences=2, max_new_tokens=10)
    first = generate(*stories, ["Once"], settings)[0]
    assert first != generate(*stories, ["Once"], settings)[0]
    again = generate(
        *stories, ["Once"], SamplingSettings(num_return_sequences=2, max_new_tokens=10, seed=first[0].seed)
    )
    assert again[0] == first


def test_greedy_names_no_seed_and_a_temperature_of_zero_is_greedy(stories):
    greedy = generate(*stories, ["Once"], SamplingSettings(greedy=True))[0][0]
    assert greedy.seed is None
    assert generate(*stories, ["Once"], SamplingSettings(temperature=0.0))[0][0] == greedy


def test_streamed_pieces_make_up_the_texts_and_are_numbered_through(random_model, bytes_tokenizer):
    pieces: dict[int, list[str]] = {}
    results = generate(
        random_model,
        bytes_tokenizer,
        ["ab", "床"],
        SAMPLED,
        on_text=lambda number, text: pieces.setdefault(number, []).append(text),
    )
    texts = [sequence.text for sequences in results for sequence in sequences]
    assert ["".join(pieces.get(number, [])) for number in range(4)] == texts


def test_a_stop_text_across_tokens_ends_the_text_before_it(stories):
    whole = generate(*stories, ["Once upon a time"], SamplingSettings(greedy=True, max_new_tokens=60))[0][0]
    assert "little girl named" in whole.text
    pieces = []
    [[sequence]] = generate(
        *stories,
        ["Once upon a time"],
        SamplingSettings(greedy=True, max_new_tokens=60, stop=("never", "ittle gi")),
        on_text=lambda _, text: pieces.append(text),
    )
    assert sequence.text == whole.text[: whole.text.index("ittle gi")] == "".join(pieces)
    assert sequence.finish_reason == "stop"
    assert sequence.ids == whole.ids[: len(sequence.ids)]


def test_the_models_own_end_of_text_ends_it_unless_it_is_ignored(stories):
    settings = SamplingSettings(greedy=True, max_new_tokens=400)
    [[ended]] = generate(*stories, [""], settings)
    assert ended.finish_reason == "stop"
    assert ended.ids[-1] == 1  # llama2.c's models begin the next story
    assert 1 not in ended.ids[:-1]
    [[on]] = generate(*stories, [""], SamplingSettings(greedy=True, max_new_tokens=400, ignore_eos=True))
    assert (on.finish_reason, len(on.ids)) == ("length", 400)
    assert on.ids[: len(ended.ids)] == ended.ids
    assert on.text.startswith(ended.text)


def test_an_empty_prompt_is_the_end_of_text_where_there_is_no_bos(random_model, bytes_tokenizer):
    [[sequence]] = generate(random_model, bytes_tokenizer, [""], SamplingSettings(greedy=True, max_new_tokens=1))
    logits = random_model(torch.tensor([[bytes_tokenizer.eos_id]]))
    assert sequence.ids == (int(logits[0, -1].argmax()),)


def test_max_length_counts_the_prompt_and_its_bos(stories):
    model, tokenizer = stories
    prompt = "Once upon a time"
    size = 1 + len(tokenizer.encode(prompt))
    [[sequence]] = generate(model, tokenizer, [prompt], SamplingSettings(greedy=True, max_length=size + 3))
    assert len(sequence.ids) == 3
    with pytest.raises(ConfigError, match=rf"max_length is {size}, but the prompt alone has {size} tokens"):
        generate(model, tokenizer, [prompt], SamplingSettings(greedy=True, max_length=size))


def test_a_text_can_fill_the_context_and_not_more(random_model, bytes_tokenizer):
    settings = SamplingSettings(greedy=True, max_new_tokens=55, ignore_eos=True)
    [[sequence]] = generate(random_model, bytes_tokenizer, ["a" * 10], settings)
    assert len(sequence.ids) == 55  # 10 + 54 are read, the last one is only written
    with pytest.raises(ModelError, match=r"56 new tokens after a prompt of 10 .* context of 64: at most 55"):
        generate(random_model, bytes_tokenizer, ["a" * 10], SamplingSettings(greedy=True, max_new_tokens=56))
    with pytest.raises(ModelError, match=r"the prompt has 65 tokens, but the model's context is 64"):
        generate(random_model, bytes_tokenizer, ["ok", "a" * 65], SamplingSettings(greedy=True))
    unlimited = generate(random_model, bytes_tokenizer, ["a" * 60], SamplingSettings(greedy=True, ignore_eos=True))
    assert len(unlimited[0][0].ids) == 5


def test_ids_without_text_are_never_chosen(bytes_tokenizer):
    torch.manual_seed(0)
    model = Transformer(llama_config(vocab_size=300, context=64, width=16, layers=1, heads=2, tied=True))
    with torch.no_grad():
        model.embedding.weight[257:] = 50 * torch.sign(model.embedding.weight[257:])
    for settings in (GREEDY, SAMPLED):
        for sequence in generate(model, bytes_tokenizer, ["abc"], settings)[0]:
            assert max(sequence.ids) < 257


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(random_model):
    larger = train_tokenizer(
        ["床前明月光，疑是地上霜。举头望明月，低头思故乡。" * 9], TokenizerSettings(vocab_size=270)
    )
    with pytest.raises(ModelError, match="tokenizer has 270 ids, but the model knows 257"):
        generate(random_model, larger, ["x"], GREEDY)


def test_damaged_weights_give_an_error_and_no_text(bytes_tokenizer):
    model = Transformer(llama_config(vocab_size=257, context=64, width=16, layers=1, heads=2))
    with torch.no_grad():
        model.final_norm.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="weights are damaged"):
        generate(model, bytes_tokenizer, ["x"], GREEDY)


def test_a_model_in_training_answers_without_dropout_and_stays_in_training(bytes_tokenizer):
    torch.manual_seed(0)
    model = Transformer(llama_config(vocab_size=257, context=64, width=32, layers=2, heads=2, dropout=0.5))
    assert generate(model.train(), bytes_tokenizer, ["x"], GREEDY) == generate(model, bytes_tokenizer, ["x"], GREEDY)
    assert model.training
    assert generate(model.eval(), bytes_tokenizer, ["x"], GREEDY)
    assert not model.training


def test_one_text_in_place_of_a_list_is_refused(random_model, bytes_tokenizer):
    with pytest.raises(ConfigError, match="give a list"):
        generate(random_model, bytes_tokenizer, "abc", GREEDY)


def test_no_prompt_gives_no_answer(random_model, bytes_tokenizer):
    assert generate(random_model, bytes_tokenizer, [], GREEDY) == []


@pytest.mark.parametrize("prompt", [[5], [5, 6, 7]])
def test_ids_that_are_never_or_first_written_are_as_in_transformers(prompt, bytes_tokenizer, tmp_path):
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=257, n_positions=64, n_embd=32, n_layer=2, n_head=2, initializer_range=0.4)
    ).eval()
    usual = theirs.generate(torch.tensor([prompt]), max_new_tokens=6, do_sample=False, pad_token_id=0)[0].tolist()
    never = usual[len(prompt)]
    theirs.generation_config.update(suppress_tokens=[never], forced_bos_token_id=9, pad_token_id=0, eos_token_id=None)
    expected = theirs.generate(torch.tensor([prompt]), max_new_tokens=6, do_sample=False)[0].tolist()
    assert (expected[len(prompt)] == 9) is (len(prompt) == 1)
    theirs.save_pretrained(tmp_path)
    settings = SamplingSettings(max_new_tokens=6, greedy=True, ignore_eos=True)
    [[found]] = generate(load_model(tmp_path), bytes_tokenizer, [prompt], settings)
    assert list(found.ids) == expected[len(prompt) :]
    assert never not in found.ids
