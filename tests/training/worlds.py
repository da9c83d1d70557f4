"""A tiny world to train in: text, tokens, a model, batches. Made anew from a seed, the same each time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import torch

from guiju.model import (
    AnyModel,
    Transformer,
    bart_config,
    bert_config,
    build_model,
    gpt2_config,
    llama_config,
    t5_config,
    transformer_config,
)
from guiju.tokens import (
    Batch,
    BucketedBatches,
    Examples,
    Marks,
    MaskedExamples,
    PackedBatches,
    PairExamples,
    SpanExamples,
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


SENTINELS = tuple(f"<extra_id_{number}>" for number in range(6))
SPECIAL = ("<|endoftext|>", "<pad>", "<mask>", *SENTINELS)
MARKED = "marked"
CONFIGS = {
    "gpt2": gpt2_config,
    "llama": llama_config,
    "bert": bert_config,
    "transformer": transformer_config,
    "bart": bart_config,
    "t5": t5_config,
}
EXAMPLES = {"bert": "masked", "transformer": "pairs", "bart": "spans", "t5": "spans"}


def make_chains(count: int, seed: int) -> list[str]:
    """Texts in which the word before gives each one away, and so does the word after."""
    draw = random.Random(seed)
    starts = [(draw.randrange(len(WORDS)), draw.randint(6, 14)) for _ in range(count)]
    return [" ".join(WORDS[(first + n) % len(WORDS)] for n in range(length)) for first, length in starts]


def make_marked_world(folder: Path) -> None:
    """Write what encoders and encoder-decoders learn from: text, and pairs whose target is the source in a cipher."""
    tokenizer = train_tokenizer(
        make_texts(150, seed=0),
        TokenizerSettings(vocab_size=300, special_tokens=SPECIAL),
        folder / MARKED / "tokenizer",
    )
    for side, count, seed in (("train", 200, 0), ("validation", 30, 1)):
        texts = make_chains(count, seed)
        write_shards([(f"{side}{n}", text) for n, text in enumerate(texts)], tokenizer, folder / MARKED / side)
        draw = random.Random(seed)
        words = [[draw.randrange(len(WORDS)) for _ in range(draw.randint(3, 6))] for _ in range(4 * count)]
        for part, step in (("sources", 0), ("targets", 1)):
            made = [
                (f"{side}{n}", " ".join(WORDS[(word + step) % len(WORDS)] for word in each))
                for n, each in enumerate(words)
            ]
            write_shards(made, tokenizer, folder / MARKED / f"{side}-{part}")


def marks() -> Marks:
    return Marks(start=0, end=0, pad=1, mask=2, sentinels=tuple(range(3, 9)), special=frozenset(range(len(SPECIAL))))


def make_examples(folder: Path, kind: str, side: str = "train", context: int = CONTEXT) -> Examples:
    """Masked, spans or pairs."""
    place = folder / MARKED
    if kind == "pairs":
        sources, targets = (open_side(place, f"{side}-{part}") for part in ("sources", "targets"))
        return PairExamples(sources, targets, marks(), context=context)
    make = MaskedExamples if kind == "masked" else SpanExamples
    return make(open_side(place, side), marks(), context=context)


def make_example_batches(folder: Path, kind: str, batch: int = 8, seed: int = 3) -> BucketedBatches:
    return BucketedBatches(make_examples(folder, kind), batch=batch, seed=seed)


def make_shape(shape: str, **changes: object) -> AnyModel:
    """A tiny model of any shape."""
    torch.manual_seed(7)
    sizes = {"vocab_size": 300, "context": CONTEXT, "width": 32, "layers": 2, "heads": 2, **changes}
    return build_model(CONFIGS[shape](**sizes))


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
