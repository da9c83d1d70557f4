"""Questions on a passage: exact match and F1, when a model says that there is no answer, and where answers stand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from guiju.tasks.estimates import Statistic, mean, rate
from guiju.tasks.records import Question
from guiju.tasks.samples import Sample, Scores
from guiju.tasks.squad import cmrc_exact, cmrc_f1, squad_exact, squad_f1

ABSTAIN = {"en": "unanswerable", "zh": "无法回答", "de": "unbeantwortbar"}
"""What a model is told to say where the passage holds no answer."""

_PROMPTS = {
    "en": "Answer with words of the passage. If it holds no answer, say: {none}.\n\nPassage: {context}\n\n"
    "Question: {question}\n\nAnswer:",
    "zh": "请用原文中的词语回答问题。如果原文没有答案，请说：{none}。\n\n原文：{context}\n\n问题：{question}\n\n答案：",
    "de": "Antworte mit Wörtern des Textes. Wenn er keine Antwort enthält, sage: {none}.\n\nText: {context}\n\n"
    "Frage: {question}\n\nAntwort:",
}
_ABSTENTIONS = re.compile(
    r"(unanswerable|no answer|not answerable|i (do not|don't) know|无法回答|没有答案|不知道|unbeantwortbar"
    r"|keine antwort)[.。!]?",
    re.IGNORECASE,
)


class QuestionAnswering:
    """A question, a passage and the answers that stand in it."""

    name = "question-answering"
    kind = Question
    main = "f1"
    new_tokens = 32

    def prompt(self, record: Question, language: str) -> str:
        return _PROMPTS[language].format(question=record.question, context=record.context, none=ABSTAIN[language])

    def source(self, record: Question) -> str:
        return f"question: {record.question} context: {record.context}"  # as T5 and its kin were trained

    def read(self, text: str, record: Question) -> str | None:
        """The first line. To say that there is no answer is an answer, and is kept as an empty one."""
        line = text.strip().split("\n")[0].strip()
        if not line:
            return None
        if _ABSTENTIONS.fullmatch(line):
            return ""
        bare = line.rstrip(".。")
        return bare if bare in record.context or line not in record.context else line

    def score(self, samples: Sequence[Sample], language: str, **given: Any) -> Scores:
        exact_rule, f1_rule = (cmrc_exact, cmrc_f1) if language == "zh" else (squad_exact, squad_f1)
        exact, f1, marks = [], [], []
        for sample in samples:
            answers = _question(sample).answers
            answered = sample.prediction is not None
            exact.append(answered and exact_rule(sample.prediction or "", answers) == 1)
            f1.append(f1_rule(sample.prediction or "", answers) if answered else 0.0)
            marks.append({"f1": f1[-1], "exact_match": float(exact[-1])})
        metrics: dict[str, Statistic] = {"exact_match": rate(exact), "f1": mean(f1)}
        without = [place for place, sample in enumerate(samples) if not _question(sample).answers]
        if without:
            some = [place for place, sample in enumerate(samples) if _question(sample).answers]
            metrics["f1_answerable"] = mean([f1[place] for place in some], some)
            metrics["unanswerable_abstained"] = rate([exact[place] for place in without], without)
        metrics["abstained"] = replace(rate([sample.prediction == "" for sample in samples]), better="neither")
        given_answers = [place for place, sample in enumerate(samples) if sample.prediction]
        metrics["cited"] = rate(
            [cite(samples[place].prediction or "", _question(samples[place])) is not None for place in given_answers],
            given_answers,
        )
        rules = "cmrc2018" if language == "zh" else "squad"
        return Scores(metrics, marks, signatures={"exact_match": f"rules:{rules}", "f1": f"rules:{rules}"})


def cite(answer: str, question: Question, near: int = 0) -> tuple[int, int] | None:
    """Where an answer stands in its passage: begin and end in characters; None where it does not stand there.

    Args:
        near: of several places, the one that begins nearest to this character.
    """
    if not answer:
        return None
    text, wanted = question.context, answer
    places = [match.start() for match in re.finditer(re.escape(wanted), text)]
    if not places and len(text.lower()) == len(text):  # some capitals change their length
        places = [match.start() for match in re.finditer(re.escape(wanted.lower()), text.lower())]
    if not places:
        return None
    begin = min(places, key=lambda place: abs(place - near))
    return begin, begin + len(wanted)


def _question(sample: Sample) -> Question:
    assert isinstance(sample.record, Question)
    return sample.record
