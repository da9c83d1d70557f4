from __future__ import annotations

import json
import os
import random
import struct

import pytest
import safetensors.torch
import torch

from guiju.errors import ModelError
from guiju.model.weights import Weights, open_all, open_weights, read_json, write_weights

CPU = torch.device("cpu")


def _file(header: dict | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


GOOD = {"a": _entry(), "b": _entry("BF16", (1, 2), (8, 12)), "__metadata__": {"format": "pt"}}


@pytest.fixture
def read(tmp_path):
    def of(data: bytes) -> Weights:
        (tmp_path / "model.safetensors").write_bytes(data)
        return open_weights(tmp_path)

    return of


def test_every_type_that_is_read_comes_back_as_the_library_gives_it(tmp_path):
    torch.manual_seed(0)
    types = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    tensors = {str(kind): torch.randn(3, 5).to(kind) for kind in types}
    tensors |= {"empty": torch.empty(0, 4), "scalar": torch.tensor(2.5), "odd": torch.randn(7).half()}
    safetensors.torch.save_file(tensors, tmp_path / "model.safetensors")
    weights = open_weights(tmp_path)
    assert weights.shapes == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        assert torch.equal(weights.load(name, tensor.dtype, CPU), tensor)
        assert torch.equal(weights.load(name, torch.float32, CPU), tensor.float())


def test_what_is_written_is_what_the_library_reads(tmp_path):
    tensors = {"one": torch.randn(3, 4).T, "two": torch.ones(2, dtype=torch.bool), "three": torch.arange(5)}
    write_weights(tmp_path / "x.safetensors", tensors)
    theirs = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert theirs.keys() == tensors.keys()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in tensors.items())


def test_a_loaded_tensor_does_not_hang_on_the_file(tmp_path):
    write_weights(tmp_path / "model.safetensors", {"a": torch.ones(4)})
    tensor = open_weights(tmp_path).load("a", torch.float32, CPU)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert tensor.add_(1).tolist() == [2.0] * 4


def test_a_tensor_that_is_no_float_is_known_but_not_loaded(tmp_path):
    write_weights(tmp_path / "model.safetensors", {"a": torch.ones(4, dtype=torch.int8)})
    weights = open_weights(tmp_path)
    assert weights.shapes == {"a": (4,)}
    with pytest.raises(ModelError, match=r"tensor a in .* is of type I8; only BF16, F16, F32, F64 are read"):
        weights.load("a", torch.float32, CPU)


def test_a_file_that_is_cut_off_while_it_is_read_is_noticed(tmp_path):
    write_weights(tmp_path / "model.safetensors", {"a": torch.ones(100_000)})
    weights = open_weights(tmp_path)
    os.truncate(tmp_path / "model.safetensors", 1000)
    with pytest.raises(ModelError, match=r"was cut off while tensor a was read"):
        weights.load("a", torch.float32, CPU)


