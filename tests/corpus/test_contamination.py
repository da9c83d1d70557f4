"""A document that holds 13 tokens of an evaluation item is found, and no other is."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from guiju.corpus.contamination import NgramIndex, tokens_of
from guiju.errors import DataError

DATA = Path(__file__).parents[2] / "examples" / "data"
QUESTION = "Why did the old lighthouse keeper, after forty years of service, refuse to leave his post at last?"


def by_definition(items: dict[str, list[str]], text: str, size: int) -> tuple[set[str], int]:
    """Every run of every text against every run of the document."""
    tokens = tokens_of(text)
    runs = [tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)]
    names, begins = set(), set()
    for name, texts in items.items():
        for one in map(tokens_of, texts):
            held = {tuple(one[at : at + size]) for at in range(len(one) - size + 1)}
            found = {at for at, run in enumerate(runs) if run in held}
            names |= {name} if found else set()
            begins |= found
    return names, len(begins)


def test_a_run_of_thirteen_words_is_found_wherever_it_begins_and_a_run_of_twelve_is_not():
    words = tokens_of(QUESTION)
    index = NgramIndex([("q", [QUESTION])])
    for before in range(30):
        for start in range(len(words) - 12):
            context = [f"w{number}" for number in range(before)]
            assert index.overlap(" ".join([*context, *words[start : start + 13], "end"])).items == {"q"}
            assert index.overlap(" ".join([*context, *words[start : start + 12], "end"])) is None


def test_chinese_is_compared_by_characters_and_case_and_punctuation_do_not_count():
    index = NgramIndex([("zh", ["黄河流域是中国古代文明的发祥地之一。"]), ("en", [QUESTION])])
    assert index.overlap("据说，黄河 流域是中国古代「文明」的发祥处").items == {"zh"}
    assert index.overlap("黄河流域是中国古代文明") is None
    assert index.overlap("WHY DID the old lighthouse-keeper after forty years: of service refuse to leave").items == {
        "en"
    }


def test_the_first_shared_run_and_the_number_of_places_are_told():
    index = NgramIndex([("q", [QUESTION])])
    found = index.overlap("so " + QUESTION)
    assert found.size == 13
    assert found.count == len(tokens_of(QUESTION)) - 12
    assert found.gram == "why did the old lighthouse keeper after forty years of service refuse to"


def test_a_run_does_not_reach_from_one_text_of_an_item_into_the_next():
    words = tokens_of(QUESTION)
    index = NgramIndex([("q", [" ".join(words[:9]), " ".join(words[9:])])])
    assert index.overlap(QUESTION) is None
    assert index.items_too_short == 1


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.lists(st.text("ab 河", max_size=40), max_size=3), max_size=4),
    st.text("ab 河c", max_size=80),
    st.integers(1, 7),
)
def test_any_overlap_equals_the_definition(texts, document, size):
    items = {f"i{number}": each for number, each in enumerate(texts)}
    found = NgramIndex(items.items(), size).overlap(document)
    names, count = by_definition(items, document, size)
    assert (set(found.items), found.count) == (names, count) if found else not names


def test_when_every_hash_collides_no_document_is_accused(monkeypatch):
    """The safeguard broken on purpose: with one hash for all, the tokens alone decide."""
    monkeypatch.setattr("guiju.corpus.contamination.hash", lambda _: 7, raising=False)
    index = NgramIndex([("q", [QUESTION]), ("r", ["a b c d e f g h i j k l m n o p"])])
    assert index.overlap("one two three four five six seven eight nine ten eleven twelve thirteen fourteen") is None
    assert index.overlap("and " + QUESTION).items == {"q"}


def test_an_index_refuses_to_be_sent_to_another_process_where_it_would_find_nothing():
    with pytest.raises(TypeError, match="make it there"):
        pickle.dumps(NgramIndex([("q", [QUESTION])]))


ROWS = [
    {"id": "one", "question": QUESTION, "answer": "He waited."},
    {"id": "two", "question": "Too short?", "answer": "Yes."},
]


def write(folder: Path, name: str, text: str) -> Path:
    path, raw = folder / name, text.encode()
    path.write_bytes(
        gzip.compress(raw) if name.endswith(".gz") else zstandard.compress(raw) if name.endswith(".zst") else raw
    )
    return path


@pytest.mark.parametrize(
    ("name", "text", "item"),
    [
        ("e.jsonl", "\n".join(map(json.dumps, ROWS)), "e.jsonl:one"),
        ("e.jsonl.gz", "\n".join(map(json.dumps, ROWS)), "e.jsonl.gz:one"),
        ("e.json.zst", json.dumps(ROWS), "e.json.zst:one"),
        ("e.json", json.dumps({"version": 1, "rows": ROWS}), "e.json:one"),
        (
            "squad.json",
            json.dumps({"data": [{"paragraphs": [{"context": "x"}, {"context": "y", "qas": ROWS}]}]}),
            "squad.json:1",
        ),
        ("e.csv", f'id,question\none,"{QUESTION}"\ntwo,short\n', "e.csv:0"),
        ("e.tsv", f"{QUESTION}\t0\nshort\t1\n", "e.tsv:0"),
        ("e.txt", f"short\n{QUESTION}\n", "e.txt:1"),
        ("e.md", "short\n\nlines\n\n" + QUESTION.replace(", ", ",\n") + "\n", "e.md:2"),
    ],
)
def test_each_form_of_evaluation_file_gives_its_items(tmp_path, name, text, item):
    index = NgramIndex.from_files(write(tmp_path, name, text))
    assert index.overlap(f"It said: {QUESTION}").items == {item}
    assert index.items == 1
    assert list(index.files) == [name]
    assert len(index.files[name]) == 64


def test_only_the_named_fields_count(tmp_path):
    path = write(tmp_path, "e.jsonl", json.dumps({"question": QUESTION, "answer": "a b c d e f g h i j k l m n o"}))
    assert NgramIndex.from_files(path, fields=["answer"]).overlap(QUESTION) is None
    assert NgramIndex.from_files(path, fields=["question"]).overlap(QUESTION) is not None


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    index = NgramIndex.from_files(write(tmp_path / "a", "e.txt", QUESTION), write(tmp_path / "b", "e.txt", QUESTION))
    assert index.overlap(QUESTION).items == {"a/e.txt:0", "b/e.txt:0"}


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("missing.jsonl", None, "cannot be read"),
        ("e.parquet", b"PAR1", "unknown form"),
        ("e.jsonl", b'{"a": 1}\n{', "row 2"),
        ("e.json", b"[1,", "is not JSON"),
        ("e.json", b"[" * 100_000, "is not JSON"),
        ("e.txt", b"\xff\xfe\xfa", "not UTF-8"),
        ("e.txt.gz", b"not gzip", "damaged"),
        ("e.txt", b"", "holds no text"),
        ("e.json", b"[1, 2]", "holds no text"),
    ],
)
def test_a_bad_evaluation_file_gives_one_clear_message(tmp_path, name, raw, message):
    if raw is not None:
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(DataError, match=message) as problem:
        NgramIndex.from_files(tmp_path / name)
    assert str(tmp_path / name) in str(problem.value)


def test_the_evaluation_sets_that_ship_are_found_in_themselves_and_not_in_the_corpus():
    index = NgramIndex.from_files(
        DATA / "xquad" / "xquad.en.dev.json",
        DATA / "xquad" / "xquad.zh.dev.json",
        DATA / "humaneval" / "HumanEval.even.jsonl",
    )
    assert (index.items, index.items_too_short) == (322, 0)
    context = json.loads((DATA / "xquad" / "xquad.zh.dev.json").read_bytes())["data"][3]["paragraphs"][2]["context"]
    assert index.overlap(f"前言。{context}后记。").count > 100
    story = gzip.decompress((DATA / "tinystories" / "tinystories_sample.train.txt.gz").read_bytes()).decode()
    assert index.overlap(story) is None
