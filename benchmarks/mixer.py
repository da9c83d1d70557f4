"""Makes any amount of plausible Chinese and English text out of examples/data, with known blemishes planted.

    python benchmarks/mixer.py OUT --megabytes 200 --seed 1

The same seed gives the same bytes. Sentences of the shipped texts are drawn into new documents, so that lengths, words
and scripts are those of real text; some documents are then repeated, changed a little, decoded wrongly, or given
personal data. Memory holds the sentences (some 100 MB) and a few hundred documents, whatever the size.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples" / "data"
FILE_BYTES = 64 << 20
_REMEMBERED = 400
_IDENTITY_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def mix(folder: Path, size_bytes: int, seed: int) -> Counter[str]:
    """Writes mixed.NNN.jsonl files of `size_bytes` in all, and returns how often what was planted."""
    folder.mkdir(parents=True, exist_ok=True)
    planted: Counter[str] = Counter()
    documents = _documents(random.Random(seed), planted)
    written = number = 0
    while written < size_bytes:
        with (folder / f"mixed.{number:03}.jsonl").open("w", encoding="utf-8") as file:
            held = 0
            while held < FILE_BYTES and written + held < size_bytes:
                line = json.dumps({"text": next(documents)}, ensure_ascii=False) + "\n"
                file.write(line)
                held += len(line.encode())
                planted["documents"] += 1
        written += held
        number += 1
    return planted


def _documents(chance: random.Random, planted: Counter[str]) -> Iterator[str]:
    english, chinese = _sentences()
    remembered: list[str] = []
    while True:
        kind = chance.random()
        if kind < 0.05 and remembered:
            planted["duplicates"] += 1
            yield chance.choice(remembered)
            continue
        if kind < 0.10 and remembered:
            planted["near-duplicates"] += 1
            yield _changed(chance.choice(remembered), chance)
            continue
        in_english = chance.random() < 0.6
        text = _new(english if in_english else chinese, " " if in_english else "", chance)
        if kind < 0.12:
            planted["personal data"] += 1
            text = _with_personal_data(text, chance)
        elif kind < 0.14:
            planted["mojibake"] += 1
            text += "\n" + "naïve café – “déjà vu”…".encode().decode("windows-1252", "ignore")
        elif kind < 0.15:
            planted["zero width"] += 1
            text = text.replace("a", "a\u200b", 3).replace("的", "的\u200b", 3)
        elif kind < 0.16:
            planted["navigation"] += 1
            text = ("Home | About us | Contact\n" if in_english else "首页 | 关于我们 | 登录\n") + text
        elif kind < 0.17:
            planted["too short"] += 1
            text = text[:12]
        else:
            _remember(remembered, text, chance)
        yield text


def _remember(remembered: list[str], text: str, chance: random.Random) -> None:
    if len(remembered) < _REMEMBERED:
        remembered.append(text)
    else:
        remembered[chance.randrange(_REMEMBERED)] = text


def _sentences() -> tuple[list[str], list[str]]:
    """Sentences of the shipped English and Chinese texts."""
    english: list[str] = []
    for path in sorted([*EXAMPLES.glob("books-en/*.md.gz"), *EXAMPLES.glob("tinystories/*.txt.gz")]):
        text = gzip.decompress(path.read_bytes()).decode()
        english += [one for one in re.split(r"(?<=[.!?])\s+", re.sub(r"\s+", " ", text)) if 20 < len(one) < 400]
    chinese: list[str] = []
    for path in sorted(EXAMPLES.glob("csl-zh/*.tsv.gz")):
        for line in gzip.decompress(path.read_bytes()).decode().splitlines():
            chinese += [one for one in re.split(r"(?<=[。！？；])|(?<=[.;])\s*", line.split("\t")[1]) if len(one) > 8]
    for path in sorted(EXAMPLES.glob("chinese-poetry/*.json.gz")):
        for poem in json.loads(gzip.decompress(path.read_bytes())):
            chinese += [line for line in poem.get("paragraphs", poem.get("content", [])) if len(line) > 8]
    assert english, f"no English text below {EXAMPLES}"
    assert chinese, f"no Chinese text below {EXAMPLES}"
    return english, chinese


def _new(sentences: list[str], gap: str, chance: random.Random) -> str:
    """A few paragraphs; one sentence in four has a number put in, so that no two documents are made of equal parts."""
    paragraphs = []
    for _ in range(chance.randint(1, 6)):
        chosen = [sentences[int(chance.random() * len(sentences))] for _ in range(chance.randint(2, 8))]
        chosen = [
            one[:-1] + f"{gap}{chance.randrange(10_000)}" + one[-1] if chance.random() < 0.25 else one for one in chosen
        ]
        paragraphs.append(gap.join(chosen))
    return "\n\n".join(paragraphs)


def _changed(text: str, chance: random.Random) -> str:
    """The text with one stretch of up to five in a hundred characters left out."""
    length = int(len(text) * 0.05 * chance.random()) + 1
    start = chance.randrange(max(1, len(text) - length))
    return text[:start] + text[start + length :]


def _with_personal_data(text: str, chance: random.Random) -> str:
    born = f"{chance.randint(1950, 2005)}{chance.randint(1, 12):02}{chance.randint(1, 28):02}"
    body = f"110101{born}{chance.randrange(1000):03}"
    check = "10X98765432"[sum(int(digit) * weight for digit, weight in zip(body, _IDENTITY_WEIGHTS, strict=True)) % 11]
    found = (
        f"person{chance.randrange(10**6)}@example.com",
        f"13{chance.randrange(10**9):09}",
        body + check,
        f"203.0.113.{chance.randrange(256)}",
    )
    return f"{text}\n{chance.choice(('联系：', 'Contact: '))} {chance.choice(found)} "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(dict(mix(given.folder, given.megabytes * 10**6, given.seed)))


if __name__ == "__main__":
    main()
