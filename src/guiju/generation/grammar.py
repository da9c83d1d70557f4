"""Output held to a form: JSON of a schema, or what a regular expression matches (llguidance, extra `grammar`).

Before each token the form says which may come; all others get a logit of -inf, before any filter of the settings looks
at them. What comes out is the model's own distribution over the texts that have the form.
Source: https://github.com/guidance-ai/llguidance (derivatives of regular expressions, Earley's parser over them).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from guiju.errors import ConfigError, ModelError
from guiju.generation.settings import SamplingSettings

if TYPE_CHECKING:
    from guiju.tokens import Tokenizer

MAX_SCHEMA_CHARACTERS = 262_144
MAX_REGEX_CHARACTERS = 10_000
_LEXER_STATES = 100_000  # 1 to 2 kB each

# One space where JSON allows white space, so that no model can fill its limit with line breaks. A known keyword that
# cannot be kept is an error, not passed over in silence.
_JSON_OPTIONS = {
    "whitespace_pattern": " ?",
    "item_separator": ",",
    "key_separator": ":",
    "coerce_one_of": False,
    "lenient": False,
}
# Any way to write a text in tokens may be taken, not the tokenizer's own alone: the model knows best.
_HEAD = '%llguidance {"no_forcing": true}\n'
_UTF8_BYTES = [byte for byte in range(0xF5) if byte not in (0xC0, 0xC1)]


@dataclass(frozen=True)
class Form:
    """What a text must look like."""

    kind: str
    """"json_schema" or "regex": the setting's name."""

    text: str
    """The schema as JSON; or the pattern, in Rust's syntax (no look-around, no back-references), for the whole text."""

    def rule(self, after_space: bool) -> str:
        """A Lark grammar. `after_space`: a space in front is to be taken as none of the text's own."""
        if self.kind == "json_schema":
            schema = json.loads(self.text)
            if isinstance(schema, dict):
                schema["x-guidance"] = _JSON_OPTIONS
            front = "/ /? " if after_space else ""
            return f"{_HEAD}start: {front}%json {json.dumps(schema)}\n"
        pattern = _llguidance().regex_to_lark(self.text, "d")  # \\d is 0 to 9 alone
        if after_space:
            return f"{_HEAD}start: TEXT\nTEXT: / / PATTERN | (PATTERN & /([^ ](?s:.)*)?/)\nPATTERN: /{pattern}/\n"
        return f"{_HEAD}start: TEXT\nTEXT: /{pattern}/\n"


def form_of(settings: SamplingSettings) -> Form | None:
    """The form that settings ask for.

    Raises:
        ConfigError: it cannot be: the schema or pattern is wrong, uses what llguidance does not know, lets no text
            through, or is too large.
        ModelError: the extra is not installed.
    """
    if settings.json_schema is not None:
        assert isinstance(settings.json_schema, str)
        form, most = Form("json_schema", settings.json_schema), MAX_SCHEMA_CHARACTERS
    elif settings.regex is not None:
        form, most = Form("regex", settings.regex), MAX_REGEX_CHARACTERS
    else:
        return None
    if len(form.text) > most:
        raise ConfigError(
            f"{form.kind} has {len(form.text)} characters; at most {most} are taken, because each token is held "
            f"against all of it. Give a smaller one"
        )
    if form.kind == "regex" and (len(form.text) - len(form.text.rstrip("\\"))) % 2:
        raise ConfigError("regex ends with a lone backslash, which escapes nothing. Take it away, or write two")
    problem = _llguidance().LLMatcher.validate_grammar(form.rule(after_space=False), None, limits=_limits())
    if problem and not problem.startswith("WARNING"):
        raise ConfigError(_refusal(form, problem))
    return form


class Grammar:
    """A form, ready for one model and its tokenizer."""

    def __init__(self, form: Form, tokenizer: Tokenizer, vocab_size: int, ends: frozenset[int]) -> None:
        """`ends` are the ids that end a text: they may come where the text has the whole form. `vocab_size` is the
        model's.

        Raises:
            ConfigError: no text has the form.
            ModelError: the tokenizer's ids do not stand for bytes, so that not every text can be written.
        """
        self.form = form
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.ends = ends
        self._known = _known_tokenizer(tokenizer)
        self._starts = {False: self._matcher(drops_space=False)}
        if not self._is_possible():
            raise ConfigError(f"{form.kind} lets no text through: nothing fits it, not even an empty text. Correct it")

    def begin(self, blank: bool) -> GrammarState:
        """The state of a new text. `blank`: nothing stands before it, so that a first token that begins with a space
        loses it in vocabularies of SentencePiece's kind."""
        drops = blank and self._known.drops_space
        if drops not in self._starts:
            self._starts[drops] = self._matcher(drops)
        return GrammarState(self, self._starts[drops].deep_copy())

    def require_kept(self, text: str) -> None:
        """Raise ModelError where a finished text is not what was promised: a safeguard of the safeguard."""
        if self.form.kind != "json_schema":
            return
        try:
            json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
        except RecursionError:
            pass  # deeper than Python reads, and still JSON
        except ValueError as problem:
            raise ModelError(
                f"the text was held to a JSON schema and yet is no JSON ({problem}): the tokenizer's bytes and the "
                f"text do not agree. Please report this"
            ) from None

    def _is_possible(self) -> bool:
        state = GrammarState(self, self._starts[False].deep_copy())
        try:
            return state.complete or bool(state.allowed().any())
        except ConfigError:
            return False

    def _matcher(self, drops_space: bool) -> Any:
        library = _llguidance()
        source = library.LLMatcher.grammar_from_lark(self.form.rule(after_space=drops_space))
        matcher = library.LLMatcher(self._known.library, source, log_level=0, limits=_limits())
        if matcher.is_error():
            raise ConfigError(_refusal(self.form, matcher.get_error()))
        return matcher


