"""Byte-pair merging by score (best pair first, the leftmost of equal ones), as llama2.c and SentencePiece do it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Part = TypeVar("Part")


def merge_best_first(parts: Sequence[Part], join: Callable[[Part, Part], tuple[float, Part] | None]) -> list[Part]:
    """Merge adjacent parts until no pair can be joined.

    A heap of candidates over a linked list: looking through all pairs before each merge would take quadratic time.

    Args:
        join: the score of a pair and what it becomes; None where it stays two.
    """
    alive: list[Part | None] = list(parts)  # None where a part was merged into the one before it
    after = [*range(1, len(parts)), -1]
    before = [*range(-1, len(parts) - 1)]
    heap: list[tuple[float, int, int, Part, Part, Part]] = []
    made = 0  # keeps entries apart whose parts have no order

    def offer(left: int, right: int) -> None:
        nonlocal made
        one, two = alive[left], alive[right]
        assert one is not None
        assert two is not None
        joined = join(one, two)
        if joined is not None:
            made += 1
            heapq.heappush(heap, (-joined[0], left, made, one, two, joined[1]))

    for left in range(len(parts) - 1):
        offer(left, left + 1)
    while heap:
        _, left, _, one, two, joined = heapq.heappop(heap)
        right = after[left]
        if alive[left] is not one or right < 0 or alive[right] is not two:
            continue  # one of the two was merged meanwhile
        alive[left], alive[right] = joined, None
        after[left] = after[right]
        if after[left] >= 0:
            before[after[left]] = left
            offer(left, after[left])
        if before[left] >= 0:
            offer(before[left], left)
    return [part for part in alive if part is not None]


def ranked_merges(texts: Mapping[int, str], scores: Sequence[float]) -> list[list[str]]:
    """By id, texts with scores as the merges of a tokenizer.json: pairs in the order of their rank.

    BPE merges by the rank of a pair, llama2.c by the score of what it becomes. So each way to split a piece is a merge,
    ranked by the piece's score. That gives the same ids but for two cases: pieces of equal score, which llama2.c merges
    leftmost first; and runs of one unit (such as "aaaa") that can be split in several ways which overlap in the text.
    """
    known = set(texts.values())
    ranked: list[tuple[float, int, int, list[str]]] = []
    for token, text in texts.items():
        for order, split in enumerate(_splits(text)):
            if text[:split] in known and text[split:] in known:
                ranked.append((-scores[token], token, order, [text[:split], text[split:]]))
    return [pair for *_, pair in sorted(ranked)]


def _splits(text: str) -> list[int]:
    """Where to split a piece in two, in the order that merges leftmost first where two splits overlap in a text.

    Splits k and n - k overlap in "left middle right" where the middle begins with one and ends with the other: the
    longer border of the text decides which of them is the left one.
    """
    size = len(text)

    def rank(split: int) -> tuple[int, int]:
        short = min(split, size - split)
        leftmost_is_short = text[: size - short] == text[short:]
        return short, int((split == short) != leftmost_is_short)

    return sorted(range(1, size), key=rank)
