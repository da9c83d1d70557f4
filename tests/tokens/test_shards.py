from __future__ import annotations

import random

import numpy as np
import pytest

from guiju.errors import DataError
from guiju.tokens import TokenData, Tokenizer, TokenizerSettings, train_tokenizer, write_shards


@pytest.fixture
def documents(texts):
    return [(f"doc-{number}", text) for number, text in enumerate(texts[:40])]


def test_documents_come_back_from_shards_smaller_than_a_document(tokenizer, documents, tmp_path):
    index = write_shards(documents, tokenizer, tmp_path / "data", shard_tokens=37)
    data = TokenData.open(tmp_path / "data", tokenizer.digest)
    assert len(index.shards) > 10
    assert index.dtype == "uint16"
    assert data.documents == 40
    assert list(data.document_ids()) == [name for name, _ in documents]
    for position, (_, text) in enumerate(documents):
        assert data.document(position).tolist() == [*tokenizer.encode(text), tokenizer.eos_id]
    whole = [token for _, text in documents for token in [*tokenizer.encode(text), tokenizer.eos_id]]
    assert data.tokens == len(whole)
    assert index.text_bytes == sum(len(text.encode()) for _, text in documents)
    draw = random.Random(0)
    for _ in range(200):
        start = draw.randint(0, len(whole))
        stop = draw.randint(start, len(whole))
        assert data.read(start, stop).tolist() == whole[start:stop]
    with pytest.raises(IndexError):
        data.read(0, len(whole) + 1)


def test_the_shard_size_does_not_change_what_is_read(tokenizer, documents, tmp_path):
    write_shards(documents, tokenizer, tmp_path / "a", shard_tokens=64)
    write_shards(documents, tokenizer, tmp_path / "b")
    a, b = (TokenData.open(tmp_path / name, tokenizer.digest) for name in "ab")
    assert a.read(0, a.tokens).tolist() == b.read(0, b.tokens).tolist()
    assert len(b.index.shards) == 1


def test_a_large_vocabulary_is_written_in_four_bytes(tokenizer, documents, tmp_path):
    class Large(Tokenizer):
        vocab_size = (1 << 16) + 1

        def encode_batch(self, texts):
            return [[1 << 16] for _ in texts]

    large = Large(tokenizer._data, tokenizer._config)
    assert write_shards(documents[:3], large, tmp_path / "data").dtype == "uint32"
    data = TokenData.open(tmp_path / "data", large.digest)
    assert data.document(2).tolist() == [1 << 16, large.eos_id]
    assert np.fromfile(tmp_path / "data" / "tokens-00000.bin", dtype="<u4").tolist() == data.read(0, 6).tolist()


def test_ids_of_a_foreign_tokenizer_are_refused(texts, tokenizer, documents, tmp_path):
    write_shards(documents, tokenizer, tmp_path / "data")
    other = train_tokenizer(texts, TokenizerSettings(vocab_size=390))
    with pytest.raises(
        DataError, match=f"{tokenizer.digest[:12]}, but {other.digest[:12]} is given: its ids would mean other"
    ):
        TokenData.open(tmp_path / "data", other.digest)


def test_every_changed_byte_and_every_missing_file_is_found(tokenizer, documents, tmp_path):
    folder = tmp_path / "data"
    write_shards(documents, tokenizer, folder, shard_tokens=500)
    draw = random.Random(1)
    files = sorted(path for path in folder.iterdir() if path.name != "index.json")
    assert len(files) >= 4
    for file in files:
        good = file.read_bytes()
        for _ in range(5):
            place = draw.randrange(len(good))
            file.write_bytes(good[:place] + bytes([good[place] ^ 1 << draw.randrange(8)]) + good[place + 1 :])
            with pytest.raises(DataError, match=file.name):
                TokenData.open(folder, tokenizer.digest)
        file.write_bytes(good[:-1])
        with pytest.raises(DataError, match=file.name):
            TokenData.open(folder, tokenizer.digest)
        file.unlink()
        with pytest.raises(DataError, match=file.name):
            TokenData.open(folder, tokenizer.digest, verify=False)
        file.write_bytes(good)
    TokenData.open(folder, tokenizer.digest)


def test_an_index_that_cannot_be_read_or_leads_outside_is_refused(tokenizer, documents, tmp_path):
    folder = tmp_path / "data"
    with pytest.raises(DataError, match="index"):
        TokenData.open(folder, tokenizer.digest)
    write_shards(documents, tokenizer, folder)
    good = (folder / "index.json").read_text()
    for bad in (
        "{",
        "[]",
        good.replace('"format": 1', '"format": 9'),
        good.replace("tokens-00000.bin", "../tokens-00000.bin"),
    ):
        (folder / "index.json").write_text(bad)
        with pytest.raises(DataError, match="index"):
            TokenData.open(folder, tokenizer.digest)


def test_nothing_is_left_where_there_is_no_text_or_the_source_breaks(tokenizer, tmp_path):
    for documents in ([], [("empty", "")]):
        with pytest.raises(DataError, match="no document holds text"):
            write_shards(documents, tokenizer, tmp_path / "data")

    def breaking():
        yield "one", "text"
        raise DataError("the source broke")

    with pytest.raises(DataError, match="broke"):
        write_shards(breaking(), tokenizer, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []
