"""stories260K against what was published for it, and against numbers from an independent float64 run."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
import torch

from guiju.generation import SamplingSettings, generate, score
from guiju.model import load_llama2c
from guiju.tokens import Llama2cTokenizer

FOLDER = Path(__file__).parents[2] / "examples" / "data" / "stories260K"
REFERENCE = json.loads((FOLDER / "reference.json").read_text())
COMPUTED = REFERENCE["computed_here"]


@pytest.fixture(scope="module")
def stories():
    torch.set_num_threads(1)
    return load_llama2c(FOLDER / "stories260K.bin"), Llama2cTokenizer.read(FOLDER / "tok512.bin", 512)


def test_greedy_from_bos_gives_the_published_text_to_the_character(stories):
    [[sequence]] = generate(*stories, [""], SamplingSettings(greedy=True, max_new_tokens=200))
    assert sequence.text == REFERENCE["published_greedy"]["text"]
    assert [1, *sequence.ids] == COMPUTED["greedy_ids"]


def test_the_shape_is_the_published_one(stories):
    config, stated = stories[0].config, REFERENCE["config"]
    assert (config.width, config.hidden, config.layers) == (stated["dim"], stated["hidden_dim"], stated["n_layers"])
    assert (config.heads, config.kv_heads, config.context) == (
        stated["n_heads"],
        stated["n_kv_heads"],
        stated["seq_len"],
    )
    assert sum(parameter.numel() for parameter in stories[0].parameters()) == stated["parameters"]


def test_the_logits_after_bos_are_the_computed_ones(stories):
    model, tokenizer = stories
    values, ids = model(torch.tensor([[1]]))[0, 0].topk(5)
    stated = COMPUTED["logits_after_bos_top5"]
    assert ids.tolist() == [top["id"] for top in stated]
    assert values.tolist() == pytest.approx([top["logit"] for top in stated], abs=1e-4)
    assert [tokenizer.decode([403, token])[4:] for token in ids.tolist()] == [top["piece"] for top in stated]


def _stories():
    name = "tinystories_sample.train.txt.gz"
    data = os.environ.get("GUIJU_DATA")
    places = [FOLDER.parent, *([Path(data)] if data else [])]
    for place in places:
        for path in place.rglob(name):
            return [part.strip("\n") for part in gzip.decompress(path.read_bytes()).decode().split("<|endoftext|>\n")]
    pytest.skip(f"{name} is neither in examples/data nor where GUIJU_DATA points")


def test_the_scores_of_real_stories_are_the_computed_ones(stories):
    texts = _stories()
    wanted = COMPUTED["stories"]["stories"]
    for item, found in zip(wanted, score(*stories, [texts[item["story_index"]] for item in wanted]), strict=True):
        assert found.tokens + 1 == item["n_tokens_with_bos"]
        assert found.nll_nats == pytest.approx(item["sum_nll_nats"], rel=1e-3)
        ids = stories[1].encode(texts[item["story_index"]])
        assert [1, *ids[:11]] == item["first_12_ids"]


def test_the_mean_score_of_forty_stories_is_the_computed_one(stories):
    found = score(*stories, _stories()[:40])
    tokens = sum(one.tokens for one in found)
    assert tokens == COMPUTED["stories"]["tokens"]
    mean = sum(one.nll_nats for one in found) / tokens
    assert mean == pytest.approx(COMPUTED["stories"]["mean_nll_per_token_first40"], rel=1e-3)
