"""Rows and models to tune: tiny, the same each time."""

from __future__ import annotations

import random
from typing import Any

import torch
from worlds import make_shape

from guiju.model import AnyModel, with_head
from guiju.tokens import (
    AnswerExamples,
    Examples,
    ExtractiveExamples,
    LabelledExamples,
    LabelledRow,
    LearnedRow,
    PreferenceExamples,
    PreferenceRow,
    SpanRow,
    TokenLabelledExamples,
    TokenLabelledRow,
)
from guiju.training import reference_log_probs

LABELS = ("even", "odd", "none")
CONTEXT = 32
OBJECTIVES = ("answers", "classes", "token-classes", "extractive", "preferences")
SHAPES = {
    "answers": "gpt2",
    "preferences": "llama",
    "classes": "bert",
    "token-classes": "bert",
    "extractive": "bert",
    "classes of a decoder": "llama",
}
HEADS = {
    "classes": "classes",
    "classes of a decoder": "classes",
    "token-classes": "token_classes",
    "extractive": "span",
}


def with_template(first: list[int], second: list[int]) -> tuple[list[int], list[int]]:
    """BERT's pair."""
    return [2, *first, 3, *second, 3], [0] * (len(first) + 2) + [1] * (len(second) + 1)


def make_rows(objective: str, count: int = 60, seed: int = 0) -> list[Any]:
    """Rows from which something can be learned: what follows, or is said of a text, hangs on the text."""
    draw = random.Random(seed)
    made: list[Any] = []
    for _ in range(count):
        text = [draw.randrange(10, 290) for _ in range(draw.randint(3, 10))]
        if objective == "answers":
            answer = [token + 1 for token in text[:4]]
            made.append(LearnedRow([*text, 4, *answer, 5], [False] * (len(text) + 1) + [True] * (len(answer) + 1)))
        elif objective == "preferences":
            made.append(PreferenceRow([*text, 4], [text[0], 5], [text[-1] - 5, text[0], 5]))
        elif objective == "token-classes":
            labels = [None, *(LABELS[token % 2] for token in text), None]
            made.append(TokenLabelledRow([2, *text, 3], labels))
        elif objective == "extractive":
            first = draw.randrange(len(text) - 1)
            found = (first, first + 1) if draw.random() < 0.7 else (None, None)
            made.append(SpanRow([9, 7], text, *found))
        else:
            label = LABELS[2 if len(text) < 5 else text[0] % 2]
            made.append(LabelledRow([2, *text, 3], label, [0, *[1] * len(text), 1] if objective == "classes" else ()))
    return made


def make_tuning_examples(objective: str, rows: list[Any] | None = None, **options: Any) -> Examples:
    rows = make_rows(objective) if rows is None else rows
    if objective == "answers":
        return AnswerExamples(rows, context=CONTEXT, pad=0)
    if objective == "preferences":
        examples = PreferenceExamples(rows, context=CONTEXT, pad=0)
        reference = make_tuned(objective)
        return examples.with_reference(reference_log_probs(reference, examples), "reference")
    if objective == "extractive":
        return ExtractiveExamples(rows, with_template, context=12, pad=0, stride=4)
    if objective == "token-classes":
        return TokenLabelledExamples(rows, labels=LABELS, context=CONTEXT, pad=0)
    return LabelledExamples(rows, labels=LABELS, context=CONTEXT, pad=0, **options)


def make_tuned(objective: str, seed: int = 0, **changes: object) -> AnyModel:
    """A model with the head that the objective wants."""
    model = make_shape(SHAPES[objective], **changes)
    if objective in HEADS:
        torch.manual_seed(seed)
        labels = () if objective == "extractive" else LABELS
        model = with_head(model, HEADS[objective], labels)  # type: ignore[arg-type]
    return model
