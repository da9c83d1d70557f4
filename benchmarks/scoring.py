"""Scoring by our engine beside lm-evaluation-harness: the same model, the same items, turn by turn in one process.

Two kinds of items: sentence pairs (a context and one continuation each), and multiple choice with a long context that
four continuations share. The harness gets a model that is loaded already, once with `batch_size=auto` and once with
each of several fixed sizes; loading and importing are not counted. Weights are random, so speeds are valid and scores
mean nothing but that both find the same.

    python benchmarks/scoring.py                 # GPT-2's 124M shape; about ten minutes on two cores
    python benchmarks/scoring.py --quick
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from guiju.evidence import environment
from guiju.model import Transformer, gpt2_config, save_model
from guiju.providers import load
from guiju.tokens import TokenizerSettings, train_tokenizer

HERE = Path(__file__).parent
TEXTS = HERE.parent / "examples" / "data" / "tinystories" / "tinystories_sample.train.txt.gz"
Pairs = list[tuple[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small model")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=250)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32, 64], help="the harness's fixed sizes")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scoring.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), quick=arguments.quick)
        found = {
            name: compare(Path(folder), pairs, arguments.rounds, arguments.batches)
            for name, pairs in items(arguments.pairs, arguments.questions).items()
        }
    facts = {"environment": environment(), "load": os.getloadavg(), "threads": torch.get_num_threads(), **found}
    arguments.out.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


def stories() -> list[str]:
    return gzip.decompress(TEXTS.read_bytes()).decode().split("<|endoftext|>")


def make_model(folder: Path, *, quick: bool) -> None:
    """GPT-2's shape and vocabulary size, over a tokenizer that is learned here."""
    tokenizer = train_tokenizer(stories()[:400], TokenizerSettings(vocab_size=4096))
    torch.manual_seed(0)
    small = {"width": 128, "layers": 4, "heads": 4}
    sizes = small if quick else {"width": 768, "layers": 12, "heads": 12}
    save_model(Transformer(gpt2_config(vocab_size=50257, context=1024, **sizes)), folder, tokenizer)


def items(most: int, questions: int) -> dict[str, Pairs]:
    chance, texts = random.Random(0), [text.split() for text in stories()]
    texts = [words for words in texts if len(words) > 60]
    pairs = []
    for words in texts[:most]:
        cut, end = chance.randrange(8, 40), chance.randrange(45, 60)
        pairs.append((" ".join(words[:cut]), " " + " ".join(words[cut:end])))
    choices = []
    for number in range(questions):
        context = " ".join(" ".join(words) for words in texts[3 * number : 3 * number + 3]).split()[:400]
        for words in chance.sample(texts, 4):
            choices.append((" ".join(context), " " + " ".join(words[: chance.randrange(3, 9)])))
    return {"sentence pairs": pairs, "multiple choice": choices}


def compare(folder: Path, pairs: Pairs, rounds: int, batches: list[int]) -> dict[str, Any]:
    """Items a second of each, and the ratios to ours, round by round."""
    ours = load(folder)
    peers: dict[str, Callable[[], list[float]]] = {
        "guiju": lambda: [-one.nll_nats for one in ours.score_continuations(pairs)],
        "harness auto": harness(folder, pairs, "auto"),
        **{f"harness {size}": harness(folder, pairs, size) for size in batches},
    }
    peers["guiju"]()  # the first pass also makes the libraries ready
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    scores: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, score in peers.items():
            begin = time.perf_counter()
            scores[name] = score()
            seconds[name].append(time.perf_counter() - begin)
            print(f"{name:<16}{len(pairs) / seconds[name][-1]:8.1f} items/s", flush=True)
    apart = max(abs(a - b) for name in peers for a, b in zip(scores["guiju"], scores[name], strict=True))
    speed = {name: len(pairs) / statistics.median(taken) for name, taken in seconds.items()}
    best = max((name for name in peers if name not in ("guiju", "harness auto")), key=speed.__getitem__)
    ratios = {"auto": speed["guiju"] / speed["harness auto"], "best fixed": speed["guiju"] / speed[best], "best": best}
    print(f"guiju is {ratios['auto']:.2f} x auto, {ratios['best fixed']:.2f} x {best}; scores differ by {apart:.1e}")
    return {"items": len(pairs), "items_per_second": speed, "ratios": ratios, "largest_difference": apart}


def harness(folder: Path, pairs: Pairs, batch: int | str) -> Callable[[], list[float]]:
    import logging

    import transformers
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    asked = [
        Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=number) for number, pair in enumerate(pairs)
    ]

    def score() -> list[float]:
        peer = HFLM(pretrained=network, tokenizer=words, batch_size=batch, device="cpu", dtype="float32")
        return [found for found, _ in peer.loglikelihood(asked, disable_tqdm=True)]

    return score


if __name__ == "__main__":
    main()
