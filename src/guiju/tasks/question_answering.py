"""Questions on a passage: exact match and F1, when a model says that there is no answer, and where answers stand."""

from __future__ import annotations

import re
from array import array
from dataclasses import replace
from typing import Any

import numpy as np

from guiju.tasks.estimates import Statistic, mean, rate
from guiju.tasks.records import Question
from guiju.tasks.samples import Sample, Samples, Scores
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

    def score(self, samples: Samples, language: str, **given: Any) -> Scores:
        exact_rule, f1_rule = (cmrc_exact, cmrc_f1) if language == "zh" else (squad_exact, squad_f1)
        exact, f1 = array("B"), array("d")
        answerable, said, cited = array("B"), array("B"), array("B")
        for sample in samples:
            question, prediction = _question(sample), sample.prediction or ""
            answered = sample.prediction is not None
            exact.append(answered and exact_rule(prediction, question.answers) == 1)
            f1.append(f1_rule(prediction, question.answers) if answered else 0.0)
            answerable.append(bool(question.answers))
            said.append(2 if prediction else answered)  # 2: an answer, 1: that there is none, 0: nothing
            cited.append(cite(prediction, question) is not None)
        right, each = np.asarray(exact), np.asarray(f1)
        metrics: dict[str, Statistic] = {"exact_match": rate(right), "f1": mean(each)}
        without = np.flatnonzero(np.asarray(answerable) == 0)
        if len(without):
            some = np.flatnonzero(answerable)
            metrics["f1_answerable"] = mean(each[some], some)
            metrics["unanswerable_abstained"] = rate(right[without], without)
        metrics["abstained"] = replace(rate(np.asarray(said) == 1), better="neither")
        answers = np.flatnonzero(np.asarray(said) == 2)
        metrics["cited"] = rate(np.asarray(cited)[answers], answers)
        rules = "cmrc2018" if language == "zh" else "squad"
        marks = {"f1": each, "exact_match": right.astype(np.float64)}
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
