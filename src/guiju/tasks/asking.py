"""A model is asked: by the way it can answer, a record at a time as they are finished, long sources in windows."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from guiju.errors import ConfigError, GuijuError, ModelError
from guiju.tasks.labels import match_head
from guiju.tasks.programming import AFTER_FUNCTION, Programming
from guiju.tasks.question_answering import QuestionAnswering, cite
from guiju.tasks.records import CodeProblem, Labelled, Pair, Question, Record
from guiju.tasks.room import room_of
from guiju.tasks.samples import Sample, Task
from guiju.tasks.sentiment import Sentiment
from guiju.tasks.settings import TaskSettings
from guiju.tasks.windows import blocks, passages

if TYPE_CHECKING:
    from guiju.providers import LanguageModel

AT_ONCE = 32
"""Records that a model of this machine is given together: what a kill can lose."""

REMOTE_AT_ONCE = 1000
"""Records whose requests to a server stand in line: many times those under way, and few enough to hold."""

REFUSALS = 3
"""Requests in a row that a server refuses, after which it is not the samples' fault."""


@dataclass(frozen=True)
class Part:
    """One prompt of a record: all of it, or a window of its source."""

    record: int
    prompt: str | list[int]
    begin: int = 0
    """Where the window begins in the record's passage."""


class Asker:
    """Puts the records of a task to a model."""

    def __init__(
        self, task: Task, model: LanguageModel, settings: TaskSettings, language: str, labels: Sequence[str] = ()
    ) -> None:
        """
        Args:
            labels: the classes of the data, where its records have some.
        Raises:
            ModelError: the model can do nothing that the task asks for.
            DataError: the data has a label that the model's head has not.
        """
        self.task, self.model, self.settings, self.language = task, model, settings, language
        self.labels = list(labels)
        self.room = room_of(model)
        self.tokenizer: Any = getattr(model, "tokenizer", None)
        self.held = ExitStack()
        self._chat: Any = None
        self._refusals = 0
        self.ask_all = self._way()

    def ask(self, records: Iterable[Record]) -> Iterator[Sample]:
        """A sample of each record, in order, as soon as it is there. Records are drawn as they are needed.

        Raises:
            GuijuError: the model failed; what was there before has been given out.
        """
        waiting = iter(records)
        while part := list(itertools.islice(waiting, AT_ONCE if self.room.is_here else REMOTE_AT_ONCE)):
            yield from self.ask_all(part)

    def close(self) -> None:
        self.held.close()

    def _way(self) -> Callable[[Sequence[Record]], Iterator[Sample]]:
        config = getattr(getattr(self.model, "model", None), "config", None)
        abilities, head = self.model.abilities, getattr(config, "head", "vocabulary")
        labelled = isinstance(self.task, Sentiment)
        if labelled and "classify" in abilities:
            match_head(self.model.labels, self.labels)
            self._require_no_prompt()
            return self._classify
        if isinstance(self.task, QuestionAnswering) and head == "span":
            self._require_no_prompt()
            return self._point
        if labelled and "score_continuations" in abilities and self.settings.template != "chat":
            return self._compare if self.room.is_here else self._compare_or_ask
        if "generate" not in abilities:
            raise ModelError(
                f"{self.model.reference} cannot do {self.task.name}: it can {', '.join(sorted(abilities))}, and "
                f"the task needs a model that generates text{' or classifies it' if labelled else ''}"
            )
        self._open_chat()
        return self._generate

    def _require_no_prompt(self) -> None:
        if self.settings.prompt is not None:
            raise ConfigError(
                f"prompt is given, but {self.model.reference} classifies texts as they are, and would not heed it. "
                "Leave it out"
            )

    # --- one way for each kind of model

    def _classify(self, records: Sequence[Record]) -> Iterator[Sample]:
        texts = [self.task.source(record) for record in records]
        room = self.room.context or 0
        long = [len(self.tokenizer.with_template(self.tokenizer.encode(text))[0]) > room for text in texts]
        stride = max(1, int(room * (1 - self.settings.overlap))) if self.settings.long_sources == "window" else None
        asked = [text for text, too_long in zip(texts, long, strict=True) if stride is not None or not too_long]
        table: Iterator[Any] = iter(self.model.classify(asked, stride=stride) if asked else [])
        for record, too_long in zip(records, long, strict=True):
            if stride is None and too_long:
                yield self.refused(record)
                continue
            yield self._labelled(record, dict(zip(self.model.labels, map(float, next(table)), strict=True)))

    def _compare(self, records: Sequence[Record]) -> Iterator[Sample]:
        """Each label's word behind the prompt: how likely the model finds it, and with that its probability."""
        assert isinstance(self.task, Sentiment)
        words = [self.task.continuation(label, self.language) for label in self.labels]
        longest = max(words, key=len)
        cut = [self.parts(record, lambda prompt: self.fits(str(prompt) + longest, 1)) for record in records]
        pairs = [(str(part.prompt), word) for parts in cut for part in parts or [] for word in words]
        scores = self.model.score_continuations_each(pairs)
        for record, parts in zip(records, cut, strict=True):
            if parts is None:
                yield self.refused(record)
                continue
            found = [-score.nll_nats for score in itertools.islice(scores, len(parts) * len(words))]
            table = np.array(found).reshape(len(parts), len(words))
            shares = np.exp(table - table.max(axis=1, keepdims=True))
            shares = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0)
            yield self._labelled(record, dict(zip(self.labels, map(float, shares), strict=True)))

    def _compare_or_ask(self, records: Sequence[Record]) -> Iterator[Sample]:
        """The same of a server; where it turns out to tell no likelihoods, as chats do, it is asked in words."""
        from guiju.providers import RemoteError

        done = 0
        try:
            for sample in self._compare(records):
                yield sample
                done += 1
            return
        except RemoteError:
            raise
        except ModelError:
            self.ask_all = self._generate
        yield from self._generate(records[done:])

    def _labelled(self, record: Record, probabilities: Mapping[str, float]) -> Sample:
        likeliest = max(probabilities, key=lambda name: probabilities[name])
        return Sample(record, likeliest, details={"probabilities": dict(probabilities)})

    def _point(self, records: Sequence[Record]) -> Iterator[Sample]:
        """Where the answer begins and ends, by a head over the passage's tokens."""
        from guiju.tasks.pointing import point_at_answers

        questions = [record for record in records if isinstance(record, Question)]
        windows = self.settings.long_sources == "window"
        for question, found in zip(questions, point_at_answers(self.model, questions, windows), strict=True):
            if found is None:
                yield self.refused(question)
                continue
            text = question.context[found.begin : found.end]
            details = {"span": [found.begin, found.end], "score": found.score} if text else {"score": found.score}
            yield Sample(question, text, details=details)

    def _generate(self, records: Sequence[Record]) -> Iterator[Sample]:
        """A server may refuse single requests: their samples stay unanswered, and the others are asked on."""
        from guiju.providers import RequestRefusedError

        waiting = list(records)
        while waiting:
            writing = _Writing(self, waiting)
            try:
                yield from writing.samples()
                return
            except RequestRefusedError as problem:
                yield from writing.late(problem.finished)
                self._note_refusal(problem, answered=bool(writing.done))
                number = writing.parts[writing.taken].record
                yield Sample(waiting[number], None, "unanswered", {"why": str(problem)})
                settled = {*writing.done, number}
                waiting = [one for place, one in enumerate(waiting) if place not in settled]
            except (GuijuError, KeyboardInterrupt) as problem:
                yield from writing.late(getattr(problem, "finished", {}))
                raise

    def _note_refusal(self, problem: GuijuError, answered: bool) -> None:
        """Give up where nothing but refusals come: then it is not the sample that is wrong."""
        self._refusals = 0 if answered else self._refusals + 1
        if self._refusals == REFUSALS:
            raise problem

    # --- prompts

    def parts(self, record: Record, fits: Callable[[Any], bool]) -> list[Part] | None:
        """The prompts of a record; None where its source is too long, and is to be refused for that."""
        whole = self._prompt(record)
        if fits(whole):
            return [Part(0, whole)]
        if self.settings.long_sources == "refuse" or isinstance(record, CodeProblem):
            return None
        if isinstance(record, Question):
            found = passages(
                record.context, lambda text: fits(self._prompt(replace(record, context=text))), self.settings.overlap
            )
            return [Part(0, self._prompt(replace(record, context=text)), begin) for begin, text in found] or None
        if isinstance(record, Pair):
            cut = blocks(record.source, lambda text: fits(self._prompt(replace(record, source=text))))
            return [Part(0, self._prompt(replace(record, source=text))) for text in cut] or None
        if isinstance(record, Labelled):
            cut = blocks(record.text, lambda text: fits(self._prompt(replace(record, text=text))))
            return [Part(0, self._prompt(replace(record, text=text))) for text in cut] or None
        return None

    def _prompt(self, record: Record) -> str | list[int]:
        """What the model reads: its own form of a source beside an encoder, a message in a chat, or plain text."""
        if self.settings.prompt is not None:
            text = filled(self.settings.prompt, record)
        elif self.room.beside_encoder:
            return self.task.source(record)
        elif isinstance(self.task, Programming) and isinstance(record, CodeProblem) and self._answers:
            text = self.task.chat_prompt(record, self.language)
        else:
            text = self.task.prompt(record, self.language)
        if self._chat is None:
            return text
        from guiju.tokens import Turn

        ids: list[int] = self._chat.prompt([Turn("user", text)], record.place)
        return ids

    @property
    def _answers(self) -> bool:
        """Whether it answers rather than goes on with a text."""
        return self._chat is not None or not self.model.continues

    def _open_chat(self) -> None:
        wish = self.settings.template
        able = hasattr(self.tokenizer, "encode_written") and not self.room.beside_encoder
        if wish == "chat" and not able:
            raise ConfigError(
                f"template is chat, but {self.model.reference} brings no chat tokenizer. Leave it out; a server is "
                "asked by chat with --remote api=chat"
            )
        if able and wish != "none" and (wish == "chat" or self.tokenizer.chat_template is not None):
            from guiju.tokens import Chat, choose_template

            self._chat = self.held.enter_context(Chat(choose_template("auto", self.tokenizer), self.tokenizer))

    def fits(self, prompt: str | list[int], new_tokens: int) -> bool:
        return self.room.fits(prompt, new_tokens)

    def new_tokens(self) -> int:
        """Of an answer: as many as are wished for, or as the task has, but no more than half of a context."""
        if self.settings.new_tokens is not None:
            return self.settings.new_tokens
        return self.task.new_tokens if self.room.context is None else min(self.task.new_tokens, self.room.context // 2)

    def wishes(self) -> dict[str, Any]:
        wishes: dict[str, Any] = {"max_new_tokens": self.new_tokens()}
        if self.settings.tries > 1 and isinstance(self.task, Programming):
            wishes |= {"num_return_sequences": self.settings.tries, "seed": self.settings.seed}
            wishes |= {"temperature": self.settings.temperature, "top_p": 0.95}
        elif self.settings.num_beams > 1:
            wishes["num_beams"] = self.settings.num_beams
        else:
            wishes["greedy"] = True
        if not self._answers and self.model.continues:
            wishes["stop"] = AFTER_FUNCTION if isinstance(self.task, Programming) else ("\n\n",)
        return wishes

    # --- answers

    def joined(self, record: Record, answers: Sequence[tuple[Part, list[str]]]) -> Sample:
        texts = [text for _, texts in answers for text in texts]
        read = [self.task.read(text, record) for text in texts]
        details: dict[str, Any] = {"text": texts[0] if len(texts) == 1 else texts}
        if isinstance(record, CodeProblem):
            prediction = next((one for one in read if one is not None), None)
            details["tries"] = [one or "" for one in read]
        elif isinstance(record, Question):
            prediction, details = _best_answer(record, [part for part, _ in answers], read, details)
        elif isinstance(record, Pair):
            kept = [one for one in read if one]
            prediction = ("" if self.language == "zh" else " ").join(kept) if len(kept) == len(read) else None
        else:
            prediction = read[0]
        if prediction is None:
            return Sample(record, None, "unanswered", {**details, "why": "the model said nothing that is an answer"})
        return Sample(record, prediction, details=details)

    def refused(self, record: Record) -> Sample:
        why = f"its source is longer than the model's context of {self.room.context} tokens"
        return Sample(record, None, "refused", {"why": why})


class _Writing:
    """Answers under way: which parts of which records are there."""

    def __init__(self, asker: Asker, records: Sequence[Record]) -> None:
        self.asker, self.records = asker, records
        self.done: set[int] = set()
        """Numbers of the records whose samples have been given out."""
        self.taken = 0
        """How many parts have been answered in their order."""
        self.parts: list[Part] = []
        self._refused: set[int] = set()
        for number, record in enumerate(records):
            made = asker.parts(record, lambda prompt: asker.fits(prompt, asker.new_tokens()))
            if made is None:
                self._refused.add(number)
            self.parts += [replace(part, record=number) for part in made or []]
        self._wanted = Counter(part.record for part in self.parts)
        self._answers: list[list[tuple[Part, list[str]]]] = [[] for _ in records]

    def samples(self) -> Iterator[Sample]:
        """In the records' order, each when its last part is there."""
        prompts: Any = [part.prompt for part in self.parts]
        stream = self.asker.model.generate_each(prompts, **self.asker.wishes())
        following = 0
        for sequences in itertools.chain([None], stream):
            if sequences is not None:
                self._take(self.taken, sequences)
                self.taken += 1
            while following < len(self.records) and self._is_whole(following):
                yield self._sample(following)
                following += 1

    def late(self, finished: Mapping[int, Any]) -> Iterator[Sample]:
        """Those that are whole with answers that came out of turn, before a failure."""
        for number, sequences in sorted(finished.items()):
            self._take(number, sequences)
        for number in range(len(self.records)):
            if number not in self.done and self._is_whole(number):
                yield self._sample(number)

    def _take(self, number: int, sequences: Any) -> None:
        part = self.parts[number]
        self._answers[part.record].append((part, [sequence.text for sequence in sequences]))

    def _is_whole(self, number: int) -> bool:
        return len(self._answers[number]) == self._wanted[number]

    def _sample(self, number: int) -> Sample:
        self.done.add(number)
        record = self.records[number]
        if number in self._refused:
            return self.asker.refused(record)
        return self.asker.joined(record, self._answers[number])


def _best_answer(
    record: Question, parts: Sequence[Part], read: Sequence[str | None], details: dict[str, Any]
) -> tuple[str | None, dict[str, Any]]:
    """Of several windows' answers the first that stands in its passage, else the first of all, else that there is
    none; and where it stands."""
    order = sorted(range(len(read)), key=lambda place: (_worth(read[place], record), place))
    best = read[order[0]] if order else None
    if best:
        place = cite(best, record, parts[order[0]].begin)
        if place is not None:
            details = {**details, "span": list(place)}
    return best, details


def _worth(answer: str | None, record: Question) -> int:
    if answer is None:
        return 3
    return 2 if answer == "" else 0 if cite(answer, record) else 1


def filled(prompt: str, record: Record) -> str:
    """A user's prompt with a record's fields in it. What else stands in braces is refused.

    Raises:
        ConfigError: it names a field that the record has not.
    """
    fields = {name: value for name, value in asdict(record).items() if isinstance(value, str)}
    try:
        return prompt.format_map(_Known(fields))
    except (KeyError, ValueError, IndexError, AttributeError) as problem:
        raise ConfigError(
            f"prompt {prompt!r} cannot be filled in ({problem}); in braces may stand {', '.join(sorted(fields))}; a "
            "brace itself is written twice"
        ) from None


class _Known(dict[str, str]):
    def __missing__(self, key: str) -> str:
        raise KeyError(f"there is no field {key}")


def ask(
    task: Task, model: LanguageModel, records: Iterable[Record], settings: TaskSettings, labels: Sequence[str] = ()
) -> Iterator[Sample]:
    """A model's answers to records of which nobody knows the right ones.

    Args:
        settings: its language says in which one the model is asked; "auto" is for sets that are measured.
        labels: the classes to choose from; a model's own, or else positive and negative, where there are none.
    """
    if isinstance(task, Sentiment) and not labels:
        labels = model.labels or ("negative", "positive")
    asker = Asker(task, model, settings, settings.language, labels)
    try:
        yield from asker.ask(records)
    finally:
        asker.close()
