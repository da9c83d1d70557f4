from __future__ import annotations

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from guiju.errors import ConfigError, ModelError
from guiju.generation import SamplingSettings, generate
from guiju.generation.beam import BeamSearch
from guiju.generation.beam_engine import BeamEngine, Job
from guiju.generation.torch_runner import TorchRunner
from guiju.model import Transformer, gpt2_config, llama_config, save_model

SHAPES = {
    "gpt2": gpt2_config(vocab_size=257, context=64, width=16, layers=2, heads=2, stop_ids=(0,)),
    "llama": llama_config(vocab_size=257, context=64, width=16, layers=2, heads=4, kv_heads=2, stop_ids=(0,)),
}


def lively(config, seed, ending=0.0) -> Transformer:
    """Weights that tell prompts apart; `ending` makes the end of text likelier."""
    torch.manual_seed(seed)
    model = Transformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
        head = model.embedding if config.tied else model.to_logits
        head.weight[0] += ending * model.final_norm.weight * 0.2
    return model


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Models of ours, each with the same in transformers."""
    found = []
    for name, config in SHAPES.items():
        for seed in range(3):
            folder = tmp_path_factory.mktemp(f"{name}-{seed}")
            model = lively(config, seed, ending=[-1.0, 1.0, 3.0][seed])
            save_model(model, folder)
            found.append((model, AutoModelForCausalLM.from_pretrained(folder).eval()))
    return found


def theirs(model, ids, **options) -> list[tuple[list[int], float]]:
    """transformers' own beam search: what it generates, without padding, and its scores."""
    inputs = torch.tensor([ids])
    found = model.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        pad_token_id=0,
        **options,
    )
    rows = [row[: row.index(0) + 1] if 0 in row else row for row in found.sequences[:, len(ids) :].tolist()]
    return list(zip(rows, found.sequences_scores.tolist(), strict=True))


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize(("length_penalty", "limit", "beams"), [(1.0, 12, 4), (0.0, 25, 3), (-1.5, 9, 2), (2.0, 20, 5)])
def test_texts_and_scores_are_those_of_transformers(
    early_stopping, length_penalty, limit, beams, pairs, bytes_tokenizer
):
    ended = 0
    for model, other in pairs:
        for prompt in ("ab", "床前"):
            [found] = generate(
                model,
                bytes_tokenizer,
                [prompt],
                SamplingSettings(
                    num_beams=beams,
                    num_return_sequences=beams,
                    length_penalty=length_penalty,
                    early_stopping=early_stopping,
                    max_new_tokens=limit,
                ),
            )
            expected = theirs(
                other,
                bytes_tokenizer.encode(prompt),
                num_beams=beams,
                num_return_sequences=beams,
                length_penalty=length_penalty,
                early_stopping=early_stopping,
                max_new_tokens=limit,
            )
            assert [list(sequence.ids) for sequence in found] == [ids for ids, _ in expected]
            assert [sequence.score for sequence in found] == pytest.approx([score for _, score in expected], rel=1e-4)
            assert [s.finish_reason for s in found] == ["stop" if s.ids[-1] == 0 else "length" for s in found]
            ended += sum(sequence.finish_reason == "stop" for sequence in found)
    assert ended > 0


def test_a_penalty_for_repetition_and_several_ends_mean_what_they_do_in_transformers(pairs, bytes_tokenizer):
    model, other = pairs[1]
    ids = bytes_tokenizer.encode("abcab")
    expected = theirs(other, ids, num_beams=3, num_return_sequences=3, repetition_penalty=1.7, max_new_tokens=15)
    [found] = generate(
        model,
        bytes_tokenizer,
        ["abcab"],
        SamplingSettings(num_beams=3, num_return_sequences=3, repetition_penalty=1.7, max_new_tokens=15),
    )
    assert [list(sequence.ids) for sequence in found] == [row for row, _ in expected]
    search = BeamSearch(SamplingSettings(num_beams=2, num_return_sequences=2), ids, 12, frozenset({0, 9, 11}))
    BeamEngine(TorchRunner(model)).run([Job(search, lambda job: None)])
    inputs = torch.tensor([ids])
    both = other.generate(
        inputs,
        attention_mask=torch.ones_like(inputs),
        num_beams=2,
        num_return_sequences=2,
        do_sample=False,
        max_new_tokens=12,
        eos_token_id=[0, 9, 11],
        pad_token_id=0,
    )[:, len(ids) :].tolist()
    for mine, row in zip(search.results(), both, strict=True):
        assert list(mine.ids) == row[: len(mine.ids)]
        assert not any(row[len(mine.ids) :])


@pytest.mark.parametrize("record", [False, True], ids=["plain", "record mode"])
def test_a_search_does_not_depend_on_which_others_run_beside_it(record, pairs, bytes_tokenizer):
    model = pairs[2][0]
    settings = SamplingSettings(num_beams=4, num_return_sequences=4, max_new_tokens=15)
    prompts = ["a", "床前明月光，疑是", "xyz" * 9, "", "ab"]
    alone = [generate(model, bytes_tokenizer, [prompt], settings, record=record)[0] for prompt in prompts]
    together = generate(model, bytes_tokenizer, prompts, settings, record=record)
    if record:
        assert together == alone
    assert [[s.ids for s in texts] for texts in together] == [[s.ids for s in texts] for texts in alone]
    assert len({texts[0].ids for texts in alone}) == len(prompts)


def test_a_fork_copies_at_most_one_page_and_all_pages_come_back(pairs):
    model = pairs[0][0]
    runner = TorchRunner(model, pages=60, page_tokens=4)
    copied = []
    copy_page = runner.copy_page
    runner.copy_page = lambda source, target: (copied.append((source, target)), copy_page(source, target))[1]
    engine = BeamEngine(runner)
    search = BeamSearch(SamplingSettings(num_beams=4, num_return_sequences=4), list(range(1, 30)), 20, frozenset())
    engine.run([Job(search, lambda job: None)])
    assert 0 < len(copied) <= 3 * 20  # of four beams, three at most are new in a step
    assert engine.keeper.pages.available == 60
    assert engine.tokens == 29 + 4 * 19  # the prompt is read once, and no beam's tokens twice


def test_many_searches_run_in_the_pages_of_a_few(pairs, bytes_tokenizer):
    model = pairs[0][0]
    settings = SamplingSettings(num_beams=3, max_new_tokens=12)
    prompts = [chr(97 + number) * (number + 1) for number in range(12)]
    roomy = generate(model, bytes_tokenizer, prompts, settings)
    tight = generate(model, bytes_tokenizer, prompts, settings, runner=TorchRunner(model, pages=22, page_tokens=4))
    assert [texts[0].ids for texts in tight] == [texts[0].ids for texts in roomy]
    with pytest.raises(ModelError, match=r"3 beams of 12 tokens .* may need \d+ pages .* but there are 9"):
        generate(model, bytes_tokenizer, prompts, settings, runner=TorchRunner(model, pages=9, page_tokens=4))


def test_texts_of_a_form_are_searched_and_there_are_no_more_than_it_has(pairs, bytes_tokenizer):
    model = pairs[0][0]
    settings = SamplingSettings(num_beams=6, num_return_sequences=6, regex="[ab]{2}|(北|南)京", max_new_tokens=12)
    [found] = generate(model, bytes_tokenizer, ["x"], settings)
    texts = [sequence.text for sequence in found]
    assert sorted(texts) == sorted({"aa", "ab", "ba", "bb", "北京", "南京"})
    assert [sequence.finish_reason for sequence in found] == ["stop"] * 6
    scores = [sequence.score for sequence in found]
    assert scores == sorted(scores, reverse=True)
    best = max(texts, key=lambda text: _mean_chance(model, bytes_tokenizer, "x", text))
    assert texts[0] == best
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    few = SamplingSettings(num_beams=4, num_return_sequences=4, json_schema=schema, max_new_tokens=30)
    for sequence in generate(model, bytes_tokenizer, ["x"], few)[0]:
        assert json.loads(sequence.text)["a"] in (1, 2)


def _mean_chance(model, tokenizer, prompt, text) -> float:
    before, ids = tokenizer.encode(prompt), tokenizer.encode(text)
    logits = model(torch.tensor([[*before, *ids]]))[0, len(before) - 1 : -1].log_softmax(-1)
    return float(logits[range(len(ids)), ids].mean().detach())


