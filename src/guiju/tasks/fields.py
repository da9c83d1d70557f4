"""Rows become records: under which names the data sets of the field keep a kind's fields, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from guiju.errors import ConfigError, DataError
from guiju.tasks.records import (
    CodeProblem,
    Completion,
    Conversation,
    Labelled,
    Message,
    Pair,
    Preference,
    Question,
    Record,
)
from guiju.tasks.rows import Row

R = TypeVar("R", bound=Record)

NAMES: Mapping[type[Record], Mapping[str, tuple[str, ...]]] = {
    Conversation: {"messages": ("messages", "conversation")},
    Completion: {
        "prompt": ("prompt", "instruction", "question", "input"),
        "completion": ("completion", "response", "answer", "output"),
    },
    Labelled: {
        "text": ("text", "sentence", "text_a", "review", "content"),
        "label": ("label", "class", "sentiment", "category"),
    },
    Pair: {
        "source": ("source", "src", "text", "document", "article", "abstract"),
        "target": ("target", "targets", "tgt", "summary", "highlights", "translation", "title"),
    },
    Question: {"question": ("question",), "context": ("context", "passage"), "answers": ("answers", "answer")},
    Preference: {"chosen": ("chosen",), "rejected": ("rejected",)},
    CodeProblem: {"prompt": ("prompt", "text"), "tests": ("test", "test_list", "tests")},
}
"""What a kind needs, and the names it goes by; the first that a row has counts."""

_IDS = ("id", "task_id", "qid", "idx")
_OPTIONAL: Mapping[type[Record], tuple[str, ...]] = {
    Labelled: ("groups",),
    Question: ("title", "starts"),
    Preference: ("prompt",),
    CodeProblem: ("entry_point", "solution", "setup"),
}


def check_columns(kind: type[Record], columns: Mapping[str, str]) -> None:
    """Raise ConfigError where `columns` names a field that the kind has not."""
    known = ("id", *NAMES[kind], *_OPTIONAL.get(kind, ()))
    for name in columns:
        if name not in known:
            raise ConfigError(f"columns names {name!r}, which {kind.__name__} has not; its fields: {', '.join(known)}")


class Fields:
    """Takes a row's fields by the names that its file has for them."""

    def __init__(self, kind: type[Record], columns: Mapping[str, str]) -> None:
        self.kind, self.columns = kind, columns

    def has(self, row: Row, field: str) -> bool:
        return self.find(row, field) is not None

    def find(self, row: Row, field: str, *others: str) -> Any:
        """A field's value, or None where the row has none; a column named by hand may lead inward by dots."""
        if field in self.columns:
            return _inward(row.values, self.columns[field])
        for name in (*NAMES[self.kind].get(field, (field,)), *others):
            if row.values.get(name) is not None:
                return row.values[name]
        return None

    def take(self, row: Row, field: str) -> Any:
        """The same where it must be there.

        Raises:
            DataError: it is not.
        """
        value = self.find(row, field)
        if value is None:
            wanted = self.columns.get(field) or " or ".join(NAMES[self.kind][field][:4])
            held = ", ".join(str(name) for name in list(row.values)[:12])
            raise DataError(
                f"{row.place} has no {field}: it should stand under {wanted}, and the row has {held or 'nothing'}. "
                f"Name its column, such as columns: {{{field}: NAME}}"
            )
        return value

    def text(self, row: Row, field: str) -> str:
        """A field that is text, and holds some."""
        value = self.take(row, field)
        if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
            value = " ".join(value)  # a text kept sentence by sentence, as in SciTLDR
        if not isinstance(value, str):
            raise DataError(f"{row.place}: {field} holds {_shown(value)}; it must be text")
        if not value.strip():
            raise DataError(
                f"{row.place}: {field} is empty. Fill it or take the row out: there is nothing to learn or ask"
            )
        return value

    def optional_text(self, row: Row, field: str, *others: str) -> str:
        value = self.find(row, field, *others)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise DataError(f"{row.place}: {field} holds {_shown(value)}; it must be text")
        return value

    def id(self, row: Row, number: int) -> str:
        value = _inward(row.values, self.columns["id"]) if "id" in self.columns else None
        for name in _IDS if value is None else ():
            value = row.values.get(name) if value is None else value
        if value is None:
            return str(number)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise DataError(f"{row.place}: the id is {_shown(value)}; it must be text or a whole number")
        return str(value)


