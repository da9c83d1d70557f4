"""A small model that copies and edits: what prompt-lookup decoding is measured on.

Most of an edited text stands in its prompt already, so a guess that looks there is often right. The texts are made from
the stories in examples/data: a passage, a name to change, and the passage with that name changed.

    python benchmarks/copy_model.py --out runs/copying      # about ten minutes on two cores
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from guiju.model import ModelSettings, Transformer, save_model
from guiju.providers import load
from guiju.tokens import PackedBatches, TokenData, TokenizerSettings, train_tokenizer, write_shards
from guiju.training import TrainingSettings, train

ROOT = Path(__file__).resolve().parents[1]
STORIES = ROOT / "examples/data/tinystories/tinystories_sample.train.txt.gz"
NAMES = ("Tom", "Lily", "Ben", "Mia", "Sam", "Anna", "Max", "Sue", "Tim", "Lucy", "Jack", "Mary", "Spot", "Bob", "Amy")
PASSAGES = 30_000


def edits(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Prompts, each with the text that should follow."""
    random_ = random.Random(seed)
    stories = gzip.decompress(STORIES.read_bytes()).decode().split("<|endoftext|>")
    sentences = [re.split(r"(?<=[.!?]) +", " ".join(story.split())) for story in stories]
    while count:
        story = random_.choice(sentences)
        if len(story) < 4:
            continue
        start = random_.randrange(len(story) - 1)
        passage = " ".join(story[start : start + 2])
        if not 60 <= len(passage) <= 150 or not passage.isascii():
            continue
        present = [name for name in NAMES if re.search(rf"\b{name}\b", passage)]
        if not present:
            continue
        old = random_.choice(present)
        new = random_.choice([name for name in NAMES if name not in present])
        edited = re.sub(rf"\b{old}\b", new, passage)
        yield f"Text: {passage}\nChange {old} to {new}.\nResult:", f" {edited}"
        count -= 1


def make(out: Path, steps: int) -> Path:
    """Train the model and write it, with its tokenizer, as a Hugging Face folder."""
    texts = [(str(number), prompt + answer) for number, (prompt, answer) in enumerate(edits(PASSAGES, seed=0))]
    tokenizer = train_tokenizer((text for _, text in texts), TokenizerSettings(vocab_size=1024), out / "tokenizer")
    write_shards(texts, tokenizer, out / "tokens")
    data = TokenData.open(out / "tokens", tokenizer.digest)
    torch.manual_seed(0)
    model = Transformer(
        ModelSettings(context=128, width=256, layers=3, heads=4, tied=True).config(tokenizer.vocab_size)
    )
    settings = TrainingSettings(
        steps=steps, batch=16, learning_rate=3e-3, warmup_steps=min(100, steps // 10), checkpoint_every=500, keep=1
    )
    train(
        model,
        PackedBatches(data, context=128, batch=settings.batch, seed=0),
        settings,
        folder=out / "checkpoints",
        report=lambda done, total, line: print(f"{done}/{total} {line}", file=sys.stderr) if done % 50 == 0 else None,
    )
    save_model(model, out / "model", tokenizer)
    return out / "model"


def share_right(folder: Path, count: int) -> float:
    """On how many edits that it never saw the model writes exactly the text that should follow."""
    model = load(folder)
    right = 0
    for prompt, answer in edits(count, seed=1):
        ids = len(model.tokenizer.encode(answer))
        right += model.generate(prompt, greedy=True, max_new_tokens=ids + 4)[0].text == answer
    return right / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/copying")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--check", type=int, default=20, help="edits to try at the end")
    chosen = parser.parse_args()
    folder = make(chosen.out, chosen.steps)
    print(f"{folder}: {share_right(folder, chosen.check):.0%} of {chosen.check} new edits exactly right")


if __name__ == "__main__":
    main()
