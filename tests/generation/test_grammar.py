from __future__ import annotations

import json
import random
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import tokenizers
import torch

from guiju.errors import ConfigError, ModelError
from guiju.generation import SamplingSettings, generate, grammar
from guiju.generation.grammar import Grammar, form_of
from guiju.model import Transformer, llama_config
from guiju.settings import from_mapping, to_mapping
from guiju.tokens import Llama2cTokenizer, Tokenizer, TokenizerSettings, train_tokenizer

ENDS = frozenset({0})
ORDER = {
    "type": "object",
    "properties": {
        "城市": {"enum": ["北京", "上海", 'Xi\'an "旧"']},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1, "maxItems": 2},
        "note": {"type": ["string", "null"], "pattern": "^[好坏]{1,2}$"},
    },
    "required": ["城市", "days", "tags"],
    "additionalProperties": False,
}
SCHEMAS = {
    "order": ORDER,
    "choice": {"enum": ["是", "否", 1, None, True]},
    "nested": {
        "$defs": {"leaf": {"type": "object", "properties": {"x": {"type": "number"}}, "additionalProperties": False}},
        "type": "array",
        "items": {"$ref": "#/$defs/leaf"},
        "minItems": 2,
        "maxItems": 2,
    },
    "either": {"anyOf": [{"type": "boolean"}, {"type": "string", "minLength": 2, "maxLength": 2}]},
}
PATTERNS = [
    r"(北京|上海)[0-9]{2,4}",
    r"[一-龥]{3}，[一-龥]{3}。",
    r"[a-z]{1,9}@[a-z]{2,5}\.(cn|com)",
    r"\d{4}-\d{2}-\d{2}",
    r"(?i)yes|no",
    r"a?b/c\\d\"e",
    r" {2}x ?",
    "",
]


def holds(value, schema, root=None) -> bool:
    """A small validator of JSON Schema, for the keywords that these tests use; written apart from llguidance."""
    root = root or schema
    if "$ref" in schema:
        return holds(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    kinds = {
        "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "number": (int, float),
        "integer": int,
    }  # fmt: skip
    wanted = schema.get("type", list(kinds))
    named = [wanted] if isinstance(wanted, str) else wanted
    if not any(isinstance(value, kinds[kind]) and not (kind != "boolean" and value in (True, False) and isinstance(
        value, bool)) for kind in named):  # fmt: skip
        return False
    if "enum" in schema and not any(value == item and type(value) is type(item) for item in schema["enum"]):
        return False
    if "anyOf" in schema and not any(holds(value, part, root) for part in schema["anyOf"]):
        return False
    if isinstance(value, str):
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        return fits and re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, list):
        fits = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return fits and all(holds(item, schema.get("items", {}), root) for item in value)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        closed = schema.get("additionalProperties") is False and set(value) - set(known)
        return (
            not closed
            and set(schema.get("required", ())) <= set(value)
            and all(holds(item, known.get(name, {}), root) for name, item in value.items())
        )
    if isinstance(value, int | float) and not isinstance(value, bool):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return True


def walk(held: Grammar, tokenizer: Tokenizer, chance: random.Random, blank: bool, most=3000) -> bytes:
    """A text of random allowed tokens, up to its end."""
    state, ids = held.begin(blank), []
    while not state.finished:
        options = state.allowed().nonzero()[0]
        assert len(options), tokenizer.decode(ids)
        token = int(chance.choice(options))
        state.accept(token)
        if token in held.ends:
            break
        ids.append(token)
        assert len(ids) < most
    before = [tokenizer.start_id if blank else tokenizer.encode("ab")[-1]]
    return tokenizer.decode_bytes([*before, *ids])[len(tokenizer.decode_bytes(before)) :]


@pytest.fixture(scope="module")
def merged() -> Tokenizer:
    """Byte-level BPE whose tokens cross the borders of words, quotes and characters."""
    texts = [
        json.dumps({"城市": "北京", "days": 3, "tags": ["a, b"]}, ensure_ascii=False),
        "上海上海，好坏好坏。yes no",
    ]
    return train_tokenizer(texts * 20, TokenizerSettings(vocab_size=300))


@pytest.fixture(scope="module")
def fallback(stories, tmp_path_factory) -> Tokenizer:
    """tokenizer.json as Llama 2's: pieces with a mark for spaces, and bytes where a character has no piece."""
    folder = tmp_path_factory.mktemp("fallback")
    stories[1].save(folder)
    return Tokenizer.load(folder)


@pytest.fixture(params=["bytes", "merged", "llama2c", "fallback"])
def tokenizer(request, bytes_tokenizer, merged, stories, fallback) -> Tokenizer:
    return {"bytes": bytes_tokenizer, "merged": merged, "llama2c": stories[1], "fallback": fallback}[request.param]


def made(tokenizer: Tokenizer, ends=ENDS, vocab_size=None, **form) -> Grammar:
    found = form_of(SamplingSettings(**form))
    assert found is not None
    return Grammar(found, tokenizer, vocab_size or tokenizer.vocab_size, ends)


@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_is_drawn_is_json_of_the_schema(name, tokenizer):
    held, chance = made(tokenizer, json_schema=SCHEMAS[name]), random.Random(name)
    texts = [walk(held, tokenizer, chance, blank=turn % 2 == 0).decode() for turn in range(30)]
    assert len(set(texts)) > 3
    for text in texts:
        assert holds(json.loads(text), SCHEMAS[name]), text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_whatever_is_drawn_matches_the_whole_pattern(pattern, tokenizer):
    held, chance = made(tokenizer, regex=pattern), random.Random(pattern)
    for turn in range(20):
        text = walk(held, tokenizer, chance, blank=turn % 2 == 0).decode()
        assert re.fullmatch(pattern, text), text


def test_without_the_form_random_tokens_do_not_have_it(merged):
    chance = random.Random(0)
    for _ in range(200):
        text = merged.decode(chance.choices(range(1, merged.vocab_size), k=20))
        with pytest.raises(ValueError):
            json.loads(text)


def test_every_text_of_the_form_can_be_written_however_it_is_cut_into_tokens(tokenizer):
    held = made(tokenizer, json_schema=ORDER)
    text = '{"城市": "北京", "days":3, "tags":["a","床"],"note":null}'
    pieces = [tokenizer.added_bytes(token) for token in range(tokenizer.vocab_size)]
    single = [pieces.index(bytes([byte])) for byte in text.encode()]
    longest, rest = [], text.encode()
    while rest:
        longest.append(
            max((t for t, piece in enumerate(pieces) if rest.startswith(piece)), key=lambda t: len(pieces[t]))
        )
        rest = rest[len(pieces[longest[-1]]) :]
    assert len(longest) < len(single) or len(pieces) == 257
    for ids in (longest, single):
        state = held.begin(blank=False)
        assert state.fitting(ids) == len(ids)
        for token in ids:
            assert state.allowed()[token]
            state.accept(token)
        assert state.complete and state.finished


def test_the_end_may_come_only_where_the_text_has_the_whole_form(bytes_tokenizer):
    held = made(bytes_tokenizer, regex="ab*", ends=frozenset({0, 7}))
    state = held.begin(blank=False)
    assert not state.allowed()[[0, 7]].any()
    state.accept(*bytes_tokenizer.encode("a"))
    assert set(state.allowed().nonzero()[0]) == {0, 7, *bytes_tokenizer.encode("b")}
    assert not state.finished
    state.accept(7)
    assert state.finished
    closed = made(bytes_tokenizer, regex="ab?", ends=frozenset())
    state = closed.begin(blank=False)
    for token in bytes_tokenizer.encode("ab"):
        assert not state.finished
        state.accept(token)
    assert state.finished and state.complete and not state.allowed().any()


def test_ids_without_text_and_rows_behind_the_vocabulary_are_never_allowed(stories):
    tokenizer = stories[1]
    held = made(tokenizer, regex=r"(?s).*", vocab_size=600, ends=frozenset({2}))
    allowed = held.begin(blank=False).allowed()
    assert allowed.shape == (600,)
    assert not allowed[512:].any()
    assert set(np.flatnonzero(~allowed[:512])) >= set(tokenizer.special_ids - {2})
    assert allowed[2]


def test_a_character_is_finished_before_the_end(bytes_tokenizer):
    state = made(bytes_tokenizer, regex="[一-龥]*").begin(blank=False)
    first, second, third = bytes_tokenizer.encode("床")
    for token in (first, second):
        state.accept(token)
        assert not state.allowed()[0]
        assert all(0x80 <= bytes_tokenizer.decode_bytes([t])[0] < 0xC0 for t in state.allowed().nonzero()[0])
    state.accept(third)
    assert state.allowed()[0]


