"""Texts found again in another set: equal, nearly equal, and no others."""

from __future__ import annotations

import random

from guiju.corpus import TextIndex

SENTENCE = "the small fox went home over the old bridge and saw that every lamp was still burning bright"
WORDS = SENTENCE.split()


def shingles(text: str, size: int = 3) -> set[tuple[str, ...]]:
    tokens = "".join(c.lower() if c.isalnum() else " " for c in text).split()
    return {tuple(tokens[i : i + size]) for i in range(max(1, len(tokens) - size + 1))}


def test_each_text_is_found_exactly_where_a_plain_jaccard_says_so():
    draw = random.Random(0)
    held = [" ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 14))) for _ in range(60)]
    index = TextIndex(enumerate_names(held))
    assert len(index) == 60
    hits = 0
    for _ in range(300):
        words = draw.choice(held).split()
        for _ in range(draw.randint(0, 2)):
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        text = " ".join(words)
        mine = shingles(text)
        best = max(len(mine & shingles(other)) / len(mine | shingles(other)) for other in held)
        found = index.find(text)
        assert (found is not None) == (best >= 0.8), text
        if found is not None:
            hits += 1
            assert abs(found.similarity - best) < 1e-12
    assert 50 < hits < 300


def enumerate_names(texts: list[str]) -> list[tuple[str, str]]:
    return [(f"text {number}", text) for number, text in enumerate(texts)]


def test_case_punctuation_and_a_changed_end_do_not_hide_a_text_in_either_script():
    index = TextIndex(
        [
            ("en", "A man in a blue shirt stands on a ladder and cleans a window."),
            ("zh", "不以规矩不能成方圆从前有一只小狐狸。"),
        ]
    )
    assert index.find("a man, in a BLUE shirt - stands on a ladder, and cleans a window").name == "en"
    assert index.find("A man in a blue shirt stands on a ladder and cleans a door.").similarity > 0.8
    assert index.find("不以规矩，不能成方圆，从前有一只小狐狸！").name == "zh"
    assert index.find("A woman in a red dress sits on a chair and reads a book.") is None
    assert index.find("") is None