BAD = {
    "no byte": (b"", "it is 0 bytes long"),
    "a length alone": (struct.pack("<Q", 2), "it is 8 bytes long"),
    "a header of 2^60 bytes": (_file(GOOD, b"\0" * 12, 1 << 60), "header of 1152921504606846976 bytes"),
    "a header of 2^64 - 1 bytes": (_file(GOOD, b"\0" * 12, (1 << 64) - 1), "header of 18446744073709551615 bytes"),
    "a header beyond the end": (_file(GOOD, b"", 10_000), "states a header of 10000 bytes"),
    "no object": (_file(b"[]" + b" " * 6), "begins with b'\\[\\]"),
    "no JSON": (_file(b"{" * 8), "not valid JSON"),
    "no UTF-8": (_file(b'{"\xff": 1}'), "not valid JSON"),
    "deep JSON": (_file(b'{"a":' * 100_000), "not valid JSON"),
    "a number of 10,000 digits": (_file(b'{"a": ' + b"9" * 10_000 + b"}"), "not valid JSON"),
    "NaN": (_file(b'{"a": NaN}'), "holds the number NaN"),
    "a key twice": (_file(b'{"a":' + json.dumps(_entry()).encode() + b',"a":{}}', b"\0" * 8), "the key 'a' twice"),
    "a field twice": (_file(b'{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}'), "'dtype' twice"),
    "an unknown type": (_file({"a": _entry("F99")}, b"\0" * 8), "tensor a has the unknown dtype 'F99'"),
    "a type that is no text": (_file({"a": _entry(["F32"])}, b"\0" * 8), "unknown dtype"),
    "a negative size": (_file({"a": _entry(shape=(-2,))}, b"\0" * 8), r"tensor a has the shape \[-2\]"),
    "a size that is a text": (_file({"a": _entry(shape=("2",))}, b"\0" * 8), r"the shape \['2'\]"),
    "a size that is a truth": (_file({"a": _entry(shape=(True, 2))}, b"\0" * 8), "the shape"),
    "an offset of -0": (_file(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[-0,8]}}', b"\0" * 8), "data_offsets"),
    "a size of 2^63": (_file({"a": _entry(shape=(1 << 63,))}, b"\0" * 8), "the shape"),
    "a shape that overflows": (_file({"a": _entry(shape=(1 << 62, 1 << 62, 0))}, b"\0" * 8), "takes 0 bytes"),
    "sizes that overflow 64 bits": (_file({"a": _entry(shape=(1 << 32, 1 << 32))}, b"\0" * 8), "takes 7.37"),
    "a thousand axes": (_file({"a": _entry(shape=(1,) * 1000, offsets=(0, 4))}, b"\0" * 4), "the shape"),
    "offsets beyond the end": (_file({"a": _entry(shape=(1000,), offsets=(0, 4000))}, b"\0" * 8), "end at byte"),
    "offsets backwards": (_file({"a": _entry(offsets=(8, 0))}, b"\0" * 8), "data_offsets are 8 and 0"),
    "three offsets": (_file({"a": _entry(offsets=(0, 8, 8))}, b"\0" * 8), "the data_offsets"),
    "offsets that overlap": (_file({"a": _entry(), "b": _entry(offsets=(4, 12))}, b"\0" * 12), "where byte"),
    "the same bytes twice": (_file({"a": _entry(), "b": _entry()}, b"\0" * 8), "where byte"),
    "a gap": (_file({"a": _entry(), "b": _entry(offsets=(12, 20))}, b"\0" * 20), "where byte"),
    "bytes to spare": (_file(GOOD, b"\0" * 12 + b"PK\3\4"), "end at byte"),
    "half a byte": (_file({"a": _entry("F4", (1,), (0, 1))}, b"\0"), "takes 0.5 bytes"),
    "a field too many": (_file({"a": {**_entry(), "code": "x"}}, b"\0" * 8), "is not described by"),
    "a field missing": (_file({"a": {"dtype": "F32"}}, b"\0" * 8), "is not described by"),
    "an entry that is none": (_file({"a": 7}), "is not described by"),
    "metadata that is no text": (_file({"__metadata__": {"x": {}}}), "__metadata__"),
    "a name with controls": (_file({"a\u001b[2J": _entry()}, b"\0" * 8), r"name is 'a\\x1b\[2J'"),
    "a name that runs backwards": (_file({"a\u202eb": _entry()}, b"\0" * 8), r"name is 'a\\u202eb'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_does_not_describe_itself_is_refused(name, read):
    data, message = BAD[name]
    with pytest.raises(ModelError, match=rf"model\.safetensors.*{message}"):
        read(data)


def test_the_good_file_that_the_bad_ones_are_made_from_is_read(read):
    assert read(_file(GOOD, b"\0" * 12)).shapes == {"a": (2,), "b": (1, 2)}


def test_a_sparse_file_beyond_the_memory_is_refused_before_a_byte_is_taken(tmp_path):
    size = 1 << 42  # of which the disk holds nothing
    header = _file({"a": _entry("U8", (size,), (0, size))})
    (tmp_path / "model.safetensors").write_bytes(header)
    os.truncate(tmp_path / "model.safetensors", len(header) + size)
    with pytest.raises(ModelError, match=r"states 4,398\.0 GB of weights, but only .* are free"):
        open_weights(tmp_path)


def test_one_open_file_serves_header_and_data(tmp_path):
    write_weights(tmp_path / "model.safetensors", {"a": torch.ones(4)})
    weights = open_weights(tmp_path)
    write_weights(tmp_path / "model.safetensors", {"a": torch.zeros(4)})  # another file takes the name
    assert weights.load("a", torch.float32, CPU).tolist() == [1.0] * 4


@pytest.mark.parametrize("text", ['{"a": 1e400}', '{"a": -Infinity}', '{"a": [NaN]}', '{"a": {"b": 1, "b": 1}}'])
def test_numbers_that_json_does_not_have_and_keys_twice_are_refused(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ModelError, match=r"x\.json holds the (number|key)"):
        read_json(tmp_path / "x.json")


def _mutated(chance: random.Random, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                del data[place]
            case 2:
                data.insert(place, chance.choice(b'0123456789[]{},:"FBU-'))
            case 3:
                data[place] = chance.choice(b"0123456789")
    if chance.random() < 0.5:  # keep the header's length right, so that more than the length is tried
        end = bytes(data).rfind(b"}") + 1
        data[:8] = struct.pack("<Q", max(end - 8, 0))
    return bytes(data)


def _compare(tmp_path, seeds) -> tuple[int, int]:
    """How many mutated files we read, and the library reads; what we read it must read equally."""
    good = _file(GOOD, bytes(range(60, 72)))
    path, ours, theirs = tmp_path / "model.safetensors", 0, 0
    for seed in seeds:
        path.write_bytes(_mutated(random.Random(seed), good))
        try:
            library = safetensors.torch.load_file(path)
        except Exception:
            library = None
        theirs += library is not None
        try:
            weights = Weights(tmp_path, open_all([path]))
        except ModelError:
            continue
        ours += 1
        assert library is not None, seed
        assert weights.shapes == {name: tuple(tensor.shape) for name, tensor in library.items()}, seed
        for name, tensor in library.items():
            if tensor.dtype.is_floating_point and tensor.dtype.itemsize > 1:
                mine = weights.load(name, tensor.dtype, CPU)
                assert torch.equal(mine.view(torch.uint8), tensor.view(torch.uint8)), seed
    return ours, theirs


def test_what_we_read_of_1500_mutated_files_the_library_reads_equally(tmp_path):
    ours, theirs = _compare(tmp_path, range(1500))
    assert 40 < ours <= theirs < 1000


@pytest.mark.soak
def test_what_we_read_of_100000_mutated_files_the_library_reads_equally(tmp_path):
    ours, theirs = _compare(tmp_path, range(1_000_000, 1_100_000))
    print(f"100,000 mutated files: {ours} read by us, {theirs} by the library, none of ours otherwise")
    assert ours <= theirs