def record_of(kind: type[R], fields: Fields, row: Row, number: int) -> R:
    """A row as a record of a kind.

    Raises:
        DataError: a field is missing, empty or of another type; with the place.
    """
    made: Any = _MAKERS[kind](fields, row)
    result = kind(id=fields.id(row, number), place=row.place, **made)
    return result


def _conversation(fields: Fields, row: Row) -> dict[str, Any]:
    value = fields.take(row, "messages")
    if not isinstance(value, list | tuple) or not value:
        raise DataError(f"{row.place}: messages holds {_shown(value)}; it must be a list with at least one message")
    messages = []
    for number, one in enumerate(value):
        role, content = (one.get("role"), one.get("content")) if isinstance(one, Mapping) else (None, None)
        if not (isinstance(role, str) and role and isinstance(content, str)):
            raise DataError(
                f"{row.place}: message {number} is {_shown(one)}; it must be such as "
                '{"role": "user", "content": "..."}'
            )
        messages.append(Message(role, content))
    if all(not one.content.strip() for one in messages if one.role == "assistant"):
        raise DataError(f"{row.place}: no message of the assistant has any text, so that there is nothing to learn")
    return {"messages": tuple(messages)}


def _completion(fields: Fields, row: Row) -> dict[str, Any]:
    return {"prompt": fields.text(row, "prompt"), "completion": fields.text(row, "completion")}


def _labelled(fields: Fields, row: Row) -> dict[str, Any]:
    return {
        "text": fields.text(row, "text"),
        "label": _label(fields.take(row, "label"), row, "label"),
        "groups": _groups(fields, row),
    }


