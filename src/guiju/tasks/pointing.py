"""Answers of a model with a head over tokens: where in the passage they begin and end, read in windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from guiju.tasks.records import Question

if TYPE_CHECKING:
    from guiju.providers import LanguageModel

_BATCH = 16
"""Windows that are read together."""


@dataclass(frozen=True)
class FoundAnswer:
    """Characters of the passage; begin and end are the same where the model holds that there is no answer."""

    begin: int
    end: int
    score: float
    """By how much the span's logits exceed those of no answer."""


def point_at_answers(model: LanguageModel, questions: Sequence[Question], windows: bool) -> list[FoundAnswer | None]:
    """What the model points at for each question; None for a passage that does not fit, where it may not be cut.

    Raises:
        DataError: a question leaves no room for its passage.
    """
    import torch

    from guiju.tokens import ExtractiveExamples, best_spans, span_row

    local: Any = model
    encoder, tokenizer = local.model, local.tokenizer
    rows = [span_row(tokenizer, one.question, one.context, None, "", one.place) for one in questions]
    examples = ExtractiveExamples(
        rows, tokenizer.with_template, context=encoder.config.context, pad=tokenizer.pad_id or 0
    )
    logits = np.full((len(examples.windows.rows), encoder.config.context, 2), -np.inf, dtype=np.float32)
    order = np.argsort(examples.lengths, kind="stable")
    encoder.eval()
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            held = order[start : start + _BATCH]
            batch = examples.read(held, 0, 0)
            device = encoder.embedding.weight.device
            segments = None if batch.segments is None else batch.segments.to(device)
            padding = None if batch.padding is None else batch.padding.to(device)
            found = encoder(batch.ids.to(device), padding=padding, segments=segments).float().cpu().numpy()
            logits[held, : found.shape[1]] = found
    counts = np.bincount(examples.windows.rows, minlength=len(rows))
    answers: list[FoundAnswer | None] = []
    for number, (question, span) in enumerate(zip(questions, best_spans(examples, logits), strict=True)):
        if counts[number] > 1 and not windows:
            answers.append(None)
            continue
        score = span.score - span.no_answer
        if score <= 0:
            answers.append(FoundAnswer(0, 0, score))
            continue
        _, (_, places) = tokenizer.encode_with_places([question.question, question.context])
        answers.append(FoundAnswer(int(places[span.first][0]), int(places[span.last][1]), score))
    return answers