def test_a_guess_is_followed_as_far_as_it_fits_and_changes_nothing(bytes_tokenizer):
    state = made(bytes_tokenizer, regex="abc|abd").begin(blank=False)
    before = state.allowed()
    ids = bytes_tokenizer.encode("abxabc")
    assert state.fitting(ids) == 2
    assert state.fitting([*ids[:2], bytes_tokenizer.vocab_size + 5]) == 2
    assert state.fitting([0]) == 0
    assert state.fitting([*bytes_tokenizer.encode("abd"), 0]) == 4
    assert (state.allowed() == before).all()


def test_a_copied_state_goes_its_own_way(bytes_tokenizer):
    state = made(bytes_tokenizer, regex="ab|cd").begin(blank=False)
    twin = state.copy()
    state.accept(*bytes_tokenizer.encode("a"))
    twin.accept(*bytes_tokenizer.encode("c"))
    assert list(state.allowed().nonzero()[0]) == bytes_tokenizer.encode("b")
    assert list(twin.allowed().nonzero()[0]) == bytes_tokenizer.encode("d")


def test_white_space_cannot_fill_the_limit(bytes_tokenizer):
    state = made(bytes_tokenizer, json_schema={"type": "object"}).begin(blank=False)
    for token in bytes_tokenizer.encode("{ "):
        state.accept(token)
    allowed = {bytes_tokenizer.decode([int(token)]) for token in state.allowed().nonzero()[0]}
    assert allowed == {'"', "}"}


@pytest.mark.parametrize(("fields", "message"), [
    ({"regex": "("}, "regex '\\('.*unclosed group"),
    ({"regex": "(?=a)b"}, "look-ahead"),
    ({"regex": r"(a)\1"}, "backreferences"),
    ({"regex": r"\bx\b"}, "lookarounds"),
    ({"regex": "a\\"}, "lone backslash"),
    ({"regex": "a" * 10_001}, "10001 characters; at most 10000"),
    ({"regex": "(" * 4000 + "a" + ")" * 4000}, "regex '.*cannot be held to"),
    ({"regex": "[a&&b]"}, "no text through"),
    ({"regex": "\ud800"}, "no text"),
    ({"json_schema": "{"}, "json_schema is no JSON"),
    ({"json_schema": "[1]"}, "json_schema holds list"),
    ({"json_schema": '{"type": "string", "type": "null"}'}, "stands twice"),
    ({"json_schema": '{"const": NaN}'}, "NaN"),
    ({"json_schema": {"const": float("inf")}}, "no JSON"),
    ({"json_schema": {"a": object()}}, "no JSON"),
    ({"json_schema": "[" * 100_000}, "no JSON"),
    ({"json_schema": False}, "json_schema .*[Uu]nsatisfiable"),
    ({"json_schema": {"enum": []}}, "[Uu]nsatisfiable"),
    ({"json_schema": {"type": "integer", "minimum": 5, "maximum": 3}}, r"minimum \(5\) is greater"),
    ({"json_schema": {"type": "string", "pattern": "^a{5}$", "maxLength": 3}}, "[Uu]nsatisfiable"),
    ({"json_schema": {"$ref": "#"}}, "no text through"),
    ({"json_schema": {"$ref": "#/nowhere"}}, "does not exist"),
    ({"json_schema": {"$ref": "http://example.org/s.json"}}, "retriev"),
    ({"json_schema": {"$ref": "file:///etc/passwd"}}, "retriev"),
    ({"json_schema": {"type": "array", "uniqueItems": True}}, "uniqueItems"),
    ({"json_schema": {"not": {}}}, "not"),
    ({"json_schema": {"type": "str"}}, "Invalid type: str"),
    ({"json_schema": {"type": "string", "format": "poem"}}, "Unknown format: poem"),
    ({"json_schema": {"enum": ["x" * 300_000]}}, "at most 262144"),
    ({"json_schema": {"x-guidance": {"lenient": True}, "not": {}}}, "not"),
])  # fmt: skip
def test_a_form_that_cannot_be_is_refused_before_any_work(fields, message, bytes_tokenizer):
    with pytest.raises(ConfigError, match=message) as caught:
        made(bytes_tokenizer, **fields)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(("fields", "message"), [
    ({"json_schema": "{}", "regex": "a"}, "both given"),
    ({"json_schema": "{}", "stop": ("x",)}, "stop is given with json_schema"),
    ({"regex": "a", "stop": ("x",)}, "stop is given with regex"),
    ({"regex": 5}, "regex is no text"),
])  # fmt: skip
def test_settings_that_contradict_the_form_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        SamplingSettings(**fields)


