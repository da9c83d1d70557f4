"""Which special tokens a tokenizer puts around a text or a pair of texts, and which segment each token belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from guiju.errors import ModelError
from guiju.tokens.foreign import require_id

MOST_PARTS = 64
Part = tuple[Literal["A", "B"] | tuple[int, ...], int]
"""A text's place, or the ids that stand there; and the segment."""


@dataclass(frozen=True)
class Template:
    """Both layouts."""

    single: tuple[Part, ...] = (("A", 0),)
    pair: tuple[Part, ...] = (("A", 0), ("B", 1))

    @property
    def prefix(self) -> list[int]:
        """Ids before a text."""
        return self._around(before=True)

    @property
    def suffix(self) -> list[int]:
        """Ids after it."""
        return self._around(before=False)

    def fill(self, ids: Sequence[int], pair: Sequence[int] | None) -> tuple[list[int], list[int]]:
        """The ids with special tokens around them, and the segment of each."""
        texts = {"A": ids, "B": pair if pair is not None else ()}
        filled: list[int] = []
        segments: list[int] = []
        for part, segment in self.single if pair is None else self.pair:
            added = texts[part] if isinstance(part, str) else part
            filled += added
            segments += [segment] * len(added)
        return filled, segments

    def _around(self, before: bool) -> list[int]:
        place = next(number for number, (part, _) in enumerate(self.single) if part == "A")
        parts = self.single[:place] if before else self.single[place + 1 :]
        return [token for part, _ in parts if not isinstance(part, str) for token in part]


def read_template(processor: object, where: str) -> Template:
    """What the post_processor of a tokenizer.json adds.

    Raises:
        ModelError: it is of a kind that is not followed, or contradicts itself.
    """
    found = [template for step in _steps(processor) if (template := _template(step, where)) is not None]
    if len(found) > 1:
        raise ModelError(f"{where} adds special tokens {len(found)} times over; one post_processor is followed")
    return found[0] if found else Template()


def single_template(
    before: tuple[str, int] | None = None, after: tuple[str, int] | None = None
) -> dict[str, Any] | None:
    """A post_processor that puts a token before each text and one after it; None where it would put none."""
    if before is None and after is None:
        return None

    def around(name: str, segment: int) -> list[dict[str, Any]]:
        marked = [token and {"SpecialToken": {"id": token[0], "type_id": segment}} for token in (before, after)]
        parts = [marked[0], {"Sequence": {"id": name, "type_id": segment}}, marked[1]]
        return [part for part in parts if part is not None]

    tokens = {token[0]: token[1] for token in (before, after) if token is not None}
    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": [*around("A", 0), *around("B", 1)],
        "special_tokens": {name: {"id": name, "ids": [token], "tokens": [name]} for name, token in tokens.items()},
    }


def bert_template(first: tuple[str, int], last: tuple[str, int]) -> dict[str, Any]:
    """BERT's: [CLS] A [SEP] B [SEP]."""
    one, two = ({"Sequence": {"id": name, "type_id": segment}} for name, segment in (("A", 0), ("B", 1)))
    begin, end, last_end = (
        {"SpecialToken": {"id": name, "type_id": segment}}
        for name, segment in ((first[0], 0), (last[0], 0), (last[0], 1))
    )
    return {
        "type": "TemplateProcessing",
        "single": [begin, one, end],
        "pair": [begin, one, end, two, last_end],
        "special_tokens": {name: {"id": name, "ids": [token], "tokens": [name]} for name, token in (first, last)},
    }


def _steps(processor: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(processor, Mapping):
        if processor.get("type") == "Sequence":
            for part in processor.get("processors", ()):
                yield from _steps(part)
        else:
            yield processor


def _template(step: Mapping[str, Any], where: str) -> Template | None:
    kind = step.get("type")
    if kind == "ByteLevel":  # moves offsets alone
        return None
    if kind == "TemplateProcessing":
        return _written_out(step, where)
    if kind in ("BertProcessing", "RobertaProcessing"):
        first, last = _marks(step.get("cls"), where), _marks(step.get("sep"), where)
        if kind == "BertProcessing":
            pair: tuple[Part, ...] = ((first, 0), ("A", 0), (last, 0), ("B", 1), (last, 1))
        else:
            pair = ((first, 0), ("A", 0), (last, 0), (last, 0), ("B", 0), (last, 0))
        return Template(((first, 0), ("A", 0), (last, 0)), pair)
    raise ModelError(
        f"{where} has the post_processor {str(kind)[:80]!r}; TemplateProcessing, BertProcessing, RobertaProcessing and "
        "ByteLevel are followed"
    )


def _marks(value: object, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != 2:
        raise ModelError(f"{where} has a post_processor with {str(value)[:80]!r}, where a token and its id must stand")
    return (require_id(value[1], f"{where}: the token {str(value[0])[:80]!r} of the post_processor"),)


def _written_out(step: Mapping[str, Any], where: str) -> Template:
    named = step.get("special_tokens")
    known = named if isinstance(named, Mapping) else {}

    def parts(name: str, texts: set[str]) -> tuple[Part, ...]:
        given = step.get(name)
        if not isinstance(given, list) or not 0 < len(given) <= MOST_PARTS:
            raise ModelError(f"{where}: the post_processor's {name} is no list of 1 to {MOST_PARTS} parts")
        read = tuple(_part(part, known, where) for part in given)
        if sorted(part for part, _ in read if isinstance(part, str)) != sorted(texts):
            raise ModelError(f"{where}: the post_processor's {name} must hold {' and '.join(sorted(texts))} once")
        return read

    return Template(parts("single", {"A"}), parts("pair", {"A", "B"}))


def _part(part: object, known: Mapping[str, Any], where: str) -> Part:
    """One piece of a template: {"Sequence": {"id": "A", "type_id": 0}} or {"SpecialToken": ...}."""
    if isinstance(part, Mapping) and len(part) == 1:
        ((kind, value),) = part.items()
        name, segment = (value.get("id"), value.get("type_id")) if isinstance(value, Mapping) else (None, None)
        if segment in (0, 1):
            if kind == "Sequence" and name in ("A", "B"):
                return name, int(segment)
            entry = known.get(str(name))
            ids = entry.get("ids") if isinstance(entry, Mapping) else None
            if kind == "SpecialToken" and isinstance(ids, list) and 0 < len(ids) <= MOST_PARTS:
                where = f"{where}: the post_processor's token {str(name)[:80]!r}"
                return tuple(require_id(token, where) for token in ids), int(segment)
    raise ModelError(f"{where}: the post_processor has the part {str(part)[:120]!r}, which is none that a template has")