def test_a_stop_text_ends_a_beam_and_is_no_part_of_it(pairs, bytes_tokenizer):
    model = pairs[0][0]
    free = SamplingSettings(num_beams=3, max_new_tokens=20, ignore_eos=True)
    [[whole]] = generate(model, bytes_tokenizer, ["ab"], free)
    stop = whole.text[4:6]
    pieces: dict[int, str] = {}
    [[found]] = generate(
        model,
        bytes_tokenizer,
        ["ab"],
        SamplingSettings(num_beams=3, max_new_tokens=20, ignore_eos=True, stop=(stop,)),
        on_text=lambda number, text: pieces.update({number: pieces.get(number, "") + text}),
    )
    assert stop not in found.text
    assert pieces == {0: found.text}
    assert (found.finish_reason == "stop") == (stop in bytes_tokenizer.decode(found.ids))


def test_the_end_of_text_can_be_ignored(pairs, bytes_tokenizer):
    model = pairs[2][0]
    settings = SamplingSettings(num_beams=3, num_return_sequences=3, max_new_tokens=9, ignore_eos=True)
    for sequence in generate(model, bytes_tokenizer, ["ab"], settings)[0]:
        assert (len(sequence.ids), sequence.finish_reason) == (9, "length")


def test_no_chance_is_in_it(pairs, bytes_tokenizer):
    model = pairs[0][0]
    settings = SamplingSettings(num_beams=4, max_new_tokens=9)
    first, second = (generate(model, bytes_tokenizer, ["ab"], settings)[0][0] for _ in range(2))
    assert first == second
    assert first.seed is None
    greedy = SamplingSettings(num_beams=4, max_new_tokens=9, greedy=True)
    assert generate(model, bytes_tokenizer, ["ab"], greedy)[0][0] == first


def test_five_texts_are_given_by_five_beams_and_refused_by_plain_greedy(pairs, bytes_tokenizer):
    model = pairs[0][0]
    [five] = generate(
        model, bytes_tokenizer, ["ab"], SamplingSettings(greedy=True, num_beams=5, num_return_sequences=5)
    )
    assert len({sequence.ids for sequence in five}) == 5
    with pytest.raises(ConfigError, match=r"greedy decoding has one answer.*num_beams=5"):
        SamplingSettings(greedy=True, num_return_sequences=5)


@pytest.mark.parametrize(("fields", "message"), [
    ({"num_beams": 0}, "num_beams is 0"),
    ({"num_beams": 10**6}, "num_beams is 1000000"),
    ({"num_beams": 3, "num_return_sequences": 4}, "num_return_sequences is 4, but num_beams is 3"),
    ({"num_beams": 3, "length_penalty": math.nan}, "length_penalty is nan"),
    ({"num_beams": 3, "length_penalty": 400.0}, r"length_penalty is 400\.0"),
    ({"num_beams": 3, "early_stopping": "soon"}, "early_stopping is 'soon'"),
    ({"num_beams": 3, "temperature": 0.5}, r"temperature is 0\.5, but num_beams is 3"),
    ({"num_beams": 3, "seed": 5}, "seed is 5, but num_beams is 3"),
    ({"num_beams": 3, "top_p": 0.9}, r"top_p is 0\.9, but num_beams is 3"),
    ({"length_penalty": 2.0}, r"length_penalty is 2\.0, but num_beams is 1"),
    ({"early_stopping": True}, "early_stopping is True, but num_beams is 1"),
])  # fmt: skip
def test_a_search_that_cannot_be_is_refused_by_name_and_value(fields, message):
    with pytest.raises(ConfigError, match=message):
        SamplingSettings(**fields)


@pytest.mark.parametrize("wish", [{"logprobs": 2}, {"prompt_lookup": 4}])
def test_what_a_search_cannot_give_is_refused(wish, pairs, bytes_tokenizer):
    with pytest.raises(ConfigError, match=f"{next(iter(wish))} is given, but num_beams is 2"):
        generate(pairs[0][0], bytes_tokenizer, ["a"], SamplingSettings(num_beams=2), **wish)


def test_damaged_weights_give_an_error_and_no_text(bytes_tokenizer):
    model = lively(SHAPES["llama"], 0)
    with torch.no_grad():
        model.final_norm.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="weights are damaged"):
        generate(model, bytes_tokenizer, ["x"], SamplingSettings(num_beams=2))
