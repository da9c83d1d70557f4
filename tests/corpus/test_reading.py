from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import zstandard

from guiju.corpus.reading import ByteStream, RawDocument, read_documents
from guiju.corpus.settings import SourceSettings
from guiju.corpus.sources import source_files
from guiju.errors import ConfigError, DataError

LIMIT = 1 << 20


def source(**settings: object) -> SourceSettings:
    stated = {"licence": "MIT", "origin": "made in this test", "language": "en", "date": "2026"}
    return SourceSettings(**{"name": "made", "path": "*", **stated, **settings})


def read(folder: Path, name: str, data: bytes, limit: int = LIMIT, **settings: object) -> list[RawDocument]:
    (folder / name).write_bytes(data)
    given = source(path=name, **settings)
    (file,) = source_files(given, folder)
    with ByteStream(file) as stream:
        return list(read_documents(given, stream, limit))


def texts(documents: list[RawDocument]) -> list[str | None]:
    return [document.text for document in documents]


def packed(data: bytes, way: str) -> bytes:
    if way == ".gz":
        return gzip.compress(data)
    return zstandard.compress(data) if way == ".zst" else data


@pytest.mark.parametrize("way", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("name", "data", "settings", "expected"),
    [
        ("a.txt", "春天来了。\n花开了。\n", {}, ["春天来了。\n花开了。"]),
        ("a.md", "# Title\n\nText.\n", {}, ["# Title\n\nText."]),
        ("a.txt", "one\n<|end|>\ntwo\nlines\n<|end|>\n", {"split_on": "<|end|>"}, ["one", "two\nlines"]),
        ("a.txt", "one\none\n\n\ntwo\n", {"split_on": "blank-lines"}, ["one\none", "two"]),
        (
            "a.txt",
            "before\n第1章 始\na\n第2章 终\nb",
            {"split_on": "heading:第.章"},
            ["before", "第1章 始\na", "第2章 终\nb"],
        ),
        ("a.jsonl", '{"text": "one"}\n\n{"text": "二"}\n', {}, ["one", "二"]),
        ("a.json", '[{"text": "one"}, {"text": "二"}]', {}, ["one", "二"]),
        ("a.json", '["one", "二"]', {}, ["one", "二"]),
        (
            "a.csv",
            'id,text\n1,"one, with ""quotes""\nand a line"\n2,二\n',
            {},
            ['one, with "quotes"\nand a line', "二"],
        ),
        ("a.tsv", 'text\tlabel\nhe said "no\t1\n二\t0\n', {}, ['he said "no', "二"]),
        ("a.tsv", "x\tone\ny\t二\n", {"header": False, "text_fields": "1"}, ["one", "二"]),
    ],
)
def test_every_format_is_read_plain_and_packed(tmp_path, way, name, data, settings, expected):
    assert texts(read(tmp_path, name + way, packed(data.encode(), way), **settings)) == expected


def test_poems_are_joined_from_title_author_and_lines(tmp_path):
    poem = {"author": "李白", "paragraphs": ["床前明月光，", "疑是地上霜。"], "title": "靜夜思", "id": "x"}
    found = read(tmp_path, "p.json", json.dumps([poem]).encode(), text_fields=("title", "author", "paragraphs"))
    assert texts(found) == ["靜夜思\n李白\n床前明月光，\n疑是地上霜。"]


def test_records_can_lie_inward_and_fields_as_well(tmp_path):
    squad = {"data": [{"paragraphs": [{"context": "a"}, {"context": "b"}]}, {"paragraphs": [{"context": "c"}]}]}
    given = {"records": "data.paragraphs", "text_fields": "context"}
    assert texts(read(tmp_path, "s.json", json.dumps(squad).encode(), **given)) == ["a", "b", "c"]
    line = b'{"meta": {"body": {"text": "inner"}}}\n'
    assert texts(read(tmp_path, "i.jsonl", line, text_fields="meta.body.text")) == ["inner"]


