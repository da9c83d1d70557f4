"""A tiny world to train in: text, tokens, a model, batches. Made anew from a seed, the same each time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import torch

from guiju.model import Transformer, gpt2_config, llama_config
from guiju.tokens import (
    Batch,
    PackedBatches,
    TokenData,
    Tokenizer,
    TokenizerSettings,
    train_tokenizer,
    write_shards,
)
from guiju.training import TrainingSettings

SENTENCE = (
    "the small fox went home over old bridge and saw that every lamp was still burning 不以规矩 不能成方圆 从前 狐狸"
)
WORDS = SENTENCE.split()
CONTEXT = 32


def make_texts(count: int, seed: int) -> list[str]:
    """Texts in which each word makes the next one likely, so that there is something to learn."""
    draw = random.Random(seed)
    follows = {word: random.Random(word).sample(WORDS, 3) for word in WORDS}
    texts = []
    for _ in range(count):
        words = [draw.choice(WORDS)]
        while len(words) < draw.randint(4, 40):
            words.append(draw.choice(follows[words[-1]]))
        texts.append(" ".join(words))
    return texts


def make_world(folder: Path) -> Tokenizer:
    """Write train/ and validation/ shards below a folder; gives the tokenizer."""
    texts = make_texts(150, seed=0)
    tokenizer = train_tokenizer(texts, TokenizerSettings(vocab_size=300), folder / "tokenizer")
    write_shards([(f"t{n}", text) for n, text in enumerate(texts)], tokenizer, folder / "train")
    held_out = make_texts(25, seed=1)
    write_shards([(f"v{n}", text) for n, text in enumerate(held_out)], tokenizer, folder / "validation")
    return tokenizer


def open_side(folder: Path, side: str) -> TokenData:
    return TokenData.open(folder / side, Tokenizer.load(folder / "tokenizer").digest)


def make_model(shape: str = "gpt2", vocab_size: int = 300, **changes: object) -> Transformer:
    torch.manual_seed(7)
    sizes = {"vocab_size": vocab_size, "context": CONTEXT, "width": 32, "layers": 2, "heads": 2, **changes}
    return Transformer((gpt2_config if shape == "gpt2" else llama_config)(**sizes))


def make_batches(folder: Path, batch: int = 4, seed: int = 3, context: int = CONTEXT) -> PackedBatches:
    return PackedBatches(open_side(folder, "train"), context=context, batch=batch, seed=seed)


def make_settings(**changes: object) -> TrainingSettings:
    base = {
        "steps": 12,
        "batch": 4,
        "warmup_steps": 2,
        "learning_rate": 3e-3,
        "checkpoint_every": 4,
        "evaluate_every": 5,
        "dtype": "float32",
        "device": "cpu",
    }
    return TrainingSettings(**{**base, **changes})


class FixedBatches:
    """The same few batches over and over."""

    def __init__(self, *batches: Batch) -> None:
        self._batches, self._place = batches, 0

    def next(self) -> Batch:
        batch = self._batches[self._place % len(self._batches)]
        self._place += 1
        return batch

    def state(self) -> dict[str, int]:
        return {"place": self._place}

    def restore(self, state: dict[str, int]) -> None:
        self._place = state["place"]

    def identity(self) -> Mapping[str, str | int]:
        return {"kind": "fixed"}


def fixed_batch(rows: int = 2, context: int = CONTEXT, seed: int = 0) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 300, (rows, context + 1), generator=draw)
    return Batch(ids[:, :-1], ids[:, 1:].clone(), None)