def _label(value: object, row: Row, field: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise DataError(f"{row.place}: {field} is {_shown(value)}; it must be a word or a whole number")
    return str(value).strip()


def _groups(fields: Fields, row: Row) -> dict[str, str]:
    if "groups" in fields.columns:
        names = [name.strip() for name in fields.columns["groups"].split(",") if name.strip()]
        found = {name: _inward(row.values, name) for name in names}
        missing = [name for name, value in found.items() if value is None]
        if missing:
            raise DataError(f"{row.place} has no {missing[0]!r}, which columns names as a group")
        return {name: _label(value, row, name) for name, value in found.items()}
    value = row.values.get("groups", {})
    if not isinstance(value, Mapping):
        raise DataError(f'{row.place}: groups holds {_shown(value)}; it must be such as {{"product": "books"}}')
    return {str(name): _label(one, row, str(name)) for name, one in value.items() if one is not None}


def _pair(fields: Fields, row: Row) -> dict[str, Any]:
    source, value = fields.text(row, "source"), fields.take(row, "target")
    targets = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else None
    if targets is None or not all(isinstance(one, str) for one in targets):
        raise DataError(f"{row.place}: target holds {_shown(value)}; it must be a text or a list of texts")
    kept = tuple(one for one in targets if one.strip())
    if not kept:
        raise DataError(
            f"{row.place}: the target is empty. Fill it or take the row out: nothing can be held against it"
        )
    return {"source": source, "targets": kept}


def _question(fields: Fields, row: Row) -> dict[str, Any]:
    answers, starts = _answers(fields, row)
    return {
        "question": fields.text(row, "question"),
        "context": fields.text(row, "context"),
        "answers": answers,
        "starts": starts,
        "title": fields.optional_text(row, "title"),
    }


def _answers(fields: Fields, row: Row) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Answers as SQuAD keeps them (a list of objects), as flat copies of it do (an object of lists), or as texts."""
    if row.values.get("is_impossible") is True:
        return (), ()
    value: Any = fields.take(row, "answers")
    if isinstance(value, Mapping):
        texts, begins = value.get("text"), value.get("answer_start", value.get("answer_starts"))
        if not isinstance(texts, list | tuple) or not isinstance(begins, list | tuple) or len(texts) != len(begins):
            raise DataError(f"{row.place}: answers must hold the lists text and answer_start, equally long")
        value = [{"text": text, "answer_start": begin} for text, begin in zip(texts, begins, strict=True)]
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        raise DataError(f"{row.place}: answers holds {_shown(value)}; it must be a list")
    found = [(one, -1) if isinstance(one, str) else _answer(one, row) for one in value]
    for text, _ in found:
        if not text.strip():
            raise DataError(
                f"{row.place}: an answer is empty. A question without an answer has an empty list of answers"
            )
    return tuple(text for text, _ in found), tuple(begin for _, begin in found)


def _answer(value: object, row: Row) -> tuple[str, int]:
    text, begin = (value.get("text"), value.get("answer_start", -1)) if isinstance(value, Mapping) else (None, None)
    if not isinstance(text, str) or isinstance(begin, bool) or not isinstance(begin, int):
        raise DataError(
            f'{row.place}: an answer is {_shown(value)}; it must be such as {{"text": "308", "answer_start": 34}}'
        )
    return text, begin


_TURN = "\n\nAssistant:"


def _preference(fields: Fields, row: Row) -> dict[str, Any]:
    chosen, rejected = fields.text(row, "chosen"), fields.text(row, "rejected")
    prompt = fields.optional_text(row, "prompt")
    if not prompt:  # whole dialogues, as in hh-rlhf: they part in the assistant's last turn
        pairs = enumerate(zip(chosen, rejected, strict=False))
        same = next((place for place, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))
        end = chosen.rfind(_TURN, 0, same)
        if end < 0:
            raise DataError(
                f"{row.place} has no prompt, and chosen and rejected do not begin with the same dialogue up to "
                f"{_TURN.strip()!r}. Give the prompt under its own name"
            )
        cut = end + len(_TURN)
        prompt, chosen, rejected = chosen[:cut], chosen[cut:], rejected[cut:]
    if chosen == rejected:
        raise DataError(
            f"{row.place}: chosen and rejected are the same, so that nothing is preferred. Take the row out"
        )
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _code_problem(fields: Fields, row: Row) -> dict[str, Any]:
    prompt, tests = fields.text(row, "prompt"), fields.take(row, "tests")
    solution = fields.optional_text(row, "solution", "canonical_solution", "code")
    if isinstance(tests, str):
        entry_point = fields.optional_text(row, "entry_point")
        if not entry_point:
            raise DataError(f"{row.place} has tests but no entry_point: the function that they check must be named")
        return {
            "prompt": prompt,
            "tests": tests,
            "entry_point": entry_point,
            "solution": solution,
            "kind": "continuation",
        }
    if not isinstance(tests, list | tuple) or not tests or not all(isinstance(one, str) for one in tests):
        raise DataError(f"{row.place}: test_list holds {_shown(tests)}; it must be a list of asserts")
    setup = [fields.optional_text(row, "setup", "test_setup_code"), *_lines(row.values.get("test_imports"))]
    lines = [one.replace("\r\n", "\n") for one in (*setup, *tests) if one.strip()]
    return {
        "prompt": prompt,
        "tests": "\n".join(lines) + "\n",
        "entry_point": fields.optional_text(row, "entry_point") or _called(solution, tests),
        "solution": solution,
        "kind": "description",
    }


def _lines(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else []


def _called(solution: str, tests: Sequence[str]) -> str:
    """The function of the solution that the tests call, which is the one to write."""
    defined = set(re.findall(r"^def\s+(\w+)", solution, re.MULTILINE))
    called = re.findall(r"\b(\w+)\s*\(", "\n".join(tests))
    return next((name for name in called if name in defined), "")


def _inward(values: Mapping[str, Any], name: str) -> Any:
    if name in values:
        return values[name]
    held: Any = values
    for key in name.split("."):
        if not isinstance(held, Mapping) or key not in held:
            return None
        held = held[key]
    return held


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_MAKERS: Mapping[type[Record], Callable[[Fields, Row], dict[str, Any]]] = {
    Conversation: _conversation,
    Completion: _completion,
    Labelled: _labelled,
    Pair: _pair,
    Question: _question,
    Preference: _preference,
    CodeProblem: _code_problem,
}