def test_parquet_is_read(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": ["one", "二"], "n": [1, 2]}), buffer)
    assert texts(read(tmp_path, "a.parquet", buffer.getvalue())) == ["one", "二"]
    with pytest.raises(DataError, match="no column 'body'"):
        read(tmp_path, "a.parquet", buffer.getvalue(), text_fields="body")
    with pytest.raises(DataError, match="not valid parquet"):
        read(tmp_path, "b.parquet", b"PAR1 nothing PAR1")


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_what_is_read_does_not_hang_on_where_chunks_end(tmp_path, monkeypatch, size):
    records = [{"text": f'第{n}句 \\ " {{[ {"x" * (n * 7 % 90)}', "n": n * 12345} for n in range(60)]
    data = json.dumps(records, ensure_ascii=False, indent=1).encode()
    whole = texts(read(tmp_path, "a.json", data))
    lines = ("\r\n".join(record["text"] for record in records)).encode()
    split = texts(read(tmp_path, "b.txt", lines, split_on="heading:第.*7句"))
    monkeypatch.setattr("guiju.corpus.reading._CHUNK", size)
    assert texts(read(tmp_path, "a.json", data)) == whole == [record["text"] for record in records]
    assert texts(read(tmp_path, "b.txt", lines, split_on="heading:第.*7句")) == split
    assert len(split) == 7


def test_line_ends_of_all_systems_are_one(tmp_path):
    assert texts(read(tmp_path, "a.txt", b"a\r\nb\rc\nd")) == ["a\nb\nc\nd"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    assert texts(read(tmp_path, "a.txt", b"\xef\xbb\xbfabc")) == ["abc"]
    assert texts(read(tmp_path, "b.txt", "\ufeffabc".encode("utf-16-le"), encoding="utf-16-le")) == ["abc"]


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16", "big5", "latin-1"])
def test_other_encodings_are_read_where_the_source_names_them(tmp_path, encoding):
    text = "Größe, naïve" if encoding == "latin-1" else "中文字符\n第二行"
    assert texts(read(tmp_path, "a.txt", text.encode(encoding), encoding=encoding)) == [text]


@pytest.mark.parametrize("before", [0, 5, (1 << 20) - 1, (1 << 20) + 3])
def test_text_that_is_not_utf8_is_refused_with_file_and_byte(tmp_path, before):
    with pytest.raises(DataError) as problem:
        read(tmp_path, "g.txt", b"a" * before + "中文".encode("gb18030"))
    message = str(problem.value)
    assert "g.txt" in message
    assert f"byte {before} is 0xd6" in message
    assert "encoding: gb18030" in message
    assert "corpus.sources.made" in message


def test_a_utf16_file_is_named_as_such(tmp_path):
    with pytest.raises(DataError, match="encoding: utf-16"):
        read(tmp_path, "u.txt", "text".encode("utf-16"))


def test_a_file_cut_within_a_character_is_refused(tmp_path):
    with pytest.raises(DataError, match="byte 3"):
        read(tmp_path, "c.txt", "中文".encode()[:-1])


@pytest.mark.parametrize(
    ("name", "data", "settings", "told"),
    [
        ("a.jsonl", '{"text": "one"}\n{"text": \n', {}, "a.jsonl line 2 is not valid JSON"),
        ("a.jsonl", '{"text": "one"}\n["x"]\n', {}, "record at 2 is list, not an object"),
        ("a.jsonl", '{"body": "one"}\n', {}, "has no field text; it has: body"),
        ("a.jsonl", '{"text": {"inner": "x"}}\n', {}, "holds dict, not text"),
        ("a.jsonl", "[" * 100_000 + "\n", {}, "line 1 is not valid JSON"),
        ("a.jsonl", '{"text": ' + "9" * 5000 + "}\n", {}, "line 1 is not valid JSON"),
        ("a.json", '[{"text": "one"}, {"text": "tw', {}, "not valid JSON at character"),
        ("a.json", '[{"text": "one"} {"text": "two"}]', {}, "comma"),
        ("a.json", '{"text": "one"}\n{"text": "two"}', {}, "format: jsonl"),
        ("a.json", "[" * 100_000, {}, "not valid JSON"),
        ("a.json", '{"data": [{"text": "x"}]}', {"records": "rows"}, "there is no 'rows' on that way"),
        ("a.csv", "id,body\n1,x\n", {}, "no column 'text'"),
        ("a.csv", "id,text\n1,x,y\n", {}, "line 2 has 3 columns"),
        ("a.csv", 'id,text\n1,"x\n', {}, "not a valid table row"),
        ("a.txt.gz", "not packed", {}, "damaged gzip"),
        ("a.txt.zst", "not packed", {}, "damaged zstd"),
    ],
)
def test_malformed_files_are_refused_with_their_place(tmp_path, name, data, settings, told):
    with pytest.raises(DataError, match=told.replace("(", r"\(")) as problem:
        read(tmp_path, name, data.encode(), **settings)
    assert name in str(problem.value)


def test_a_packed_file_that_is_cut_off_is_refused(tmp_path):
    data = gzip.compress(b"text\n" * 5000)
    with pytest.raises(DataError, match="damaged gzip"):
        read(tmp_path, "a.txt.gz", data[: len(data) // 2])


def test_a_misspelt_field_is_named(tmp_path):
    with pytest.raises(ConfigError, match="'titel', which no record"):
        read(tmp_path, "a.jsonl", b'{"title": "a", "text": "b"}\n', text_fields=("titel", "text"))


def test_a_document_beyond_the_limit_is_passed_over_with_size_and_digest(tmp_path):
    from hashlib import sha256

    long = ("中文" * 3000 + "\n") * 4
    found = read(tmp_path, "a.txt", f"one\n--\n{long}--\nthree".encode(), limit=20_000, split_on="--")
    assert texts(found) == ["one", None, "three"]
    assert found[1].size_bytes == len(long.encode())
    assert found[1].sha256 == sha256(long.encode()).hexdigest()
    lines = b'{"text": "one"}\n{"text": "' + b"x" * 3_000_000 + b'"}\n{"text": "three"}\n'
    found = read(tmp_path, "b.jsonl", lines, limit=20_000)
    assert texts(found) == ["one", None, "three"]
    assert [document.place for document in found] == [1, 2, 3]
    assert found[1].size_bytes == 3_000_000 + len('{"text": ""}\n')


def test_a_bomb_is_read_in_bounded_memory(tmp_path):
    """256 MB of zeros in a quarter of a megabyte: the reader holds a chunk and no more."""
    pack = zlib.compressobj(9, wbits=31)
    with (tmp_path / "bomb.txt.gz").open("wb") as file:
        for _ in range(256):
            file.write(pack.compress(bytes(1 << 20)))
        file.write(pack.flush())
    code = (
        "import sys, resource; sys.path.insert(0, sys.argv[2]);"
        "from pathlib import Path; import test_reading as t; from guiju.corpus.reading import *;"
        "s = t.source(path='bomb.txt.gz'); (f,) = t.source_files(s, Path(sys.argv[1]));"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "found = list(read_documents(s, ByteStream(f), 1 << 20));"
        "print(found[0].text is None, found[0].size_bytes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    # Measured in a process of its own, whose peak nothing else has raised.
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    passed_over, size, kilobytes = result.stdout.split()
    assert (passed_over, size) == ("True", str(256 << 20))
    assert int(kilobytes) < 60_000


def test_globs_and_lists_are_read_in_order_and_once(tmp_path):
    for name in ("b.txt", "a.txt", "c.md"):
        (tmp_path / name).write_text(name)
    given = source(path=("c.md", "*.txt", "a.txt"))
    assert [file.name for file in source_files(given, tmp_path)] == ["c.md", "a.txt", "b.txt"]


@pytest.mark.parametrize(
    ("path", "told"), [("none.txt", "does not exist"), ("*.txt", "matches no file"), (".", "is a folder: give a glob")]
)
def test_a_missing_file_is_named_with_its_source(tmp_path, path, told):
    with pytest.raises(DataError, match=rf"corpus.sources.made.path: .*{told}"):
        source_files(source(path=path), tmp_path)


def test_a_name_that_does_not_tell_its_format_is_refused(tmp_path):
    (tmp_path / "data.bin").write_text("x")
    with pytest.raises(ConfigError, match="does not tell its format"):
        source_files(source(path="data.bin"), tmp_path)


@pytest.mark.parametrize(
    "name", ["a.txt", "a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.txt.gz", "a.jsonl.zst"]
)
def test_no_bytes_whatever_raise_anything_but_our_errors(tmp_path, name):
    """Files cut, mixed up and stuffed with oddities are read or refused; nothing else comes out."""
    chance = random.Random(name)
    sound = {
        "txt": "one\n\n第二\n".encode(),
        "jsonl": b'{"text": "one"}\n{"text": ["two", null, 3, "\\ud800"]}\n',
        "json": b'[{"text": "one"}, {"text": ["two", {"x": NaN}], "n": 1e999}]',
        "csv": b'text,n\n"one ""x""",1\ntwo,2\n',
        "tsv": b"text\tn\none\t1\n",
        "parquet": b"PAR1",
    }
    odd = [
        b"\x00",
        b"\xff",
        b"[",
        b"{",
        b'"',
        b",",
        b"\n",
        b"\r",
        b"\xed\xa0\x80",
        b"\\u",
        b"\xef\xbb\xbf",
        b"1e9",
        b"}",
    ]
    stem = name.split(".")[1]
    refused: list[str] = []
    for _ in range(150):
        data = bytearray(sound[stem])
        for _ in range(chance.randint(0, 4)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randint(0, 3)] = chance.choice(odd)
        packed_data = packed(bytes(data), "." + name.split(".")[-1])
        if len(name.split(".")) == 3 and chance.random() < 0.5:
            packed_data = packed_data[: chance.randrange(len(packed_data))]
        try:
            found = read(tmp_path, name, packed_data, limit=4096)
        except (DataError, ConfigError) as problem:
            refused.append(str(problem))
        else:
            assert all(isinstance(document.text, str) for document in found)
    assert refused
    assert all(name in message for message in refused)
