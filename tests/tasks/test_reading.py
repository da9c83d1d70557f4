"""Files of task data become records; what is in the wrong format is named with file and line."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import pytest
import zstandard

from guiju.errors import ConfigError, DataError
from guiju.tasks import (
    CodeProblem,
    Completion,
    Conversation,
    Labelled,
    Message,
    Pair,
    Preference,
    Question,
    read_records,
)
from guiju.tasks.json_text import JsonText
from guiju.tasks.rows import json_rows

ROWS = {
    Conversation: {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    Completion: {"prompt": "2 + 2 =", "completion": " 4"},
    Labelled: {"text": "a fine film", "label": 1, "groups": {"kind": "film"}},
    Pair: {"source": "Good morning", "target": ["Guten Morgen", "Morgen"]},
    Question: {"question": "Who?", "context": "It was Ann.", "answers": [{"text": "Ann", "answer_start": 7}]},
    Preference: {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"},
    CodeProblem: {"prompt": "Add.", "code": "def add(a, b): return a + b", "test_list": ["assert add(1, 2) == 3"]},
}


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
def test_every_kind_is_read_alike_from_jsonl_json_and_parquet_plain_or_packed(kind, tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [ROWS[kind], ROWS[kind]]
    plain = jsonl(tmp_path / "a.jsonl", *rows)
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(plain.read_bytes()))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = [list(read_records(place, kind)) for place in sorted(tmp_path.iterdir())]
    assert [record.id for record in found[0]] == ["0", "1"]
    for records in found:
        fields = [name for name in kind.__dataclass_fields__ if name != "place"]
        assert [[getattr(r, f) for f in fields] for r in records] == [[getattr(r, f) for f in fields] for r in found[0]]


def test_fields_hold_the_text_as_the_file_has_it(tmp_path):
    [talk] = read_records(jsonl(tmp_path / "a.jsonl", ROWS[Conversation]), Conversation)
    assert talk.messages == (Message("user", "Hi"), Message("assistant", "Hello"))
    [labelled] = read_records(jsonl(tmp_path / "a.jsonl", ROWS[Labelled]), Labelled)
    assert (labelled.label, labelled.groups) == ("1", {"kind": "film"})
    [pair] = read_records(jsonl(tmp_path / "a.jsonl", {"id": 7, **ROWS[Pair]}), Pair)
    assert (pair.id, pair.place, pair.targets) == ("7", f"{tmp_path}/a.jsonl, line 1", ("Guten Morgen", "Morgen"))
    [problem] = read_records(jsonl(tmp_path / "a.jsonl", ROWS[CodeProblem]), CodeProblem)
    assert (problem.entry_point, problem.tests, problem.kind) == ("add", "assert add(1, 2) == 3\n", "description")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text,label\n\"a, b\",1\n'c',0\n", [("a, b", "1"), ("'c'", "0")]),
        ('label,text\n1,"two\nlines"\n0,c\n', [("two\nlines", "1"), ("c", "0")]),
        ("a fine film,1\nno,0\ngood stuff,1\nmeh film,0\n", [("a fine film", "1"), ("no", "0")]),
    ],
)
def test_a_table_is_read_with_its_header_or_without(content, expected, tmp_path):
    (tmp_path / "a.csv").write_text(content)
    found = [(record.text, record.label) for record in read_records(tmp_path / "a.csv", Labelled)]
    assert found[: len(expected)] == expected


def test_columns_say_where_fields_stand_inward_by_dots_and_by_figures(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"translation": {"en": "one", "de": "eins"}, "key": "x"})
    [pair] = read_records(path, Pair, columns={"source": "translation.en", "target": "translation.de", "id": "key"})
    assert (pair.source, pair.targets, pair.id) == ("one", ("eins",), "x")
    (tmp_path / "a.tsv").write_text('7\tgood "film"\tbooks\n')
    columns = {"text": "1", "label": "0", "groups": "2"}
    [labelled] = read_records(tmp_path / "a.tsv", Labelled, columns=columns)
    assert (labelled.text, labelled.label, labelled.groups) == ('good "film"', "7", {"2": "books"})


def test_lines_of_several_files_belong_together_and_further_files_are_further_references(tmp_path):
    for name, text in (("s.en", "one\ntwo\n"), ("t.de", "eins\nzwei"), ("u.de", "eine\nzweie\n")):
        (tmp_path / name).write_text(text)
    found = list(read_records(f"{tmp_path}/s.en,{tmp_path}/t.de,{tmp_path}/u.de", Pair))
    assert [(pair.source, pair.targets) for pair in found] == [("one", ("eins", "eine")), ("two", ("zwei", "zweie"))]
    (tmp_path / "t.de").write_text("eins\n")
    with pytest.raises(DataError, match="ends before line 2"):
        list(read_records([tmp_path / "s.en", tmp_path / "t.de"], Pair))


SQUAD = {
    "data": [
        {
            "title": "Ann",
            "paragraphs": [
                {
                    "context": "It was Ann.",
                    "qas": [
                        {"id": "q1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 7}]},
                        {"id": "q2", "question": "When?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ]
}


def test_squads_form_gives_a_question_each_and_no_answer_where_there_is_none(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(SQUAD))
    one, two = read_records(tmp_path / "a.json", Question)
    assert (one.id, one.answers, one.starts, one.title) == ("q1", ("Ann",), (7,), "Ann")
    assert (two.id, two.answers, two.starts) == ("q2", (), ())
    assert one.place.endswith("question q1")


def test_dialogues_that_part_in_the_last_turn_are_a_prompt_and_two_answers(tmp_path):
    front = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: A pen\n\nAssistant:"
    [pair] = read_records(
        jsonl(tmp_path / "a.jsonl", {"chosen": front + " Take", "rejected": front + " Go"}), Preference
    )
    assert (pair.prompt, pair.chosen, pair.rejected) == (front, " Take", " Go")


def test_json_is_read_bit_by_bit_wherever_a_bit_ends(monkeypatch):
    text = json.dumps([{"a": '\u4e2d\\n"', "b": [1.5e-7, -12, True, None]}, 12345, "x", {}, []], indent=1)
    whole = '{"one": ' + text + ', "two" :{"\\u00fc": -0.25}, "three":7}  \n'
    for size in (1, 2, 3, 7, 50):
        monkeypatch.setattr("guiju.tasks.json_text._AT_ONCE", size)
        walk = JsonText(io.StringIO(whole), Path("x.json"))
        found = {}
        for name in walk.fields():
            found[name] = [walk.value() for _ in walk.items()] if walk.next() == "[" else walk.value()
        walk.end()
        assert found == json.loads(whole)
        assert walk.line == whole.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}, {"a": tru}]', "line 1 is not valid JSON: Expecting value"),
        ('[{"a": 1},\n\n{"a": "b}]', "line 3 is not valid JSON: Unterminated string"),
        ('[{"a": 1},\n]', "line 2 is not valid JSON: Expecting value"),
        ('[{"a": 1}', "Expecting ',' delimiter"),
        ('[{"a": 1}\n{"a": 2}]', "line 2 is not valid JSON: Expecting ',' delimiter"),
        ('[{"a": 1}] 7', "Extra data"),
        ('{"data": [], 7: 8}', "Expecting property name"),
        ('[{"a": ' + "[" * 100_000, "nested too deeply"),
        ('[{"a": "' + "x" * 200, "begins a value of more than 100 characters"),
        ("12", "holds int; it must be an object"),
    ],
)
def test_what_is_no_json_is_told_with_its_line_also_far_inside_a_file(text, message, tmp_path, monkeypatch):
    monkeypatch.setattr("guiju.tasks.json_text._AT_ONCE", 8)
    if "more than 100" in message:
        monkeypatch.setattr("guiju.tasks.json_text.LONGEST_VALUE", 100)
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=message):
        list(json_rows(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("name", "kind", "content", "message"),
    [
        ("a.jsonl", Pair, '{"source": "a", "target": "b"}\n{"source": \n', "a.jsonl, line 2 is not valid JSON"),
        ("a.jsonl", Pair, '{"source": "a", "target": "b"}\n\n[1]\n', "line 3 holds list"),
        ("a.jsonl", Pair, '{"source": "a", "goal": "b"}\n', "line 1 has no target.*the row has source, goal"),
        ("a.jsonl", Pair, '{"source": " ", "target": "b"}\n', "line 1: source is empty"),
        ("a.jsonl", Pair, '{"source": "a", "target": [""]}\n', "line 1: the target is empty"),
        ("a.jsonl", Pair, '{"source": "a", "target": 3}\n', "line 1: target holds 3"),
        ("a.jsonl", Labelled, '{"text": "a", "label": true}\n', "line 1: label is True"),
        ("a.jsonl", Labelled, '{"text": "a", "label": ""}\n', "line 1: label is ''"),
        ("a.jsonl", Question, '{"question": "a", "context": "b", "answers": [""]}\n', "line 1: an answer is empty"),
        (
            "a.jsonl",
            Question,
            '{"question": "a", "context": "b", "answers": {"text": ["a"]}}\n',
            "line 1: answers must",
        ),
        ("a.jsonl", Conversation, '{"messages": []}\n', "line 1: messages holds \\[\\]"),
        ("a.jsonl", Conversation, '{"messages": [{"role": "user"}]}\n', "line 1: message 0 is"),
        ("a.jsonl", Preference, '{"prompt": "p", "chosen": "a", "rejected": "a"}\n', "line 1: chosen and rejected"),
        ("a.jsonl", Preference, '{"chosen": "a", "rejected": "b"}\n', "line 1 has no prompt"),
        (
            "a.jsonl",
            CodeProblem,
            '{"prompt": "a", "test": "def check(f): ..."}\n',
            "line 1 has tests but no entry_point",
        ),
        ("a.jsonl", CodeProblem, '{"prompt": "a", "test_list": []}\n', "line 1: test_list holds"),
        ("a.jsonl", Pair, "", "holds no row"),
        ("a.json", Pair, '[\n{"source": "a", "target": "b"},\n{"source": "a" "target": 1}\n]', "a.json, line 3 is not"),
        ("a.json", Pair, '[\n{"source": "a", "target": "b"},\n{"source": "a"}\n]', "line 3 has no target"),
        ("a.json", Pair, '{"source": "a", "target": "b"}\n{"source": "a", "target": "b"}', "Is it a record a line"),
        ("a.json", Question, '{"version": 1}', "must be a list of records, or have SQuAD's form"),
        ("a.json", Question, '{"data": [{"paragraphs": [{"context": "x"}]}]}', "no list 'qas'"),
        ("a.csv", Labelled, 'text,label\na,1\n"b,0\n', "a.csv, line 3 is not a row of a table"),
        ("a.csv", Labelled, "text,label\na,1\nb,0,c\n", "a.csv, line 3 has 3 columns"),
        ("a.tsv", Labelled, "some text\tother text\n", "which of the 2 columns .* hold text and label"),
        ("a.parquet", Labelled, "PAR1", "not valid parquet"),
        ("a.jsonl.gz", Labelled, "no gzip", "damaged gz"),
        ("a.jsonl.zst", Labelled, "no zstd", "damaged zst"),
    ],
)
def test_what_is_in_the_wrong_format_is_named_with_file_and_line(name, kind, content, message, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises((DataError, ConfigError), match=message):
        list(read_records(tmp_path / name, kind))


def test_a_byte_that_is_no_character_a_missing_file_and_a_folder_are_told(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"source": "caf\xe9", "target": "b"}\n')
    with pytest.raises(DataError, match="not UTF-8 text: a byte 0xe9"):
        list(read_records(tmp_path / "a.jsonl", Pair))
    with pytest.raises(DataError, match="cannot be read"):
        list(read_records(tmp_path / "b.jsonl", Pair))
    (tmp_path / "c.jsonl").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        list(read_records(tmp_path / "c.jsonl", Pair))


def test_wishes_that_cannot_be_are_told_before_any_row(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", ROWS[Pair])
    for wishes, message in (
        ({"format": "xml"}, "format is 'xml'"),
        ({"format": "lines"}, "one file"),
        ({"columns": {"sauce": "a"}}, "names 'sauce', which Pair has not"),
    ):
        with pytest.raises(ConfigError, match=message):
            list(read_records(path, Pair, **wishes))
    with pytest.raises(ConfigError, match="only pairs are read from several"):
        list(read_records([path, path], Labelled))
    with pytest.raises(ConfigError, match="does not tell its format"):
        list(read_records(tmp_path / "a.en", Pair))


def test_rows_are_read_as_they_are_asked_for(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", ROWS[Pair])
    path.write_text(path.read_text() + "no json\n")
    assert next(read_records(path, Pair)).source == "Good morning"


@pytest.mark.parametrize(
    ("name", "kind", "rows"),
    [
        ("sst2/dev.tsv", Labelled, 872),
        ("chnsenticorp/dev.tsv.gz", Labelled, 1200),
        ("vader-sentiment/tweets_GroundTruth.txt", Labelled, 4200),
        ("vader-sentiment/amazonReviewSnippets_GroundTruth.txt", Labelled, 3708),
        ("csl-zh/cls_ctg.dev.tsv.gz", Labelled, 1000),
        ("csl-zh/ts.dev.tsv.gz", Pair, 1000),
        ("tatoeba-en-zh/cmn-eng.dev.tsv.gz", Pair, 18355),
        ("multi30k-en-de/test_2016_flickr.en.gz,multi30k-en-de/test_2016_flickr.de.gz", Pair, 1000),
        ("scitldr/dev.jsonl.gz", Pair, 619),
        ("xquad/xquad.de.dev.json", Question, 632),
        ("cmrc2018/cmrc2018_dev-even.json.gz", Question, 1608),
        ("humaneval/HumanEval.even.jsonl", CodeProblem, 82),
        ("mbpp/mbpp.dev.jsonl", CodeProblem, 724),
        ("gsm8k/test.even.jsonl", Completion, 660),
        ("hh-rlhf-harmless/test.even.jsonl.gz", Preference, 1156),
    ],
)
def test_the_data_sets_of_the_field_are_read_without_a_word_about_their_columns(name, kind, rows):
    if "GUIJU_DATA" not in os.environ:
        pytest.skip("needs GUIJU_DATA, the folder with the developers' data sets")
    paths = [Path(os.environ["GUIJU_DATA"]) / part for part in name.split(",")]
    records = list(read_records(paths if len(paths) > 1 else paths[0], kind))
    assert len(records) == rows
    assert len({record.id for record in records}) == rows
    if kind is Labelled and "csl" not in name:
        assert {record.label for record in records} == {"0", "1"}
    if kind is CodeProblem:
        assert all(record.entry_point for record in records)
