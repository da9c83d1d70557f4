"""Sources that are longer than a model reads at once, cut into parts that it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from guiju.tasks.rouge import sentences


def passages(text: str, fits: Callable[[str], bool], overlap: float) -> Iterator[tuple[int, str]]:
    """Stretches of a text as long as fit, and where each begins; each shows the end of the one before it again.

    Args:
        overlap: which share of a stretch the next one repeats, so that what one cuts in two the other holds whole.
    """
    begin = 0
    while begin < len(text):
        end = _furthest(text, begin, fits)
        if end <= begin:
            return  # not even a character fits
        yield begin, text[begin:end]
        if end == len(text):
            return
        begin = max(begin + 1, end - int((end - begin) * overlap))


def blocks(text: str, fits: Callable[[str], bool]) -> Iterator[str]:
    """A text in as few parts as fit, cut between sentences, and inside of one only where it is too long by itself."""
    held = ""
    for sentence in _spaced(text):
        if held and not fits((held + sentence).strip()):
            yield held.strip()
            held = ""
        held += sentence
        if not fits(held.strip()):
            parts = [part.strip() for _, part in passages(held.strip(), lambda part: fits(part.strip()), 0.0)]
            yield from parts[:-1]
            held = parts[-1] if parts else ""
    if held.strip():
        yield held.strip()


def _furthest(text: str, begin: int, fits: Callable[[str], bool]) -> int:
    """The largest end for which text[begin:end] fits: by halves, since what is longer has no fewer tokens."""
    low, high = begin, len(text)
    if fits(text[begin:]):
        return high
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(text[begin:middle]) else (low, middle)
    space = text.rfind(" ", begin, low) + 1
    # What is shorter may yet have more tokens, where the last word is cut.
    return space if space > begin + (low - begin) // 2 and fits(text[begin:space]) else low


def _spaced(text: str) -> Iterator[str]:
    """Sentences with what stands between them, so that together they are the text."""
    place = 0
    for sentence in sentences(text):
        end = text.index(sentence, place) + len(sentence)
        yield text[place:end]
        place = end
    if place < len(text):
        yield text[place:]
