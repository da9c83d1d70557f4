from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from guiju.tokens import Tokenizer, TokenizerSettings, train_tokenizer

SENTENCE = "the small fox went home over the old bridge and saw that every lamp was still burning bright"
ENGLISH = SENTENCE.split()
CHINESE = "不以规矩不能成方圆从前有一只小狐狸它每天晚上走过旧桥看见灯还亮着心里很高兴"


def made_texts(count: int, seed: int = 0) -> list[str]:
    """Texts in both languages, of ragged lengths."""
    draw = random.Random(seed)
    texts = []
    for number in range(count):
        words = [draw.choice(ENGLISH) for _ in range(draw.randint(1, 60))]
        clause = "".join(draw.choice(CHINESE) for _ in range(draw.randint(1, 30)))
        texts.append(f"{number}: {' '.join(words)}. {clause}。")
    return texts


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return made_texts(200)


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> Tokenizer:
    return train_tokenizer(texts, TokenizerSettings(vocab_size=400))