class GrammarState:
    """Where one text under way stands in its form."""

    def __init__(self, grammar: Grammar, matcher: Any) -> None:
        self.grammar = grammar
        self._matcher = matcher

    @property
    def complete(self) -> bool:
        """Whether the text has the whole form as it stands."""
        return bool(self._matcher.is_accepting())

    @property
    def finished(self) -> bool:
        """Whether the text has the whole form, and nothing can come any more."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    def allowed(self) -> NDArray[np.bool_]:
        """(vocab_size,): which ids may come next; the ends among them where the text may end here.

        Raises:
            ConfigError: the form became too complex to follow.
        """
        mask = np.zeros(self.grammar.vocab_size, dtype=np.bool_)
        if not self.finished:
            bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            self._require_sound()
            known = np.unpackbits(bits, bitorder="little")[: self.grammar.tokenizer.vocab_size].astype(np.bool_)
            mask[: len(known)] = known[: len(mask)]
        for end in self.grammar.ends:
            mask[end] = self.complete
        return mask

    def accept(self, token: int) -> None:
        """The token was chosen; it must be an allowed one."""
        end = self.grammar.tokenizer.vocab_size  # llguidance's own end of text, behind all ids
        self._matcher.consume_token(end if token in self.grammar.ends else token)
        self._require_sound()

    def fitting(self, tokens: Sequence[int]) -> int:
        """How many of these tokens, from the first on, could be accepted one after the other. Changes nothing."""
        known = self.grammar.tokenizer.vocab_size
        ids = [known if token in self.grammar.ends else token for token in tokens]
        beyond = next((place for place, token in enumerate(tokens) if token >= known), len(ids))
        return 0 if self.finished else int(self._matcher.validate_tokens(ids[:beyond]))

    def copy(self) -> GrammarState:
        """A second state that goes on from here on its own."""
        return GrammarState(self.grammar, self._matcher.deep_copy())

    def _require_sound(self) -> None:
        if self._matcher.is_error():
            raise ConfigError(_refusal(self.grammar.form, self._matcher.get_error()))


class _KnownTokenizer:
    """llguidance's view of a tokenizer: the bytes of each id, and one id of its own, behind them, that ends a text."""

    is_tokenizer_wrapper = True  # what llguidance looks for
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = [tokenizer.added_bytes(token) for token in range(tokenizer.vocab_size)]
        lacking = sorted(set(_UTF8_BYTES) - {piece[0] for piece in pieces if len(piece) == 1})
        if lacking:
            raise ModelError(
                f"the tokenizer has no token of its own for {len(lacking)} bytes of UTF-8 (the first is "
                f"0x{lacking[0]:02X}), so that a text could come to where its form asks for what cannot be written. "
                f"Output can be held to a form with byte-level BPE, and with SentencePiece's and llama2.c's "
                f"vocabularies that hold bytes"
            )
        self.tokens = [*pieces, b"end of the form"]
        self.eos_token_id = len(pieces)
        self.special_token_ids = [token for token, piece in enumerate(pieces) if not piece] + [len(pieces)]
        begun = [tokenizer.added_bytes(token, first=True) for token in range(tokenizer.vocab_size)]
        self.drops_space = begun != pieces
        assert all(one in (piece, piece.removeprefix(b" ")) for one, piece in zip(begun, pieces, strict=True))
        self.library = _llguidance().LLTokenizer(self)

    def __call__(self, text: str) -> list[int]:
        raise AssertionError("nothing is forced, so nothing is encoded")


_KNOWN: WeakKeyDictionary[Tokenizer, _KnownTokenizer] = WeakKeyDictionary()  # it takes a second for large ones


def _known_tokenizer(tokenizer: Tokenizer) -> _KnownTokenizer:
    if tokenizer not in _KNOWN:
        _KNOWN[tokenizer] = _KnownTokenizer(tokenizer)
    return _KNOWN[tokenizer]


def _limits() -> Any:
    return _llguidance().LLParserLimits(max_lexer_states=_LEXER_STATES, verbose_errors=False)


def _refusal(form: Form, problem: str) -> str:
    """An error for a user out of the library's, without its positions in a grammar that the user never saw."""
    told = re.search(r"^error: (.*)$", problem, re.MULTILINE)  # of a pattern, below the place where it occurs
    reason = told[1] if told else problem.partition("\n")[0]
    reason = re.sub(
        r"^(at \d+\(\d+\): )?(failed to compile JSON schema: |invalid regex .* \(in regex\): )?", "", reason
    )
    shown = form.text if len(form.text) <= 60 else form.text[:57] + "..."
    way = (
        "take that out, or say it in another way"
        if form.kind == "json_schema"
        else "it must be a pattern in Rust's syntax, without look-around and back-references"
    )
    return f"{form.kind} {shown!r} cannot be held to: {reason[:300]}; {way}"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError:
        raise ModelError(
            "holding output to a JSON schema or a regular expression takes llguidance, which is not installed here: "
            "pip install 'guiju[grammar]'"
        ) from None
    return llguidance
