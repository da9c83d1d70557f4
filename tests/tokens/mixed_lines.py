"""Lines to compare tokenizers on: real Chinese and English, and what goes wrong most easily, mixed with them."""

from __future__ import annotations

import gzip
import json
import os
import random
from functools import cache
from pathlib import Path

DATA = Path(__file__).parents[2] / "examples" / "data"
COUNT = 10_000
EDGES = [
    "",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "a",
    "中",
    " a",
    "a ",
    "  a  ",
    "\u3000",
    "\x00",
    "▁",
    " ▁",
    "▁ ",
    "\u200b",
    "é",
]
ODD = [
    # emoji, flags, families, skin tones
    "😀", "👩‍👩‍👧", "🇨🇳", "👍🏽", "❤️",
    # rare Han, full width, half width, compatibility forms
    "𠮷", "𪚥", "𬸦", "ＡＢＣ１２３", "，。！？", "～", "ｶﾞｷﾞ", "ﾊﾟ", "①②", "㈱", "ﬁ", "½", "²", "ﷺ", "Ω", "ℵ", "豈", "⼀",
    # combining marks, in and out of order; Korean in parts
    "か\u3099", "e\u0301", "n\u0303o", "\u0301\u0301", "ẹ\u0302", "a\u0302\u0323", "ﬁ\u0301", "Ａ\u0301", "ㄱㅏ",
    "\u1112\u1161\u11ab", "한국어", "İstanbul", "ẞ", "ǅ", "ﬀ", "naïve café",
    # spaces and control characters
    "  ", "   ", "\t", "\t\t", "\x00", "\x01", "\x1b[0m", "\x7f", "\x85", "\u200b", "\ufeff", "\u00a0", "\u3000",
    "\r\n", "\u2028", "\u00ad", "\ue000", "\ufffd", "\U000e0001",
    # what looks like tokens
    "▁", "▁▁", "<s>", "</s>", "<unk>", "<pad>", "<mask>", "[MASK]", "[CLS]", "[SEP]", "[UNK]", "<0x41>", "<0x0A>",
    "<|endoftext|>", "<extra_id_0>", "##ing", "Ġthe", "</w>", ">>zho<<",
    # runs, where many cuts are equally good
    "aaaaaaaaaaaaaaaaaaa", "----------------------", "=====", "哈哈哈哈哈哈哈哈哈", "......", "……", "————", "x" * 300,
    "1234567890" * 5, "3.14159", "1,000,000",
    # other scripts, code, links, contractions
    "नमस्ते", "สวัสดี", "مرحبا", "שָׁלוֹם", "Привет", "ελληνικά", "\u0bcd",
    "http://example.com/a?b=c&d=%20", "def f(x):\n    return x+1",
    "don't", "it's", "I'LL", "we've", "o'clock", "do not", "(a|b)*", "C++", "a_b-c/d", "l’été",
]  # fmt: skip


@cache
def shipped_texts() -> tuple[list[str], list[str], list[str]]:
    """Short sentences in both languages, Chinese lines, English lines."""
    with gzip.open(DATA / "tatoeba-en-zh" / "cmn-eng.dev.tsv.gz", "rt", encoding="utf-8") as rows:
        pairs = [part for row in rows for part in row.rstrip("\n").split("\t")[:2]]
    chinese = (DATA / "ntrex-en-zh" / "ref.zh.txt").read_text(encoding="utf-8").splitlines()
    english = (DATA / "ntrex-en-zh" / "src.en.txt").read_text(encoding="utf-8").splitlines()
    with gzip.open(DATA / "chinese-poetry" / "poet.tang.0.json.gz", "rt", encoding="utf-8") as poems:
        chinese += ["".join(poem["paragraphs"]) for poem in json.load(poems)]  # traditional characters
    with gzip.open(DATA / "books-en" / "lewis-carroll-through-the-looking-glass.md.gz", "rt", encoding="utf-8") as book:
        english += book.read().splitlines()
    return pairs, [line for line in chinese if line], [line for line in english if line]


@cache
def real_texts() -> tuple[list[str], list[str], list[str]]:
    """The same, with a novel where it is at hand."""
    pairs, chinese, english = shipped_texts()
    if "GUIJU_DATA" in os.environ:
        with gzip.open(
            Path(os.environ["GUIJU_DATA"]) / "novels-zh" / "hongloumeng.txt.gz", "rt", encoding="utf-8"
        ) as novel:
            chinese = [*chinese, *(line for line in novel.read().splitlines()[:3000] if line)]
    return pairs, chinese, english


@cache
def training_texts(count: int = 4000) -> list[str]:
    """What to learn a small vocabulary from."""
    texts = [text for part in shipped_texts() for text in part if text.strip() and len(text) < 300]
    return random.Random(1).sample(texts, count)


@cache
def mixed_lines(count: int = COUNT, seed: int = 0) -> tuple[str, ...]:
    """Half of them as they were written, half mixed with odd things; a few hundred times as long as the others."""
    chance = random.Random(seed)
    pairs, chinese, english = real_texts()
    lines = list(EDGES)
    while len(lines) < count - 5:
        kind = chance.random()
        if kind < 0.5:
            line = chance.choice(chance.choice((pairs, chinese, english)))[:400]
        elif kind < 0.65:
            line = chance.choice(("", " ", "  ")).join((chance.choice(pairs), chance.choice(chinese)[:30]))
        else:
            parts = [chance.choice(pairs)[:40] for _ in range(chance.randint(0, 2))]
            parts += chance.choices(ODD, k=chance.randint(1, 4))
            chance.shuffle(parts)
            line = chance.choice(("", " ", "  ")).join(parts)
        lines.append(line)
    lines += ["".join(chance.choices((*pairs, *chinese, *ODD), k=400)) for _ in range(3)]
    lines += [" ".join(chance.choices(english, k=200)), "".join(chance.choices(chinese, k=200))]
    return tuple(lines)


def odd_strings(count: int, seed: int) -> list[str]:
    """Characters from everywhere, side by side."""
    chance = random.Random(seed)
    pool = sorted({character for text in (*ODD, *EDGES) for character in text})

    def drawn() -> str:
        if chance.random() < 0.7:
            return chance.choice(pool)
        return chr(chance.choice((chance.randrange(0x20, 0xD800), chance.randrange(0xE000, 0x30000))))

    return ["".join(drawn() for _ in range(chance.randint(1, 20))) for _ in range(count)]
