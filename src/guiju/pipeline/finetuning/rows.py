"""Records become what an objective learns from: ids, and which of them are learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

from guiju.errors import DataError, ModelError
from guiju.pipeline.finetuning.recipe import FinetuneRecipe
from guiju.tasks import Completion, Conversation, Labelled, Pair, Preference, Question, Record
from guiju.tokens import (
    Chat,
    LabelledRow,
    LearnedRow,
    PreferenceRow,
    SpanRow,
    Tokenizer,
    Turn,
    choose_template,
    span_row,
)

Row = LearnedRow | LabelledRow | SpanRow | PreferenceRow
MOST_LEFT_OUT = 0.5
"""Share of the rows that may be too long for the context; with more, something else is wrong than a few long texts."""


@dataclass(frozen=True)
class Made:
    """Rows of one side of the data."""

    rows: list[Row]
    left_out: int
    """Rows that are too long for the model's context."""
    cut: int = 0
    """Rows of which only the beginning is read."""
    empty: int = 0
    """Rows that were left out because an answer of theirs is empty."""


def make_rows(
    recipe: FinetuneRecipe,
    tokenizer: Tokenizer,
    records: Sequence[Record],
    context: int,
    report: Callable[[int, int], None] | None = None,
) -> Made:
    """The rows of a recipe's objective.

    Args:
        context: tokens that the model reads.
        report: called with (records done, records in all).
    Raises:
        DataError: a record holds nothing to learn, or is too long where the recipe refuses such; nearly all are.
        ModelError: the chat template drops or changes answers, or the tokenizer has no token that could end one.
    """
    rows: list[Row] = []
    left_out = cut = empty = 0
    with ExitStack() as held:
        made = _maker(recipe, tokenizer, held)
        for number, record in enumerate(records):
            if report is not None and number % 200 == 0:
                report(number, len(records))
            if recipe.data.empty == "leave-out" and _lacks_answer(record):
                empty += 1
                continue
            row = made(record)
            beyond = _length(row) - context
            if beyond <= 0:
                rows.append(row)
            elif recipe.data.long == "refuse":
                raise DataError(
                    f"{record.place} is {_length(row)} tokens long, but the model reads {context}. Shorten it, take a "
                    "model with a longer context, or set data.long: leave-out"
                )
            elif recipe.data.long == "cut":
                rows.append(_cut(cast(LabelledRow, row), beyond, tokenizer))
                cut += 1
            else:
                left_out += 1
    if records and left_out > MOST_LEFT_OUT * len(records):
        raise DataError(
            f"{left_out} of {len(records)} rows are longer than the {context} tokens that the model reads, so most of "
            "the data would be left out. Take a model with a longer context, or shorter texts"
        )
    return Made(rows, left_out, cut, empty)


def _lacks_answer(record: Record) -> bool:
    match record:
        case Conversation():
            answers = [one.content for one in record.messages if one.role == "assistant"]
        case Preference():
            answers = [record.chosen, record.rejected]
        case _:  # their reader refuses empty ones
            answers = []
    return not all(answer.strip() for answer in answers)


def labels_of(recipe: FinetuneRecipe, records: Iterable[Record]) -> tuple[str, ...]:
    """The labels of the head, in order.

    Raises:
        DataError: the data has but one.
    """
    if recipe.labels:
        return recipe.labels
    found = sorted({record.label for record in records if isinstance(record, Labelled)}, key=_label_order)
    if len(found) < 2:
        raise DataError(
            f"every row of {recipe.data.train} has the label {''.join(found)!r}, so there is nothing to tell apart; "
            "bring rows of other labels"
        )
    return tuple(found)


def _label_order(label: str) -> tuple[bool, int, str]:
    """Numbers by their value, words by the alphabet."""
    return (False, int(label), label) if label.lstrip("-").isdigit() else (True, 0, label)


def _maker(recipe: FinetuneRecipe, tokenizer: Tokenizer, held: ExitStack) -> Callable[[Any], Row]:
    objective = recipe.objective
    if recipe.chats:
        chat = held.enter_context(Chat(choose_template(recipe.template, tokenizer, recipe.root), tokenizer))
        if objective == "preferences":
            return lambda record: _from_preferred_messages(chat, record)
        return lambda record: chat.row(_turns(recipe, record), record.place)
    if objective == "answers":
        return lambda record: _from_completion(recipe, tokenizer, record)
    if objective == "classes":
        return lambda record: _from_label(tokenizer, record)
    if objective == "extractive":
        return lambda record: _from_question(tokenizer, record)
    return lambda record: _from_preference(tokenizer, record)


def _sides(record: Completion | Pair) -> tuple[str, str]:
    """What is read, and what is learned."""
    if isinstance(record, Completion):
        return record.prompt, record.completion
    return record.source, record.targets[0]