def test_a_schema_as_text_and_as_mapping_is_one_setting_and_keeps_its_order():
    schema = {"z": 1, "a": {"é": 2}}
    assert SamplingSettings(json_schema=schema) == SamplingSettings(json_schema='{"z": 1, "a": {"é": 2}}')


def test_forms_and_beams_survive_the_way_through_a_recipe():
    given = {
        "json_schema": {"type": "object", "properties": {"b": {}, "a": {}}},
        "num_beams": 3,
        "early_stopping": "never",
    }
    settings = from_mapping(SamplingSettings, given)
    assert json.loads(settings.json_schema) == given["json_schema"]
    assert from_mapping(SamplingSettings, to_mapping(settings)) == settings


def _word_piece(folder) -> Tokenizer:
    letters = [chr(code) for code in range(33, 127)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return Tokenizer.load(folder)


def _unigram(folder) -> Tokenizer:
    vocabulary = [("<unk>", 0.0), ("</s>", 0.0), *((chr(code), -3.0) for code in range(33, 127)), ("\u2581", -2.0)]
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, unk_id=0))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    backend.decoder = tokenizers.decoders.Metaspace()
    backend.add_special_tokens(["<unk>", "</s>"])
    backend.save(str(folder / "tokenizer.json"))
    return Tokenizer.load(folder)


def _without_bytes(folder) -> Tokenizer:
    entries = [b"<unk>", b"<s>", b"</s>", *(chr(code).encode() for code in range(32, 127))]
    return Llama2cTokenizer([0.0] * len(entries), entries)


@pytest.mark.parametrize("make", [_word_piece, _unigram, _without_bytes])
def test_a_vocabulary_that_cannot_write_every_text_is_refused(make, tmp_path):
    with pytest.raises(ModelError, match=r"no token of its own for .* bytes of UTF-8"):
        made(make(tmp_path), regex="a")


def test_a_form_too_complex_to_follow_ends_with_an_error(bytes_tokenizer, monkeypatch):
    monkeypatch.setattr(grammar, "_LEXER_STATES", 40)
    held = made(bytes_tokenizer, regex="[ab]*a[ab]{9}c")
    with pytest.raises(ConfigError, match=r"regex '\[ab\]\*a\[ab\]\{9\}c' cannot be held to"):
        walk(held, bytes_tokenizer, random.Random(0), blank=False)


def test_a_finished_text_that_is_no_json_is_noticed(bytes_tokenizer):
    held = made(bytes_tokenizer, json_schema={"type": "object"})
    held.require_kept('{"a": ' + "1" * 5000 + "}")
    with pytest.raises(ModelError, match="is no JSON"):
        held.require_kept('{"a": }')
    with pytest.raises(ModelError, match="NaN is no JSON"):
        held.require_kept('{"a": NaN}')


