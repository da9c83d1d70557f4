"""Small bases and data of every format, for fine-tunings that take a second."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
import yaml

from guiju.model import bert_config, build_model, llama_config, save_model, transformer_config
from guiju.tokens import Marks, Tokenizer, TokenizerSettings, train_tokenizer

COLOURS = ("red", "blue", "green", "black")
THINGS = ("lamp", "bridge", "fox", "boat", "hat", "door")
ANSWERS = {"red": "warm", "blue": "cold", "green": "fresh", "black": "dark"}
TRAINING = {
    "steps": 12,
    "batch": 4,
    "warmup_steps": 2,
    "evaluate_every": 6,
    "checkpoint_every": 6,
    "learning_rate": 3e-3,
    "dtype": "float32",
}


def facts(count: int, seed: int = 0) -> list[tuple[str, str, str]]:
    """(text, question, answer), each of another text."""
    draw = random.Random(seed)
    made: dict[str, tuple[str, str, str]] = {}
    while len(made) < count:
        colour, thing, number = (
            draw.choice(COLOURS),
            draw.choice(THINGS),
            draw.randint(100 + 1000 * seed, 999 + 1000 * seed),
        )
        text = f"Room {number} has a {colour} {thing} by the wall number {draw.randint(10, 99)} today"
        made[text] = (text, f"What is in room {number}?", ANSWERS[colour])
    return list(made.values())


ROWS = {
    "messages": lambda text, question, answer: {
        "messages": [
            {"role": "user", "content": f"{text}. {question}"},
            {"role": "assistant", "content": f"It feels {answer}."},
        ]
    },
    "prompt-completion": lambda text, question, answer: {"prompt": f"{text}:", "completion": f" {answer}"},
    "text-label": lambda text, question, answer: {"text": text, "label": answer},
    "source-target": lambda text, question, answer: {"source": text, "target": f"{answer} {text.split()[4]}"},
    "squad": lambda text, question, answer: {
        "question": question,
        "context": text,
        "answers": {"text": [text.split()[4]], "answer_start": [text.index(text.split()[4])]},
    },
    "preferences": lambda text, question, answer: {"prompt": f"{text}:", "chosen": f" {answer}", "rejected": " no"},
}


def rows(format: str, count: int = 40, seed: int = 0) -> list[dict[str, Any]]:
    return [ROWS[format](*fact) for fact in facts(count, seed)]


def write_rows(path: Path, made: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made), encoding="utf-8")
    return path


def make_tokenizer(kind: str = "bpe") -> Tokenizer:
    special = {"bpe": ("<|endoftext|>", "<pad>", "<|im_start|>", "<|im_end|>"), "wordpiece": ()}[kind]
    texts = [" ".join(fact) + ". It feels so." for fact in facts(60, 7)]
    size = {"bpe": 400, "wordpiece": 240}[kind]
    return train_tokenizer(texts, TokenizerSettings(kind=kind, vocab_size=size, special_tokens=special))


def make_base(folder: Path, shape: str = "llama") -> Path:
    """A Hugging Face folder with random weights."""
    tokenizer = make_tokenizer("wordpiece" if shape == "bert" else "bpe")
    size = {"vocab_size": tokenizer.vocab_size, "width": 32, "layers": 2, "heads": 2, "context": 64}
    torch.manual_seed(3)
    if shape == "llama":
        config = llama_config(**size)
    elif shape == "bert":
        config = bert_config(**size, pad_id=tokenizer.pad_id)
    else:
        marks = Marks.of(tokenizer)
        config = transformer_config(**size, pad_id=marks.pad, start_id=marks.start)
    save_model(build_model(config), folder, tokenizer)
    return folder


def recipe(folder: Path, objective: str, file: Path | str, /, **more: Any) -> Path:
    """A recipe's file in the folder."""
    held = {"train": str(file), "validation": 0.25, **more.pop("data", {})}
    training = {**TRAINING, **more.pop("training", {})}
    content = {"name": "tuned", "objective": objective, "data": held, "training": training, **more}
    path = folder / "tuned.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path