def _turns(recipe: FinetuneRecipe, record: Conversation | Completion | Pair) -> list[Turn]:
    if isinstance(record, Conversation):
        return [Turn(one.role, one.content) for one in record.messages]
    prompt, answer = _sides(record)
    return [Turn("user", recipe.asked(prompt)), Turn("assistant", answer)]


def _from_completion(recipe: FinetuneRecipe, tokenizer: Tokenizer, record: Completion | Pair) -> LearnedRow:
    prompt, completion = _sides(record)
    before, answer = continuation(tokenizer, recipe.asked(prompt), completion, record.place)
    return LearnedRow([*before, *answer], [False] * len(before) + [True] * len(answer), record.place)


def continuation(tokenizer: Tokenizer, prompt: str, completion: str, place: str) -> tuple[list[int], list[int]]:
    """The ids of a prompt, as generation reads it, and those of what follows it, with the token that ends a text.

    Raises:
        DataError: nothing follows.
        ModelError: no token ends a text.
    """
    if tokenizer.eos_id is None:
        raise ModelError(
            "the tokenizer has no eos_token, so the model could not learn where an answer ends; name one in its "
            "tokenizer_config.json"
        )
    if not completion.strip():
        raise DataError(
            f"{place} has an empty answer, from which nothing can be learned; take it out, or set data.empty: leave-out"
        )
    first, whole, alone = tokenizer.encode_batch([prompt, prompt + completion, completion])
    # Together where the seam is one between tokens; else apart, as generation meets them.
    answer = whole[len(first) :] if whole[: len(first)] == first else alone
    before = [*tokenizer.prefix_ids, *first] if first else [tokenizer.start_id]
    return before, [*answer, tokenizer.eos_id]


def _from_label(tokenizer: Tokenizer, record: Labelled) -> LabelledRow:
    ids, segments = tokenizer.with_template(tokenizer.encode(record.text))
    if not ids:
        raise DataError(f"{record.place} has a text without a token; leave it out")
    return LabelledRow(ids, record.label, segments if any(segments) else (), record.place)


def _from_question(tokenizer: Tokenizer, record: Question) -> SpanRow:
    start: int | None = None
    answer = ""
    if record.answers:
        answer, start = record.answers[0], record.starts[0]
        if start < 0:
            start = record.context.find(answer)
            if start < 0:
                raise DataError(f"{record.place}: the answer {answer[:60]!r} does not stand in its context")
    return span_row(tokenizer, record.question, record.context, start, answer, record.place)


def _from_preference(tokenizer: Tokenizer, record: Preference) -> PreferenceRow:
    before, chosen = continuation(tokenizer, record.prompt, record.chosen, record.place)
    other, rejected = continuation(tokenizer, record.prompt, record.rejected, record.place)
    assert before == other, "a prompt alone decides its ids"
    return PreferenceRow(before, chosen, rejected, record.place)


def _from_preferred_messages(chat: Chat, record: Preference) -> PreferenceRow:
    made = []
    for answer in (record.chosen, record.rejected):
        row = chat.row([Turn("user", record.prompt), Turn("assistant", answer)], record.place)
        first = row.learned.index(True)
        last = len(row.learned) - list(reversed(row.learned)).index(True)
        made.append((list(row.ids[:first]), list(row.ids[first:last])))
    (before, chosen), (other, rejected) = made
    if before != other:
        raise DataError(
            f"{record.place}: what stands before the preferred answer has other tokens than what stands before the "
            "other one, because the chat template does not end in a token of its own there; give another template"
        )
    return PreferenceRow(before, chosen, rejected, record.place)


def _length(row: Row) -> int:
    """Tokens that the model has to read for it."""
    if isinstance(row, SpanRow):
        return 0  # it is read in windows
    if isinstance(row, PreferenceRow):
        return len(row.prompt) + max(len(row.chosen), len(row.rejected)) - 1
    return len(row.ids) - 1 if isinstance(row, LearnedRow) else len(row.ids)


def _cut(row: LabelledRow, beyond: int, tokenizer: Tokenizer) -> LabelledRow:
    """The beginning of the text, with the tokens around it that it had."""
    after = len(tokenizer.suffix_ids)
    text = len(row.ids) - after
    ids = [*row.ids[: text - beyond], *row.ids[text:]]
    return LabelledRow(ids, row.label, list(row.segments)[: len(ids)], row.place)


def plain_texts(records: Iterable[Record]) -> Iterator[tuple[str, str]]:
    """(id, text) of records of which everything is learned."""
    for record in records:
        if isinstance(record, Completion):
            yield record.id, record.prompt + record.completion
        elif isinstance(record, Labelled):
            yield record.id, record.text


def paired_texts(records: Iterable[Record]) -> Iterator[tuple[str, str, str]]:
    """(id, source, target) of records whose target is written beside its source."""
    for record in records:
        if isinstance(record, Completion | Pair):
            yield record.id, *_sides(record)