def test_without_the_extra_it_is_named(bytes_tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(ModelError, match=r"pip install 'guiju\[grammar\]'"):
        form_of(SamplingSettings(regex="a"))
    assert form_of(SamplingSettings()) is None


JSON = SamplingSettings(json_schema=ORDER, max_new_tokens=150, seed=4, num_return_sequences=3)
WAYS = {
    "greedy": (SamplingSettings(json_schema=ORDER, max_new_tokens=150, greedy=True), {}),
    "sampling": (JSON, {}),
    "record mode": (JSON, {"record": True}),
    "guesses": (JSON, {"prompt_lookup": 4}),
    "filters": (replace(JSON, top_k=3, top_p=0.8, min_p=0.05, repetition_penalty=1.3, temperature=1.7), {}),
    "beams": (SamplingSettings(json_schema=ORDER, max_new_tokens=150, num_beams=3, num_return_sequences=3), {}),
}


@pytest.fixture(scope="module")
def roomy_model() -> Transformer:
    """Random weights over the bytes' vocabulary, with a context for whole objects."""
    torch.manual_seed(3)
    model = Transformer(llama_config(vocab_size=257, context=200, width=32, layers=2, heads=4, kv_heads=2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.requires_grad_(False)


@pytest.mark.parametrize("way", WAYS)
def test_a_random_model_writes_json_of_the_schema_in_every_way(way, roomy_model, bytes_tokenizer):
    settings, options = WAYS[way]
    pieces: dict[int, str] = {}

    def collect(number: int, text: str) -> None:
        pieces[number] = pieces.get(number, "") + text

    prompts = ["ab", "床前", ""]
    texts = [
        sequence
        for found in generate(roomy_model, bytes_tokenizer, prompts, settings, collect, **options)
        for sequence in found
    ]
    whole = [sequence for sequence in texts if sequence.finish_reason == "stop"]
    assert len(whole) > len(texts) / 2
    for sequence in whole:
        assert holds(json.loads(sequence.text), ORDER), sequence.text
    assert [pieces[number] for number in range(len(texts))] == [sequence.text for sequence in texts]
    free = replace(settings, json_schema=None)
    for found in generate(roomy_model, bytes_tokenizer, prompts, free, **options):
        for sequence in found:  # without the form, the same model writes no JSON
            with pytest.raises(ValueError):
                json.loads(sequence.text)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_trained_models_texts_match_the_whole_pattern(pattern, stories):
    model, tokenizer = stories
    settings = SamplingSettings(regex=pattern, seed=1, num_return_sequences=4, max_new_tokens=80)
    for prompt in ("Once upon a time", ""):
        for sequence in generate(model, tokenizer, [prompt], settings)[0]:
            assert sequence.finish_reason == "stop"
            assert re.fullmatch(pattern, sequence.text), sequence.text


def test_a_text_that_the_limit_cuts_is_whole_characters_and_the_beginning_of_the_form(roomy_model, bytes_tokenizer):
    cuts = set()
    for limit in range(1, 25):
        settings = SamplingSettings(regex="[一-龥]{3}，[一-龥]{3}。", max_new_tokens=limit, seed=2)
        [[sequence]] = generate(roomy_model, bytes_tokenizer, ["ab"], settings)
        cuts.add(len(sequence.ids) % 3)
        if limit < 24:
            assert sequence.finish_reason == "length"
            assert re.fullmatch("([一-龥]{0,3}|[一-龥]{3}，[一-龥]{0,3})", sequence.text), sequence.text
    assert cuts == {0, 1, 2}  # characters were cut in the middle
    assert sequence.finish_reason == "stop"


def test_the_form_ends_a_text_also_where_the_end_of_text_is_ignored_or_there_is_none(roomy_model, bytes_tokenizer):
    settings = SamplingSettings(regex="(ab){3}", max_new_tokens=50, ignore_eos=True, greedy=True)
    [[sequence]] = generate(roomy_model, bytes_tokenizer, ["x"], settings)
    assert (sequence.text, sequence.finish_reason, len(sequence.ids)) == ("ababab", "stop", 6)


def test_guesses_change_no_token_of_a_form_and_some_are_right(roomy_model, bytes_tokenizer):
    settings = SamplingSettings(regex="(abcdefgh){6}[a-z]*", max_new_tokens=150, greedy=True)
    plain = generate(roomy_model, bytes_tokenizer, ["abcdefghabcdefgh"], settings)
    guessed = generate(roomy_model, bytes_tokenizer, ["abcdefghabcdefgh"], settings, prompt_lookup=6)
    assert list(guessed) == list(plain)
    assert guessed.work.accepted > 20
    assert guessed.work.steps < plain.work.steps


def test_a_form_leaves_the_models_own_choice_among_what_fits(roomy_model, bytes_tokenizer):
    [[sequence]] = generate(
        roomy_model, bytes_tokenizer, ["ab"], SamplingSettings(regex="[a-f]{5}", greedy=True, max_new_tokens=9)
    )
    row = bytes_tokenizer.encode("ab")
    letters = [bytes_tokenizer.encode(letter)[0] for letter in "abcdef"]
    for token in sequence.ids[:5]:
        logits = roomy_model(torch.tensor([row]))[0, -1]
        assert token == max(letters, key=lambda letter: float(logits[letter]))
        row.append(token)
