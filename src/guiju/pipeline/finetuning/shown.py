"""The loss mask that one can see: each token of a row, and whether it is learned."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from guiju.pages import Html, Text, both, join, page, tag
from guiju.pipeline.finetuning.rows import Row
from guiju.tokens import LabelledRow, LearnedRow, PreferenceRow, SpanRow, Tokenizer

Part = Literal["read", "learned", "rejected"]

MEANINGS: dict[Part, Text] = {
    "read": Text("read, not learned", "只读，不学习"),
    "learned": Text("learned", "学习"),
    "rejected": Text("learned to avoid", "学习避免"),
}
TITLE = Text("What is learned", "学习哪些词元")
LEAD = Text(
    "Some rows of the training data as the model meets them, token by token. Only the marked tokens are learned; all "
    "others are read.",
    "训练数据中的若干行，按模型所见逐词元列出。只有带标记的词元参与学习，其余只供阅读。",
)


@dataclass(frozen=True)
class ShownToken:
    """A token as a person reads it; several that are parts of one character stand together."""

    text: str
    part: Part


@dataclass(frozen=True)
class ShownRow:
    """A row of the data."""

    place: str
    tokens: tuple[ShownToken, ...]
    learned: int
    """Tokens of the row that are not only read."""
    total: int

    def with_more(self, *others: ShownRow) -> ShownRow:
        """This row and what stands behind it in the same example."""
        every = (self, *others)
        tokens = tuple(token for row in every for token in row.tokens)
        return ShownRow(self.place, tokens, sum(row.learned for row in every), sum(row.total for row in every))

    def to_json(self) -> dict[str, Any]:
        tokens = [[token.text, token.part] for token in self.tokens]
        return {"place": self.place, "tokens": tokens, "learned": self.learned, "total": self.total}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> ShownRow:
        tokens = tuple(ShownToken(text, part) for text, part in data["tokens"])
        return cls(data["place"], tokens, data["learned"], data["total"])


def shown_row(row: Row, tokenizer: Tokenizer) -> list[ShownRow]:
    """A row for the eye; of a preference, both answers apart."""
    match row:
        case LearnedRow():
            parts: list[Part] = ["learned" if learned else "read" for learned in row.learned]
            return [shown(row.place, row.ids, parts, tokenizer)]
        case LabelledRow():
            label = ShownRow(row.place, (ShownToken(f" → {row.label}", "learned"),), 1, 1)
            return [shown(row.place, row.ids, ["read"] * len(row.ids), tokenizer).with_more(label)]
        case SpanRow():
            return [_shown_span(row, tokenizer)]
        case PreferenceRow():
            answers: list[tuple[Sequence[int], Part]] = [(row.chosen, "learned"), (row.rejected, "rejected")]
            before: list[Part] = ["read"] * len(row.prompt)
            return [
                shown(row.place, [*row.prompt, *answer], [*before, *([part] * len(answer))], tokenizer)
                for answer, part in answers
            ]


def shown_pair(place: str, source: Sequence[int], target: Sequence[int], tokenizer: Tokenizer) -> ShownRow:
    """A source, which an encoder reads, and the target that is learned."""
    read = shown(place, source, ["read"] * len(source), tokenizer)
    arrow = ShownRow(place, (ShownToken(" → ", "read"),), 0, 0)
    return read.with_more(arrow, shown(place, target, ["learned"] * len(target), tokenizer.target))


def shown(place: str, ids: Sequence[int], parts: Sequence[Part], tokenizer: Tokenizer) -> ShownRow:
    """Ids as texts. Special tokens go by their names; what is no whole character waits for the rest of it."""
    special = tokenizer.special_ids
    names = {tokenizer.encode_written(name)[0][0]: name for name in tokenizer.special_tokens} if special else {}
    tokens: list[ShownToken] = []
    reader = codecs.getincrementaldecoder("utf-8")("replace")
    begins = True
    for token, part in zip(ids, parts, strict=True):
        if token in special:
            text = reader.decode(b"", final=True) + names.get(token, f"<{token}>")
            reader.reset()
        else:
            text = reader.decode(tokenizer.added_bytes(token, first=begins))
        begins = begins and tokenizer.keeps_beginning(token)
        if text:
            tokens.append(ShownToken(text, part))
    if rest := reader.decode(b"", final=True):
        tokens.append(ShownToken(rest, parts[-1]))
    return ShownRow(place, tuple(tokens), sum(part != "read" for part in parts), len(ids))


def _shown_span(row: SpanRow, tokenizer: Tokenizer) -> ShownRow:
    ids, _ = tokenizer.with_template(list(row.question), list(row.text))
    around, _ = tokenizer.with_template(list(row.question), [-1])  # -1 is no id: it shows where the text stands
    before = around.index(-1)
    first, last = (0, 0) if row.first is None or row.last is None else (before + row.first, before + row.last)
    parts: list[Part] = ["learned" if first <= place <= last else "read" for place in range(len(ids))]
    return shown(row.place, ids, parts, tokenizer)


def plain_text(rows: Sequence[ShownRow]) -> str:
    """Rows for a screen without colours: what is learned stands in ⟦ ⟧, what is to be avoided in ⟦✗ ⟧, a bar between
    tokens."""
    return "\n\n".join(f"{row.place}\n{''.join(_bracketed(row))}" for row in rows)


def _bracketed(row: ShownRow) -> Iterator[str]:
    for part, tokens in runs(row.tokens):
        if part == "read":
            yield "".join(tokens)
        else:
            yield f"⟦{'✗ ' if part == 'rejected' else ''}{'|'.join(tokens)}⟧"


def runs(tokens: Iterable[ShownToken]) -> Iterator[tuple[Part, list[str]]]:
    """Neighbouring tokens of one part together."""
    part: Part | None = None
    held: list[str] = []
    for token in tokens:
        if token.part != part and held and part is not None:
            yield part, held
            held = []
        part = token.part
        held.append(token.text)
    if part is not None:
        yield part, held


def mask_page(rows: Sequence[ShownRow]) -> Html:
    """The rows as a page of its own, in both languages."""
    return page(TITLE, tag("h1", both(TITLE)), tag("p", both(LEAD), class_="lead"), mask_figure(rows))


def mask_figure(rows: Sequence[ShownRow]) -> Html:
    """The rows with what the marks mean; a learned token has a line under it, so that colour alone says nothing."""
    used: list[Part] = [part for part in MEANINGS if any(token.part == part for row in rows for token in row.tokens)]
    legend = [tag("li", tag("span", "abc", class_=f"token token-{part}"), both(MEANINGS[part])) for part in used]
    return tag("figure", tag("ul", legend, class_="legend"), [_figure_row(row) for row in rows], class_="mask")


def _figure_row(row: ShownRow) -> Html:
    learned = Text("{count} of {all} tokens learned", "共 {all} 个词元，学习 {count} 个")
    told = learned.format(count=row.learned, all=row.total)
    tokens = [tag("span", token.text, class_=f"token token-{token.part}") for token in row.tokens]
    footer = tag("footer", tag("span", row.place), " · ", both(told))
    return tag("blockquote", join(tokens), footer, class_="quote")
